package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// render is a plan as a reader sees it.
func render(p *Plan) string {
	var b strings.Builder
	fmt.Fprintf(&b, "policy   %s\nname     %s\nuser     %+v\ntags     %v\ndocument %s\n\n", p.Policy, p.PolicyName, p.User, p.Tags, p.Document)
	for _, s := range p.Steps {
		fmt.Fprintf(&b, "%s: %s\n", s.Name, s.Detail)
	}
	return b.String() + "\n" + strings.Join(p.Commands, "\n") + "\n"
}

func TestPlanGolden(t *testing.T) {
	t.Parallel()
	env := Env{InstallID: "home", Suffix: "x7k2", AllowWideScope: true}
	for _, tt := range []struct {
		name   string
		change func(*Request, *Env)
	}{
		{"inline", func(*Request, *Env) {}},
		{"managed", func(r *Request, _ *Env) { r.Policy = alias.PolicyManaged }},
		{"read-only-access", func(r *Request, _ *Env) { r.Policy = alias.PolicyReadOnly }},
		{"bare", func(r *Request, _ *Env) {
			*r = Request{Alias: "shop", Location: alias.Location{Bucket: "acme-media", Region: "eu-west-1"}}
		}},
		{"china-kms-bounded", func(r *Request, e *Env) {
			r.Region, r.BucketOwner, r.KMSKeyARN, r.UserName = "cn-north-1", "123456789012", cnKey, "-me"
			e.Boundary = "arn:aws-cn:iam::123456789012:policy/ixmage/ixmage-boundary"
		}},
		{"endpoints", func(r *Request, e *Env) {
			r.Endpoint, r.Region, e.IAMEndpoint = "https://s3.example.com", "", "https://iam.example.com"
		}},
		{"quotes", func(r *Request, _ *Env) {
			r.Prefix, r.Inside, r.Outside = "it's/(new)!/", "it's/(new)!/$(id) `id` \"a\".jpg", "-o'; id; '.jpg"
			r.Tags = map[string]string{"it": "a b", "Équipe": "été=1"}
		}},
		{"adopt", func(r *Request, _ *Env) { r.Adopt, r.Policy = "ixmage-s3read", alias.PolicyManaged }},
		{"adopt-bounded-retire", func(r *Request, e *Env) {
			r.Adopt, r.Retire, e.Boundary = "ixmage-s3read", true, "arn:aws:iam::123456789012:policy/ixmage-boundary"
		}},
		{"reuse-inline", func(r *Request, e *Env) {
			r.Credential, r.Policy, r.Tags = "media", "", nil
			e.User, e.Mode = alias.IAMUser{Name: "ixmage-s3read-media-ab12", Path: "/ixmage/home/"}, alias.PolicyInline
			e.Existing = []alias.Grant{{Bucket: "zoo", Prefix: "cats/"}}
		}},
		{"reuse-managed-unknown-user", func(r *Request, _ *Env) {
			r.Credential, r.Policy, r.Tags = "media", alias.PolicyManaged, nil
		}},
		{"reuse-read-only-access", func(r *Request, e *Env) {
			r.Credential, r.Policy, r.Tags = "media", "", nil
			e.Mode = alias.PolicyReadOnly
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req, env := request(), env
			tt.change(&req, &env)
			if err := Prepare(&req, alias.Policy{}); err != nil {
				t.Fatal(err)
			}
			plan, err := MakePlan(PlanRequest{Request: req}, env)
			if err != nil {
				t.Fatal(err)
			}
			golden(t, "plan-"+tt.name, render(plan))
			for _, c := range plan.Commands {
				if strings.Contains(c, "\n") {
					t.Errorf("more than one line: %q", c)
				}
			}
		})
	}
}

func TestPlanSteps(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		req  Request
		want string
	}{
		{"new", request(), "create-user wait-user put-policy check-policy create-key verify open"},
		{
			"reuse", Request{Alias: "shop", Location: request().Location, Credential: "media"},
			"put-policy check-policy verify open",
		},
		{
			"adopt", Request{Alias: "shop", Location: request().Location, Adopt: "ixmage-s3read"},
			"adopt-user put-policy check-policy create-key verify open",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			plan, err := MakePlan(PlanRequest{Request: tt.req}, Env{InstallID: "home"})
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, s := range plan.Steps {
				names = append(names, s.Name)
				if s.Detail == "" {
					t.Errorf("%s has no detail", s.Name)
				}
			}
			if got := strings.Join(names, " "); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestPlanPartition(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		loc  alias.Location
		key  string
		env  Env
		want string
	}{
		{"by nothing", alias.Location{Region: "eu-west-1"}, "", Env{}, "aws"},
		{"by a region of China", alias.Location{Region: "cn-northwest-1"}, "", Env{}, "aws-cn"},
		{"by a region of GovCloud", alias.Location{Region: "us-gov-west-1"}, "", Env{}, "aws-us-gov"},
		{"by the region of the European Sovereign Cloud", alias.Location{Region: "eusc-de-east-1"}, "", Env{}, "aws-eusc"},
		{"by an isolated region", alias.Location{Region: "us-iso-east-1"}, "", Env{}, "aws-iso"},
		{"by a region of iso-b", alias.Location{Region: "us-isob-east-1"}, "", Env{}, "aws-iso-b"},
		{"by a region of iso-e", alias.Location{Region: "eu-isoe-west-1"}, "", Env{}, "aws-iso-e"},
		{"by a region of iso-f", alias.Location{Region: "us-isof-south-1"}, "", Env{}, "aws-iso-f"},
		{"by a new region", alias.Location{Region: "eu-south-9"}, "", Env{}, "aws"},
		{"by an unknown region", alias.Location{Region: "mars-north-1"}, "", Env{}, "aws"},
		{"by the region of an endpoint at AWS", alias.Location{Region: "eusc-de-east-1", Endpoint: "https://s3.eusc-de-east-1.amazonaws.eu"}, "", Env{}, "aws-eusc"},
		{"by a region of somebody else", alias.Location{Region: "cn-1", Endpoint: "https://s3.example.com"}, "", Env{}, "aws"},
		{"by the boundary", alias.Location{Region: "us-iso-east-1"}, "", Env{Boundary: "arn:aws-iso:iam::123456789012:policy/b"}, "aws-iso"},
		{"by the key", alias.Location{Region: "cn-north-1"}, cnKey, Env{}, "aws-cn"},
		{"by the user", alias.Location{Region: "us-isob-east-1"}, "", Env{User: alias.IAMUser{ARN: "arn:aws-iso-b:iam::123456789012:user/u"}}, "aws-iso-b"},
		{"by the boundary, with an endpoint", alias.Location{Region: "cn-1", Endpoint: "https://s3.example.com"}, "", Env{Boundary: "arn:aws-iso:iam::123456789012:policy/b"}, "aws-iso"},
		{"given", alias.Location{Region: "eusc-de-east-1"}, "", Env{Partition: "aws-eusc"}, "aws-eusc"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.loc.Bucket = "acme-media"
			plan, err := MakePlan(PlanRequest{Request: Request{Alias: "shop", Location: tt.loc, KMSKeyARN: tt.key}}, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			if want := `"arn:` + tt.want + `:s3:::acme-media/*"`; !strings.Contains(string(plan.Document), want) {
				t.Errorf("no %s in %s", want, plan.Document)
			}
		})
	}
}

// TestCheckPartition: a contradiction names both sides.
func TestCheckPartition(t *testing.T) {
	t.Parallel()
	const user, boundary = "arn:aws-us-gov:iam::123456789012:user/u", "arn:aws:iam::123456789012:policy/b"
	for _, tt := range []struct{ name, region, endpoint, user, boundary, want string }{
		{"nothing to compare", "eusc-de-east-1", "", "", "", ""},
		{"boundary", "eu-west-1", "", "", boundary, ""},
		{"user", "us-gov-west-1", "", user, "", ""},
		{"other boundary", "eusc-de-east-1", "", "", boundary, "region: must be in the partition of --iam-boundary, " + boundary + "; eusc-de-east-1 is in the partition aws-eusc"},
		{"other user", "us-isof-south-1", "", user, "", "region: must be in the partition of the user of the credential, " + user + "; us-isof-south-1 is in the partition aws-iso-f"},
		{"unknown region", "mars-north-1", "", user, "", "region: must be in the partition of the user of the credential, " + user + "; mars-north-1 is in the partition aws"},
		{"not AWS", "cn-north-1", "https://s3.example.com", user, boundary, ""},
	} {
		got := ""
		if err := CheckPartition(alias.Location{Region: tt.region, Endpoint: tt.endpoint}, tt.user, tt.boundary); err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// TestRegions compares the SDK's table with the AWS documentation of some regions.
func TestRegions(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]awsRegion{
		"us-east-1": {"aws", "amazonaws.com"}, "eu-west-1": {"aws", "amazonaws.com"}, "mx-central-1": {"aws", "amazonaws.com"},
		"cn-north-1": {"aws-cn", "amazonaws.com.cn"}, "us-gov-west-1": {"aws-us-gov", "amazonaws.com"},
		"eusc-de-east-1": {"aws-eusc", "amazonaws.eu"}, "us-iso-east-1": {"aws-iso", "c2s.ic.gov"},
		"us-isob-east-1": {"aws-iso-b", "sc2s.sgov.gov"}, "eu-isoe-west-1": {"aws-iso-e", "cloud.adc-e.uk"},
		"us-isof-south-1": {"aws-iso-f", "csp.hci.ic.gov"}, "mars-north-1": {"aws", "amazonaws.com"}, "auto": {"aws", "amazonaws.com"},
		"": {"aws", "amazonaws.com"},
	} {
		if got := lookUpRegion(region); got != want {
			t.Errorf("%s: got %+v, want %+v", region, got, want)
		}
	}
}

func TestOwnerOf(t *testing.T) {
	t.Parallel()
	const user = "arn:aws-cn:iam::123456789012:user/ixmage/home/u"
	for _, tt := range []struct{ name, owner, endpoint, arn, want string }{
		{"AWS", "", "", user, "123456789012"},
		{"AWS, another account", "999999999999", "", user, "999999999999"},
		{"AWS by an endpoint", "", "https://s3.dualstack.cn-north-1.amazonaws.com.cn", user, "123456789012"},
		{"AWS by an interface endpoint", "", "https://bucket.vpce-1a2b3c4d-5e6f.s3.us-east-1.vpce.amazonaws.com", user, "123456789012"},
		{"not AWS", "", "https://s3.example.com", user, ""},
		{"not AWS, named", "999999999999", "https://s3.example.com", user, "999999999999"},
		{"a user that is not known", "", "", "", ""},
	} {
		at := alias.Location{Bucket: "media", Region: "cn-north-1", BucketOwner: tt.owner, Endpoint: tt.endpoint}
		if got := OwnerOf(at, tt.arn); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestPlanRefuses(t *testing.T) {
	t.Parallel()
	wide := request()
	wide.Policy = alias.PolicyReadOnly
	if _, err := MakePlan(PlanRequest{Request: wide}, Env{}); !errors.Is(err, alias.ErrForbidden) || !strings.Contains(err.Error(), "--allow-wide-scope") {
		t.Errorf("read-only-access without --allow-wide-scope: %v", err)
	}
	reuse := Request{Alias: "shop", Location: request().Location, Credential: "media"}
	if _, err := MakePlan(PlanRequest{Request: reuse}, Env{Mode: alias.PolicyReadOnly}); !errors.Is(err, alias.ErrForbidden) {
		t.Errorf("a credential with read-only-access without --allow-wide-scope: %v", err)
	}
	var full []alias.Grant
	for i := range 100 {
		full = append(full, alias.Grant{Bucket: fmt.Sprint("bucket-", i)})
	}
	for _, tt := range []struct {
		name   string
		change func(*Request)
		env    Env
		field  string
	}{
		{"a problem", func(r *Request) { r.RotateEvery = time.Second }, Env{}, "rotate_every"},
		{"a location that is none", func(r *Request) { r.Prefix, r.Inside = "a*/", "" }, Env{}, "prefix"},
		{"no room", func(r *Request) { r.Credential, r.Tags = "media", nil }, Env{Existing: full}, "policy"},
		{"an eleventh managed policy", func(r *Request) {
			r.Credential, r.Tags, r.Policy = "media", nil, alias.PolicyManaged
		}, Env{Existing: full[:10]}, "policy"},
		{"another policy than the credential's", func(r *Request) {
			r.Credential, r.Tags, r.Policy = "media", nil, alias.PolicyManaged
		}, Env{Mode: alias.PolicyInline}, "policy"},
		{"an account of another partition", func(*Request) {}, Env{Partition: "aws-cn"}, "region"},
		{"a key of another partition than the region", func(r *Request) {
			r.Region, r.KMSKeyARN = "eusc-de-east-1", "arn:aws:kms:eusc-de-east-1:123456789012:key/1234abcd"
		}, Env{}, "kms_key_arn"},
		{"a key of another partition, same region", func(r *Request) { r.KMSKeyARN = strings.Replace(euKey, "arn:aws:", "arn:aws-cn:", 1) }, Env{}, "kms_key_arn"},
		{"a boundary of another partition", func(r *Request) { r.Region = "us-iso-east-1" }, Env{Boundary: "arn:aws:iam::123456789012:policy/b"}, "region"},
		{"a user of another partition", func(r *Request) {
			r.Credential, r.Tags, r.Region = "media", nil, "cn-north-1"
		}, Env{User: alias.IAMUser{ARN: "arn:aws-us-gov:iam::123456789012:user/u"}}, "region"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := request()
			tt.change(&req)
			err := Prepare(&req, alias.Policy{})
			if err == nil {
				var plan *Plan
				if plan, err = MakePlan(PlanRequest{Request: req}, tt.env); plan != nil {
					t.Error("there is a plan")
				}
			}
			wantProblem(t, nil, err, tt.field)
		})
	}
}

func TestCheckAttached(t *testing.T) {
	t.Parallel()
	var grants []alias.Grant
	for i := range 10 {
		grants = append(grants, alias.Grant{Bucket: fmt.Sprint("bucket-", i)})
	}
	more := append(slices.Clone(grants), alias.Grant{Bucket: "bucket-10"})
	same := append(slices.Clone(grants), grants[0])
	for _, tt := range []struct {
		name   string
		mode   alias.PolicyMode
		grants []alias.Grant
		ok     bool
	}{
		{"ten", alias.PolicyManaged, grants, true},
		{"eleven", alias.PolicyManaged, more, false},
		{"ten, one for two aliases", alias.PolicyManaged, same, true},
		{"eleven inline", alias.PolicyInline, more, true},
		{"eleven with read-only-access", alias.PolicyReadOnly, more, true},
	} {
		if err := CheckAttached(tt.mode, tt.grants); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestPlanChoosesNames(t *testing.T) {
	t.Parallel()
	req := request()
	first, err := MakePlan(PlanRequest{Request: req}, Env{InstallID: "home"})
	if err != nil {
		t.Fatal(err)
	}
	if name := first.User.Name; len(name) != len("ixmage-s3read-shop-x7k2") || !strings.HasPrefix(name, "ixmage-s3read-shop-") {
		t.Errorf("chose %q", name)
	}
	req.UserName = "mine"
	second, err := MakePlan(PlanRequest{Request: req}, Env{InstallID: "home"})
	if err != nil || second.User.Name != "mine" {
		t.Errorf("%v, %v", second, err)
	}
}
