package e2e

import (
	"encoding/json"
	"net/http"
	"testing"

	"ixmage/alias"
)

// TestVerifyPastedKey: at the real server too, a key that may give itself any right is violated by
// what IAM shows, though no probe finds it, and a key with what its alias needs is not.
func TestVerifyPastedKey(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	for name, row := range map[alias.Name]struct {
		more, want string
	}{
		"narrow": {"", "proven"},
		"self":   {`{"Effect":"Allow","Action":"iam:PutUserPolicy","Resource":"arn:aws:iam::*:user/${aws:username}"}`, "violated"},
		"wide":   {`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::*"}`, "violated"},
	} {
		user := unique(string(name))
		kp, err := g.ReadOnlyUser(t.Context(), user, bucket, "web/")
		if err == nil && row.more != "" {
			err = g.PutUserPolicy(t.Context(), user, "more", `{"Version":"2012-10-17","Statement":[`+row.more+`]}`)
		}
		if err != nil {
			t.Fatal(err)
		}
		made := s.api(http.MethodPost, "/api/v1/aliases", map[string]any{
			"name": name, "bucket": bucket, "prefix": "web/", "region": g.Region, "endpoint": g.S3URL, "path_style": true, "canary": "a.png",
			"credential": map[string]any{"access_key_id": kp.AccessKeyID, "secret_access_key": kp.SecretAccessKey.Reveal()},
		})
		if made.StatusCode != http.StatusCreated {
			t.Fatal(made.Status, string(made.body))
		}
		var answer struct {
			Scope  string
			Checks []struct{ Name, Verdict, Evidence, Detail string }
		}
		r := s.api(http.MethodPost, "/api/v1/aliases/"+string(name)+"/verify", nil)
		if err := json.Unmarshal(r.body, &answer); err != nil || r.StatusCode != http.StatusOK {
			t.Fatal(r.Status, err, string(r.body))
		}
		found := ""
		for _, c := range answer.Checks {
			if c.Name == "policies" && c.Evidence == "control-plane" {
				found = c.Verdict
			}
		}
		if found != row.want || (answer.Scope == "violated") != (row.want == "violated") {
			t.Errorf("%s: policies %q, scope %s, want %s: %+v", name, found, answer.Scope, row.want, answer.Checks)
		}
	}
}
