package alias

import (
	"maps"
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

// PreviousKey is the key pair before a rotation, which still works. A request that S3
// refuses with the current key is repeated with it.
type PreviousKey struct {
	SealedKey
	Until time.Time `json:"until"` // end of its use
}

// Provisioned is a key pair of an IAM user that ixmage made. Its secret access key is
// the credential's sealed value. A value returned by the Registry must not be changed:
// Clone it first.
type Provisioned struct {
	AccessKeyID string            `json:"access_key_id"` // empty before the key is created
	User        IAMUser           `json:"user"`
	Mode        PolicyMode        `json:"mode"`
	Grants      []Grant           `json:"grants"`
	Policies    []PolicyRef       `json:"policies,omitempty"`
	Tags        map[string]string `json:"tags,omitempty"`
	// Operation is the id of the operation that made the user. It is also a tag of the
	// user, which proves that ixmage made the user.
	Operation   string        `json:"operation"`
	RotateEvery time.Duration `json:"rotate_every,omitempty"`
	Previous    *PreviousKey  `json:"previous,omitempty"`
	// PendingDeletion are ids of our keys that an operation failed to delete. The next
	// reconciliation deletes them.
	PendingDeletion []string `json:"discarded,omitempty"`
	// ExtraGrants are locations that a failed reuse granted to the user and could not
	// revoke. The next reconciliation of the user revokes them.
	ExtraGrants []Grant `json:"widened,omitempty"`
}

// Kind is KindProvisioned.
func (*Provisioned) Kind() Kind { return KindProvisioned }

// Clone returns a copy that shares no memory with p.
func (p *Provisioned) Clone() *Provisioned {
	c := *p
	c.Grants, c.Policies, c.Tags = slices.Clone(p.Grants), slices.Clone(p.Policies), maps.Clone(p.Tags)
	c.PendingDeletion, c.ExtraGrants = slices.Clone(p.PendingDeletion), slices.Clone(p.ExtraGrants)
	if p.Previous != nil {
		previous := *p.Previous
		previous.Sealed = slices.Clone(p.Previous.Sealed)
		c.Previous = &previous
	}
	return &c
}

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
