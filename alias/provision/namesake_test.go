package provision

import (
	"errors"
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// namesake is a process with an alias made by hand that has the name of one which
// was provisioned and removed, and lies elsewhere.
func (w *env) namesake() *process {
	w.t.Helper()
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(w.t.Context(), actor, "shop", 0))
	w.iam.CreateBucket("other")
	w.iam.PutObject("other", "x/a.png", s3.Object{Body: []byte("x"), ContentType: "image/png"})
	a := &alias.Alias{
		Name: "shop", Enabled: true, Canary: "a.png", Location: alias.Location{
			Bucket: "other", Prefix: "x/", Region: "us-east-1", Endpoint: w.iam.S3URL, PathStyle: true,
		},
	}
	if _, err := p.registry.CreateAlias(w.t.Context(), a, alias.CredentialRef{KeyPair: &w.iam.Root}); err != nil {
		w.t.Fatal(err)
	}
	return p
}

// TestVerifyNamesake: an alias is verified on its own location, not on that which a
// request for its name was about.
func TestVerifyNamesake(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	v, err := w.namesake().Verify(t.Context(), actor, "shop", policy.Probe{})
	if err != nil {
		t.Fatal(err)
	}
	read := false
	for _, c := range v.Checks {
		read = read || c.Name == "read-inside" && !c.Failed && c.Verdict == alias.VerdictProven
	}
	if !read {
		t.Errorf("checks: %+v", v.Checks)
	}
}

// TestProvisionNamesake: the request by which an alias was made is not answered with
// its operation once the name is another alias's.
func TestProvisionNamesake(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	op, err := w.namesake().Provision(t.Context(), actor, w.request("shop"))
	if !errors.Is(err, alias.ErrExists) {
		t.Errorf("got %+v, %v, want %v", op, err, alias.ErrExists)
	}
}
