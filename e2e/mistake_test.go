package e2e

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// mistake is a mistake in a request to provision, with what the operation says.
type mistake struct {
	name  string
	edit  func(map[string]any)
	code  string
	words string
	made  bool // a user is made before the mistake shows, and is removed
}

// mistakes are in requests for pictures in us-east-1.
func mistakes() []mistake {
	return []mistake{
		{"typo in the bucket", func(b map[string]any) { b["bucket"] = "prov-typo" }, "bucket-missing", "prov-typo bucket", false},
		{"another region", func(b map[string]any) { b["region"] = "eu-west-1" }, "wrong-region", "us-east-1 eu-west-1 region", false},
		{"no S3 server", func(b map[string]any) { b["endpoint"] = "http://127.0.0.1:1" }, "s3-unreachable", "endpoint 127.0.0.1:1", false},
		{"typo in probe.inside", func(b map[string]any) { b["probe"] = map[string]any{"inside": "web/typo.png"} }, "object-missing", "web/typo.png probe.inside", true},
	}
}

// wantMistake provisions with a mistake at the default waits, and returns what IAM was asked for,
// as the audit has it.
func (s *server) wantMistake(m mistake, body map[string]any) (asked []string) {
	s.t.Helper()
	body["alias"] = strings.NewReplacer(" ", "-", ".", "-").Replace(strings.ToLower(m.name))
	m.edit(body)
	op := s.operate(http.MethodPost, "/api/v1/provision", body)
	if op.State != "failed" || op.Error == nil || op.Error.Code != m.code {
		s.t.Errorf("%s: %s, %+v, want %s", m.name, op.State, op.Error, m.code)
		return nil
	}
	for _, word := range append(strings.Fields(m.words), body["bucket"].(string)) {
		if !strings.Contains(op.Error.Detail, word) {
			s.t.Errorf("%s: the detail does not say %q: %s", m.name, word, op.Error.Detail)
		}
	}
	if r := s.api(http.MethodGet, "/api/v1/operations/"+op.ID, nil); !strings.Contains(string(r.body), m.code) {
		s.t.Errorf("%s: GET of the operation: %s", m.name, r.body)
	}
	var audit struct {
		Audit []struct{ Action, Operation string }
	}
	if err := json.Unmarshal(s.api(http.MethodGet, "/api/v1/audit", nil).body, &audit); err != nil {
		s.t.Fatal(err)
	}
	for _, entry := range audit.Audit {
		if entry.Operation == op.ID {
			asked = append(asked, entry.Action)
		}
	}
	return asked
}

// TestMistakes makes the common mistakes at the real server, and with the flags as they are. Each
// operation fails before it makes a user, or removes it.
func TestMistakes(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g)
	for _, m := range mistakes() {
		asked := s.wantMistake(m, provisionBody(g, "", bucket))
		for _, action := range []string{"iam:CreateUser", "iam:DeleteUser"} {
			if got := slices.Contains(asked, action); got != m.made {
				t.Errorf("%s: %s %t, want %t: %v", m.name, action, got, m.made, asked)
			}
		}
	}
}

// TestMistakesAtAWS makes them at a server that answers as AWS does.
func TestMistakesAtAWS(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	f.CreateBucket("prov-media")
	f.PutObject("prov-media", "web/a.png", s3.Object{Body: bytesOf(2000, "a"), ContentType: "image/png"})
	f.CreateBucket("prov-encrypted")
	f.PutObject("prov-encrypted", "web/a.png", s3.Object{Body: bytesOf(2000, "a"), ContentType: "image/png"})
	const key = "arn:aws:kms:us-east-1:123456789012:key/1234abcd-12ab-34cd"
	f.Encrypt("prov-encrypted", key)
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), "--provision", "--iam-endpoint", f.URL, "--provision-buckets", "prov-*", "--",
		f.Root.AccessKeyID, f.Root.SecretAccessKey.Reveal())
	encrypted := mistake{"encrypted", func(b map[string]any) { b["bucket"] = "prov-encrypted" }, "kms-denied", "kms_key_arn " + key, true}
	for _, m := range append(mistakes(), encrypted) {
		before := len(f.Calls())
		s.wantMistake(m, map[string]any{
			"bucket": "prov-media", "prefix": "web/", "region": "us-east-1", "endpoint": f.S3URL, "path_style": true,
			"probe": map[string]any{"inside": "web/a.png"},
		})
		made := slices.ContainsFunc(f.Calls()[before:], func(c iam.Call) bool { return c.Action == "CreateUser" })
		if made != m.made || len(f.Users()) > 0 {
			t.Errorf("%s: a user was made %t, want %t; users left: %v", m.name, made, m.made, f.Users())
		}
	}
}
