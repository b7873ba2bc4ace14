package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/iam"
)

// items are what is not known of AWS (the reviews of IAM and STS list it), and the checks
// that try it.
var items = map[string]string{
	"AssumeRole on a missing role, with the right":           "assume-missing-role",
	"AssumeRole on a missing role, without":                  "assume-missing-role-no-right",
	"GetAccessKeyLastUsed on a key seconds old, scoped":      "last-used-new-key",
	"CreateUser with a boundary, PutUserPermissionsBoundary": "create-user-boundary",
	"CreatePolicy with tags, TagPolicy":                      "create-policy-tags",
	"how long a session of a deleted key reads":              "session-outlives-key",
	"time until a new key works, STS":                        "new-key-sts",
	"time until a new key works, S3":                         "new-key-s3",
	"time until a dead key stops":                            "inactive-key",
	"time until a deleted key stops":                         "deleted-key",
	"LastUsed lag":                                           "last-used-lag",
	"reads from Google":                                      "google-reads",
	"GuardDuty":                                              "guardduty",
	"revoke sessions in the console":                         "revoked-sessions",
	"Bedrock keys are service-specific credentials":          "service-credentials",
	"R2 and bucket_owner":                                    "r2-bucket-owner",
	"MinIO's IAM":                                            "minio-iam",
	"Spaces and B2":                                          "spaces-b2-reads",
	"Wasabi":                                                 "wasabi-iam",
	"session policy enforced":                                "session-policy",
	"PackedPolicySize at the longest prefix":                 "packed-size",
	"time until a new role is assumable":                     "new-role",
	"time until a new trust counts":                          "new-trust",
	"chained cap and its message":                            "chained-duration",
	"DurationSeconds above the maximum":                      "duration-above-role",
	"wrong external id":                                      "external-id-wrong",
	"source identity without the right":                      "source-identity-no-right",
	"ExpiredToken of S3":                                     "expired-s3",
	"InvalidToken of S3":                                     "token-malformed",
	"clocks of STS":                                          "sts-clock",
	"S3 names the session policy":                            "session-policy-named",
	"RegionDisabled":                                         "region-disabled",
	"the program with a user":                                "program-user",
	"the program with a role":                                "program-role",
}

// TestRun runs all checks in a fake account. Its report has a row for every item, nothing is
// left, and no secret is anywhere.
func TestRun(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{LastUsedValueLag: 200 * time.Millisecond, SessionLife: shortSessions})
	got := f.run(accountID)
	if got.code != exitGood {
		t.Errorf("exit status %d:\n%s\n%s", got.code, got.out, got.md)
	}
	for item, name := range items {
		if x := got.row(t, name); x.Verdict == failed || x.Verdict == differs {
			t.Errorf("%s: %+v", item, x)
		}
		if !strings.Contains(got.md, "| `"+name+"`: ") {
			t.Errorf("%s is not in the Markdown report", name)
		}
	}
	for name, answer := range map[string]string{
		"assume-missing-role": "AccessDenied", "create-policy-tags": "AccessDenied names iam:TagPolicy", "create-user-boundary": "allowed",
		"session-outlives-key": "reads", "expired-s3": "ExpiredToken", "session-policy-named": "session", "program-user": complete,
		"program-role": complete,
	} {
		if x := got.row(t, name); x.Got != answer {
			t.Errorf("%s: %+v, want %s", name, x, answer)
		}
	}
	for _, says := range []string{accountID, ":user/" + callerName, "us-east-1", "USD", "(not AWS)"} {
		if !strings.Contains(got.out, says) {
			t.Errorf("%q was not told:\n%s", says, got.out)
		}
	}
	if !strings.Contains(got.md, "this says nothing of AWS") {
		t.Error("the report does not say that the server was not AWS")
	}
	f.nothingLeft()
	f.noSecrets(&got)
}

// noSecrets looks for the secrets of the account in all that was printed and written.
func (f *fake) noSecrets(got *ended) {
	f.t.Helper()
	secrets := []string{f.caller.SecretAccessKey.Reveal()}
	for _, x := range f.Sessions("") {
		secrets = append(secrets, x.Token)
	}
	secrets = append(secrets, f.made()...)
	if len(secrets) < 20 {
		f.t.Errorf("only %d secrets", len(secrets))
	}
	texts := map[string]string{"the output": got.out}
	paths, _ := filepath.Glob(filepath.Join(f.dir, "*"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			f.t.Error(err)
		}
		texts[path] = string(text)
	}
	for where, text := range texts {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				f.t.Errorf("a secret is in %s", where)
			}
		}
	}
}
