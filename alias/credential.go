package alias

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unique"
)

// Secret is a text that must not be printed: in every format, in logs and in JSON it
// is a placeholder. Only Reveal returns the text. Secrets are comparable: two are equal
// if their texts are.
type Secret struct {
	// The field is a handle, because fmt calls no methods of values in unexported
	// fields and prints their content, which for a handle is an address. The zero
	// handle means that there is no text.
	text unique.Handle[string]
}

const redacted = "[redacted]"

// NewSecret wraps text.
func NewSecret(text string) Secret {
	if text == "" {
		return Secret{}
	}
	return Secret{unique.Make(text)}
}

// Reveal returns the text. Call it where the value is used, and nowhere else.
func (s Secret) Reveal() string {
	if s.IsZero() {
		return ""
	}
	return s.text.Value()
}

// IsZero reports whether there is no text.
func (s Secret) IsZero() bool { return s == Secret{} }

// Equal is ==, for packages that compare by reflection.
func (s Secret) Equal(other Secret) bool { return s == other }

// String returns the placeholder, like GoString, Format, LogValue, MarshalText and
// MarshalJSON: together they cover every way to print a value.
func (Secret) String() string { return redacted }

// GoString is String for %#v.
func (Secret) GoString() string { return redacted }

// Format is String for every verb and flag.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue is String for slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText is String for encoders of text.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalJSON is String for encoding/json.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Kind is the kind of a credential: it determines how requests are signed.
type Kind string

// Kinds of credential.
const (
	KindStatic    Kind = "static"    // a key pair that an operator gave
	KindAnonymous Kind = "anonymous" // no signature: public buckets
)

// Provider is the public part of a credential: Static, Anonymous, Provisioned, Role or
// Default. The secret part is sealed in the Credential.
type Provider interface{ Kind() Kind }

// Static is a key pair. Its secret access key is the credential's sealed value.
type Static struct {
	AccessKeyID string `json:"access_key_id"`
	// Expect is what an operator says that the key is meant to be: PolicyReadOnly for one
	// that may read and list every bucket, or empty for one that may do no more than its
	// aliases need.
	Expect PolicyMode `json:"expect,omitempty"`
}

// Kind is KindStatic.
func (Static) Kind() Kind { return KindStatic }

// Anonymous signs nothing and has no secret.
type Anonymous struct{}

// Kind is KindAnonymous.
func (Anonymous) Kind() Kind { return KindAnonymous }

// Credential is a named way to sign requests. A value returned by the Registry is
// shared and must not be changed.
type Credential struct {
	ID       int64 // random, never used again
	Name     Name
	Provider Provider
	// Sealed is the secret part, bound to ID and Version; nil for a kind without a
	// secret.
	Sealed []byte
	// Version counts changes of the key pair, from 1.
	Version int64
	// State, Scope and VerifiedAt are written by provisioning.
	State      CredentialState
	Scope      string
	VerifiedAt time.Time
	// Revision counts changes of any kind, from 1.
	Revision  int64
	CreatedAt time.Time
	RotatedAt time.Time // zero until the key pair is replaced
	UpdatedAt time.Time
}

// CredentialState is the state of a credential in its lifecycle.
type CredentialState string

// CredentialActive is the state of a credential that signs. Provisioning adds
// further states.
const CredentialActive CredentialState = "active"

// KeyPair is an access key that is not sealed.
type KeyPair struct {
	AccessKeyID     string
	SecretAccessKey Secret
}

// expectProblems validates what a key is meant to be.
func expectProblems(expect PolicyMode) []Problem {
	if expect == "" || expect == PolicyReadOnly {
		return nil
	}
	return []Problem{{"expect", "must be read-only-access, or empty for a key that may do no more than its aliases need"}}
}

// problems never repeats a value: an operator may have pasted the secret into the
// wrong field.
func (kp KeyPair) problems() []Problem {
	var problems []Problem
	id, secret := kp.AccessKeyID, kp.SecretAccessKey.Reveal()
	// A signature names the key id in a list of name=value, separated by
	// commas, and follows it with a slash.
	if len(id) < 1 || len(id) > 128 || !isGraphic(id) || strings.ContainsAny(id, `/,="`) {
		problems = append(problems, Problem{
			"access_key_id",
			`must be 1 to 128 printable ASCII characters without space, slash, comma, "=" and quote`,
		})
	} else if len(id) == 20 && strings.HasPrefix(id, "ASIA") {
		problems = append(problems, Problem{
			"access_key_id",
			"must be a long-lived key: one that begins with ASIA is temporary and works only with a session token",
		})
	}
	if len(secret) < 1 || len(secret) > 256 || !isGraphic(secret) {
		problems = append(problems, Problem{"secret_access_key", "must be 1 to 256 printable ASCII characters without space"})
	}
	return problems
}

// isGraphic reports whether s is printable ASCII without space.
func isGraphic(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
