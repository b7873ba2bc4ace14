package alias

import (
	"context"
	"errors"
	"fmt"
)

// Settings of the registry that a program may read without it.
const (
	// MetaKeyCheck is the key check: a known text, sealed like a secret. With it a
	// wrong key set is detected at start and not at the first request for an alias.
	MetaKeyCheck = "key_check"
	// MetaKeyset is the fingerprint of the key set that seals.
	MetaKeyset = "keyset"
	// MetaDiskPurges is the folder of the disk cache that has the mark of every purge.
	MetaDiskPurges = "disk_cache_purges"
	// MetaInstallID is the name of the installation, which the path of every IAM user has.
	MetaInstallID = "install_id"
)

const keyCheckText = "ixmage key check"

// SealKeyCheck makes a key check.
func SealKeyCheck(sealer Sealer) ([]byte, error) {
	check, err := sealer.Seal(NewSecret(keyCheckText), 0, 0)
	if err != nil {
		return nil, fmt.Errorf("seal the key check: %w", err)
	}
	return check, nil
}

// OpensKeyCheck reports whether the key set opens a key check.
func OpensKeyCheck(sealer Sealer, check []byte) bool {
	text, err := sealer.Open(check, 0, 0)
	return err == nil && text.Reveal() == keyCheckText
}

// NoteKeyset writes the fingerprint of the key set to the store, if it has another one.
func NoteKeyset(ctx context.Context, store Store, fingerprint string) error {
	noted, err := store.Meta(ctx, MetaKeyset)
	if err == nil && string(noted) == fingerprint {
		return nil
	}
	if err == nil || errors.Is(err, ErrNotFound) {
		err = store.Update(ctx, func(tx Tx) error { return tx.SetMeta(MetaKeyset, []byte(fingerprint)) })
	}
	if err != nil {
		return fmt.Errorf("note the fingerprint of the key set: %w", err)
	}
	return nil
}

// checkKey compares the key set with the key check, and makes a missing check. It
// returns ErrWrongKey if secrets would be lost.
func checkKey(ctx context.Context, store Store, sealer Sealer) error {
	check, err := store.Meta(ctx, MetaKeyCheck)
	switch {
	case errors.Is(err, ErrNotFound):
		return adoptKey(ctx, store, sealer)
	case err != nil:
		return fmt.Errorf("read the key check: %w", err)
	}
	if OpensKeyCheck(sealer, check) {
		return nil
	}
	return adoptKey(ctx, store, sealer)
}

// adoptKey makes the key check for the configured key set, if that opens the stored
// secrets or there are no secrets. It reads and writes in one transaction: between two,
// another node could store a secret.
func adoptKey(ctx context.Context, store Store, sealer Sealer) error {
	fresh, err := SealKeyCheck(sealer)
	if err != nil {
		return err
	}
	return store.Update(ctx, func(tx Tx) error {
		check, err := tx.Meta(MetaKeyCheck)
		lost := errors.Is(err, ErrNotFound)
		switch {
		case err != nil && !lost:
			return fmt.Errorf("read the key check: %w", err)
		case !lost && OpensKeyCheck(sealer, check): // made meanwhile
			return nil
		}
		sealed, err := tx.CountSealed()
		if err != nil {
			return fmt.Errorf("count the sealed secrets: %w", err)
		}
		if sealed > 0 && !opensAny(ctx, store, sealer) { // else only the check is damaged or missing
			return fmt.Errorf("%w: %d of them cannot be read with it; %s, "+
				"or move the database away and register the key pairs anew", ErrWrongKey, sealed, remedy(tx))
		}
		if err := tx.SetMeta(MetaKeyCheck, fresh); err != nil {
			return fmt.Errorf("write the key check: %w", err)
		}
		return nil
	})
}

// remedy says which key set opens the secrets.
func remedy(tx Tx) string {
	const before = "give the key set that was in use before (--master-key)"
	noted, err := tx.Meta(MetaKeyset)
	if err != nil {
		return before
	}
	return before + ", which has the fingerprint " + string(noted) +
		": after ixmage rekey, that is the one of --new-master-key"
}

// opensAny reports whether the key set opens a stored secret.
func opensAny(ctx context.Context, store Store, sealer Sealer) bool {
	opens, enough := false, errors.New("enough")
	found := func(err error) error {
		if err == nil {
			opens = true
			return enough
		}
		return nil
	}
	_, _ = store.Load(ctx, // enough, or an error that the load of the registry reports
		func(c *Credential) error {
			if c.Sealed == nil {
				return nil
			}
			_, err := sealer.Open(c.Sealed, c.ID, c.Version)
			return found(err)
		},
		func(a *Alias) error {
			for _, k := range a.SigningKeys {
				_, err := sealer.OpenSigningKey(k.Sealed, a.ID, k.KID)
				if stop := found(err); stop != nil {
					return stop
				}
			}
			return nil
		})
	return opens
}
