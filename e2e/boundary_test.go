package e2e

import (
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// TestNoBoundary: a server that takes AWS for its IAM and has no boundary serves pictures
// and says no to whatever would give a user rights or a key. It has no AWS credentials here,
// so nothing can be sent to AWS.
func TestNoBoundary(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	f.CreateBucket("prov-media")
	for _, key := range []string{"web/a.png", "private/p.png"} {
		f.PutObject("prov-media", key, s3.Object{Body: bytesOf(20_000, key), ContentType: "image/png"})
	}
	body := func(name string) map[string]any {
		return map[string]any{
			"alias": name, "bucket": "prov-media", "prefix": "web/", "region": "us-east-1", "endpoint": f.S3URL, "path_style": true,
			"probe": map[string]any{"inside": "web/a.png", "outside": "private/p.png"},
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	s := startProvisioningIn(t, data, slices.Concat([]string{"--provision", "--iam-endpoint", f.URL, "--provision-buckets", "prov-*"},
		quickWaits, []string{"--", f.Root.AccessKeyID, f.Root.SecretAccessKey.Reveal()})...)
	s.operateWell(http.MethodPost, "/api/v1/provision", body("shop"))
	s.stop()

	onAWS := []string{"--provision", "--provision-buckets", "prov-*", "--adopt-users", "by-hand", "--", "", ""}
	s = startProvisioningIn(t, data, onAWS...)
	wantAll(t, "the log", s.output(), "level=WARN", "--iam-boundary")
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("picture: %s", r.Status)
	}
	adopt, reuse := body("blog"), body("blog")
	adopt["adopt"], reuse["credential"] = "by-hand", "shop"
	for _, c := range []struct {
		path string
		body any
	}{
		{"/api/v1/provision", body("blog")},
		{"/api/v1/provision", adopt},
		{"/api/v1/provision", reuse},
		{"/api/v1/credentials/shop/rotate", nil},
		{"/api/v1/credentials/shop/rotate", map[string]any{"emergency": false}},
	} {
		r := s.api(http.MethodPost, c.path, c.body)
		wantProblem(t, r, http.StatusConflict, "no-boundary")
		wantAll(t, "the problem", string(r.body), "--iam-boundary", "--iam-no-boundary", "administrator")
	}
	if r := s.api(http.MethodPost, "/api/v1/provision/plan", body("blog")); r.StatusCode != http.StatusOK {
		t.Errorf("plan: %s", r.Status)
	}
	s.adminCall(http.MethodPost, "/api/v1/credentials", map[string]any{
		"name": "pasted", "access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": strings.Repeat("s", 40),
	}, http.StatusCreated)
	wantProblem(t, s.api(http.MethodPost, "/api/v1/credentials/pasted/rotate", nil), http.StatusConflict, "not-provisioned")
	if r := s.api(http.MethodPost, "/api/v1/credentials/shop/rotate", map[string]any{"emergency": true}); r.StatusCode != http.StatusAccepted {
		t.Errorf("emergency: %s: %s", r.Status, r.body)
	}
	s.stop()

	s = startProvisioningIn(t, data, append([]string{"--iam-no-boundary"}, onAWS...)...)
	if r := s.api(http.MethodPost, "/api/v1/provision", body("blog")); r.StatusCode != http.StatusAccepted {
		t.Errorf("provision with --iam-no-boundary: %s: %s", r.Status, r.body)
	}
}

// TestProvisionNotAllowed: tags and users that the configuration does not name are 403 with
// the flag, before a call of IAM.
func TestProvisionNotAllowed(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), "--provision", "--iam-endpoint", f.URL, "--provision-buckets", "prov-*",
		"--provision-tags", "cost,Team", "--adopt-users", "ixmage-*", "--", f.Root.AccessKeyID, f.Root.SecretAccessKey.Reveal())
	for _, c := range []struct{ more, says, flag string }{
		{`,"tags":{"Team":"x","team2":"web"}`, `\"team2\"`, "--provision-tags"},
		{`,"tags":{"team":"web"}`, `\"team\"`, "--provision-tags"},
		{`,"adopt":"admin"`, "admin", "--adopt-users"},
	} {
		r := s.api(http.MethodPost, "/api/v1/provision",
			`{"alias":"shop","bucket":"prov-media","endpoint":"`+f.S3URL+`","path_style":true`+c.more+`}`)
		wantProblem(t, r, http.StatusForbidden, "not-allowed")
		wantAll(t, "the problem", string(r.body), c.says, c.flag)
	}
	for _, call := range f.Calls() {
		if call.Service == "iam" && call.Action != "ListUsers" {
			t.Errorf("called %s", call.Action)
		}
	}
}
