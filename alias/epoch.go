package alias

import "context"

// RaiseEpoch makes everything unreachable at once that is cached for an alias,
// and returns the alias as it then stands. It is no change of the configuration:
// the revision stays, so that nobody's If-Match fails because of a purge, and so
// does the time of the last change; and it waits for no operation. ErrNotFound
// when there is no such alias. After any other error nothing was dropped, unless
// the epoch was stored and only the answer was lost; then memory has it too.
func (r *Registry) RaiseEpoch(ctx context.Context, name Name) (*Alias, error) {
	var raised *Alias
	err := r.write(ctx, []Name{name}, func(tx Tx) ([]Change, error) {
		a, err := tx.Alias(name)
		if err != nil {
			return nil, aliasError(name, err)
		}
		if err := tx.RaiseEpoch(a.ID); err != nil {
			return nil, aliasError(name, err)
		}
		if raised, err = tx.Alias(name); err != nil {
			return nil, aliasError(name, err)
		}
		c, err := tx.Credential(raised.Credential)
		if err != nil {
			return nil, credentialError(raised.Credential, err)
		}
		return []Change{{CredentialPut: c}, {AliasPut: raised}}, nil // for a memory that lacks it
	})
	if err != nil {
		return nil, err
	}
	return raised, nil
}
