package admin

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/provision"
)

// provisionBody is a request that is accepted; the rows below spoil it.
const provisionBody = `{"alias":"shop","bucket":"acme-media","region":"eu-west-1"}`

const allOfIt = `{"alias":"shop","bucket":"acme-media","bucket_owner":"012345678901","prefix":"website-images","region":"eu-west-1",` +
	`"endpoint":"https://S3.example.com/","path_style":true,"policy":"managed","credential":"media","user_name":"u",` +
	`"tags":{"team":"web","":"x"},"kms_key_arn":"arn:aws:kms:eu-west-1:1:key/k",` +
	`"probe":{"inside":"website-images/a.jpg","outside":"private/b.jpg"},"rotate_every":"720h","adopt":"by-hand","retire":true,"account":"prod",` +
	`"transforms":"open","access":"signed","widths":[],"templates":{"thumb":{"w":240,"h":240}}}`

var allOfItRead = policy.Request{
	Alias: "shop", Location: alias.Location{
		Bucket: "acme-media", BucketOwner: "012345678901", Prefix: "website-images", Region: "eu-west-1",
		Endpoint: "https://S3.example.com/", PathStyle: true,
	},
	Policy: alias.PolicyManaged, Credential: "media", UserName: "u", Tags: map[string]string{"team": "web", "": "x"},
	KMSKeyARN: "arn:aws:kms:eu-west-1:1:key/k", Inside: "website-images/a.jpg", Outside: "private/b.jpg", RotateEvery: 720 * time.Hour,
	Adopt: "by-hand", Retire: true, Account: "prod",
	Transforms: alias.TransformsOpen, Access: alias.AccessSigned, Widths: []int{}, Templates: map[string]string{"thumb": "w=240&h=240"},
}

func TestProvision(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, body string
		want       policy.Request
	}{
		{"everything", allOfIt, allOfItRead},
		{"as little as there may be", provisionBody, policy.Request{
			Alias: "shop", Location: alias.Location{Bucket: "acme-media", Region: "eu-west-1"},
		}},
		{"empty values", `{"alias":"shop","bucket":"acme-media","region":"","endpoint":"https://h.example","policy":"","tags":{},"probe":{},"rotate_every":"0s"}`,
			policy.Request{
				Alias: "shop", Location: alias.Location{Bucket: "acme-media", Endpoint: "https://h.example"},
				Tags: map[string]string{},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var got policy.Request
			var actor string
			f := &fake{provision: func(_ context.Context, who string, req policy.Request) (*alias.Operation, error) {
				got, actor = req, who
				return running("op-1"), nil
			}}
			a := newAPI(t, with(f))
			r := a.do("POST", "/api/v1/provision", c.body).want(202, "")
			checkStarted(t, r, "")
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
			checkActor(t, actor)
			if r.body != runningText {
				t.Errorf("operation:\n got %s\nwant %s", r.body, runningText)
			}
			if !strings.Contains(a.logs.String(), `"alias":"shop"`) {
				t.Errorf("the log does not say what alias it was about: %s", a.logs)
			}
		})
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	plan := &policy.Plan{
		Policy: alias.PolicyInline, PolicyName: "ixmage-read",
		User: alias.IAMUser{Name: "ixmage-s3read-shop-ab12", Path: "/ixmage/i/", Boundary: "arn:aws:iam::1:policy/b"},
		Tags: map[string]string{"managed-by": "ixmage"}, Document: []byte(`{"Version": "2012-10-17", "Statement": [{"Resource":"a&b"}]}`),
		Steps: []policy.PlanStep{{Name: "create-user", Detail: "x"}}, Commands: []string{"aws iam create-user", "aws <x>"},
	}
	var got policy.PlanRequest
	a := newAPI(t, with(&fake{plan: func(_ context.Context, req policy.PlanRequest) (*policy.Plan, error) {
		got = req
		return plan, nil
	}}))
	r := a.do("POST", "/api/v1/provision/plan", allOfIt, "Prefer", "wait=1").want(200, "")
	want := `{"alias":"shop","policy":"inline","policy_name":"ixmage-read",` +
		`"policy_document":{"Version":"2012-10-17","Statement":[{"Resource":"a&b"}]},` +
		`"user":{"name":"ixmage-s3read-shop-ab12","path":"/ixmage/i/","boundary":"arn:aws:iam::1:policy/b"},` +
		`"tags":{"managed-by":"ixmage"},"steps":[{"name":"create-user","detail":"x"}],"commands":["aws iam create-user","aws <x>"]}` + "\n"
	if r.body != want || r.header.Get("Location") != "" || r.header.Get("Preference-Applied") != "" {
		t.Errorf("plan:\n got %s\nwant %s\nheader %v", r.body, want, r.header)
	}
	if diff := cmp.Diff(policy.PlanRequest{Request: allOfItRead}, got); diff != "" {
		t.Errorf("request (-want +got):\n%s", diff)
	}
	plan = &policy.Plan{Policy: alias.PolicyReadOnly, PolicyName: "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess"}
	want = `{"alias":"shop","policy":"read-only-access","policy_name":"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess","policy_document":null,` +
		`"user":{"name":"","path":"","boundary":""},"tags":{},"steps":[],"commands":[]}` + "\n"
	if got := a.do("POST", "/api/v1/provision/plan", provisionBody).want(200, "").body; got != want {
		t.Errorf("bare plan:\n got %s\nwant %s", got, want)
	}
}

// TestPlanFiles reads the members and the parameter that only a plan has.
func TestPlanFiles(t *testing.T) {
	t.Parallel()
	plan := &policy.Plan{
		Policy: alias.PolicyInline, PolicyName: "ixmage-read", Document: []byte(`{}`),
		Role: &policy.PlannedRole{
			Name: "r", Path: "/ixmage/", Trust: policy.Trust{ExternalID: "x1"}, MaxSession: time.Hour, Session: `{"Version":"2012-10-17"}`,
		},
		Files: []policy.File{{Name: "a/main.tf", Content: "x = \"<&>\"\n"}},
	}
	var got policy.PlanRequest
	a := newAPI(t, with(&fake{plan: func(_ context.Context, req policy.PlanRequest) (*policy.Plan, error) {
		got = req
		return plan, nil
	}}))
	body := strings.TrimSuffix(provisionBody, "}") + `,"kind":"role","role":{"name":"r","principal":"arn:aws:iam::123456789012:root",` +
		`"external_id":"x1","max_session":"2h","source_identity":true}}`
	r := a.do("POST", "/api/v1/provision/plan?format=terraform", body).want(200, "")
	want := `{"alias":"shop","policy":"inline","policy_name":"ixmage-read","policy_document":{},` +
		`"user":{"name":"","path":"","boundary":""},"tags":{},"steps":[],"commands":[],` +
		`"role":{"name":"r","path":"/ixmage/","boundary":"","principal":"","external_id":"x1","max_session":"1h0m0s",` +
		`"trust_policy":null,"session_policy":{"Version":"2012-10-17"}},` +
		`"format":"terraform","files":[{"name":"a/main.tf","content":"x = \"<&>\"\n"}]}` + "\n"
	if r.body != want {
		t.Errorf("plan:\n got %s\nwant %s", r.body, want)
	}
	role := policy.RoleRequest{
		Name: "r", MaxSession: 2 * time.Hour,
		Trust: policy.Trust{Principal: "arn:aws:iam::123456789012:root", ExternalID: "x1", SourceIdentity: true},
	}
	if got.Kind != policy.KindRole || got.Role != role || got.Format != policy.FormatTerraform {
		t.Errorf("request: got %+v", got)
	}
	for _, c := range []struct{ name, query, body, fields string }{
		{"empty format", "?format=", provisionBody, "format"},
		{"two formats", "?format=terraform&format=aws-cli", provisionBody, "format"},
		{"unknown parameter", "?form=terraform", provisionBody, "form"},
		{"kind is no text", "", strings.TrimSuffix(provisionBody, "}") + `,"kind":1}`, "kind"},
		{"role is no object", "", strings.TrimSuffix(provisionBody, "}") + `,"kind":"role","role":"r"}`, "role"},
		{"unknown member", "?format=yaml", strings.Replace(body, `"name":"r"`, `"nom":"r"`, 1), "role.nom format"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := a.do("POST", "/api/v1/provision/plan"+c.query, c.body).want(400, "invalid")
			if got := strings.Join(r.fields(), " "); got != c.fields {
				t.Errorf("fields: got %q, want %q", got, c.fields)
			}
		})
	}
	// Provision makes no roles.
	r = a.do("POST", "/api/v1/provision", body).want(400, "invalid")
	if got := strings.Join(r.fields(), " "); got != "kind role" {
		t.Errorf("fields: got %q", got)
	}
}

func TestProvisionRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t, with(&fake{
		provision: func(_ context.Context, _ string, req policy.Request) (*alias.Operation, error) {
			return running("op-1"), policy.Prepare(&req, alias.Policy{})
		},
		plan: func(_ context.Context, req policy.PlanRequest) (*policy.Plan, error) {
			return &policy.Plan{}, policy.PreparePlan(&req, alias.Policy{})
		},
	}))
	edit := func(member, value string) string { return `{"` + member + `":` + value + `,` + provisionBody[1:] }
	without := func(member string) string { return strings.Replace(provisionBody, member, `"path_style":false`, 1) }
	for _, c := range []struct {
		name, body   string
		code, fields string // fields, in order
		say          string // is in the detail
	}{
		{"no body", "", "bad-request", "", "JSON object"},
		{"not JSON", "alias=shop", "bad-request", "", "not valid JSON"},
		{"array", `[]`, "bad-request", "", "not an array"},
		{"unknown field", edit("colour", "1"), "invalid", "colour", "unknown field"},
		{"other spelling", edit("userName", `"u"`), "invalid", "userName", `did you mean "user_name"`},
		{"field of an alias", edit("canary", `"a.jpg"`), "invalid", "canary", "unknown field"},
		{"name instead of alias", edit("name", `"x"`), "invalid", "name", "unknown field"},
		{"twice", edit("alias", `"x"`), "invalid", "alias", "more than once"},
		{"null", edit("policy", "null"), "invalid", "policy", "not null"},
		{"number for a string", edit("kms_key_arn", "5"), "invalid", "kms_key_arn", "not a number"},
		{"string for a boolean", edit("path_style", `"true"`), "invalid", "path_style", "true or false"},
		{"bad duration", edit("rotate_every", `"90d"`), "invalid", "rotate_every", `"24h"`},
		{"number for a duration", edit("rotate_every", "3600"), "invalid", "rotate_every", "duration"},
		{"key pair for a credential", edit("credential", keyPair), "invalid", "credential", "must be a string"},
		{"bad name of a credential", edit("credential", `"A B"`), "invalid", "credential", "name of a provisioned credential"},
		{"adopt: type", edit("adopt", "true"), "invalid", "adopt", "must be a string"},
		{"account: type", edit("account", "111122223333"), "invalid", "account", "must be a string"},
		{"adopt: name", edit("adopt", `"a/b"`), "invalid", "adopt", "1 to 64"},
		{"adopt and reuse", `{"adopt":"u",` + edit("credential", `"media"`)[1:], "invalid", "adopt", "credential"},
		{"retire: type", edit("retire", `"yes"`), "invalid", "retire", "true or false"},
		{"retire alone", edit("retire", "true"), "invalid", "retire", "adopt"},
		{"tags: array", edit("tags", `[{"Key":"a","Value":"b"}]`), "invalid", "tags", `{"team":"web"}`},
		{"tags: null", edit("tags", "null"), "invalid", "tags", "not null"},
		{"tags: values", edit("tags", `{"a":1,"b":null,"c":"ok","d":{}}`), "invalid", "tags.a tags.b tags.d", "must be a string"},
		{"tags: twice", edit("tags", `{"a":"1","a":"2"}`), "invalid", "tags.a", "more than once"},
		{"probe: string", edit("probe", `"a.jpg"`), "invalid", "probe", "must be an object"},
		{"probe: null", edit("probe", "null"), "invalid", "probe", "not null"},
		{"probe: unknown", edit("probe", `{"Inside":"a","middle":"b"}`), "invalid", "probe.Inside probe.middle", `did you mean "inside"`},
		{"probe: type", edit("probe", `{"inside":["a"],"outside":null}`), "invalid", "probe.inside probe.outside", "must be a string"},
		{"no alias", without(`"alias":"shop"`), "invalid", "alias", "1 to 63"},
		{"bad alias", strings.Replace(provisionBody, "shop", "Shop", 1), "invalid", "alias", "1 to 63"},
		{"no bucket", without(`"bucket":"acme-media"`), "invalid", "bucket", "required"},
		{"no region", without(`"region":"eu-west-1"`), "invalid", "region", "required"},
		{"bad prefix", edit("prefix", `"a*"`), "invalid", "prefix", "must not have *, ? or $"},
		{"private endpoint", edit("endpoint", `"https://127.0.0.1"`), "invalid", "endpoint", "--allow-private-endpoints"},
		{"of the Provisioner", edit("policy", `"bad"`), "invalid", "policy", "must be inline"},
		{"everything at once", `{"alias":"S","bucket":5,"x":1,"policy":"bad","tags":{"a":1},"probe":{"outside":"bad"},"credential":"A"}`,
			"invalid", "bucket x tags.a alias region policy probe.outside credential", "unknown"},
	} {
		for _, path := range []string{"/api/v1/provision", "/api/v1/provision/plan"} {
			t.Run(c.name+path, func(t *testing.T) {
				r := a.do("POST", path, c.body, "Content-Type", "application/json").want(400, c.code)
				if got := strings.Join(r.fields(), " "); got != c.fields {
					t.Errorf("fields:\n got %q\nwant %q\nbody %s", got, c.fields, r.body)
				}
				if d := r.problem().Detail; !strings.Contains(d, c.say) {
					t.Errorf("detail: got %q, want %q in it", d, c.say)
				}
			})
		}
	}
	a.do("POST", "/api/v1/provision", provisionBody, "Content-Type", "text/plain").want(415, "media-type")
	a.do("POST", "/api/v1/provision?dry=1", provisionBody).want(400, "invalid")
}

// TestProvisionerErrors puts each error that a Provisioner may give through
// every call on it.
func TestProvisionerErrors(t *testing.T) {
	t.Parallel()
	var err error
	f := &fake{
		provision:    func(context.Context, string, policy.Request) (*alias.Operation, error) { return nil, err },
		plan:         func(context.Context, policy.PlanRequest) (*policy.Plan, error) { return nil, err },
		rotate:       func(context.Context, string, alias.Name, bool) (*alias.Operation, error) { return nil, err },
		remove:       func(context.Context, string, alias.Name, int64) (*alias.Operation, error) { return nil, err },
		reclaim:      func(context.Context, string, alias.Name) (*alias.Credential, error) { return nil, err },
		verify:       func(context.Context, string, alias.Name, policy.Probe) (*alias.Verification, error) { return nil, err },
		orphans:      func(context.Context) (provision.OrphanReport, error) { return provision.OrphanReport{}, err },
		removeOrphan: func(context.Context, string, string, string) error { return err },
	}
	a := newAPI(t, with(f))
	a.lax.Store(true) // no Provisioner has every error in every call
	a.addProvisioned("media")
	const words = "bucket acme-media"
	for _, c := range []struct {
		err    error
		status int
		code   string
		says   string
	}{
		{fmt.Errorf("%w: %s", alias.ErrForbidden, words), 403, "not-allowed", words},
		{fmt.Errorf("%s: %w", words, alias.ErrExists), 409, "exists", words},
		{fmt.Errorf("%s: %w: op-1", words, alias.ErrBusy), 409, "operation-running", "op-1"},
		{fmt.Errorf("%s: %w", words, alias.ErrProvisioned), 409, "provisioned", words},
		{fmt.Errorf("%s: %w", words, alias.ErrNotProvisioned), 409, "not-provisioned", words},
		{fmt.Errorf("%w: %s", alias.ErrNoBoundary, words), 409, "no-boundary", words},
		{fmt.Errorf("%s: %w", words, alias.ErrNoKeyPair), 409, "no-key-pair", words},
		{fmt.Errorf("%w: %s", alias.ErrOtherUser, words), 409, "user-changed", words},
		{&alias.InUseError{Credential: "media", Aliases: []alias.Name{"one", "two"}}, 409, "in-use", "one, two"},
		{&alias.ValidationError{Problems: []alias.Problem{{Field: "policy", Detail: words}}}, 400, "invalid", "policy: " + words},
		{fmt.Errorf("%s: %w", words, alias.ErrStale), 412, "precondition-failed", "revision"},
		{fmt.Errorf("%s: %w", words, alias.ErrNotFound), 404, "not-found", ""},
		{errors.New(testSecret), 500, "internal", "log"},
	} {
		err = c.err
		for _, call := range [][3]string{
			{"POST", "/api/v1/provision", provisionBody}, {"POST", "/api/v1/provision/plan", provisionBody},
			{"POST", "/api/v1/credentials/media/rotate", ""}, {"DELETE", "/api/v1/credentials/media", ""},
			{"POST", "/api/v1/aliases/shop/verify", ""}, {"GET", "/api/v1/orphans", ""}, {"DELETE", "/api/v1/orphans/u", ""},
			{"POST", "/api/v1/credentials/media/reclaim", ""},
		} {
			if c.status == 500 {
				err = errors.New("IAM says no") // the log is searched for secrets
			}
			r := a.do(call[0], call[1], call[2], "Prefer", "wait=1").want(c.status, c.code)
			if d := r.problem().Detail; !strings.Contains(d, c.says) || strings.Contains(d, "IAM says") {
				t.Errorf("%s %s: detail %q, want %q in it", call[0], call[1], d, c.says)
			}
			if r.header.Get("Location") != "" || r.header.Get("Preference-Applied") != "" {
				t.Errorf("%s %s: an error has the headers %v", call[0], call[1], r.header)
			}
		}
	}
}

// TestSwitchedOff goes without a Provisioner.
func TestSwitchedOff(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	a.addProvisioned("media")
	for _, call := range [][3]string{
		{"POST", "/api/v1/provision", provisionBody}, {"POST", "/api/v1/provision/plan", provisionBody},
		{"POST", "/api/v1/credentials/media/rotate", ""}, {"POST", "/api/v1/credentials/shop/rotate", ""},
		{"DELETE", "/api/v1/credentials/media", ""}, {"POST", "/api/v1/aliases/shop/verify", ""},
		{"GET", "/api/v1/orphans", ""}, {"DELETE", "/api/v1/orphans/u", ""}, {"POST", "/api/v1/credentials/media/reclaim", ""},
	} {
		r := a.do(call[0], call[1], call[2]).want(403, "not-allowed")
		if d := r.problem().Detail; !strings.Contains(d, "--provision") {
			t.Errorf("%s %s: detail does not name the flag: %q", call[0], call[1], d)
		}
	}
	r := a.do("POST", "/api/v1/provision", `{"alias":"A","x":1}`).want(400, "invalid")
	if got := strings.Join(r.fields(), " "); got != "x alias bucket region" {
		t.Errorf("fields: got %q", got)
	}
	a.do("POST", "/api/v1/credentials/none/rotate", "").want(404, "not-found")
	// Stored values stay readable, and calls that need no IAM still work.
	a.do("GET", "/api/v1/operations", "").want(200, "")
	a.do("GET", "/api/v1/audit", "").want(200, "")
	a.do("GET", "/api/v1/credentials/media", "").want(200, "")
	a.do("DELETE", "/api/v1/aliases/shop", "").want(204, "")
}

func TestVerify(t *testing.T) {
	t.Parallel()
	v := &alias.Verification{Alias: "shop", CheckedAt: moment, Checks: []alias.Check{
		{Name: "get-inside", Expected: "200", Got: "200", Verdict: alias.VerdictProven, Positive: true, At: moment},
		{Name: "list-bucket", Expected: "403", Got: "200", Verdict: alias.VerdictViolated, Failed: true, Detail: "it can list", At: moment, Evidence: alias.EvidenceControlPlane},
	}}
	v.NotTried = []alias.NotTried{{Name: "other-services", Why: alias.WhyNoProbe}}
	var calls []policy.Probe
	a := newAPI(t, with(&fake{verify: func(
		ctx context.Context, actor string, name alias.Name, probe policy.Probe,
	) (*alias.Verification, error) {
		checkActor(t, actor)
		if name != "shop" {
			t.Errorf("alias %s", name)
		}
		calls = append(calls, probe)
		if at, ok := ctx.Deadline(); !ok || time.Until(at) < callTimeout {
			t.Errorf("a verification has %s", time.Until(at))
		}
		return v, nil
	}}))
	want := `{"alias":"shop","checked_at":"` + momentText + `","scope":"violated","checks":[` +
		`{"name":"get-inside","expected":"200","got":"200","verdict":"proven","evidence":"probe","detail":""},` +
		`{"name":"list-bucket","expected":"403","got":"200","verdict":"violated","evidence":"control-plane","detail":"it can list"}],` +
		`"not_tried":[{"name":"other-services","why":"no-probe"}]}` + "\n"
	for _, body := range []string{"", "{}"} {
		if got := a.do("POST", "/api/v1/aliases/shop/verify", body).want(200, "").body; got != want {
			t.Errorf("verification:\n got %s\nwant %s", got, want)
		}
	}
	v = &alias.Verification{Alias: "shop", CheckedAt: moment}
	want = `{"alias":"shop","checked_at":"` + momentText + `","scope":"not-proven","checks":[],"not_tried":[]}` + "\n"
	if got := a.do("POST", "/api/v1/aliases/shop/verify", "").want(200, "").body; got != want {
		t.Errorf("without checks:\n got %s\nwant %s", got, want)
	}
	a.do("POST", "/api/v1/aliases/shop/verify", `{"probe":{"inside":"a.jpg","outside":"b/c.jpg"}}`).want(200, "")
	a.do("POST", "/api/v1/aliases/shop/verify", `{"full":true}`).want(400, "invalid")
	a.do("POST", "/api/v1/aliases/shop/verify", `{"probe":{"below":"a.jpg"}}`).want(400, "invalid")
	a.do("POST", "/api/v1/aliases/shop/verify", `{"probe":"a.jpg"}`).want(400, "invalid")
	a.do("POST", "/api/v1/aliases/shop/verify", `x`).want(400, "bad-request")
	a.do("POST", "/api/v1/aliases/shop/verify?full=1", "").want(400, "invalid")
	a.do("POST", "/api/v1/aliases/SHOP/verify", "").want(404, "not-found")
	if want := []policy.Probe{{}, {}, {}, {Inside: "a.jpg", Outside: "b/c.jpg"}}; !slices.Equal(calls, want) {
		t.Errorf("calls with %v, want %v", calls, want)
	}
}

// TestVerification reads what the last verification left in the registry.
func TestVerification(t *testing.T) {
	t.Parallel()
	a := newAPI(t) // without a Provisioner
	a.do("GET", "/api/v1/aliases/shop/verification", "").want(404, "not-found")
	a.register("shop")
	r := a.do("GET", "/api/v1/aliases/shop/verification", "").want(404, "not-found")
	if d := r.problem().Detail; !strings.Contains(d, "not verified yet") || !strings.Contains(d, "/api/v1/aliases/shop/verify") {
		t.Errorf("detail: %q", d)
	}
	shop, err := a.store.Alias(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	a.put(func(tx alias.Tx) error {
		return tx.PutVerification(&alias.Verification{
			AliasID: shop.ID, Alias: "shop", CredentialID: shop.CredentialID, CredentialVersion: 1, CheckedAt: moment,
			Checks: []alias.Check{{Name: "get-inside", Expected: "200", Got: "200", Verdict: alias.VerdictProven, Positive: true, At: moment}},
		})
	})
	want := `{"alias":"shop","checked_at":"` + momentText + `","scope":"proven","checks":[` +
		`{"name":"get-inside","expected":"200","got":"200","verdict":"proven","evidence":"probe","detail":""}],"not_tried":[]}` + "\n"
	if got := a.do("GET", "/api/v1/aliases/shop/verification", "").want(200, "").body; got != want {
		t.Errorf("verification:\n got %s\nwant %s", got, want)
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	var report provision.OrphanReport
	a := newAPI(t, with(&fake{orphans: func(context.Context) (provision.OrphanReport, error) { return report, nil }}))
	want := `{"scanned_at":null,"orphans":[],"skipped":""}` + "\n"
	if got := a.do("GET", "/api/v1/orphans", "").want(200, "").body; got != want {
		t.Errorf("before the first look:\n got %s\nwant %s", got, want)
	}
	report = provision.OrphanReport{
		ScannedAt: moment.Add(time.Hour), Skipped: "the database is older than its users",
		Orphans: []provision.Orphan{
			{Kind: "key", User: "u", AccessKeyID: testKeyID, Credential: "media", FoundAt: moment, State: "quarantined", Detail: "unknown"},
			{Kind: "user", Account: "111122223333"},
		},
	}
	want = `{"scanned_at":"2024-03-01T00:59:59.12Z","orphans":[` +
		`{"kind":"key","user":"u","access_key_id":"` + testKeyID + `","credential":"media","found_at":"` + momentText + `","state":"quarantined","detail":"unknown"},` +
		`{"kind":"user","account":"111122223333","user":"","access_key_id":"","credential":"","found_at":null,"state":"","detail":""}],` +
		`"skipped":"the database is older than its users"}` + "\n"
	if got := a.do("GET", "/api/v1/orphans", "").want(200, "").body; got != want {
		t.Errorf("orphans:\n got %s\nwant %s", got, want)
	}
}

func TestOrphanDelete(t *testing.T) {
	t.Parallel()
	var users []string
	a := newAPI(t, with(&fake{removeOrphan: func(ctx context.Context, actor, account, user string) error {
		checkActor(t, actor)
		if at, ok := ctx.Deadline(); !ok || time.Until(at) < 4*time.Minute {
			t.Errorf("a deletion has %s", time.Until(at))
		}
		users = append(users, account+user)
		return nil
	}}))
	for _, path := range []string{"ixmage-s3read-shop-ab12", "A+=,.@_-z", "a%2B%3d%40b", strings.Repeat("x", 64)} {
		if r := a.do("DELETE", "/api/v1/orphans/"+path, "").want(204, ""); r.body != "" {
			t.Errorf("%s: body %q", path, r.body)
		}
	}
	if got, want := strings.Join(users, " "), "ixmage-s3read-shop-ab12 A+=,.@_-z a+=@b "+strings.Repeat("x", 64); got != want {
		t.Errorf("users:\n got %s\nwant %s", got, want)
	}
	users = nil
	a.do("DELETE", "/api/v1/orphans/u?account=prod", "").want(204, "")
	if len(users) != 1 || users[0] != "produ" {
		t.Errorf("with an account: %v", users)
	}
	for _, path := range []string{"a%2fb", "a%00", "a%20b", strings.Repeat("x", 65), "s%C3%BC%C3%9F", "a*"} {
		a.raw("DELETE /api/v1/orphans/"+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(404, "not-found")
	}
	a.raw("DELETE /api/v1/orphans/%zz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(400, "bad-request")
	a.do("DELETE", "/api/v1/orphans/u", `{}`).want(400, "bad-request")
	a.do("DELETE", "/api/v1/orphans/u?acount=prod", "").want(400, "invalid")
	if len(users) != 1 {
		t.Errorf("a refused call reached the Provisioner: %v", users)
	}
}

func TestVerifyEndsAtShutdown(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	a := newAPI(t, with(&fake{verify: func(
		ctx context.Context, _ string, _ alias.Name, _ policy.Probe,
	) (*alias.Verification, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}}))
	done := make(chan answer)
	go func() { done <- a.do("POST", "/api/v1/aliases/shop/verify", "") }()
	<-entered
	if err := a.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	(<-done).want(503, "not-ready")
}
