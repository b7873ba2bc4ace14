package scope

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awserr"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// TestMatrixStub is about answers that no real server here gives.
func TestMatrixStub(t *testing.T) {
	t.Parallel()
	const refused = "proven AccessDenied"
	for _, tt := range []struct {
		name    string
		answers map[string]string // beside those of a key that is just right
		target  func(*Target)
		want    map[string]string
		scope   alias.Verdict
	}{
		{
			name: "AWS that tells why", scope: alias.VerdictProven,
			want: map[string]string{NameReadSibling: refused},
		},
		{
			name:    "AWS that does not tell why",
			answers: map[string]string{"GetObject missing": "403 AccessDenied Access Denied", "GetObject sibling": "403 AccessDenied Access Denied"},
			want:    map[string]string{NameReadSibling: "weak AccessDenied", NameDelete: refused}, scope: alias.VerdictWeak,
		},
		{
			name:    "sibling refused because of listing",
			answers: map[string]string{"GetObject sibling": goodAnswers()["GetObject missing"]},
			want:    map[string]string{NameReadSibling: "weak AccessDenied"}, scope: alias.VerdictWeak,
		},
		{
			name: "no objects given", target: func(t *Target) { t.Inside, t.Outside = "", "" },
			want: map[string]string{
				NameReadInside: "weak AccessDenied", NameReadOutside: refused, NameReadSibling: refused,
			},
			scope: alias.VerdictWeak,
		},
		{
			name: "no objects given, refused to read", target: func(t *Target) { t.Inside, t.Outside = "", "" },
			answers: map[string]string{"GetObject missing": denied("s3:GetObject", becauseIdentity)},
			want:    blindRows("not-proven AccessDenied"), scope: alias.VerdictNotProven,
		},
		{
			name: "another user's key",
			target: func(t *Target) {
				t.Mode, t.User = alias.PolicyInline, alias.IAMUser{Name: "ours", ARN: "arn:aws:iam::1:user/ours"}
			},
			want:    map[string]string{NameIdentity: "violated " + stubARN + " failed"},
			answers: nil, scope: alias.VerdictViolated,
		},
		{
			name:    "refused a part, allowed to put under If-Match",
			answers: map[string]string{"PutObject": "412 PreconditionFailed"},
			want:    map[string]string{NameWrite: "violated PreconditionFailed"}, scope: alias.VerdictViolated,
		},
		{
			name:    "refused a part, told that the object is not there",
			answers: map[string]string{"PutObject": "404 NoSuchKey"},
			want:    map[string]string{NameWrite: "violated NoSuchKey"}, scope: alias.VerdictViolated,
		},
		{
			name:    "server that ignores If-Match",
			answers: map[string]string{"PutObject": "200", "UploadPart": "501 NotImplemented"},
			want:    map[string]string{NameWrite: "violated 200"}, scope: alias.VerdictViolated,
		},
		{
			name:    "no conditional writes",
			answers: map[string]string{"PutObject": "501 NotImplemented"},
			want:    map[string]string{NameWrite: refused}, scope: alias.VerdictProven, // the part was refused
		},
		{
			name:    "no writes that could be tried",
			answers: map[string]string{"UploadPart": "501 NotImplemented", "PutObject": "501 NotImplemented"},
			want:    map[string]string{NameWrite: "not-tried not-implemented"}, scope: alias.VerdictProven,
		},
		{
			name:    "no uploads in parts",
			answers: map[string]string{"UploadPart": "501 NotImplemented", "PutObject": "403 AccessDenied Access Denied"},
			want:    map[string]string{NameWrite: "weak AccessDenied"}, scope: alias.VerdictWeak,
		},
		{
			name:    "no uploads in parts, and a reason",
			answers: map[string]string{"UploadPart": "501 NotImplemented", "PutObject": denied("s3:PutObject", becauseIdentity)},
			scope:   alias.VerdictProven,
		},
		{
			name:    "old versions",
			answers: map[string]string{"GetObject inside": "200 v1", "GetObject version": "200"},
			want:    map[string]string{NameVersion: "violated 200"}, scope: alias.VerdictViolated,
		},
		{
			name:    "current versions only",
			answers: map[string]string{"GetObject inside": "200 v1"},
			want:    map[string]string{NameVersion: refused}, scope: alias.VerdictProven,
		},
		{
			name:    "versions suspended",
			answers: map[string]string{"GetObject inside": "200 null", "GetObject version": "200"},
			scope:   alias.VerdictProven,
		},
		{
			name: "a person's key", target: func(t *Target) { t.Mode = "" },
			answers: map[string]string{"GetLoginProfile": "200", "ListAccessKeys": "200"},
			want: map[string]string{
				NamePassword: "violated 200", NameIAMKeys: "violated 200", NameOtherKeys: "weak 200",
			},
			scope: alias.VerdictViolated,
		},
		{
			name: "a program's key", target: func(t *Target) { t.Mode = "" },
			answers: map[string]string{"GetLoginProfile": "404 NoSuchEntity"},
			want:    map[string]string{NamePassword: "proven NoSuchEntity"}, scope: alias.VerdictNotProven,
		},
		{
			name: "the user cannot be seen", target: func(t *Target) { t.Mode = "" }, scope: alias.VerdictNotProven,
		},
		{
			name:    "federates", // AWS is not asked for a role
			answers: map[string]string{"AssumeRole": "200", "GetFederationToken": "200"},
			want:    map[string]string{NameFederation: "violated 200"}, scope: alias.VerdictViolated,
		},
		{
			name: "read-only access", target: func(t *Target) { t.Mode = alias.PolicyReadOnly },
			answers: map[string]string{
				"ListObjectsV2": "200", "ListBuckets": "200", "GetObjectAcl": "200", "GetObjectTagging": "200",
				"GetBucketPolicy": "404 NoSuchBucketPolicy", "GetObject missing": "404 NoSuchKey",
			},
			want: map[string]string{
				NameList: "proven 200", NameListInside: "proven 200", NameListBuckets: "proven 200", NameACL: "proven 200",
				NameTagging: "proven 200", NameBucketPolicy: "proven NoSuchBucketPolicy", NameWrite: refused, NameDelete: refused,
			},
			scope: alias.VerdictProven,
		},
		{
			name: "read-only access that deletes", target: func(t *Target) { t.Mode = alias.PolicyReadOnly },
			answers: map[string]string{"DeleteObject": "200"},
			want:    map[string]string{NameDelete: "violated 200"}, scope: alias.VerdictViolated,
		},
		{
			name:    "flapping",
			answers: map[string]string{"DeleteObject": "403 InvalidAccessKeyId", "GetUser": "403 InvalidClientTokenId"},
			want:    map[string]string{NameDelete: "not-proven InvalidAccessKeyId", NameIAMSelf: "not-proven InvalidClientTokenId"},
			scope:   alias.VerdictNotProven,
		},
		{
			name:    "failing",
			answers: map[string]string{"DeleteObject": "503", "ListBuckets": "500 Weird", "GetUser": "400 Throttling"},
			want: map[string]string{
				NameDelete: "not-proven 503", NameListBuckets: "not-proven 500", NameIAMSelf: "not-proven Throttling",
			},
			scope: alias.VerdictNotProven,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answers := goodAnswers()
			maps.Copy(answers, tt.answers)
			where := shop()
			where.Mode = alias.PolicyInline
			if tt.target != nil {
				tt.target(&where)
			}
			s := newStub(t, answers)
			checks, notTried := Check(t.Context(), s.key(t), where)
			rows := map[string]string{
				"*": refused, NameIdentity: "proven " + stubARN, NameReadInside: "proven 200",
				NameAssumeRole: "not-tried proves-nothing",
			}
			if where.Mode == "" { // the user is looked at
				rows[NamePassword], rows[NameOtherKeys] = "not-proven AccessDenied", "not-proven AccessDenied"
			}
			maps.Copy(rows, tt.want)
			expect(t, checks, notTried, rows)
			if got := scopeOf(checks); got != tt.scope {
				t.Errorf("scope %s, want %s", got, tt.scope)
			}
			for _, c := range checks {
				if text := c.Got + c.Detail; strings.Contains(text, "authorized") || strings.Contains(text, "s3cr3t") {
					t.Errorf("%s has words of the server or a secret: %s", c.Name, text)
				}
			}
		})
	}
}

// blindRows are all checks of S3 of a key that cannot read.
func blindRows(outcome string) map[string]string {
	rows := map[string]string{NameReadInside: outcome + " failed"}
	for _, name := range []string{
		NameReadOutside, NameReadSibling, NameWrite, NameDelete, NameList, NameListInside,
		NameListBuckets, NameACL, NameTagging, NameBucketPolicy,
	} {
		rows[name] = outcome
	}
	return rows
}

func TestMatrixWrites(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		part, put    string
		remove       string
		puts         int
		detail, lack string
	}{
		{"right to write found by the part", "404 NoSuchUpload", "200", "200", 0, "nothing was written", "stays"},
		{"If-Match ignored, and deleted again", "501 NotImplemented", "200", "204", 1, "and deleted again", "nothing was written"},
		{"If-Match ignored, and not deleted", "501 NotImplemented", "200", "403 AccessDenied", 1, "not deleted: delete it", "nothing was written"},
		{"no right", "403 AccessDenied", denied("s3:PutObject", becauseIdentity), "403 AccessDenied", 1, "cannot write", "written and"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answers := goodAnswers()
			answers["UploadPart"], answers["PutObject"], answers["DeleteObject"] = tt.part, tt.put, tt.remove
			s := newStub(t, answers)
			for _, c := range first(Check(t.Context(), s.key(t), shop())) {
				if c.Name == NameWrite && (!strings.Contains(c.Detail, tt.detail) || strings.Contains(c.Detail, tt.lack)) {
					t.Errorf("detail %q, want %q in it and not %q", c.Detail, tt.detail, tt.lack)
				}
			}
			if got := s.count("PutObject"); got != tt.puts {
				t.Errorf("%d puts, want %d", got, tt.puts)
			}
		})
	}
}

// TestMatrixWhole is about what does not apply.
func TestMatrixWhole(t *testing.T) {
	t.Parallel()
	has := func(checks []alias.Check, name string) bool {
		return slices.ContainsFunc(checks, func(c alias.Check) bool { return c.Name == name })
	}
	s := newStub(t, goodAnswers())
	whole := shop()
	whole.Location.Prefix, whole.Grants = "", []alias.Grant{{Bucket: "media"}}
	checks, _ := Check(t.Context(), s.key(t), whole)
	for _, name := range []string{NameReadOutside, NameReadSibling, NameListInside} {
		if has(checks, name) {
			t.Errorf("%s was checked for a whole bucket", name)
		}
	}
	// A key that may read another alias's prefix too is not held to it.
	s = newStub(t, goodAnswers())
	both := shop()
	both.Grants = append(both.Grants, alias.Grant{Bucket: "media", Prefix: "private/"}, alias.Grant{Bucket: "media", Prefix: "shop-x/"})
	checks, notTried := Check(t.Context(), s.key(t), both)
	if has(checks, NameReadSibling) || !has(checks, NameReadOutside) || s.count("GetObject outside") != 1 {
		t.Errorf("two locations: %v, %d reads outside", verdicts(checks, notTried), s.count("GetObject outside"))
	}
	// The user is checked only if an operator made it.
	ours := shop()
	ours.Mode = alias.PolicyInline
	if checks, notTried = Check(t.Context(), s.key(t), ours); has(checks, NamePassword) || has(checks, NameOtherKeys) {
		t.Errorf("a user of ours was searched: %v", verdicts(checks, notTried))
	}
}

func TestMatrixWithoutIAM(t *testing.T) {
	t.Parallel()
	s := newStub(t, goodAnswers())
	p := s.key(t)
	p.IAM, p.STS = nil, nil
	rows := map[string]string{"*": "proven AccessDenied", NameReadInside: "proven 200"}
	for _, name := range []string{
		NameIdentity, NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NameIAMOwnRights, NameAssumeRole, NameFederation,
		NamePassword, NameOtherKeys,
	} {
		rows[name] = "not-tried not-configured"
	}
	checks, notTried := Check(t.Context(), p, shop())
	expect(t, checks, notTried, rows)
	if !Conclusive(checks) || blocks(checks) {
		t.Error("without IAM a key cannot be conclusive")
	}
}

func TestPositive(t *testing.T) {
	t.Parallel()
	s := newStub(t, goodAnswers())
	checks := CheckRead(t.Context(), s.key(t), shop())
	expect(t, checks, nil, map[string]string{NameIdentity: "proven " + stubARN, NameReadInside: "proven 200"})
	if got := s.asked(); !slices.Equal(got, []string{"GetCallerIdentity", "GetObject inside"}) {
		t.Errorf("asked %v", got)
	}
}

// TestMatrixSilent has servers that never answer: two testKey each, and no more.
func TestMatrixSilent(t *testing.T) {
	t.Parallel()
	s := newStub(t, nil)
	s.silent = true
	p := s.key(t)
	p.Timeout = 20 * time.Millisecond
	checks, notTried := Check(t.Context(), p, shop())
	rows := map[string]string{"*": "not-proven timeout", NameAssumeRole: "not-tried proves-nothing"}
	expect(t, checks, notTried, rows)
	if Conclusive(checks) || blocks(checks) {
		t.Errorf("conclusive %t, blocks %t", Conclusive(checks), blocks(checks))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.seen) > 3*maxSilent {
		t.Errorf("%d probes, want %d of each service", len(s.seen), maxSilent)
	}
}

func TestMatrixGone(t *testing.T) {
	t.Parallel()
	url := "http://" + netfault.Refused(t)
	p := testKey(t, url, url, alias.KeyPair{AccessKeyID: "AKIATESTTESTTESTTEST", SecretAccessKey: alias.NewSecret("s")})
	checks, notTried := Check(t.Context(), p, shop())
	expect(t, checks, notTried, map[string]string{"*": "not-proven network", NameAssumeRole: "not-tried proves-nothing"})
}

// TestPositiveFaulty is the scripted S3 with its faults.
func TestPositiveFaulty(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		fault      *s3.Fault
		want       string
		conclusive bool
	}{
		{"well", nil, "proven 200", true},
		{"refused", s3.Fail("AccessDenied"), "not-proven AccessDenied failed", true},
		{"unknown key", s3.Fail("InvalidAccessKeyId"), "not-proven InvalidAccessKeyId", false},
		{"slow down", s3.Fail("SlowDown"), "not-proven SlowDown", false},
		{"internal error", s3.Fail("InternalError"), "not-proven InternalError", false},
		{"502 of somebody else", &s3.Fault{Status: http.StatusBadGateway, Body: []byte("<html>")}, "not-proven 502", false},
		{"404 of somebody else", s3.HTML404(), "not-proven 404 failed", true},
		{"reset", s3.ResetAfter(s3.BeforeHeaders), "not-proven network", false},
		{"no body", s3.ResetAfter(0), "not-proven network", false},
		{"stalled", s3.StallAfter(s3.BeforeHeaders, nil), "not-proven timeout", false},
		{"stalled body", s3.StallAfter(0, nil), "not-proven timeout", false},
		{"whole object", &s3.Fault{Status: http.StatusOK}, "proven 200", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := s3.New(t)
			s.Put("media", "shop/a.txt", s3.Object{Body: []byte("some text")})
			s.Next("media", "shop/a.txt", tt.fault)
			p := testKey(t, s.URL, "", alias.KeyPair{AccessKeyID: "AKIATESTTESTTESTTEST", SecretAccessKey: alias.NewSecret("s")})
			if strings.HasPrefix(tt.name, "stalled") {
				p.Timeout = 50 * time.Millisecond
			}
			checks := CheckRead(t.Context(), p, shop())
			expect(t, checks, nil, map[string]string{NameReadInside: tt.want})
			if Conclusive(checks) != tt.conclusive {
				t.Errorf("conclusive %t, want %t", Conclusive(checks), tt.conclusive)
			}
			if err := s.Wait(t.Context(), func() bool { return s.OpenBodies() == 0 }); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReplyOf(t *testing.T) {
	t.Parallel()
	if got := awserr.ReplyOf(errors.New("no region")); got.Code != awserr.Network {
		t.Errorf("an error of the SDK itself: got %+v", got)
	}
	for message, want := range map[string]string{
		"User: arn:aws:iam::1:user/u is not authorized to perform: s3:ListBucket on resource: \"arn:aws:s3:::b\" because": "s3:ListBucket",
		"is not authorized to perform: s3:GetObject on resource: s3:ListBucket":                                           "s3:GetObject",
		"is not authorized to perform: <script> on":                                                                       "",
		"Access Denied": "",
		"":              "",
	} {
		if got := awserr.MissingAction(message); got != want {
			t.Errorf("%q: got %q, want %q", message, got, want)
		}
	}
}

func first(checks []alias.Check, _ []alias.NotTried) []alias.Check { return checks }
