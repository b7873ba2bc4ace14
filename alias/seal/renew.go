package seal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"ixmage/internal/durable"
)

// Renewed is a key set with a new key, and the file of the one before it.
type Renewed struct {
	*Keyset

	// Before is the path of the key set before it.
	Before string
}

// Renew makes a key set at the place of next: a new key that seals, and the keys of k, with
// which it opens what k has sealed. It is durable when Renew returns. The file of k is
// kept: under another name, if next has the same path. A file of next that an earlier,
// interrupted call has made is used; any other file there is refused.
func (k *Keyset) Renew(ctx context.Context, next Spec) (*Renewed, error) { return k.renew(ctx, next) }

func (k *Keyset) renew(ctx context.Context, next Spec, opts ...awskms.ClientOption) (*Renewed, error) {
	if err := ValidateMaster(next.Master); err != nil {
		return nil, err
	}
	path, form, err := next.file(ctx, opts)
	if err != nil {
		return nil, err
	}
	same := sameFile(path, k.path)
	if !same {
		made, err := k.continued(ctx, next, path, form)
		if made != nil || err != nil {
			return made, err
		}
	}
	handle, err := withNewKey(k.handle)
	if err != nil {
		return nil, err
	}
	text, err := form.encode(ctx, handle)
	if err != nil {
		return nil, fmt.Errorf("make the key set %s: %w", path, err)
	}
	before := k.path
	if same {
		if before, err = durable.Keep(k.path, ".before-rekey"); err == nil {
			err = durable.Replace(path, text)
		}
		if err != nil {
			return nil, fmt.Errorf("replace the key set %s: %w", path, err)
		}
	} else if err := writeFile(path, text); err != nil {
		return nil, err
	}
	made, err := newKeyset(next, path, handle)
	return &Renewed{made, before}, err
}

// continued returns the key set that an earlier call has made at path, nil if there is no
// file.
func (k *Keyset) continued(ctx context.Context, next Spec, path string, form form) (*Renewed, error) {
	text, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	handle, err := decode(ctx, path, text, form)
	if err != nil {
		return nil, err
	}
	made, err := newKeyset(next, path, handle)
	if err != nil {
		return nil, err
	}
	for _, f := range fingerprints(k.handle) {
		if !made.Has(f) {
			return nil, fmt.Errorf("the file %s holds another key set: name a path where no file is", path)
		}
	}
	if k.Has(made.Fingerprint()) {
		return nil, fmt.Errorf("the file %s holds the same key set: name a path where no file is", path)
	}
	return &Renewed{made, k.path}, nil
}

// withNewKey returns the keys of a handle and a new primary one.
func withNewKey(h *keyset.Handle) (*keyset.Handle, error) {
	m := keyset.NewManagerFromHandle(h)
	id, err := m.Add(aead.AES256GCMKeyTemplate())
	if err == nil {
		err = m.SetPrimary(id)
	}
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	return m.Handle()
}

// sameFile reports whether two paths lead to one file.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
