package plancheck

import (
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
)

const (
	key       = "arn:aws:kms:eu-west-1:999988887777:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	principal = "arn:aws:iam::123456789012:role/ixmage-server"
	boundary  = "arn:aws:iam::123456789012:policy/ixmage/ixmage-boundary"
)

// planned is a plan and what it was made from.
type planned struct {
	*policy.Plan
	req policy.PlanRequest
}

func (p planned) file(t *testing.T, name string) string {
	t.Helper()
	for _, f := range p.Files {
		if f.Name == name {
			return f.Content
		}
	}
	t.Fatalf("there is no file %s", name)
	return ""
}

func makePlan(t *testing.T, req policy.PlanRequest, env policy.Env) planned {
	t.Helper()
	if err := policy.PreparePlan(&req, alias.Policy{}); err != nil {
		t.Fatal(err)
	}
	p, err := policy.MakePlan(req, env)
	if err != nil {
		t.Fatal(err)
	}
	return planned{p, req}
}

// plans are plans in a format.
func plans(t *testing.T, format policy.Format) map[string]planned {
	t.Helper()
	made := map[string]planned{}
	add := func(name string, env policy.Env, change func(*policy.PlanRequest)) {
		for _, kind := range []policy.Kind{policy.KindUser, policy.KindRole} {
			req := policy.PlanRequest{Kind: kind, Format: format, Request: policy.Request{
				Alias:    "shop",
				Location: alias.Location{Bucket: "acme-media", Prefix: "website-images/", Region: "eu-west-1"},
				Tags:     map[string]string{"team": "web"},
			}}
			change(&req)
			env.InstallID, env.Suffix, env.AllowWideScope = "home", "x7k2", true
			made[name+"-"+string(kind)] = makePlan(t, req, env)
		}
	}
	add("plain", policy.Env{}, func(*policy.PlanRequest) {})
	add("managed", policy.Env{}, func(r *policy.PlanRequest) { r.Policy = alias.PolicyManaged })
	add("read-only", policy.Env{}, func(r *policy.PlanRequest) { r.Policy = alias.PolicyReadOnly })
	add("trusted", policy.Env{}, func(r *policy.PlanRequest) {
		if r.Kind == policy.KindRole {
			r.Role.Trust = policy.Trust{Principal: principal, ExternalID: "acme/1:x", SourceIdentity: true}
		}
	})
	add("cross", policy.Env{Boundary: boundary}, func(r *policy.PlanRequest) { r.BucketOwner, r.KMSKeyARN = "999988887777", key })
	add("cross-unknown", policy.Env{}, func(r *policy.PlanRequest) { r.BucketOwner, r.KMSKeyARN = "999988887777", key })
	add("gov", policy.Env{}, func(r *policy.PlanRequest) { r.Region = "us-gov-west-1" })
	add("nasty", policy.Env{}, func(r *policy.PlanRequest) {
		r.Prefix = `it's "a" %{if} #{z} ü<&>/p/`
		r.Tags = map[string]string{"Équipe": "été=1", "a.b": "c d", "@": ""}
	})
	return made
}

// same fails the test unless two documents mean the same.
func same(t *testing.T, what, got string, want []byte) {
	t.Helper()
	if !policy.Same([]byte(got), want) {
		t.Errorf("%s:\n got %s\nwant %s", what, got, want)
	}
}
