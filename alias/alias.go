// Package alias is the registry: public names for locations in buckets, and the
// credentials with which ixmage reads them. It imports the standard library only.
package alias

import (
	"fmt"
	"reflect"
	"slices"
	"time"
)

// Name is the public name of an alias or a credential: one DNS-label-like word
// of lower-case letters, digits and hyphens. The zero Name is not valid.
type Name string

// State says whether an alias may be served.
type State string

// States of an alias. Only an active one is served.
const (
	StateActive       State = "active"
	StateProvisioning State = "provisioning"
	StateFailed       State = "failed"
)

// Alias is a public name for a Location, with the credential that reads it. A value
// returned by the Registry is shared and must not be changed.
type Alias struct {
	// ID is random and never used again. An alias that is deleted and created again
	// under the same name gets a new ID, so that no object cached for the old alias
	// is served.
	ID   int64
	Name Name
	Location
	// CredentialID and Credential identify the credential, by ID and by name.
	CredentialID int64
	Credential   Name
	Canary       string
	Enabled      bool

	TTL                  time.Duration
	NegativeTTL          time.Duration
	StaleWhileRevalidate time.Duration
	StaleIfError         time.Duration

	// CacheControl replaces the object's own Cache-Control in answers to clients;
	// "" keeps the object's. It does not change how long the cache keeps an object.
	CacheControl string
	// CORSOrigins are the web pages whose scripts may read the pictures, or
	// AnyOrigin alone. The list is shared and must not be changed.
	CORSOrigins []string
	// CORSHeaders are the request headers that these pages may send, or AnyHeader
	// alone. The list is shared and must not be changed.
	CORSHeaders []string
	Fallback    Fallback

	// CacheMin are the bytes in memory that objects of other aliases cannot evict, CacheMax
	// is the most that this one may have there; 0 means none.
	CacheMin, CacheMax Size

	// Transforms and Access say which requests need a signature. Widths are what the width of an
	// unsigned request is rounded up to, ascending; without any, no width is allowed. Templates
	// are queries by name. The list and the map are shared and must not be changed.
	Transforms Transforms
	Access     Access
	Widths     []int
	Templates  map[string]string
	// SigningKeys are in the order in which they were made. The list is shared and must not be
	// changed; AddSigningKey and DeleteSigningKey write it.
	SigningKeys []SigningKey

	State State
	// Epoch is part of every cache key. A change of location and RaiseEpoch raise it;
	// it never decreases.
	Epoch int64
	// Revision counts changes of everything but the epoch, from 1.
	Revision  int64
	CreatedAt time.Time
	UpdatedAt time.Time
}

// Fallback names the objects of an alias that are served instead of an error,
// as paths after the prefix; "" means none.
type Fallback struct {
	Missing string // for 404: there is no such picture
	Broken  string // for 502, 503 and 504: S3 failed or cannot be reached
}

// New returns an enabled alias with the default times and transforms. All other fields are zero.
func New() *Alias {
	return &Alias{
		Enabled: true,
		TTL:     time.Hour, NegativeTTL: 5 * time.Second,
		StaleWhileRevalidate: time.Minute, StaleIfError: 24 * time.Hour,
		Transforms: TransformsTemplates, Access: AccessOpen, Widths: DefaultWidths(),
	}
}

// Serves reports whether requests to the alias may be answered.
func (a *Alias) Serves() bool { return a.Enabled && a.State == StateActive }

// Policy has the permissions that an installation adds to the fixed rules.
type Policy struct {
	// AllowPrivateEndpoints allows custom endpoints with plain http, and with
	// loopback and private addresses.
	AllowPrivateEndpoints bool
	// CheckTemplate returns the canonical form of a template, or an error that says what is wrong
	// without repeating the text. nil: only the form is checked.
	CheckTemplate func(query string) (canonical string, err error)
}

// Bounds of the durations. They catch mistakes of units, such as hours for
// seconds, and keep sums of times far from overflow.
const (
	maxTTL         = 10 * 365 * 24 * time.Hour
	maxNegativeTTL = time.Hour
)

// ParseName checks the form of the name of an alias or credential. The error for any
// other text is a *ValidationError.
func ParseName(s string) (Name, error) {
	n := Name(s)
	return n, invalid(n.problems())
}

func (n Name) problems() []Problem {
	if isLabel(string(n)) {
		return nil
	}
	return []Problem{{"name", nameForm}}
}

const nameForm = "must be 1 to 63 of a-z, 0-9 and hyphen, and begin and end with a letter or digit"

// Normalize brings an alias that an operator wrote into its canonical form: one slash
// at the end of the prefix, the endpoint in lower case without a path, a region, a
// state, Cache-Control and origins as HTTP writes them. It is idempotent and corrects
// nothing else. Afterwards the alias shares no list or map with its source, except the signing keys.
func (a *Alias) Normalize() {
	a.Location = a.normal()
	a.CacheControl = normalCacheControl(a.CacheControl)
	a.CORSOrigins = normalOrigins(a.CORSOrigins)
	a.CORSHeaders = append([]string(nil), a.CORSHeaders...)
	a.normalTransforms()
	if a.State == "" {
		a.State = StateActive
	}
}

// Validate checks every rule and reports all problems at once, in a *ValidationError.
// It does not change the alias: call Normalize first.
func (a *Alias) Validate(p Policy) error { return invalid(a.problems(p)) }

// ValidateChange is Validate for a change of old into a. It does not report a problem
// of a field that the change leaves as it was: the policy may be stricter today than
// when old was registered, and such an alias can still be disabled, or corrected field
// by field.
func (a *Alias) ValidateChange(old *Alias, p Policy) error { return invalid(a.newProblems(old, p)) }

func (a *Alias) newProblems(old *Alias, p Policy) []Problem {
	was, before, after := old.problems(p), old.fields(), a.fields()
	return slices.DeleteFunc(a.problems(p), func(x Problem) bool {
		return before[x.Field] == after[x.Field] && slices.Contains(was, x)
	})
}

// fields returns the values by the field names of problems; each value is comparable.
func (a *Alias) fields() map[string]any {
	fields := map[string]any{
		"name": a.Name, "bucket": a.Bucket, "bucket_owner": a.BucketOwner, "prefix": a.Prefix,
		"region": a.Region, "endpoint": a.Endpoint, "canary": a.Canary, "ttl": a.TTL, "negative_ttl": a.NegativeTTL,
		"stale_while_revalidate": a.StaleWhileRevalidate, "stale_if_error": a.StaleIfError, "state": a.State,
		"cache_control": a.CacheControl, "cors_origins": fmt.Sprintf("%q", a.CORSOrigins),
		"cors_headers": fmt.Sprintf("%q", a.CORSHeaders),
		"cache_min":    a.CacheMin, "cache_max": a.CacheMax,
		"fallback": a.Fallback, "fallback.missing": a.Fallback.Missing, "fallback.broken": a.Fallback.Broken,
		"transforms": a.Transforms, "access": a.Access, "widths": fmt.Sprint(a.Widths),
		"templates": fmt.Sprintf("%q", a.Templates),
	}
	for name, query := range a.Templates {
		fields[templateField(name)] = query
	}
	return fields
}

// same reports whether two aliases are equal in every field.
func (a *Alias) same(b *Alias) bool { return reflect.DeepEqual(a, b) }

func (a *Alias) problems(p Policy) []Problem {
	problems := append(a.Name.problems(), a.Location.problems(p)...)
	problems = append(problems, a.optionalPathProblems("canary", a.Canary)...) // it is fetched like the path of a request
	problems = append(problems, a.durationProblems()...)
	if detail := cacheControlProblem(a.CacheControl); detail != "" {
		problems = append(problems, Problem{"cache_control", detail})
	}
	problems = append(problems, a.originProblems()...)
	problems = append(problems, a.headerProblems()...)
	problems = append(problems, a.fallbackProblems()...)
	problems = append(problems, a.shareProblems()...)
	problems = append(problems, a.transformProblems(p)...)
	switch a.State {
	case StateActive, StateProvisioning, StateFailed:
	default:
		problems = append(problems, Problem{"state", "must be active, provisioning or failed"})
	}
	return problems
}

func (a *Alias) durationProblems() []Problem {
	var problems []Problem
	for _, d := range []struct {
		field string
		value time.Duration
		limit time.Duration
	}{
		{"ttl", a.TTL, maxTTL},
		{"negative_ttl", a.NegativeTTL, maxNegativeTTL},
		{"stale_while_revalidate", a.StaleWhileRevalidate, maxTTL},
		{"stale_if_error", a.StaleIfError, maxTTL},
	} {
		if d.value < 0 || d.value > d.limit {
			problems = append(problems, Problem{d.field, fmt.Sprintf("must be from 0s to %s", d.limit)})
		}
	}
	return problems
}

// fallbackProblems names the field fallback if both paths are equal, because an
// operator may then have given one path for both.
func (a *Alias) fallbackProblems() []Problem {
	f := a.Fallback
	if f.Missing == f.Broken {
		return a.optionalPathProblems("fallback", f.Missing)
	}
	return append(a.optionalPathProblems("fallback.missing", f.Missing),
		a.optionalPathProblems("fallback.broken", f.Broken)...)
}
