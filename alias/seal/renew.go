package seal

import (
	"context"
	"fmt"
	"os"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"

	"ixmage/internal/durable"
)

// Renewed is a key set with a new key, and the keys of the one before it.
type Renewed struct {
	*Keyset

	// Before is the path of the key set before it, once this one is written.
	Before string

	text []byte // of the file; nil if that is there
	same bool   // it takes the path of the key set before it
}

// Renew makes a key set for the place of next: a new key that seals, and the keys of k, with
// which it opens what k has sealed. Write writes it. If an earlier call has written one there,
// Renew returns that; any other file there is refused.
func (k *Keyset) Renew(ctx context.Context, next Spec) (*Renewed, error) { return k.renew(ctx, next) }

func (k *Keyset) renew(ctx context.Context, next Spec, opts ...awskms.ClientOption) (*Renewed, error) {
	at, err := next.file(ctx, opts)
	if err != nil {
		return nil, err
	}
	same := sameFile(at.path, k.path)
	if !same {
		written, err := k.written(ctx, next, at)
		if written != nil || err != nil {
			return written, err
		}
	}
	handle, err := withNewKey(k.handle)
	if err != nil {
		return nil, err
	}
	text, err := at.form.encode(ctx, handle)
	if err != nil {
		return nil, fmt.Errorf("make the key set %s: %w", at.path, err)
	}
	made, err := newKeyset(next, at.path, handle)
	return &Renewed{made, k.path, text, same}, err
}

// written returns the key set that an earlier call has written, nil if there is no file.
func (k *Keyset) written(ctx context.Context, next Spec, at file) (*Renewed, error) {
	text, err := readFile(at.path)
	if isMissing(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, err
	}
	handle, err := decode(ctx, at.path, text, at.form)
	if err != nil {
		return nil, err
	}
	made, err := newKeyset(next, at.path, handle)
	if err != nil {
		return nil, err
	}
	for _, f := range fingerprints(k.handle) {
		if !made.Has(f) || k.Has(made.Fingerprint()) {
			return nil, fmt.Errorf("the file %s holds another key set: name a path where no file is", at.path)
		}
	}
	return &Renewed{made, k.path, nil, false}, nil
}

// Write makes the file of the key set, and returns when it is durable. A file that it replaces
// is kept under another name.
func (r *Renewed) Write() error {
	switch {
	case r.text == nil:
		return nil
	case !r.same:
		return writeFile(r.path, r.text)
	}
	before, err := durable.Keep(r.Before, ".before-rekey")
	if err == nil {
		err = durable.Replace(r.path, r.text)
	}
	if err != nil {
		return fmt.Errorf("replace the key set %s: %w", r.path, err)
	}
	r.Before = before
	return nil
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
