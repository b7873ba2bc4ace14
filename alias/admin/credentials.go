package admin

import (
	"context"
	"net/http"
	"strings"

	"ixmage/alias"
	"ixmage/alias/policy"
)

const credentialsPath = "/api/v1/credentials"

// credentials are the calls that register, read, replace, rotate and delete
// credentials.
type credentials struct {
	operations

	sessions Sessions
}

func (h credentials) mount(t *routes) {
	const single = credentialsPath + "/{name}"
	const resource = "credential"
	static := []alias.TokenRole{alias.RoleAlias}
	iam := []alias.TokenRole{alias.RoleProvision}
	both := []alias.TokenRole{alias.RoleAlias, alias.RoleProvision}
	operation := []int{http.StatusOK, http.StatusAccepted}
	mount(t, endpoint[none, credentialsJSON]{method: http.MethodGet, path: credentialsPath,
		summary: "List credentials by name", roles: anyToken, query: pageQuery, do: h.list})
	mount(t, endpoint[credentialInput, credentialJSON]{method: http.MethodPost, path: credentialsPath, resource: resource,
		summary: "Register a key pair, a role, the credentials of the server or an anonymous credential, under a name",
		roles:   static, allBuckets: true,
		query: dryRun, statuses: []int{http.StatusCreated, http.StatusOK}, fields: registerFields,
		check: checkCredential, do: h.create})
	mount(t, endpoint[none, credentialJSON]{method: http.MethodGet, path: single, resource: resource,
		summary: "Read a credential, without its secret", roles: anyToken, do: h.read})
	mount(t, endpoint[credentialInput, credentialJSON]{method: http.MethodPut, path: single, resource: resource,
		summary: "Replace the key pair of a static credential, or a role by another one", roles: static, query: dryRun,
		conditional: true, fields: replaceFields, check: checkReplacement, do: h.replace})
	mount(t, endpoint[credentialInput, credentialJSON]{method: http.MethodPatch, path: single, resource: resource,
		summary: "Change what a static credential is meant to be", roles: static, query: dryRun,
		conditional: true, fields: changeFields, types: []string{"application/merge-patch+json"},
		check: checkChange, do: h.change})
	mount(t, endpoint[none, operationJSON]{method: http.MethodDelete, path: single, resource: resource,
		summary: "Delete a credential; a provisioned one is removed from IAM too, by an operation",
		roles:   both, conditional: true, do: h.remove,
		statuses: []int{http.StatusOK, http.StatusAccepted, http.StatusNoContent}})
	mount(t, endpoint[rotation, operationJSON]{method: http.MethodPost, path: single + "/rotate", resource: resource,
		summary: "Make a new key and retire the current one", roles: iam, conditional: true, statuses: operation,
		fields: rotationFields, bodyOptional: true, do: h.rotate})
	mount(t, endpoint[none, credentialJSON]{method: http.MethodPost, path: single + "/reclaim", resource: resource,
		summary: "Take over the IAM user from another copy of the registry", roles: iam, do: h.reclaim})
}

type credentialsJSON struct {
	Credentials []credentialJSON `json:"credentials" description:"The credentials, sorted by name."`
}

func (h credentials) list(ctx context.Context, c *call[none]) (reply[credentialsJSON], error) {
	p, err := parsePage(c.query)
	if err != nil {
		return reply[credentialsJSON]{}, err
	}
	list, err := seen(p.limit, func(last **alias.Credential, limit int) ([]*alias.Credential, error) {
		after := p.after
		if last != nil {
			after = (*last).Name
		}
		return h.registry.Credentials(ctx, after, limit)
	}, func(v *alias.Credential) (bool, error) { return c.access.credential(ctx, c.principal, v) })
	if err != nil {
		return reply[credentialsJSON]{}, err
	}
	out := credentialsJSON{Credentials: make([]credentialJSON, len(list))}
	for i, c := range list {
		if out.Credentials[i], err = h.show(ctx, c); err != nil {
			return reply[credentialsJSON]{}, err
		}
	}
	return reply[credentialsJSON]{body: out}, nil
}

func (h credentials) create(ctx context.Context, c *call[credentialInput]) (reply[credentialJSON], error) {
	if problems := c.in.problems(); len(problems) > 0 {
		return reply[credentialJSON]{}, invalid(problems)
	}
	name := alias.Name(c.in.name)
	c.rec.about("credential", name)
	if err := try(ctx, h.sessions, c.in.ref().Temporary, nil); err != nil {
		return reply[credentialJSON]{}, err
	}
	made, err := h.registry.CreateCredential(ctx, name, c.in.ref())
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	// No alias can use it yet.
	return reply[credentialJSON]{
		status: http.StatusCreated, location: credentialsPath + "/" + string(made.Name),
		revision: made.Revision, body: showCredential(made, nil),
	}, nil
}

func checkCredential(_ context.Context, c *call[credentialInput]) []alias.Problem {
	return c.in.problems()
}

func (h credentials) read(ctx context.Context, c *call[none]) (reply[credentialJSON], error) {
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	return h.reply(ctx, found)
}

// replace replaces a key pair, or a role by another one.
func (h credentials) replace(ctx context.Context, c *call[credentialInput]) (reply[credentialJSON], error) {
	if problems := c.in.replacementProblems(); len(problems) > 0 {
		return reply[credentialJSON]{}, invalid(problems)
	}
	role, ok := c.in.ref().Temporary.(alias.Role)
	if !ok {
		return h.store(ctx, c, alias.StaticChange{KeyPair: c.in.pair(), Expect: c.in.expect})
	}
	if err := c.access.place(ctx, c.principal, place{wide: isWide(role), source: sourceOf(role)}); err != nil {
		return reply[credentialJSON]{}, err
	}
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	if err := try(ctx, h.sessions, role, nil); err != nil {
		return reply[credentialJSON]{}, err
	}
	made, err := h.registry.ReplaceRole(ctx, c.name, revision, role)
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	return h.reply(ctx, made)
}

func checkReplacement(_ context.Context, c *call[credentialInput]) []alias.Problem {
	return c.in.replacementProblems()
}

// change is a merge patch. A key pair is replaced as a whole, by a PUT.
func (h credentials) change(ctx context.Context, c *call[credentialInput]) (reply[credentialJSON], error) {
	return h.store(ctx, c, alias.StaticChange{Expect: c.in.expect})
}

func checkChange(_ context.Context, c *call[credentialInput]) []alias.Problem {
	return problemsOf(alias.StaticChange{Expect: c.in.expect}.Validate())
}

func (h credentials) store(
	ctx context.Context, c *call[credentialInput], change alias.StaticChange,
) (reply[credentialJSON], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	made, err := h.registry.ChangeStatic(ctx, c.name, revision, change)
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	return h.reply(ctx, made)
}

// remove deletes a credential. The IAM user of a provisioned one is removed first,
// by an operation.
func (h credentials) remove(ctx context.Context, c *call[none]) (reply[operationJSON], error) {
	revision, err := c.match.revision(h.current(ctx, c.name))
	if err != nil {
		return reply[operationJSON]{}, err
	}
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	_, provisioned := found.Provisioned()
	role := alias.RoleAlias
	if provisioned {
		role = alias.RoleProvision
	}
	if err := c.principal.check([]alias.TokenRole{role}, false); err != nil {
		return reply[operationJSON]{}, err
	}
	if !provisioned {
		return reply[operationJSON]{status: http.StatusNoContent}, h.registry.DeleteCredential(ctx, c.name, revision)
	}
	if h.provisioner == nil {
		return reply[operationJSON]{}, switchedOff()
	}
	o, err := h.provisioner.Remove(ctx, c.actor, c.name, revision)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return h.started(o, c.client), nil
}

// rotation is the body of a call to rotate.
type rotation struct{ emergency bool }

func rotationFields(in *rotation) []field {
	return []field{{name: "emergency", read: into(&in.emergency, asBool),
		doc: "For a key that has leaked: the previous key is kept for a shorter time."}}
}

func (h credentials) rotate(ctx context.Context, c *call[rotation]) (reply[operationJSON], error) {
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	revision, err := c.match.revision(func() (int64, error) { return found.Revision, nil })
	switch {
	case err != nil:
		return reply[operationJSON]{}, err
	case revision != 0 && revision != found.Revision:
		return reply[operationJSON]{}, alias.ErrStale
	case h.provisioner == nil:
		return reply[operationJSON]{}, switchedOff()
	}
	if _, ok := found.Provisioned(); !ok {
		return reply[operationJSON]{}, rotateByHand(found)
	}
	o, err := h.provisioner.Rotate(ctx, c.actor, c.name, c.in.emergency)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return h.started(o, c.client), nil
}

// rotateByHand returns the error for the rotation of a key pair that an operator gave,
// with the shell commands that rotate it.
func rotateByHand(c *alias.Credential) error {
	switch {
	case c.Provider.Kind() == alias.KindAnonymous:
		return failf(alias.ErrNoKeyPair, "the credential %s is anonymous: there is no key to rotate", c.Name)
	case c.Temporary():
		return failf(alias.ErrNoKeyPair, "the credential %s has no key to rotate: its keys are temporary, and ixmage renews "+
			"them by itself. Sessions that have leaked end with their time; to end them at once, revoke the sessions of "+
			"the role in IAM", c.Name)
	}
	commands := policy.HandRotation(c, "")
	f := failf(alias.ErrNotProvisioned, "the key pair of the credential %s was given by an operator, "+
		"who must rotate it:\n%s", c.Name, strings.Join(commands, "\n"))
	f.commands = commands
	return f
}

// reclaim answers within the time of a call, unlike an operation: it calls IAM a few times.
func (h credentials) reclaim(ctx context.Context, c *call[none]) (reply[credentialJSON], error) {
	found, err := h.registry.Credential(ctx, c.name)
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	if h.provisioner == nil {
		return reply[credentialJSON]{}, switchedOff()
	}
	if _, ok := found.Provisioned(); !ok {
		return reply[credentialJSON]{}, failf(alias.ErrNotProvisioned, "the credential %s is of kind %s: ixmage has no IAM "+
			"user for it that it could reclaim", c.name, found.Provider.Kind())
	}
	made, err := h.provisioner.Reclaim(ctx, c.actor, c.name)
	if err != nil {
		return reply[credentialJSON]{}, err
	}
	return h.reply(ctx, made)
}

// current returns a function that reads the current revision of a credential.
func (h credentials) current(ctx context.Context, name alias.Name) func() (int64, error) {
	return func() (int64, error) {
		c, err := h.registry.Credential(ctx, name)
		if err != nil {
			return 0, err
		}
		return c.Revision, nil
	}
}

func (h credentials) reply(ctx context.Context, c *alias.Credential) (reply[credentialJSON], error) {
	body, err := h.show(ctx, c)
	return reply[credentialJSON]{revision: c.Revision, body: body}, err
}

func (h credentials) show(ctx context.Context, c *alias.Credential) (credentialJSON, error) {
	users, err := h.registry.AliasesOf(ctx, c.ID)
	if err != nil {
		return credentialJSON{}, err
	}
	return showCredential(c, users), nil
}

// credentialJSON is a credential as the API shows it: never its secret.
type credentialJSON struct {
	Name        alias.Name            `json:"name" description:"The name of the credential: 1 to 63 of a-z, 0-9 and hyphen."`
	Kind        alias.Kind            `json:"kind" description:"static: a key pair that an operator gave; provisioned: ixmage made or adopted its IAM user; role: STS gives sessions of a role; default: the credentials of the server itself; anonymous: requests are not signed."`
	AccessKeyID string                `json:"access_key_id" description:"The id of the key that signs now; empty if there is none, or if it is temporary."`
	Aliases     []alias.Name          `json:"aliases" description:"The aliases that use it."`
	Version     int64                 `json:"version" description:"It counts the changes of the key pair."`
	State       alias.CredentialState `json:"state" description:"What is being done with it."`
	User        *userJSON             `json:"user" description:"The IAM user of a provisioned credential."`
	CreatedAt   string                `json:"created_at" description:"When it was registered."`
	RotatedAt   *string               `json:"rotated_at" description:"When its key pair was replaced last."`
	VerifiedAt  *string               `json:"verified_at" description:"When its scope was checked last."`
	Scope       string                `json:"scope" description:"The worst verdict of the last check of its scope; empty before the first."`
	roleJSON
	Expect   alias.PolicyMode `json:"expect,omitempty" description:"What a static key pair is meant to be: read-only-access may read and list every bucket, as AmazonS3ReadOnlyAccess allows. Absent: it covers the locations of its aliases only."`
	Revision int64            `json:"revision" description:"It counts the changes of the credential; its ETag."`
}

// userJSON is the IAM user that was made or adopted for a credential.
type userJSON struct {
	Name   string           `json:"name" description:"The name of the IAM user."`
	ARN    string           `json:"arn" description:"The ARN of the IAM user; empty before it is made."`
	Policy alias.PolicyMode `json:"policy" description:"The kind of policy that it has."`
	// Adopted means that an operator made the user, and KeptKey is the key that it had.
	Adopted bool   `json:"adopted,omitempty" description:"true: an operator made the user, and ixmage took it over. Absent: ixmage made it."`
	KeptKey string `json:"kept_key,omitempty" description:"The id of the key that the user had when it was taken over."`
}

func showCredential(c *alias.Credential, users []alias.Name) credentialJSON {
	out := credentialJSON{
		Name: c.Name, Kind: c.Provider.Kind(), AccessKeyID: c.AccessKeyID(), Aliases: users,
		Version: c.Version, State: c.State, CreatedAt: timestamp(c.CreatedAt),
		RotatedAt: timestampOrNull(c.RotatedAt), VerifiedAt: timestampOrNull(c.VerifiedAt),
		Scope: c.Scope, Revision: c.Revision,
	}
	switch p := c.Provider.(type) {
	case alias.Static:
		out.Expect = p.Expect
	case alias.Role:
		out.roleJSON = showRole(p)
	}
	if p, ok := c.Provisioned(); ok {
		out.User = &userJSON{Name: p.User.Name, ARN: p.User.ARN, Policy: p.Mode}
		out.Account = p.Account
		if p.Adopted != nil {
			out.User.Adopted, out.User.KeptKey = true, p.Adopted.AccessKeyID
		}
	}
	if out.Aliases == nil {
		out.Aliases = []alias.Name{} // [] in JSON, not null
	}
	return out
}
