package admin

import (
	"encoding/json"
	"time"

	"ixmage/alias"
)

// aliasJSON is an alias as the API shows it.
type aliasJSON struct {
	Name                 alias.Name   `json:"name"`
	Bucket               string       `json:"bucket"`
	BucketOwner          string       `json:"bucket_owner"`
	Prefix               string       `json:"prefix"`
	Region               string       `json:"region"`
	Endpoint             string       `json:"endpoint"`
	PathStyle            bool         `json:"path_style"`
	Credential           alias.Name   `json:"credential"`
	Canary               string       `json:"canary"`
	Enabled              bool         `json:"enabled"`
	TTL                  string       `json:"ttl"`
	NegativeTTL          string       `json:"negative_ttl"`
	StaleWhileRevalidate string       `json:"stale_while_revalidate"`
	StaleIfError         string       `json:"stale_if_error"`
	CacheControl         string       `json:"cache_control"`
	CORSOrigins          []string     `json:"cors_origins"`
	Fallback             fallbackJSON `json:"fallback"`
	State                alias.State  `json:"state"`
	Revision             int64        `json:"revision"`
	CreatedAt            string       `json:"created_at"`
	UpdatedAt            string       `json:"updated_at"`
}

func showAlias(a *alias.Alias) aliasJSON {
	return aliasJSON{
		Name: a.Name, Bucket: a.Bucket, BucketOwner: a.BucketOwner, Prefix: a.Prefix,
		Region: a.Region, Endpoint: a.Endpoint, PathStyle: a.PathStyle,
		Credential: a.Credential, Canary: a.Canary, Enabled: a.Enabled,
		TTL: a.TTL.String(), NegativeTTL: a.NegativeTTL.String(),
		StaleWhileRevalidate: a.StaleWhileRevalidate.String(), StaleIfError: a.StaleIfError.String(),
		CacheControl: a.CacheControl, CORSOrigins: append([]string{}, a.CORSOrigins...), Fallback: fallbackJSON(a.Fallback),
		State: a.State, Revision: a.Revision,
		CreatedAt: stamp(a.CreatedAt), UpdatedAt: stamp(a.UpdatedAt),
	}
}

// aliasInput is what a body says about an alias: edits, in its order, and the
// credential, if it names one.
type aliasInput struct {
	edits []func(*alias.Alias)
	ref   alias.CredentialRef
}

func (in *aliasInput) apply(a *alias.Alias) {
	for _, edit := range in.edits {
		edit(a)
	}
}

const keptByServer = "is read-only: the server keeps it"

// createFields is the body of a registration.
func createFields(in *aliasInput) []field {
	return append(in.members(nullIsWrong),
		member[alias.Name]{"name", asName, func(a *alias.Alias) *alias.Name { return &a.Name }}.of(in, nullIsWrong),
		field{name: "credential", read: in.newCredential})
}

// patchFields is the body of a merge patch.
func patchFields(in *aliasInput) []field {
	return append(in.members(nullIsDefault),
		field{name: "name", readOnly: "is read-only: register an alias of the new name and delete this one"},
		field{name: "credential", read: in.otherCredential})
}

// onNull says what null does to a member.
type onNull int

const (
	nullIsWrong onNull = iota
	nullIsDefault
)

func (in *aliasInput) members(null onNull) []field {
	return []field{
		member[string]{"bucket", asString, func(a *alias.Alias) *string { return &a.Bucket }}.of(in, nullIsWrong),
		member[string]{"bucket_owner", asString, func(a *alias.Alias) *string { return &a.BucketOwner }}.of(in, null),
		member[string]{"prefix", asString, func(a *alias.Alias) *string { return &a.Prefix }}.of(in, null),
		member[string]{"region", asString, func(a *alias.Alias) *string { return &a.Region }}.of(in, null),
		member[string]{"endpoint", asString, func(a *alias.Alias) *string { return &a.Endpoint }}.of(in, null),
		member[bool]{"path_style", asBool, func(a *alias.Alias) *bool { return &a.PathStyle }}.of(in, null),
		member[string]{"canary", asString, func(a *alias.Alias) *string { return &a.Canary }}.of(in, null),
		member[bool]{"enabled", asBool, func(a *alias.Alias) *bool { return &a.Enabled }}.of(in, null),
		duration{"ttl", asDuration, func(a *alias.Alias) *time.Duration { return &a.TTL }}.of(in, null),
		duration{"negative_ttl", asDuration, func(a *alias.Alias) *time.Duration { return &a.NegativeTTL }}.of(in, null),
		duration{"stale_while_revalidate", asDuration, func(a *alias.Alias) *time.Duration {
			return &a.StaleWhileRevalidate
		}}.of(in, null),
		duration{"stale_if_error", asDuration, func(a *alias.Alias) *time.Duration { return &a.StaleIfError }}.of(in, null),
		member[string]{"cache_control", asString, func(a *alias.Alias) *string { return &a.CacheControl }}.of(in, null),
		member[[]string]{"cors_origins", asStrings, func(a *alias.Alias) *[]string { return &a.CORSOrigins }}.of(in, null),
		{name: "fallback", read: in.fallback},
		{name: "state", readOnly: keptByServer},
		{name: "revision", readOnly: keptByServer},
		{name: "created_at", readOnly: keptByServer},
		{name: "updated_at", readOnly: keptByServer},
	}
}

// member is a field of an alias: how its value reads and where it goes.
type member[T any] struct {
	name  string
	parse func(json.RawMessage) (T, string)
	at    func(*alias.Alias) *T
}

type duration = member[time.Duration]

// of makes the field that notes its value in in.
func (m member[T]) of(in *aliasInput, null onNull) field {
	return field{name: m.name, read: func(path string, raw json.RawMessage) []alias.Problem {
		if null == nullIsDefault && typeOf(raw) == "null" {
			fresh := alias.New()
			in.edits = append(in.edits, func(a *alias.Alias) { *m.at(a) = *m.at(fresh) })
			return nil
		}
		v, wrong := m.parse(raw)
		if wrong != "" {
			return one(path, wrong)
		}
		in.edits = append(in.edits, func(a *alias.Alias) { *m.at(a) = v })
		return nil
	}}
}

// credentialForms ends what is said about a credential that is missing or wrong.
const credentialForms = `one of: the name of a registered credential, like "shop"; ` +
	`a key pair {"access_key_id":"…","secret_access_key":"…"}, which is registered under the alias's name; ` +
	`null for a public bucket`

// newCredential reads the credential of a registration.
func (in *aliasInput) newCredential(path string, raw json.RawMessage) []alias.Problem {
	if typeOf(raw) != "an object" {
		return in.named(path, raw, "must be "+credentialForms)
	}
	kp := keyPairInput{}
	problems := decodeObject(path, raw, kp.members())
	in.ref.KeyPair = kp.pair()
	return problems
}

// otherCredential reads the credential of a patch. A key pair is refused there:
// it would be ambiguous whether the one at hand, which other aliases may use, is
// to change.
func (in *aliasInput) otherCredential(path string, raw json.RawMessage) []alias.Problem {
	if typeOf(raw) == "an object" {
		return one(path, "a key pair cannot be given here: PUT /api/v1/credentials/{name} replaces "+
			"the one of a credential, POST /api/v1/credentials registers another")
	}
	return in.named(path, raw, "must be the name of a registered credential, or null for a public bucket")
}

func (in *aliasInput) named(path string, raw json.RawMessage, form string) []alias.Problem {
	if typeOf(raw) == "null" {
		in.ref.Anonymous = true
		return nil
	}
	text, wrong := asString(raw)
	if wrong != "" {
		return one(path, form)
	}
	name, err := alias.ParseName(text)
	if err != nil {
		return one(path, form)
	}
	in.ref.Name = name
	return nil
}
