package e2e

import (
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"ixmage/alias"
)

// verification is the answer to a verify.
type verification struct {
	Scope  string `json:"scope"`
	Checks []struct {
		Name     string `json:"name"`
		Got      string `json:"got"`
		Verdict  string `json:"verdict"`
		Evidence string `json:"evidence"`
	} `json:"checks"`
	NotTried []struct {
		Name string `json:"name"`
		Why  string `json:"why"`
	} `json:"not_tried"`
}

func (s *server) verify(name, body string) (v verification, verdicts map[string]string) {
	s.t.Helper()
	r := s.api(http.MethodPost, "/api/v1/aliases/"+name+"/verify", body)
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("verify: %s: %s", r.Status, r.body)
	}
	if err := json.Unmarshal(r.body, &v); err != nil {
		s.t.Fatal(err)
	}
	verdicts = map[string]string{}
	for _, c := range v.Checks {
		verdicts[c.Name] = c.Verdict
		if c.Evidence != "probe" && c.Evidence != "control-plane" {
			s.t.Errorf("%s has the evidence %q", c.Name, c.Evidence)
		}
	}
	if len(v.NotTried) == 0 {
		s.t.Error("everything was tried")
	}
	for _, n := range v.NotTried {
		if _, also := verdicts[n.Name]; also || n.Name == "" || n.Why == "" {
			s.t.Errorf("not tried: %+v, and its check is %q", n, verdicts[n.Name])
		}
	}
	return v, verdicts
}

// TestVerifyPasted verifies a pasted key that may read and list every bucket, before and
// after an operator says that it is meant to.
func TestVerifyPasted(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket, user := media(t, g), unique("reader")
	kp, err := g.ReadOnlyUser(t.Context(), user, bucket, "web/")
	if err != nil {
		t.Fatal(err)
	}
	const wide = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*","s3:List*"],"Resource":"*"}]}`
	if err := g.PutUserPolicy(t.Context(), user, "wide", wide); err != nil {
		t.Fatal(err)
	}
	s := startProvisioning(t, g)
	r := s.api(http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": "shop", "bucket": bucket, "prefix": "web/", "region": g.Region, "endpoint": g.S3URL, "path_style": true,
		"credential": map[string]any{"access_key_id": kp.AccessKeyID, "secret_access_key": kp.SecretAccessKey.Reveal()},
	})
	if r.StatusCode != http.StatusCreated {
		t.Fatalf("register: %s: %s", r.Status, r.body)
	}
	const probe = `{"probe":{"inside":"web/a.png","outside":"private/p.png"}}`
	beyond := []string{"read-outside", "list", "list-inside", "list-buckets", "tagging", "bucket-policy"}
	without, verdicts := s.verify("shop", "")
	if without.Scope != "violated" || verdicts["read-inside"] != "weak" || verdicts["read-outside"] != "violated" {
		t.Errorf("without keys to try: %+v", without)
	}
	before, verdicts := s.verify("shop", probe)
	for _, name := range beyond {
		if verdicts[name] != "violated" {
			t.Errorf("%s is %q before", name, verdicts[name])
		}
	}
	if before.Scope != "violated" || verdicts["read-inside"] != "proven" || verdicts["write"] != "proven" || verdicts["delete"] != "proven" {
		t.Errorf("before: %+v", before)
	}
	r = s.api(http.MethodPatch, "/api/v1/credentials/shop", `{"expect":"read-only-access"}`)
	if r.StatusCode != http.StatusOK {
		t.Fatalf("expect: %s: %s", r.Status, r.body)
	}
	after, verdicts := s.verify("shop", probe)
	for name, verdict := range verdicts {
		if verdict == "violated" || slices.Contains(beyond[1:], name) && verdict != "proven" {
			t.Errorf("%s is %q after", name, verdict)
		}
	}
	// It refuses the key before it says that it has no passwords.
	if password, checked := verdicts["console-password"]; checked {
		t.Errorf("console-password is %q after", password)
	}
	if after.Scope != string(alias.VerdictProven) {
		t.Errorf("after: %+v", after)
	}
	for _, body := range []string{
		`{"probe":{"inside":"private/p.png"}}`, `{"probe":{"outside":"web/a.png"}}`, `{"probe":{"inside":"web/../a.png"}}`,
		`{"probe":{"above":"a.png"}}`, `{"keys":{}}`, `{"probe":null}`,
	} {
		if r := s.api(http.MethodPost, "/api/v1/aliases/shop/verify", body); r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s: %s", body, r.Status, r.body)
		}
	}
}
