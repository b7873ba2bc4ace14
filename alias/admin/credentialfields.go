package admin

import (
	"ixmage/alias"
)

// credentialJSON is a credential as the API shows it: never its secret.
type credentialJSON struct {
	Name        alias.Name            `json:"name"`
	Kind        alias.Kind            `json:"kind"`
	AccessKeyID string                `json:"access_key_id"`
	Aliases     []alias.Name          `json:"aliases"`
	Version     int64                 `json:"version"`
	State       alias.CredentialState `json:"state"`
	User        *userJSON             `json:"user"`
	CreatedAt   string                `json:"created_at"`
	RotatedAt   *string               `json:"rotated_at"`
	VerifiedAt  *string               `json:"verified_at"`
	Scope       string                `json:"scope"`
	Revision    int64                 `json:"revision"`
}

// userJSON is the IAM user that was made for a credential.
type userJSON struct {
	Name   string           `json:"name"`
	ARN    string           `json:"arn"`
	Policy alias.PolicyMode `json:"policy"`
}

func showCredential(c *alias.Credential, users []alias.Name) credentialJSON {
	out := credentialJSON{
		Name: c.Name, Kind: c.Provider.Kind(), AccessKeyID: c.AccessKeyID(), Aliases: users,
		Version: c.Version, State: c.State, CreatedAt: stamp(c.CreatedAt),
		RotatedAt: stampOrNull(c.RotatedAt), VerifiedAt: stampOrNull(c.VerifiedAt),
		Scope: c.Scope, Revision: c.Revision,
	}
	if p, ok := c.Provisioned(); ok {
		out.User = &userJSON{Name: p.User.Name, ARN: p.User.ARN, Policy: p.Mode}
	}
	if out.Aliases == nil {
		out.Aliases = []alias.Name{} // [] in JSON, not null
	}
	return out
}

// keyPairInput is a key pair in a body.
type keyPairInput struct {
	id     string
	secret alias.Secret
}

func (in *keyPairInput) members() []field {
	return []field{
		{name: "access_key_id", read: into(&in.id, asString)},
		{name: "secret_access_key", read: into(&in.secret, asSecret)},
	}
}

func (in *keyPairInput) pair() *alias.KeyPair {
	return &alias.KeyPair{AccessKeyID: in.id, SecretAccessKey: in.secret}
}

// credentialInput is the body of a registration or a replacement.
type credentialInput struct {
	name string
	kind string
	keyPairInput
}

func registerFields(in *credentialInput) []field {
	return append(credentialFields(in),
		field{name: "name", read: into(&in.name, asString)},
		field{name: "kind", read: into(&in.kind, asString)})
}

func replaceFields(in *credentialInput) []field {
	return append(credentialFields(in),
		field{name: "name", readOnly: "is read-only: the path says which credential is meant"},
		field{name: "kind", readOnly: "is read-only: a replacement is always a key pair"})
}

func credentialFields(in *credentialInput) []field {
	fields := in.members()
	for _, name := range []string{
		"aliases", "version", "state", "user", "created_at", "rotated_at", "verified_at", "scope", "revision",
	} {
		fields = append(fields, field{name: name, readOnly: keptByServer})
	}
	return fields
}

// problems is everything that can be said of a registration without the store.
func (in *credentialInput) problems() []alias.Problem {
	_, err := alias.ParseName(in.name)
	problems := problemsOf(err)
	switch alias.Kind(in.kind) {
	case "", alias.KindStatic:
		return append(problems, problemsOf(alias.ValidateKeyPair(*in.pair()))...)
	case alias.KindAnonymous:
		if in.id != "" {
			problems = append(problems, alias.Problem{Field: "access_key_id", Detail: "an anonymous credential has none"})
		}
		if !in.secret.IsZero() {
			problems = append(problems, alias.Problem{Field: "secret_access_key", Detail: "an anonymous credential has none"})
		}
		return problems
	case alias.KindProvisioned:
		return append(problems, alias.Problem{
			Field: "kind", Detail: "must be static or anonymous: POST " + provisionPath + " makes a provisioned one",
		})
	}
	return append(problems, alias.Problem{Field: "kind", Detail: "must be static, which is the default, or anonymous"})
}

// ref is what the registry is asked to make.
func (in *credentialInput) ref() alias.CredentialRef {
	if alias.Kind(in.kind) == alias.KindAnonymous {
		return alias.CredentialRef{Anonymous: true}
	}
	return alias.CredentialRef{KeyPair: in.pair()}
}
