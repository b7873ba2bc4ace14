// Package seal encrypts the secrets of credentials at rest with a Tink key set, which is
// in a file of its own, or is wrapped by AWS KMS.
package seal

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"

	"ixmage/alias"
)

// Spec says where the key set is.
type Spec struct {
	// Master is empty for master.keyset in Dir, or file:PATH, or aws-kms://ARN
	// for a key set in Dir that a KMS key has wrapped.
	Master string
	// Dir is the data folder.
	Dir string
	// Fresh means that the registry holds no sealed secret, so that Open may make a
	// missing key set.
	Fresh bool
	// Sealed is the number of credentials and aliases with a sealed secret, for the error about a
	// missing key set.
	Sealed int
}

// Names of the key set in the data folder.
const (
	fileName    = "master.keyset"
	kmsFileName = "master.keyset.kms"
)

const (
	filePrefix = "file:"
	kmsPrefix  = "aws-kms://"
)

// purpose is part of the associated data of every sealed value. It
// distinguishes these values from other values that may be sealed with the same key set
// later.
const purpose = "ixmage credential secret"

// keyPurpose is purpose for the signing keys of aliases.
const keyPurpose = "ixmage signing key"

// Keyset seals and opens. It implements alias.Sealer and is safe for concurrent
// use; no method of Sealer does I/O.
type Keyset struct {
	primitive tink.AEAD
	handle    *keyset.Handle
	path      string // of its file
	master    string // the form of Spec.Master
	dir       string
}

var _ alias.Sealer = (*Keyset)(nil)

// Open reads the key set, or makes it if Spec.Fresh allows. It does file I/O, and with
// a KMS key at most two calls to KMS.
func Open(ctx context.Context, spec Spec) (*Keyset, error) { return open(ctx, spec) }

// open is Open with a given KMS client, for tests.
func open(ctx context.Context, spec Spec, opts ...awskms.ClientOption) (*Keyset, error) {
	if err := ValidateMaster(spec.Master); err != nil {
		return nil, err
	}
	at, err := spec.file(ctx, opts)
	if err != nil {
		return nil, err
	}
	handle, err := readOrMake(ctx, at.path, spec, at.form)
	if err != nil {
		return nil, err
	}
	return newKeyset(spec, at.path, handle)
}

// newKeyset makes the key set of a handle, whose file is at path.
func newKeyset(spec Spec, path string, handle *keyset.Handle) (*Keyset, error) {
	primitive, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("key set %s holds no keys for sealing", path)
	}
	return &Keyset{primitive: primitive, handle: handle, path: path, master: spec.Master, dir: spec.Dir}, nil
}

// path returns the path of the file.
func (spec Spec) path() string {
	if strings.HasPrefix(spec.Master, kmsPrefix) {
		return filepath.Join(spec.Dir, kmsFileName)
	}
	if named, ok := strings.CutPrefix(spec.Master, filePrefix); ok {
		return named
	}
	return filepath.Join(spec.Dir, fileName)
}

// file is a path and the form of its content.
type file struct {
	path string
	form form
}

func (spec Spec) file(ctx context.Context, opts []awskms.ClientOption) (file, error) {
	arn, ok := strings.CutPrefix(spec.Master, kmsPrefix)
	if !ok {
		return file{spec.path(), clearForm{}}, nil
	}
	wrapper, err := awskms.NewAEADWithContext(ctx, arn, opts...)
	if err != nil {
		return file{}, fmt.Errorf("make a client for the KMS key %s: %w", arn, err)
	}
	return file{spec.path(), wrappedForm{wrapper: wrapper, arn: arn}}, nil
}

// InDataFolder returns the path of an existing key set in the data folder of a Spec, or
// "". A key set elsewhere may belong to many registries, and is not reported.
func InDataFolder(spec Spec) string {
	path := spec.path()
	if _, err := os.Lstat(path); err != nil || !within(spec.Dir, path) {
		return ""
	}
	return path
}

// ValidateMaster checks the form of a master key, not whether the key exists.
func ValidateMaster(master string) error {
	if path, ok := strings.CutPrefix(master, filePrefix); ok && path != "" || master == "" {
		return nil
	}
	if arn, ok := strings.CutPrefix(master, kmsPrefix); ok && isKeyARN(arn) {
		return nil
	}
	return fmt.Errorf("master key %q must be file:PATH or aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID", master)
}

// isKeyARN accepts keys and key aliases of any partition.
func isKeyARN(s string) bool {
	p := strings.Split(s, ":")
	return len(p) == 6 && p[0] == "arn" && p[1] != "" && p[2] == "kms" && p[3] != "" && p[4] != "" &&
		(strings.HasPrefix(p[5], "key/") || strings.HasPrefix(p[5], "alias/"))
}

// readOrMake returns the handle of the key set at path.
func readOrMake(ctx context.Context, path string, spec Spec, form form) (*keyset.Handle, error) {
	text, err := readFile(path)
	switch {
	case err == nil:
		return decode(ctx, path, text, form)
	case !isMissing(err):
		return nil, err
	case !spec.Fresh:
		return nil, missing(path, spec.Sealed)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make a key set: %w", err)
	}
	if text, err = form.encode(ctx, handle); err != nil {
		return nil, fmt.Errorf("make the key set %s: %w", path, err)
	}
	return handle, writeFile(path, text)
}

// ErrMissing means that there is no file of the key set.
var ErrMissing = errors.New("is missing")

// missing is the error about a missing key set: the loss and the remedy.
func missing(path string, sealed int) error {
	whose := "credentials"
	switch {
	case sealed == 1:
		whose = "1 credential"
	case sealed > 1:
		whose = fmt.Sprintf("%d credentials", sealed)
	}
	return fmt.Errorf("key set %s %w: the secrets of %s in the registry cannot be read without it; "+
		"restore the file from backup, or move the database away and register the key pairs anew", path, ErrMissing, whose)
}

// Seal encrypts a secret for one version of one credential.
func (k *Keyset) Seal(secret alias.Secret, credentialID, version int64) ([]byte, error) {
	return k.primitive.Encrypt([]byte(secret.Reveal()), associated(credentialID, version))
}

// Open decrypts what Seal made for the same version of the same credential.
func (k *Keyset) Open(sealed []byte, credentialID, version int64) (alias.Secret, error) {
	text, err := k.primitive.Decrypt(sealed, associated(credentialID, version))
	if err != nil {
		return alias.Secret{}, fmt.Errorf("sealed with another key, for another credential, or damaged: %w", err)
	}
	return alias.NewSecret(string(text)), nil
}

// SealSigningKey encrypts a signing key of an alias.
func (k *Keyset) SealSigningKey(secret alias.Secret, aliasID int64, kid string) ([]byte, error) {
	return k.primitive.Encrypt([]byte(secret.Reveal()), associatedKey(aliasID, kid))
}

// OpenSigningKey decrypts what SealSigningKey made for the same alias and kid.
func (k *Keyset) OpenSigningKey(sealed []byte, aliasID int64, kid string) (alias.Secret, error) {
	text, err := k.primitive.Decrypt(sealed, associatedKey(aliasID, kid))
	if err != nil {
		return alias.Secret{}, fmt.Errorf("sealed with another key, for another alias or kid, or damaged: %w", err)
	}
	return alias.NewSecret(string(text)), nil
}

// associatedKey is associated for a signing key.
func associatedKey(aliasID int64, kid string) []byte {
	b := append(make([]byte, 0, len(keyPurpose)+9+len(kid)), keyPurpose...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(aliasID))
	return append(b, kid...)
}

// associated returns the associated data to which a sealed value is bound.
func associated(credentialID, version int64) []byte {
	b := append(make([]byte, 0, len(purpose)+17), purpose...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, uint64(credentialID))
	return binary.BigEndian.AppendUint64(b, uint64(version))
}

// BesideData reports whether the key set is unencrypted in the data folder, so that a
// copy of the folder contains both the key and the database, and its path.
func (k *Keyset) BesideData() (path string, beside bool) {
	if strings.HasPrefix(k.master, kmsPrefix) || !within(k.dir, k.path) {
		return "", false
	}
	return k.path, true
}

// within reports whether a path is in a folder.
func within(dir, path string) bool {
	rel, err := filepath.Rel(resolved(dir), resolved(path))
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

// resolved returns the absolute path without symbolic links; a step that fails is
// skipped.
func resolved(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	return path
}
