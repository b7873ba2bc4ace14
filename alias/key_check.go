package alias

import (
	"context"
	"errors"
	"fmt"
)

// The key check is a known text, sealed like a secret and kept in the store. With it a
// wrong key set is detected at start and not at the first request for an alias.
const (
	metaKeyCheck = "key_check"
	keyCheckText = "ixmage key check"
)

// checkKey compares the key set with the key check, and makes a missing check. It
// returns ErrWrongKey if secrets would be lost.
func checkKey(ctx context.Context, store Store, sealer Sealer) error {
	check, err := store.Meta(ctx, metaKeyCheck)
	switch {
	case errors.Is(err, ErrNotFound):
		return adoptKey(ctx, store, sealer)
	case err != nil:
		return fmt.Errorf("read the key check: %w", err)
	}
	if fits(sealer, check) {
		return nil
	}
	return adoptKey(ctx, store, sealer)
}

func fits(sealer Sealer, check []byte) bool {
	text, err := sealer.Open(check, 0, 0)
	return err == nil && text.Reveal() == keyCheckText
}

// adoptKey makes the key check for the configured key set, if that opens the stored
// secrets or there are no secrets. It reads and writes in one transaction: between two,
// another node could store a secret.
func adoptKey(ctx context.Context, store Store, sealer Sealer) error {
	fresh, err := sealer.Seal(NewSecret(keyCheckText), 0, 0)
	if err != nil {
		return fmt.Errorf("seal the key check: %w", err)
	}
	return store.Update(ctx, func(tx Tx) error {
		check, err := tx.Meta(metaKeyCheck)
		lost := errors.Is(err, ErrNotFound)
		switch {
		case err != nil && !lost:
			return fmt.Errorf("read the key check: %w", err)
		case !lost && fits(sealer, check): // made meanwhile
			return nil
		}
		sealed, err := tx.CountSealed()
		if err != nil {
			return fmt.Errorf("count the sealed secrets: %w", err)
		}
		if sealed > 0 && !opensAny(ctx, store, sealer) { // else only the check is damaged or missing
			return fmt.Errorf("%w: %d of them cannot be read with it; give the key set that was in use before, "+
				"or move the database away and register the key pairs anew", ErrWrongKey, sealed)
		}
		if err := tx.SetMeta(metaKeyCheck, fresh); err != nil {
			return fmt.Errorf("write the key check: %w", err)
		}
		return nil
	})
}

// opensAny reports whether the key set opens a stored secret.
func opensAny(ctx context.Context, store Store, sealer Sealer) bool {
	opens, enough := false, errors.New("enough")
	_ = store.Load(ctx, // enough, or an error that the load of the registry reports
		func(c *Credential) error {
			if c.Sealed == nil {
				return nil
			}
			if _, err := sealer.Open(c.Sealed, c.ID, c.Version); err == nil {
				opens = true
				return enough
			}
			return nil
		},
		func(*Alias) error { return enough })
	return opens
}
