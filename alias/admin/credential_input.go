package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"ixmage/alias"
)

// keyPairInput is a key pair in a body, and what it is meant to be.
type keyPairInput struct {
	id     string
	secret alias.Secret
	expect *alias.PolicyMode // nil if the body has none
}

func (in *keyPairInput) members() []field {
	return []field{
		{name: "access_key_id", read: into(&in.id, asString), required: true, doc: "The access key id."},
		{name: "secret_access_key", read: into(&in.secret, asSecret), required: true,
			doc: "The secret access key. No answer ever contains it."},
		in.expectation(),
	}
}

// expectation reads expect, of which null and an empty text mean the default.
func (in *keyPairInput) expectation() field {
	return field{name: "expect", read: reader{decode: func(path string, raw json.RawMessage) []alias.Problem {
		in.expect = new(alias.PolicyMode)
		if typeOf(raw) == "null" {
			return nil
		}
		return into(in.expect, asText[alias.PolicyMode]).decode(path, raw)
	}, forms: []form{formOf[string]("", string(alias.PolicyReadOnly)), {}}}}
}

func (in *keyPairInput) ref() alias.CredentialRef {
	ref := alias.CredentialRef{KeyPair: in.pair()}
	if in.expect != nil {
		ref.Expect = *in.expect
	}
	return ref
}

func (in *keyPairInput) pair() *alias.KeyPair {
	return &alias.KeyPair{AccessKeyID: in.id, SecretAccessKey: in.secret}
}

// roleJSON are the members of a role, in answers.
type roleJSON struct {
	RoleARN        string              `json:"role_arn,omitempty" description:"The ARN of the role whose sessions sign. Absent: it is no role, as for the members below."`
	ExternalID     string              `json:"external_id,omitempty" description:"The external id that the trust policy of the role asks for; absent: none."`
	Duration       string              `json:"duration,omitempty" description:"How long a session lives, from 15m to 12h. Sessions of a role that was assumed by another role live for 1h at most."`
	SessionPolicy  alias.SessionPolicy `json:"session_policy,omitempty" description:"alias: a session for each alias, which can read its location and nothing else; none: a session that can do all that the role can, which needs --allow-wide-scope."`
	Source         alias.Name          `json:"source,omitempty" description:"What assumes the role: default, the credentials of the server, or the name of a static credential."`
	Region         string              `json:"region,omitempty" description:"The region of the STS endpoint; absent: that of the server, or the default one of the partition of the role."`
	KMSKeyARN      string              `json:"kms_key_arn,omitempty" description:"The KMS key of encrypted objects, whose use the session policy then allows; absent: none."`
	SourceIdentity bool                `json:"source_identity,omitempty" description:"true: sessions have a source identity, which names this installation and the alias, and which the trust policy must allow by sts:SetSourceIdentity."`
	Account        string              `json:"account,omitempty" description:"The account of --accounts: the id of that of the user of a provisioned credential, or the one whose external id and region a role takes if it has none; absent: none."`
}

func showRole(r alias.Role) roleJSON {
	return roleJSON{
		RoleARN: r.ARN, ExternalID: r.ExternalID, Duration: r.Duration.String(), SessionPolicy: r.SessionPolicy,
		Source: r.Source, Region: r.Region, KMSKeyARN: r.KMSKeyARN, SourceIdentity: r.SourceIdentity, Account: r.Account,
	}
}

// credentialInput is the body of a registration or a replacement, or the credential in the
// registration of an alias.
type credentialInput struct {
	name string
	kind string
	role alias.Role
	// given are the members of the body that belong to a role.
	given []string
	keyPairInput
}

// roleMembers read a role.
func (in *credentialInput) roleMembers() []field {
	in.role = alias.NewRole("")
	fields := []field{
		{name: "role_arn", read: into(&in.role.ARN, asString)},
		{name: "external_id", read: into(&in.role.ExternalID, asString)},
		{name: "duration", read: into(&in.role.Duration, asDuration)},
		{name: "session_policy", read: into((*string)(&in.role.SessionPolicy), asString,
			string(alias.SessionPolicyAlias), string(alias.SessionPolicyNone))},
		{name: "source", read: into(&in.role.Source, asName)},
		{name: "region", read: into(&in.role.Region, asString)},
		{name: "kms_key_arn", read: into(&in.role.KMSKeyARN, asString)},
		{name: "source_identity", read: into(&in.role.SourceIdentity, asBool)},
		{name: "account", read: into(&in.role.Account, asString)},
	}
	for i, f := range fields {
		fields[i].read.decode = func(path string, raw json.RawMessage) []alias.Problem {
			in.given = append(in.given, f.name)
			return f.read.decode(path, raw)
		}
	}
	return fields
}

// kindField reads the kind. The members decide where it is absent.
func (in *credentialInput) kindField() field {
	return field{name: "kind", read: into(&in.kind, asString, "", string(alias.KindStatic), string(alias.KindRole),
		string(alias.KindDefault), string(alias.KindAnonymous)),
		doc: "static for a key pair, role for a role, default for the credentials of the server, or anonymous for a public " +
			"bucket. Empty: role if there is a role_arn, else static."}
}

func registerFields(in *credentialInput) []field {
	// Not every kind has a key pair, so its members are not required.
	return append(optional(credentialFields(in)),
		field{name: "name", read: into(&in.name, asString), required: true}, in.kindField())
}

// inlineFields are the members of a credential that is registered with its alias.
func inlineFields(in *credentialInput) []field {
	return append(append(in.members(), in.roleMembers()...), in.kindField())
}

// temporaryFields are those of a role or the default.
func temporaryFields(in *credentialInput) []field { return append(in.roleMembers(), in.kindField()) }

func replaceFields(in *credentialInput) []field {
	return append(optional(credentialFields(in)),
		field{name: "name", readOnly: "is read-only: the path names the credential"},
		field{name: "kind", read: into(&in.kind, asString, "", string(alias.KindStatic), string(alias.KindRole)),
			doc: "The kind that the credential has: a key pair replaces a key pair, and a role a role."})
}

// optional makes no field required.
func optional(fields []field) []field {
	for i := range fields {
		fields[i].required = false
	}
	return fields
}

func changeFields(in *credentialInput) []field {
	const whole = "is read-only here: PUT replaces the key pair, or the role, as a whole"
	fields := append(keptFields(), in.expectation(),
		field{name: "access_key_id", readOnly: whole}, field{name: "secret_access_key", readOnly: whole},
		field{name: "name", readOnly: "is read-only: the path names the credential"},
		field{name: "kind", readOnly: keptByServer})
	for _, f := range in.roleMembers() {
		fields = append(fields, field{name: f.name, readOnly: whole})
	}
	return fields
}

func credentialFields(in *credentialInput) []field {
	return append(append(in.members(), in.roleMembers()...), keptFields()...)
}

func keptFields() []field {
	names := []string{
		"aliases", "version", "state", "user", "created_at", "rotated_at", "verified_at", "scope", "revision",
	}
	fields := make([]field, len(names))
	for i, name := range names {
		fields[i] = field{name: name, readOnly: keptByServer}
	}
	return fields
}

// kindOf is the kind that the body asks for.
func (in *credentialInput) kindOf() alias.Kind {
	switch {
	case in.kind != "":
		return alias.Kind(in.kind)
	case len(in.given) > 0:
		return alias.KindRole
	}
	return alias.KindStatic
}

// problems validates a registration without the store.
func (in *credentialInput) problems() []alias.Problem {
	_, err := alias.ParseName(in.name)
	return append(problemsOf(err), in.ownProblems()...)
}

// ownProblems validates everything but the name.
func (in *credentialInput) ownProblems() []alias.Problem {
	if problems := in.kindProblems(); len(problems) > 0 {
		return problems
	}
	return problemsOf(in.ref().Validate())
}

// kindProblems finds members that the kind does not have.
func (in *credentialInput) kindProblems() []alias.Problem {
	kind := in.kindOf()
	switch kind {
	case alias.KindStatic, alias.KindRole, alias.KindAnonymous, alias.KindDefault:
	case alias.KindProvisioned:
		return problemAt("kind", "must be static, role, default or anonymous: POST "+provisionPath+" makes a provisioned one")
	default:
		return problemAt("kind", "must be static, role, default or anonymous")
	}
	var problems []alias.Problem
	add := func(field string, given bool) {
		if given {
			problems = append(problems, problemAt(field, fmt.Sprintf("a credential of the kind %s has none", kind))...)
		}
	}
	if kind != alias.KindStatic {
		add("access_key_id", in.id != "")
		add("secret_access_key", !in.secret.IsZero())
		add("expect", in.expect != nil && *in.expect != "")
	}
	for _, name := range in.given {
		add(name, kind != alias.KindRole)
	}
	return problems
}

// replacementProblems validates a replacement without the store.
func (in *credentialInput) replacementProblems() []alias.Problem {
	switch in.kindOf() {
	case alias.KindRole:
		return in.ownProblems()
	case alias.KindStatic:
	default:
		return problemAt("kind", "must be static or role: a key pair replaces a key pair, and a role a role")
	}
	if problems := in.kindProblems(); len(problems) > 0 {
		return problems
	}
	return problemsOf(alias.StaticChange{KeyPair: in.pair(), Expect: in.expect}.Validate())
}

// ref is the argument of Registry.CreateCredential.
func (in *credentialInput) ref() alias.CredentialRef {
	switch in.kindOf() {
	case alias.KindAnonymous:
		return alias.CredentialRef{Anonymous: true}
	case alias.KindRole:
		return alias.CredentialRef{Temporary: in.role}
	case alias.KindDefault:
		return alias.CredentialRef{Temporary: alias.Default{}}
	default:
		return in.keyPairInput.ref()
	}
}

// Sessions makes the temporary keys of roles, and of the server itself. Its methods must be
// safe for concurrent use.
type Sessions interface {
	// Allowed returns an error of alias.ErrForbidden unless the configuration allows a
	// credential to be p.
	Allowed(p alias.Provider) error
	// Try asks whether p gives keys, for an alias if at is not nil. What refuses them for good is
	// a *alias.ValidationError about the members of the credential; with an error of
	// alias.ErrSTS it is not known.
	Try(ctx context.Context, p alias.Provider, at *alias.Alias) error
	// Prepare makes the session that signs for an alias after a change. Its errors are
	// those of Try.
	Prepare(ctx context.Context, r alias.Route) error
}

// try returns an error if a new credential is not allowed, or would never sign: for an alias
// if at is not nil. A nil p passes.
func try(ctx context.Context, s Sessions, p alias.Provider, at *alias.Alias) error {
	switch {
	case p == nil:
		return nil
	case s == nil:
		return failf(alias.ErrForbidden, "this server makes no sessions")
	}
	if err := s.Allowed(p); err != nil {
		return failf(alias.ErrForbidden, "%s", err.Error())
	}
	if err := s.Try(ctx, p, at); err != nil && !errors.Is(err, alias.ErrSTS) {
		return err
	}
	return nil
}
