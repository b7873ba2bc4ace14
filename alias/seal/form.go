package seal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// form encodes a key set for its file.
type form interface {
	encode(ctx context.Context, h *keyset.Handle) ([]byte, error)
	decode(ctx context.Context, text []byte) (*keyset.Handle, error)
}

// decode reads a key set from the text of its file.
func decode(ctx context.Context, path string, text []byte, f form) (*keyset.Handle, error) {
	handle, err := f.decode(ctx, text)
	if err != nil {
		return nil, fmt.Errorf("key set %s: %w", path, err)
	}
	return handle, nil
}

// errNoKeyset replaces every error of Tink's reader, which quotes the text that it could
// not parse: that text may be the key.
var errNoKeyset = errors.New("the file is damaged or holds no key set; restore it from backup, " +
	"or delete it if no credential was ever registered")

// clearForm is Tink's JSON, unencrypted.
type clearForm struct{}

func (clearForm) encode(_ context.Context, h *keyset.Handle) ([]byte, error) {
	var b bytes.Buffer
	err := insecurecleartextkeyset.Write(h, keyset.NewJSONWriter(&b))
	return b.Bytes(), err
}

func (clearForm) decode(_ context.Context, text []byte) (*keyset.Handle, error) {
	h, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(text)))
	if err != nil {
		return nil, errNoKeyset
	}
	return h, nil
}

// kmsTimeout bounds a call to KMS, retries included. The server does not listen
// before the key set is open.
const kmsTimeout = 30 * time.Second

// kmsPurpose is in the encryption context of the calls: KMS checks it, and CloudTrail
// shows it.
const kmsPurpose = "ixmage master keyset"

// wrappedForm is Tink's JSON with the keys encrypted by a KMS key.
type wrappedForm struct {
	wrapper tink.AEADWithContext
	arn     string
}

func (w wrappedForm) encode(ctx context.Context, h *keyset.Handle) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	var b bytes.Buffer
	if err := h.WriteWithContext(ctx, keyset.NewJSONWriter(&b), w.wrapper, []byte(kmsPurpose)); err != nil {
		return nil, fmt.Errorf("wrap it with the KMS key %s: %w", w.arn, err)
	}
	return b.Bytes(), nil
}

func (w wrappedForm) decode(ctx context.Context, text []byte) (*keyset.Handle, error) {
	ctx, cancel := context.WithTimeout(ctx, kmsTimeout)
	defer cancel()
	// The text is encrypted here, so the errors of KMS may be shown.
	h, err := keyset.ReadWithContext(ctx, keyset.NewJSONReader(bytes.NewReader(text)), w.wrapper, []byte(kmsPurpose))
	if err != nil {
		return nil, fmt.Errorf("unwrap it with the KMS key %s: %w", w.arn, err)
	}
	return h, nil
}
