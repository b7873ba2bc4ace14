package alias

import (
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unique"
)

// Secret is a value that must not be seen: it prints as a placeholder in every
// format, in logs and in JSON. Reveal is the one way to the text. Secrets are
// comparable: equal when their texts are.
type Secret struct {
	// A handle and not the text: fmt calls no methods of values in unexported
	// fields and prints their content, which for a handle is an address. The zero
	// handle stands for no text.
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

// String, GoString, Format, LogValue, MarshalText and MarshalJSON all give the
// placeholder, so that no printing path can be forgotten.
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

// Kind says how a credential signs.
type Kind string

// Kinds of credential.
const (
	KindStatic    Kind = "static"    // a key pair that an operator pasted in
	KindAnonymous Kind = "anonymous" // no signature: public buckets
)

// Provider is what a credential signs with: Static or Anonymous. It holds what
// may be seen; the secret part lies sealed in the Credential.
type Provider interface{ Kind() Kind }

// Static is a key pair. Its secret access key is the credential's sealed value.
type Static struct {
	AccessKeyID string `json:"access_key_id"`
}

// Kind is KindStatic.
func (Static) Kind() Kind { return KindStatic }

// Anonymous signs nothing and has no secret.
type Anonymous struct{}

// Kind is KindAnonymous.
func (Anonymous) Kind() Kind { return KindAnonymous }

// Credential is a named way to sign. A value handed out by the Registry is
// shared and must not be changed.
type Credential struct {
	ID       int64 // random, never used again
	Name     Name
	Provider Provider
	// Sealed is the secret part, bound to ID and Version; nil where the kind
	// has none.
	Sealed []byte
	// Version is raised when the key pair changes, from 1.
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

// CredentialState says where a credential is in its life.
type CredentialState string

// CredentialActive is the state of a credential that signs. Provisioning adds
// further states.
const CredentialActive CredentialState = "active"

// KeyPair is an access key in the clear.
type KeyPair struct {
	AccessKeyID     string
	SecretAccessKey Secret
}

// ValidateKeyPair checks the form of a key pair, not whether it works:
// *ValidationError with every problem.
func ValidateKeyPair(kp KeyPair) error { return invalid(kp.problems()) }

// problems never repeats a value: what was pasted into the wrong field may be
// the secret.
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
