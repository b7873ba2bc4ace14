package scope

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// TestDenyVerdict has every check meet every answer. The rows name the codes that
// betray a right; refusals are proof for all, and whatever is left proves
// nothing.
func TestDenyVerdict(t *testing.T) {
	t.Parallel()
	betrayed := map[string]string{
		NameReadOutside:  "200 NoSuchKey InvalidRange InvalidObjectState",
		NameReadSibling:  "200 NoSuchKey InvalidRange InvalidObjectState",
		NameWrite:        "200 NoSuchKey NoSuchUpload PreconditionFailed ConditionalRequestConflict",
		NameDelete:       "200 NoSuchKey NoSuchVersion PreconditionFailed ConditionalRequestConflict",
		NameList:         "200",
		NameListInside:   "200",
		NameListBuckets:  "200",
		NameACL:          "200 NoSuchKey",
		NameTagging:      "200 NoSuchKey NoSuchTagSet",
		NameVersion:      "200 NoSuchKey NoSuchVersion InvalidRange InvalidObjectState",
		NameBucketPolicy: "200 NoSuchBucketPolicy MethodNotAllowed",
		NameIAMSelf:      "200 NoSuchEntity",
		NameIAMKeys:      "200 NoSuchEntity",
		NameIAMCreateKey: "200 NoSuchEntity LimitExceeded",
		NameIAMOwnRights: "200 NoSuchEntity",
		NameAssumeRole:   "200 NoSuchEntity",
		NameFederation:   "200 PackedPolicyTooLarge",
	}
	if got, want := slices.Sorted(maps.Keys(betrayed)), slices.Sorted(maps.Keys(rules)); !slices.Equal(got, want) {
		t.Fatalf("rows for %v, rules for %v", got, want)
	}
	refusals := "AccessDenied AccessDeniedException UnauthorizedOperation 403"
	others := "404 301 400 PermanentRedirect NoSuchBucket InvalidAccessKeyId SignatureDoesNotMatch InvalidClientTokenId " +
		"ExpiredToken RequestTimeTooSkewed NotImplemented InvalidAction MethodNotAllowed AllAccessDisabled ValidationError " +
		"InvalidArgument KMS.DisabledException SlowDown Throttling 500 501 503 InternalError timeout network canceled"
	answers := strings.Fields(refusals + " " + others)
	for _, row := range betrayed {
		answers = append(answers, strings.Fields(row)...)
	}
	for check, row := range betrayed {
		for _, code := range answers {
			want := alias.VerdictNotProven
			switch {
			case slices.Contains(strings.Fields(refusals), code):
				want = alias.VerdictProven
			case slices.Contains(strings.Fields(row), code):
				want = alias.VerdictViolated
			}
			if got := denyVerdict(check, awserr.Reply{Code: code, Status: 403}); got != want {
				t.Errorf("%s, %s: got %s, want %s", check, code, got, want)
			}
		}
	}
	if got := denyVerdict(NameList, awserr.Reply{Code: "403", Status: 200}); got != alias.VerdictNotProven {
		t.Errorf("a code 403 that is no status: got %s", got)
	}
}

func TestReadVerdict(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		given bool
		reply awserr.Reply
		want  alias.Verdict
		fails bool
	}{
		{"read", true, awserr.Reply{Code: "200"}, alias.VerdictProven, false},
		{"empty object", true, awserr.Reply{Code: "InvalidRange", Status: 416}, alias.VerdictProven, false},
		{"archived", true, awserr.Reply{Code: "InvalidObjectState", Status: 403}, alias.VerdictWeak, false},
		{"refused", true, awserr.Reply{Code: "AccessDenied", Status: 403}, alias.VerdictNotProven, true},
		{"refused without a code", true, awserr.Reply{Code: "403", Status: 403}, alias.VerdictNotProven, true},
		{"refused to list: the object given does not exist", true, awserr.Reply{Code: "AccessDenied", Status: 403, Action: "s3:ListBucket"}, alias.VerdictNotProven, true},
		{"KMS", true, awserr.Reply{Code: "KMS.DisabledException", Status: 400}, alias.VerdictNotProven, true},
		{"no such object", true, awserr.Reply{Code: "NoSuchKey", Status: 404}, alias.VerdictNotProven, true},
		{"no such bucket", true, awserr.Reply{Code: "NoSuchBucket", Status: 404}, alias.VerdictNotProven, true},
		{"another region", true, awserr.Reply{Code: "PermanentRedirect", Status: 301}, alias.VerdictNotProven, true},
		{"unknown key", true, awserr.Reply{Code: "InvalidAccessKeyId", Status: 403}, alias.VerdictNotProven, false},
		{"wrong secret", true, awserr.Reply{Code: "SignatureDoesNotMatch", Status: 403}, alias.VerdictNotProven, false},
		{"slow", true, awserr.Reply{Code: "timeout"}, alias.VerdictNotProven, false},
		{"busy", true, awserr.Reply{Code: "SlowDown", Status: 503}, alias.VerdictNotProven, false},
		{"failing", true, awserr.Reply{Code: "500", Status: 500}, alias.VerdictNotProven, false},

		{"random: there after all", false, awserr.Reply{Code: "200"}, alias.VerdictWeak, false},
		{"random: told to be missing", false, awserr.Reply{Code: "NoSuchKey", Status: 404}, alias.VerdictWeak, false},
		{"random: refused", false, awserr.Reply{Code: "AccessDenied", Status: 403}, alias.VerdictWeak, false},
		{"random: refused to list", false, awserr.Reply{Code: "AccessDenied", Status: 403, Action: "s3:ListBucket"}, alias.VerdictWeak, false},
		{"random: refused to read", false, awserr.Reply{Code: "AccessDenied", Status: 403, Action: "s3:GetObject"}, alias.VerdictNotProven, true},
		{"random: refused to decrypt", false, awserr.Reply{Code: "AccessDenied", Status: 403, Action: "kms:Decrypt"}, alias.VerdictNotProven, true},
		{"random: no such bucket", false, awserr.Reply{Code: "NoSuchBucket", Status: 404}, alias.VerdictNotProven, true},
		{"random: unknown key", false, awserr.Reply{Code: "InvalidAccessKeyId", Status: 403}, alias.VerdictNotProven, false},
	} {
		got, fails := readVerdict(tt.given, tt.reply)
		if got != tt.want || fails != tt.fails {
			t.Errorf("%s: got %s, failed %t, want %s, failed %t", tt.name, got, fails, tt.want, tt.fails)
		}
	}
}

func TestUserVerdicts(t *testing.T) {
	t.Parallel()
	const ours, other = "arn:aws:iam::1:user/ours", "arn:aws:iam::1:user/other"
	type outcome struct {
		verdict alias.Verdict
		failed  bool
	}
	identity := func(code, want, got string) outcome {
		v, failed := identityVerdict(awserr.Reply{Code: code}, want, got)
		return outcome{v, failed}
	}
	for _, tt := range []struct {
		name      string
		got, want outcome
	}{
		{"our user", identity("200", ours, ours), outcome{alias.VerdictProven, false}},
		{"another user", identity("200", ours, other), outcome{alias.VerdictViolated, true}},
		{"any user of a pasted key", identity("200", "", other), outcome{alias.VerdictProven, false}},
		{"STS refuses", identity("AccessDenied", ours, ""), outcome{alias.VerdictNotProven, false}},
		{"STS is not there", identity("", ours, ""), outcome{alias.VerdictNotProven, false}},
		{"STS is slow", identity("timeout", ours, ""), outcome{alias.VerdictNotProven, false}},
		{"password", outcome{verdict: passwordVerdict("200")}, outcome{verdict: alias.VerdictViolated}},
		{"no password", outcome{verdict: passwordVerdict("NoSuchEntity")}, outcome{verdict: alias.VerdictProven}},
		{"password not to be seen", outcome{verdict: passwordVerdict("AccessDenied")}, outcome{verdict: alias.VerdictNotProven}},
		{"password not implemented", outcome{verdict: passwordVerdict("InvalidAction")}, outcome{verdict: alias.VerdictNotProven}},
		{"password while throttled", outcome{verdict: passwordVerdict("Throttling")}, outcome{verdict: alias.VerdictNotProven}},
		{"only key", outcome{verdict: otherKeysVerdict("200", 0)}, outcome{verdict: alias.VerdictProven}},
		{"second key", outcome{verdict: otherKeysVerdict("200", 1)}, outcome{verdict: alias.VerdictWeak}},
		{"keys not to be seen", outcome{verdict: otherKeysVerdict("AccessDenied", 0)}, outcome{verdict: alias.VerdictNotProven}},
		{"keys not implemented", outcome{verdict: otherKeysVerdict("InvalidAction", 0)}, outcome{verdict: alias.VerdictNotProven}},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, tt.got, tt.want)
		}
	}
}

func TestConclusive(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]bool{
		"200": true, "AccessDenied": true, "403": true, "NoSuchKey": true, "NotImplemented": true, "501": true, "InvalidAction": true,
		"": true, "arn:aws:iam::1:user/u": true, "404": true,
		"InvalidAccessKeyId": false, "InvalidClientTokenId": false, "SignatureDoesNotMatch": false,
		"timeout": false, "network": false, "canceled": false,
		"SlowDown": false, "Throttling": false, "ThrottlingException": false, "ThrottledException": false,
		"TooManyRequestsException": false, "RequestThrottled": false, "429": false,
		"500": false, "503": false, "InternalError": false, "ServiceFailure": false,
	} {
		checks := []alias.Check{{Got: "200"}, {Got: code, Positive: true}, {Got: "AccessDenied"}}
		if got := Conclusive(checks); got != want {
			t.Errorf("%s: got %t, want %t", code, got, want)
		}
	}
	if !Conclusive(nil) {
		t.Error("no checks are not conclusive")
	}
}
