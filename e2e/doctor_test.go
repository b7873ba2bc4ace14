package e2e

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// TestDoctor runs the command against servers that are well, have weaknesses, and do not work.
func TestDoctor(t *testing.T) {
	t.Parallel()
	const account = "arn:aws:iam::123456789012:"
	filled := strings.NewReplacer("PARTITION", "aws", "BOUNDARY", account+"policy/ixmage-boundary", "ACCOUNT", "123456789012",
		"INSTALL", "test", "BUCKETS", "prov-*", "TAGS", "team", "ADOPT", "by-hand*", "GIVEN", "given*")
	f := iam.New(t, iam.Config{})
	f.CreateBucket("prov-media")
	f.PutObject("prov-media", "a.png", s3.Object{Body: bytesOf(2_000, "a"), ContentType: "image/png"})
	f.AddPolicy("/", "ixmage-boundary", filled.Replace(string(readFile(t, "../docs/boundary-policy.json"))))
	f.AddRole(iam.Role{Name: "server", Trust: iam.Trust("", account+"root"), Inline: map[string]string{
		"provisioner": filled.Replace(string(readFile(t, "../docs/provisioner-policy.json"))),
		"doctor":      `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":["iam:SimulatePrincipalPolicy","iam:GetPolicy*"],"Resource":"*"}}`,
	}})
	keys, err := f.NewRoleSession("server", "i-0123", time.Hour).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	asRole := append([]string{
		"AWS_ACCESS_KEY_ID=" + keys.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + keys.SecretAccessKey, "AWS_SESSION_TOKEN=" + keys.SessionToken,
	}, awsAlone...)
	user := f.AddUser("/", "by-hand", "")
	asUser := append([]string{
		"AWS_ACCESS_KEY_ID=" + user.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + user.SecretAccessKey.Reveal(),
	}, awsAlone...)
	args := []string{"--iam-endpoint", f.URL, "--install-id", "test", "--provision-buckets", "prov-*"}
	provisions := append([]string{"--provision", "--iam-boundary", account + "policy/ixmage-boundary"}, args...)
	alias := func(name, bucket string) map[string]any {
		return map[string]any{"name": name, "bucket": bucket, "region": "us-east-1", "endpoint": f.S3URL, "path_style": true, "credential": nil}
	}
	for _, tt := range []struct {
		name      string
		env, args []string
		bucket    string
		code      int
		state     string
		says      []string
	}{
		{"good", asRole, provisions, "prov-media", 0, "good", []string{"GOOD\n", "rights-too-broad", "good: "}},
		{"warnings", asUser, args, "prov-media", 1, "warning", []string{"WARNING\n", "long-term-key", user.AccessKeyID, "To do: give the server a role"}},
		{"bad", asRole, provisions, "prov-gone", 2, "bad", []string{"BAD\n", "prov-gone in us-east-1", "To do: correct bucket"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := startWith(t, tt.env, append([]string{"--master-key", "file:" + filepath.Join(t.TempDir(), "elsewhere.keyset")}, tt.args...)...)
			s.create(alias("shop", tt.bucket))
			got := s.runClient(nil, "doctor")
			if got.code != tt.code || got.stderr != "" {
				t.Errorf("exit status %d, want %d: %s%s", got.code, tt.code, got.stdout, got.stderr)
			}
			wantAll(t, "the output", got.stdout, tt.says...)
			asJSON := s.runClient(nil, "doctor", "--json")
			var report struct {
				State    string
				Findings []struct{ Name, State string }
			}
			if err := json.Unmarshal([]byte(asJSON.stdout), &report); err != nil || report.State != tt.state || len(report.Findings) < 8 {
				t.Errorf("%v: %s", err, asJSON.stdout)
			}
			if asJSON.code != tt.code {
				t.Errorf("exit status %d with --json", asJSON.code)
			}
			for _, secret := range []string{keys.SecretAccessKey, keys.SessionToken, user.SecretAccessKey.Reveal(), s.token} {
				if strings.Contains(got.stdout+asJSON.stdout+s.output(), secret) {
					t.Error("a secret is printed")
				}
			}
			if y := s.runClient(nil, "doctor", "-o", "yaml"); !strings.HasPrefix(y.stdout, "state: "+tt.state) {
				t.Errorf("yaml: %s", y.stdout)
			}
			if wrong := s.runClient([]string{"IXMAGE_ADMIN_TOKEN=wrong"}, "doctor"); wrong.code != 3 {
				t.Errorf("exit status %d with a wrong token", wrong.code)
			}
			if away := s.runClient(nil, "doctor", "--admin-url", "http://"+freeAddr(t)); away.code != 6 {
				t.Errorf("exit status %d without a server", away.code)
			}
			if extra := s.runClient(nil, "doctor", "shop"); extra.code != 2 {
				t.Errorf("exit status %d with an argument", extra.code)
			}
		})
	}
}
