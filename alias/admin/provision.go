package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/provision"
)

// Provisioner does the work of the calls on IAM. An error that wraps a sentinel of
// the alias package is shown to the operator, so its text must hold no secret and no
// text from AWS; a *alias.ValidationError uses the field names of the request body. A
// returned operation continues after the context of the call has ended.
type Provisioner interface {
	// Provision starts an operation, or returns the one that an equal request
	// started: alias.ErrExists if another request made the alias. An empty Policy
	// means inline, or the policy of a reused credential. The error of an invalid request
	// is a *alias.ValidationError.
	Provision(ctx context.Context, actor string, req policy.Request) (*alias.Operation, error)
	// Plan returns the steps of Provision, or those of a person for a role, and files in the
	// format of the request. It calls no server, and works while provisioning is switched off.
	Plan(ctx context.Context, req policy.PlanRequest) (*policy.Plan, error)
	// Rotate gives a credential a new key. emergency is for a leaked key: the
	// previous key is kept for a shorter time.
	Rotate(ctx context.Context, actor string, name alias.Name, emergency bool) (*alias.Operation, error)
	// Reclaim makes this registry the one that acts on the user of a credential, after
	// another copy of it did: alias.ErrNotProvisioned for another kind, alias.ErrBusy while
	// an operation runs, alias.ErrOtherUser if it is not the user that was made for it.
	Reclaim(ctx context.Context, actor string, name alias.Name) (*alias.Credential, error)
	// Remove removes a credential, and its user, policy and keys from IAM:
	// *alias.InUseError while aliases use it, alias.ErrStale unless ifRevision is the
	// current revision or 0.
	Remove(ctx context.Context, actor string, name alias.Name, ifRevision int64) (*alias.Operation, error)
	// Verify runs the scope checks of an alias now, for any kind of credential. The error
	// of an invalid probe is a *alias.ValidationError.
	Verify(ctx context.Context, actor string, name alias.Name, probe policy.Probe) (*alias.Verification, error)
	// Wait returns the latest state of an operation when it or ctx has ended.
	Wait(ctx context.Context, id string) (*alias.Operation, error)
	// Watch returns an operation when its revision is above after or it has ended, or its
	// current state when ctx ends.
	Watch(ctx context.Context, id string, after int64) (*alias.Operation, error)
	// Orphans returns the findings of the last reconciliation.
	Orphans(ctx context.Context) (provision.OrphanReport, error)
	// RemoveOrphan deletes a user that ixmage made and that belongs to no credential. It
	// returns alias.ErrNotFound for any other user, and an error if ctx ends first; a
	// further call then continues. account is the name or id of the account of the user; empty
	// for that of the server.
	RemoveOrphan(ctx context.Context, actor, account, user string) error
}

// switchedOff is the error of a call that needs a Provisioner if there is none.
func switchedOff() error {
	return failf(alias.ErrForbidden, "provisioning is switched off on this server: start it with --provision")
}

const provisionPath = "/api/v1/provision"

// provisions are the calls that make an alias together with its IAM user.
type provisions struct{ operations }

func (h provisions) mount(t *routes) {
	const resource = "alias"
	roles := []alias.TokenRole{alias.RoleProvision}
	mount(t, endpoint[policy.Request, operationJSON]{method: http.MethodPost, path: provisionPath, resource: resource,
		summary: "Make the IAM user, policy and key of an alias, prove them, and open the alias", roles: roles,
		statuses: []int{http.StatusOK, http.StatusAccepted}, fields: provisionFields, check: h.check, do: h.create})
	mount(t, endpoint[policy.PlanRequest, planJSON]{method: http.MethodPost, path: provisionPath + "/plan",
		summary: "Show the policy and the steps of a provision request without calling any server", roles: roles,
		resource: resource, query: []parameter{formatParameter}, fields: planFields, check: h.checkPlan, do: h.plan})
}

var formatParameter = parameter{"format", "the language of files that make the user or role, for people who apply " +
	"them without ixmage: aws-cli, cloudformation or terraform"}

func (h provisions) create(ctx context.Context, c *call[policy.Request]) (reply[operationJSON], error) {
	if h.provisioner == nil {
		return reply[operationJSON]{}, switchedOff()
	}
	if err := admitRequest(ctx, c, &c.in); err != nil {
		return reply[operationJSON]{}, err
	}
	o, err := h.provisioner.Provision(ctx, c.actor, c.in)
	if err != nil {
		return reply[operationJSON]{}, err
	}
	return h.started(o, c.client), nil
}

func (h provisions) plan(ctx context.Context, c *call[policy.PlanRequest]) (reply[planJSON], error) {
	if h.provisioner == nil {
		return reply[planJSON]{}, switchedOff()
	}
	if err := admitRequest(ctx, c, &c.in.Request); err != nil {
		return reply[planJSON]{}, err
	}
	if c.query.Has("format") {
		c.in.Format = policy.Format(c.query.Get("format"))
		if c.in.Format == "" {
			return reply[planJSON]{}, invalid(problemAt("format", policy.FormatProblem))
		}
	}
	p, err := h.provisioner.Plan(ctx, c.in)
	if err != nil {
		return reply[planJSON]{}, err
	}
	return reply[planJSON]{body: showPlan(&c.in, p)}, nil
}

// admitRequest returns an error unless the principal may make this alias. It notes the alias
// for the log, if the name is valid: arbitrary text of a client is not logged.
func admitRequest[In any](ctx context.Context, c *call[In], req *policy.Request) error {
	if _, err := alias.ParseName(string(req.Alias)); err == nil {
		c.rec.about("alias", req.Alias)
	}
	if route, ok := c.access.registry.Lookup(string(req.Alias)); ok && !c.access.alias(c.principal, route.Alias) {
		return failf(alias.ErrExists, "the alias %s exists, in a bucket that the token %s is not for",
			req.Alias, c.principal.Name)
	}
	return c.access.place(ctx, c.principal, place{
		bucket: req.Bucket, credential: req.Credential, policy: req.Policy, ofEndpoint: req.Endpoint != "",
	})
}

// check validates a request of which some fields could not be read. Provision and
// Plan validate any other.
func (h provisions) check(_ context.Context, c *call[policy.Request]) []alias.Problem {
	return problemsOf(policy.Prepare(&c.in, h.registry.Policy()))
}

func (h provisions) checkPlan(_ context.Context, c *call[policy.PlanRequest]) []alias.Problem {
	c.in.Format = policy.Format(c.query.Get("format"))
	return problemsOf(policy.PreparePlan(&c.in, h.registry.Policy()))
}

// planJSON is a plan as the API shows it.
type planJSON struct {
	Alias      alias.Name        `json:"alias" description:"The alias that the request would make."`
	Policy     alias.PolicyMode  `json:"policy" description:"The kind of policy of the user; empty: that of the reused credential."`
	PolicyName string            `json:"policy_name" description:"The name of the policy; empty if ixmage would make none."`
	Document   json.RawMessage   `json:"policy_document" description:"The policy; null if ixmage would make none."`
	User       planUserJSON      `json:"user" description:"The IAM user that the request would make, reuse or adopt."`
	Tags       map[string]string `json:"tags" description:"The tags of the user."`
	Steps      []planStepJSON    `json:"steps" description:"The steps of the operation, in their order."`
	Commands   []string          `json:"commands" description:"The aws commands that do the same by hand."`
	Role       *planRoleJSON     `json:"role,omitempty" description:"The role, if kind is role."`
	Format     policy.Format     `json:"format,omitempty" description:"The format of the files, if the request named one."`
	Files      []planFileJSON    `json:"files,omitempty" description:"The files, if the request named a format. The last one, register.sh, is the step in ixmage."`
}

type planRoleJSON struct {
	Name          string          `json:"name" description:"The name of the role."`
	Path          string          `json:"path" description:"The path of the role in IAM."`
	Boundary      string          `json:"boundary" description:"The ARN of its permissions boundary; empty: none, or one that the files make."`
	Principal     string          `json:"principal" description:"Who may assume it; empty: a parameter of the files."`
	ExternalID    string          `json:"external_id" description:"The external id that it asks for; empty: none."`
	MaxSession    string          `json:"max_session" description:"The longest session."`
	TrustPolicy   json.RawMessage `json:"trust_policy" description:"The trust policy; null without a principal."`
	SessionPolicy json.RawMessage `json:"session_policy" description:"The policy that ixmage gives each session of the alias."`
}

type planFileJSON struct {
	Name    string `json:"name" description:"The name of the file; it may have a folder."`
	Content string `json:"content" description:"The text of the file."`
}

type planUserJSON struct {
	Name     string `json:"name" description:"The name of the user."`
	Path     string `json:"path" description:"The path of the user in IAM."`
	Boundary string `json:"boundary" description:"The ARN of its permissions boundary; empty: none."`
}

type planStepJSON struct {
	Name   string `json:"name" description:"The name of the step."`
	Detail string `json:"detail" description:"What the step does, in a sentence."`
}

func showPlan(req *policy.PlanRequest, p *policy.Plan) planJSON {
	out := planJSON{
		Alias: req.Alias, Format: req.Format, Policy: p.Policy, PolicyName: p.PolicyName, Document: p.Document,
		User: planUserJSON{Name: p.User.Name, Path: p.User.Path, Boundary: p.User.Boundary},
		Tags: p.Tags, Steps: make([]planStepJSON, len(p.Steps)), Commands: p.Commands,
	}
	for i, s := range p.Steps {
		out.Steps[i] = planStepJSON(s)
	}
	for _, f := range p.Files {
		out.Files = append(out.Files, planFileJSON(f))
	}
	if r := p.Role; r != nil {
		out.Role = &planRoleJSON{
			Name: r.Name, Path: r.Path, Boundary: r.Boundary, Principal: r.Principal, ExternalID: r.ExternalID,
			MaxSession: r.MaxSession.String(), TrustPolicy: r.Document, SessionPolicy: json.RawMessage(r.Session),
		}
	}
	// {} and [] in JSON, not null.
	if out.Tags == nil {
		out.Tags = map[string]string{}
	}
	if out.Commands == nil {
		out.Commands = []string{}
	}
	return out
}

// provisionFields are the members of a provision request.
func provisionFields(in *policy.Request) []field {
	return []field{
		{name: "alias", read: into(&in.Alias, asName), required: true, doc: "The name of the alias to make."},
		{name: "bucket", read: into(&in.Bucket, asString), required: true},
		{name: "bucket_owner", read: into(&in.BucketOwner, asString)},
		{name: "prefix", read: into(&in.Prefix, asString)},
		{name: "region", read: into(&in.Region, asString)},
		{name: "endpoint", read: into(&in.Endpoint, asString)},
		{name: "path_style", read: into(&in.PathStyle, asBool)},
		{name: "policy", read: into(&in.Policy, asText[alias.PolicyMode], policyModes...),
			doc: "The policy of the user: inline allows s3:GetObject on the prefix; managed does the same with a customer " +
				"managed policy; read-only-access attaches AmazonS3ReadOnlyAccess, which allows every bucket. Empty means " +
				"inline, or the policy of a reused credential."},
		{name: "credential", read: into(&in.Credential, asName),
			doc: "The provisioned credential to reuse for the alias. Empty: a new user is made."},
		{name: "account", read: into(&in.Account, asString), doc: "The AWS account of the user: the name or id of an entry " +
			"of --accounts. Empty: the account of the server's own credentials, or of the reused credential."},
		{name: "user_name", read: into(&in.UserName, asString),
			doc: "The name of the IAM user; empty: generated from the alias."},
		{name: "tags", read: tagsInto(&in.Tags), doc: "Further tags of the user, 45 at most."},
		{name: "kms_key_arn", read: into(&in.KMSKeyARN, asString),
			doc: "The KMS key with which the objects are encrypted; empty: none that needs a grant."},
		probeField(&in.Inside, &in.Outside),
		{name: "rotate_every", read: into(&in.RotateEvery, asDuration),
			doc: "How often the key is rotated: \"0s\" for never, else 1 hour to 10 years."},
		{name: "transforms", read: into(&in.Transforms, asMode[alias.Transforms])},
		{name: "access", read: into(&in.Access, asMode[alias.Access])},
		{name: "widths", read: into(&in.Widths, asInts)},
		{name: "templates", read: templatesInto(&in.Templates)},
		{name: "adopt", read: into(&in.Adopt, asString), doc: "The name of an IAM user that exists, to take over instead " +
			"of making one. --adopt-users must allow it."},
		{name: "retire", read: into(&in.Retire, asBool),
			doc: "Make the key that the adopted user had inactive, a day after its last use."},
	}
}

// planFields are the members of a request for a plan.
func planFields(in *policy.PlanRequest) []field {
	return append(provisionFields(&in.Request),
		field{name: "kind", read: into(&in.Kind, asText[policy.Kind], string(policy.KindUser), string(policy.KindRole)),
			doc: "user for an IAM user with a key, which is the default; role for a role that the server assumes. ixmage " +
				"makes no roles: the commands and files are for a person."},
		field{name: "role", doc: "The role, if kind is role.", read: members("RoleRequest", []field{
			{name: "name", read: into(&in.Role.Name, asString), doc: "The name of the role; empty: made from the alias."},
			{name: "principal", read: into(&in.Role.Principal, asString), doc: "The ARN of the user or role of the server, " +
				"which may assume the role; empty: a parameter of the files."},
			{name: "external_id", read: into(&in.Role.ExternalID, asString),
				doc: "The external id that the trust policy asks for; empty: none."},
			{name: "max_session", read: into(&in.Role.MaxSession, asDuration),
				doc: "The longest session, 1 to 12 hours; absent: 1 hour."},
			{name: "source_identity", read: into(&in.Role.SourceIdentity, asBool),
				doc: "Allow the sessions to carry a source identity."},
		})})
}

// probeField is the member probe, with object keys for the scope checks.
func probeField(inside, outside *string) field {
	return field{name: "probe", doc: "Whole object keys in the bucket, with which the scope checks try the key.",
		read: members("Probe", []field{
			{name: "inside", read: into(inside, asString),
				doc: "An object that the key must be able to read. A provision makes it the canary of the alias."},
			{name: "outside", read: into(outside, asString), doc: "An object that the key must not be able to read."},
		})}
}

func asText[T ~string](raw json.RawMessage) (T, string) {
	text, wrong := as[string](raw, "a string")
	return T(text), wrong
}

// policyModes are the values of policy in a request.
var policyModes = []string{
	"", string(alias.PolicyInline), string(alias.PolicyManaged), string(alias.PolicyReadOnly),
}

// members makes a reader of an object that has the given fields, and a name in the document
// of the API.
func members(name string, fields []field) reader {
	return reader{decode: func(path string, raw json.RawMessage) []alias.Problem {
		if is := typeOf(raw); is != "an object" {
			return problemAt(path, "must be an object, not "+is)
		}
		return decodeObject(path, raw, fields)
	}, forms: []form{{name: name, fields: fields}}}
}

// tagsInto makes a reader of an object of strings with any names.
func tagsInto(dst *map[string]string) reader {
	return reader{decode: func(path string, raw json.RawMessage) []alias.Problem {
		if is := typeOf(raw); is != "an object" {
			return problemAt(path, `must be an object of strings, like {"team":"web"}, not `+is)
		}
		tags := map[string]string{}
		problems := eachMember(path, raw, func(name, at string, value json.RawMessage) []alias.Problem {
			text, wrong := asString(value)
			if wrong != "" {
				return problemAt(at, wrong)
			}
			tags[name] = text
			return nil
		})
		*dst = tags
		return problems
	}, forms: []form{formOf[map[string]string]()}, preset: presetOf(*dst)}
}

// verifyTimeout bounds a verification: a dozen requests, each with the deadline of a
// request to S3.
const verifyTimeout = 2 * time.Minute

// verifications is the call that runs the scope checks of a key.
type verifications struct{ operations }

func (h verifications) mount(t *routes) {
	mount(t, endpoint[policy.Probe, verificationJSON]{method: http.MethodPost, path: aliasesPath + "/{name}/verify",
		summary:  "Run the scope checks of the alias's credential now",
		roles:    []alias.TokenRole{alias.RoleAlias, alias.RoleProvision},
		resource: "alias", fields: func(in *policy.Probe) []field { return []field{probeField(&in.Inside, &in.Outside)} },
		bodyOptional: true, do: h.verify})
	mount(t, endpoint[none, verificationJSON]{method: http.MethodGet, path: aliasesPath + "/{name}/verification",
		summary: "Read the result of the last scope checks of an alias", roles: anyToken, resource: "alias", do: h.last})
}

// last reads the stored verification, which operations leave too.
func (h verifications) last(ctx context.Context, c *call[none]) (reply[verificationJSON], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[verificationJSON]{}, err
	}
	v, err := h.registry.History().Verification(ctx, a.ID)
	if errors.Is(err, alias.ErrNotFound) {
		return reply[verificationJSON]{}, failf(alias.ErrNotFound,
			"the alias %s was not verified yet: POST %s/%s/verify does it", c.name, aliasesPath, c.name)
	}
	if err != nil {
		return reply[verificationJSON]{}, err
	}
	return reply[verificationJSON]{body: showVerification(v)}, nil
}

func (h verifications) verify(ctx context.Context, c *call[policy.Probe]) (reply[verificationJSON], error) {
	if h.provisioner == nil {
		return reply[verificationJSON]{}, switchedOff()
	}
	var v *alias.Verification
	var err error
	h.hold(context.WithoutCancel(ctx), verifyTimeout, func(ctx context.Context) {
		v, err = h.provisioner.Verify(ctx, c.actor, c.name, c.in)
	})
	if err != nil {
		if h.closing.Err() != nil {
			err = errNotReady // the shutdown cancelled it
		}
		return reply[verificationJSON]{}, err
	}
	return reply[verificationJSON]{body: showVerification(v)}, nil
}

// verificationJSON is a verification as the API shows it.
type verificationJSON struct {
	Alias     alias.Name    `json:"alias" description:"The alias whose location was tried."`
	CheckedAt string        `json:"checked_at" description:"When the checks ran."`
	Scope     alias.Verdict `json:"scope" description:"The worst verdict of the checks."`
	Checks    []checkJSON   `json:"checks" description:"The checks in their order."`
	// NotTried is what the checks say nothing about.
	NotTried []alias.NotTried `json:"not_tried" description:"What the checks say nothing about."`
}

type checkJSON struct {
	Name     string         `json:"name" description:"The name of the check."`
	Expected string         `json:"expected" description:"The answer that a key with the intended rights gets."`
	Got      string         `json:"got" description:"The answer that the key got."`
	Verdict  alias.Verdict  `json:"verdict" description:"What the answer proves."`
	Evidence alias.Evidence `json:"evidence" description:"Where the answer comes from: the key was tried, or IAM was read."`
	Detail   string         `json:"detail" description:"More in a sentence; may be empty."`
}

func showVerification(v *alias.Verification) verificationJSON {
	out := verificationJSON{
		Alias: v.Alias, CheckedAt: timestamp(v.CheckedAt), Scope: v.Scope(), Checks: make([]checkJSON, len(v.Checks)),
		NotTried: append([]alias.NotTried{}, v.NotTried...), // [] in JSON, not null
	}
	for i, c := range v.Checks {
		out.Checks[i] = checkJSON{
			Name: c.Name, Expected: c.Expected, Got: c.Got, Verdict: c.Verdict,
			Evidence: cmp.Or(c.Evidence, alias.EvidenceProbe), Detail: c.Detail,
		}
	}
	return out
}

const orphansPath = "/api/v1/orphans"

// removeTimeout bounds the deletion of an orphan, which waits until IAM shows each
// change. A further call continues an interrupted one.
const removeTimeout = 5 * time.Minute

// orphans are the calls about users and keys in IAM that belong to no credential.
type orphans struct{ operations }

func (h orphans) mount(t *routes) {
	mount(t, endpoint[none, orphansJSON]{method: http.MethodGet, path: orphansPath,
		summary: "List users and keys in IAM that belong to no credential", roles: anyToken, allBuckets: true, do: h.list})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: orphansPath + "/{user}", resource: "orphan",
		summary: "Delete an orphaned user that ixmage made", roles: []alias.TokenRole{alias.RoleProvision}, allBuckets: true,
		query: []parameter{{"account", "the AWS account of the user, by the name or id of an entry of --accounts; " +
			"without it that of the server's own credentials"}},
		statuses: []int{http.StatusNoContent}, do: h.remove})
}

// orphansJSON is the report on orphans as the API shows it.
type orphansJSON struct {
	ScannedAt *string      `json:"scanned_at" description:"When IAM was read last; null before the first time."`
	Orphans   []orphanJSON `json:"orphans" description:"The findings."`
	Skipped   string       `json:"skipped" description:"Why IAM could not be read, in words; empty if it was."`
}

type orphanJSON struct {
	Kind        string     `json:"kind" description:"What is wrong with it."`
	Account     string     `json:"account,omitempty" description:"The id of the AWS account of the user, an entry of --accounts. Absent: that of the server's own credentials."`
	User        string     `json:"user" description:"The name of the IAM user."`
	AccessKeyID string     `json:"access_key_id" description:"The id of the key, if it is about one; else empty."`
	Credential  alias.Name `json:"credential" description:"The credential that it may belong to; empty: none."`
	FoundAt     *string    `json:"found_at" description:"When it was found first; null: not known."`
	State       string     `json:"state" description:"What is known about it; may be empty."`
	Detail      string     `json:"detail" description:"What it is and what to do, in words."`
}

func (h orphans) list(ctx context.Context, _ *call[none]) (reply[orphansJSON], error) {
	if h.provisioner == nil {
		return reply[orphansJSON]{}, switchedOff()
	}
	report, err := h.provisioner.Orphans(ctx)
	if err != nil {
		return reply[orphansJSON]{}, err
	}
	out := orphansJSON{
		ScannedAt: timestampOrNull(report.ScannedAt), Skipped: report.Skipped,
		Orphans: make([]orphanJSON, len(report.Orphans)),
	}
	for i, o := range report.Orphans {
		out.Orphans[i] = orphanJSON{
			Kind: o.Kind, Account: o.Account, User: o.User, AccessKeyID: o.AccessKeyID, Credential: o.Credential,
			FoundAt: timestampOrNull(o.FoundAt), State: o.State, Detail: o.Detail,
		}
	}
	return reply[orphansJSON]{body: out}, nil
}

func (h orphans) remove(ctx context.Context, c *call[none]) (reply[none], error) {
	if h.provisioner == nil {
		return reply[none]{}, switchedOff()
	}
	var err error
	h.hold(context.WithoutCancel(ctx), removeTimeout, func(ctx context.Context) {
		err = h.provisioner.RemoveOrphan(ctx, c.actor, c.query.Get("account"), c.id)
	})
	return reply[none]{status: http.StatusNoContent}, err
}
