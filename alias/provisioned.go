package alias

import (
	"maps"
	"reflect"
	"slices"
	"time"
)

// KindProvisioned is a key pair of an IAM user that ixmage made.
const KindProvisioned Kind = "provisioned"

// Further states of a credential, written by provisioning. Only an active and a
// rotating one sign for new requests.
const (
	CredentialProvisioning CredentialState = "provisioning"
	CredentialRotating     CredentialState = "rotating"
	CredentialRemoving     CredentialState = "removing"
	CredentialFailed       CredentialState = "failed"
)

// PolicyMode is the way in which a provisioned user gets its rights.
type PolicyMode string

// Policy modes.
const (
	PolicyInline   PolicyMode = "inline"           // an inline policy of the user
	PolicyManaged  PolicyMode = "managed"          // a customer managed policy per location, attached
	PolicyReadOnly PolicyMode = "read-only-access" // AmazonS3ReadOnlyAccess, attached
)

// IAMUser is the user that a provisioned credential belongs to.
type IAMUser struct {
	Name     string `json:"name"`
	Path     string `json:"path"`
	ARN      string `json:"arn"`
	ID       string `json:"id"`
	Boundary string `json:"boundary,omitempty"` // ARN, empty for none
}

// Grant is a location that a provisioned user may read.
type Grant struct {
	Bucket    string `json:"bucket"`
	Prefix    string `json:"prefix"`
	KMSKeyARN string `json:"kms_key_arn,omitempty"`
	Region    string `json:"region,omitempty"` // of the bucket
	Endpoint  string `json:"endpoint,omitempty"`
	PathStyle bool   `json:"path_style,omitempty"`
}

// Location returns the location of the granted objects.
func (g Grant) Location() Location {
	return Location{
		Bucket: g.Bucket, Prefix: g.Prefix, Region: g.Region, Endpoint: g.Endpoint, PathStyle: g.PathStyle,
	}
}

// PolicyRef is a managed policy attached to a provisioned user.
type PolicyRef struct {
	ARN  string `json:"arn"`
	Ours bool   `json:"ours"` // ixmage made it, so ixmage may delete it
}

// PendingKey is a key that is being made and is not the current key yet.
type PendingKey struct {
	SealedKey           // without an id until the key is created
	CreatedAt time.Time `json:"created_at,omitzero"`
}

// PreviousKey is the key pair before a rotation. Until its end a request that S3 refuses
// with the current key is repeated with it.
type PreviousKey struct {
	SealedKey
	Until         time.Time `json:"until"` // end of its use
	SwappedAt     time.Time `json:"swapped_at,omitzero"`
	InactiveAt    time.Time `json:"inactive_at,omitzero"`    // zero while it is active
	RotatedBefore time.Time `json:"rotated_before,omitzero"` // RotatedAt of the credential before the swap
	// Revision is that of the registry with which the swap was stored, and FollowedAt when every
	// node that shares it was known to have applied that. Zero without such nodes.
	Revision   int64     `json:"revision,omitempty"`
	FollowedAt time.Time `json:"followed_at,omitzero"`
}

// Reverted is a swap of keys that was undone: the previous key is the current one again.
type Reverted struct {
	// Revision is that of the registry with which this was stored.
	Revision int64 `json:"revision,omitempty"`
}

// SuspectKey is a key that ixmage probably made and whose secret was lost. It is
// inactive.
type SuspectKey struct {
	AccessKeyID string    `json:"access_key_id"`
	InactiveAt  time.Time `json:"inactive_at"`
}

// Provisioned is a key pair of an IAM user that ixmage made. Its secret access key is
// the credential's sealed value. A value returned by the Registry must not be changed:
// Clone it first.
type Provisioned struct {
	AccessKeyID string `json:"access_key_id"` // empty before the key is created
	// Account is the id of the AWS account of the user. It is empty for that of the server's own
	// credentials.
	Account  string            `json:"account,omitempty"`
	User     IAMUser           `json:"user"`
	Mode     PolicyMode        `json:"mode"`
	Grants   []Grant           `json:"grants"`
	Policies []PolicyRef       `json:"policies,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	// Operation is the id of the operation that made the user. It is also a tag of the
	// user, which proves that ixmage made the user.
	Operation   string        `json:"operation"`
	RotateEvery time.Duration `json:"rotate_every,omitempty"`
	// Generation is the value of the user's generation tag that this registry wrote last, and
	// GenerationsBefore are the ones before, the latest last: IAM may show one of them for a
	// while. Any other value is that of another registry, and this one then only reads.
	Generation        string   `json:"generation,omitempty"`
	GenerationsBefore []string `json:"generations_before,omitempty"`
	GenerationSeen    bool     `json:"generation_seen,omitempty"` // IAM has shown Generation
	// The keys of the user beside the current one, by their roles.
	Pending  *PendingKey  `json:"pending,omitempty"`
	Previous *PreviousKey `json:"previous,omitempty"`
	Suspects []SuspectKey `json:"suspects,omitempty"`
	// KeySince is the time just before the last CreateAccessKey, and KeyBeside the keys
	// that the user had then. They tell a key whose secret was lost from a key of another
	// client, and are zero if IAM answered every such call.
	KeySince  time.Time `json:"key_since,omitzero"`
	KeyBeside []string  `json:"key_beside,omitempty"`
	// RevokedAt is when an emergency denied the sessions of the user's keys; zero if none
	// did, or if that was taken back since.
	RevokedAt time.Time `json:"revoked_at,omitzero"`
	// Adopted describes a user that ixmage took over and did not make; nil for any other.
	Adopted *Adopted `json:"adopted,omitempty"`
	// PendingDeletion are ids of our keys that are retired and have to be deleted.
	PendingDeletion []string `json:"discarded,omitempty"`
	// Reverted is set until every node that shares the registry is known to have applied it: one
	// that has not signs with a key of PendingDeletion. It is nil without such nodes.
	Reverted *Reverted `json:"reverted,omitempty"`
	// ExtraGrants are locations that a failed reuse granted to the user and could not
	// revoke. The next reconciliation of the user revokes them.
	ExtraGrants []Grant `json:"widened,omitempty"`
}

// Adopted is what ixmage found on a user that it took over, and leaves on it.
type Adopted struct {
	// AccessKeyID is the key that the user had, empty for none. It is never deleted.
	AccessKeyID string   `json:"access_key_id"`
	Retire      bool     `json:"retire,omitempty"`   // make that key inactive when nobody uses it
	Policies    []string `json:"policies,omitempty"` // names and ARNs of policies that the user had
	Boundary    bool     `json:"boundary,omitempty"` // ixmage set the permissions boundary
	Tags        []string `json:"tags,omitempty"`     // keys of Provisioned.Tags that the user had
	// Since is when the key of ixmage took the place of the key that the user had.
	Since time.Time `json:"since,omitzero"`
}

// Kind is KindProvisioned.
func (*Provisioned) Kind() Kind { return KindProvisioned }

// Clone returns a copy that shares no memory with p.
func (p *Provisioned) Clone() *Provisioned {
	c := *p
	c.Grants, c.Policies, c.Tags = slices.Clone(p.Grants), slices.Clone(p.Policies), maps.Clone(p.Tags)
	c.PendingDeletion, c.ExtraGrants = slices.Clone(p.PendingDeletion), slices.Clone(p.ExtraGrants)
	c.Suspects, c.KeyBeside = slices.Clone(p.Suspects), slices.Clone(p.KeyBeside)
	c.GenerationsBefore = slices.Clone(p.GenerationsBefore)
	if p.Previous != nil {
		previous := *p.Previous
		previous.Sealed = slices.Clone(p.Previous.Sealed)
		c.Previous = &previous
	}
	if p.Reverted != nil {
		reverted := *p.Reverted
		c.Reverted = &reverted
	}
	if p.Pending != nil {
		pending := *p.Pending
		pending.Sealed = slices.Clone(pending.Sealed)
		c.Pending = &pending
	}
	if p.Adopted != nil {
		adopted := *p.Adopted
		adopted.Policies, adopted.Tags = slices.Clone(adopted.Policies), slices.Clone(adopted.Tags)
		c.Adopted = &adopted
	}
	return &c
}

// same reports whether two credentials are equal in every field.
func (c *Credential) same(d *Credential) bool { return reflect.DeepEqual(c, d) }

// Provisioned returns the provider of a provisioned credential; ok is false for every
// other kind.
func (c *Credential) Provisioned() (p *Provisioned, ok bool) {
	p, ok = c.Provider.(*Provisioned)
	return p, ok
}

// AccessKeyID returns the id of the key that signs requests. It is empty for a kind
// without a key, and before the key is created.
func (c *Credential) AccessKeyID() string {
	switch p := c.Provider.(type) {
	case Static:
		return p.AccessKeyID
	case *Provisioned:
		return p.AccessKeyID
	}
	return ""
}
