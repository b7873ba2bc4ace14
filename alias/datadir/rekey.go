package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// RekeySpec says which registry to seal again, and with which key set.
type RekeySpec struct {
	Dir string
	// Master and NewMaster are as in seal.Spec. If they name one place, its key set gets a
	// new key.
	Master, NewMaster string

	step func(name string) // as in RestoreSpec
}

// Rekeyed describes what Rekey did.
type Rekeyed struct {
	Sealed int // values that were sealed again
	// Before is the path of the old key set. The registry does not need it any more; older
	// backups do. It is empty for a call that completes an earlier one.
	Before                      string
	Place                       string // of the new key set
	OldFingerprint, Fingerprint string
}

// Rekey seals the secrets of a stopped server with a new key. The key set of the new key has the
// old ones too, and is durable before the registry changes, so that it opens the registry
// before and after that. The old key set opens it until then. A call that was killed is
// completed by the same call.
func Rekey(ctx context.Context, spec RekeySpec) (*Rekeyed, error) {
	if spec.step == nil {
		spec.step = func(string) {}
	}
	for flag, master := range map[string]string{"--master-key": spec.Master, "--new-master-key": spec.NewMaster} {
		if err := seal.ValidateMaster(master); err != nil {
			return nil, fmt.Errorf("%s: %w", flag, err)
		}
	}
	path := RegistryPath(spec.Dir)
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no registry %s: name the data folder of a server with --data", path)
		}
		return nil, err
	}
	unlock, err := Lock(spec.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	store, err := sqlstore.OpenSQLite(ctx, path)
	if err != nil {
		return nil, err
	}
	done, err := spec.rekey(ctx, store)
	return done, errors.Join(err, store.Close())
}

func (spec *RekeySpec) rekey(ctx context.Context, store *sqlstore.Store) (*Rekeyed, error) {
	old, next, err := spec.keysets(ctx, store)
	if err != nil {
		return nil, err
	}
	check, err := alias.SealKeyCheck(next)
	if err != nil {
		return nil, err
	}
	again := sqlstore.Resealing{
		KeyCheck: check, Keyset: next.Fingerprint(), Before: func() error { return errTried },
		Seal: func(sealed []byte, credentialID, version int64) ([]byte, error) {
			secret, err := next.Open(sealed, credentialID, version) // it has the old keys too
			if err != nil {
				return nil, err
			}
			return next.Seal(secret, credentialID, version)
		},
		SealKey: func(sealed []byte, aliasID int64, kid string) ([]byte, error) {
			secret, err := next.OpenSigningKey(sealed, aliasID, kid)
			if err != nil {
				return nil, err
			}
			return next.SealSigningKey(secret, aliasID, kid)
		},
	}
	if _, err := store.Reseal(ctx, again); !errors.Is(err, errTried) {
		return nil, fmt.Errorf("nothing was changed, because not every secret can be opened: "+
			"replace the key pair of these credentials, or remove them, and repeat it: %w", err)
	}
	spec.step("write the key set")
	if err := next.Write(); err != nil {
		return nil, err
	}
	spec.step("seal")
	again.Before = func() error { spec.step("commit"); return nil }
	sealed, err := store.Reseal(ctx, again)
	if err != nil {
		return nil, fmt.Errorf("seal the registry with the key set %s: %w; run the same command again", next.Place(), err)
	}
	spec.step("rewrite")
	if err := store.Rewrite(ctx); err != nil {
		return nil, fmt.Errorf("the secrets are sealed with the key set %s, but free space of the registry may still have "+
			"what the old one has sealed: %w; repeat it", next.Place(), err)
	}
	spec.step("end")
	return &Rekeyed{
		Sealed: sealed, Before: next.Before, Place: next.Place(),
		OldFingerprint: old.Fingerprint(), Fingerprint: next.Fingerprint(),
	}, nil
}

// errTried rolls back the transaction that opens every secret before the first change.
var errTried = errors.New("tried")

// keysets returns the key set that opens the registry, and the one to seal with. After a call
// that was killed, only the latter may open it.
func (spec *RekeySpec) keysets(ctx context.Context, store *sqlstore.Store) (*seal.Keyset, *seal.Renewed, error) {
	next := seal.Spec{Master: spec.NewMaster, Dir: spec.Dir}
	old, err := spec.opens(ctx, store, spec.Master)
	if err == nil {
		made, err := old.Renew(ctx, next)
		return old, made, err
	}
	if newer, other := spec.opens(ctx, store, spec.NewMaster); other == nil {
		return newer, &seal.Renewed{Keyset: newer}, nil
	}
	return nil, nil, err
}

// opens returns the key set of a master key, if it opens the registry.
func (spec *RekeySpec) opens(ctx context.Context, store *sqlstore.Store, master string) (*seal.Keyset, error) {
	sealed, err := store.CountSealed(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := seal.Open(ctx, seal.Spec{Master: master, Dir: spec.Dir, Sealed: sealed})
	if err != nil {
		return nil, err
	}
	check, err := store.Meta(ctx, alias.MetaKeyCheck)
	switch {
	case errors.Is(err, alias.ErrNotFound), err == nil && alias.OpensKeyCheck(keys, check):
		return keys, nil
	case err != nil:
		return nil, err
	}
	noted, err := store.Meta(ctx, alias.MetaKeyset)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s has the fingerprint %s, and the registry needs the key set%s; "+
		"name that one with --master-key",
		alias.ErrWrongKey, keys.Place(), keys.Fingerprint(), named(string(noted)))
}
