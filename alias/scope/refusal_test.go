package scope

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// TestReasons: a refusal proves something only for a reason that is the key's own, or the
// boundary that ixmage set.
func TestReasons(t *testing.T) {
	t.Parallel()
	const proven, weak = alias.VerdictProven, alias.VerdictWeak
	for _, tt := range []struct {
		name, reason string
		boundary     bool // ours
		aws, other   alias.Verdict
		detail       string
	}{
		{"identity", becauseIdentity, false, proven, proven, "cannot"},
		{"identity, denied", byIdentity, false, proven, proven, "cannot"},
		{"identity, named", byIdentity + ": arn:aws:iam::1:policy/p", false, proven, proven, "cannot"},
		{"our boundary", becauseBoundary, true, proven, proven, "cannot"},
		{"a boundary of others", becauseBoundary, false, weak, weak, "boundary that ixmage did not set"},
		{"SCP", bySCP, true, weak, weak, "service control policy"},
		{"RCP", byRCP, true, weak, weak, "resource control policy"},
		{"VPC endpoint", becauseEndpoint, true, weak, weak, "VPC endpoint"},
		{"VPC endpoint, denied", byEndpoint, true, weak, weak, "VPC endpoint"},
		{"resource", byResource, true, weak, weak, "policy of the resource"},
		{"session", bySession, true, weak, weak, "session policy"},
		{"a kind that is new", "with an explicit deny in a weather policy", true, weak, weak, "another kind"},
		{"none", "", true, weak, proven, "did not say"},
	} {
		for server, want := range map[string]alias.Verdict{"AWS": tt.aws, "another server": tt.other} {
			t.Run(tt.name+" of "+server, func(t *testing.T) {
				t.Parallel()
				answers := goodAnswers()
				answers["GetObject missing"] = "404 NoSuchKey" // so that refusals are sure
				s := newStub(t, answers)
				s.reason = tt.reason
				key, where := s.key(t), shop()
				where.Mode = alias.PolicyInline
				if tt.boundary {
					where.User.Boundary = "arn:aws:iam::1:policy/b"
				}
				if server != "AWS" {
					key.CustomIAM, where.Location.Endpoint = true, s.URL
				}
				checks, _ := Check(t.Context(), key, where)
				if len(checks) < 16 {
					t.Fatalf("only %d checks", len(checks))
				}
				for _, c := range checks {
					switch {
					case c.Positive:
					case c.Verdict != want:
						t.Errorf("%s is %s, want %s", c.Name, c.Verdict, want)
					case want == weak && !strings.Contains(c.Detail, tt.detail) || strings.Contains(c.Detail, "arn:"):
						t.Errorf("%s: detail %q, want %q in it", c.Name, c.Detail, tt.detail)
					}
				}
			})
		}
	}
}

// TestMethodNotAllowed: S3 says so to a key of another account with the right to read the
// bucket's policy. Another server has no such call.
func TestMethodNotAllowed(t *testing.T) {
	t.Parallel()
	for _, custom := range []bool{false, true} {
		answers := goodAnswers()
		answers["GetBucketPolicy"] = "405 MethodNotAllowed"
		s := newStub(t, answers)
		where, want := shop(), "violated MethodNotAllowed"
		if custom {
			where.Location.Endpoint, want = s.URL, "not-tried not-implemented"
		}
		if got := verdicts(Check(t.Context(), s.key(t), where))[NameBucketPolicy]; got != want {
			t.Errorf("custom %t: %s, want %s", custom, got, want)
		}
	}
}

// TestDelete: the delete check finds the right to delete, and leaves no delete marker.
func TestDelete(t *testing.T) {
	t.Parallel()
	read := allow("s3:GetObject", "arn:aws:s3:::media/shop/*")
	conditional := document(`{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"arn:aws:s3:::media/*","Condition":{"Null":{"s3:if-match":"true"}}}`)
	for _, tt := range []struct {
		name, statement, bucket string
		want                    string
	}{
		{"may not", "", "", "proven AccessDenied"},
		{"may", allow("s3:DeleteObject", "arn:aws:s3:::media/*"), "", "violated"},
		{"may list too", allow("s3:DeleteObject,s3:ListBucket", "*"), "", "violated NoSuchKey"},
		{"may do all", allow("s3:*", "*"), "", "violated NoSuchKey"},
		{"may on a condition only", allow("s3:DeleteObject", "arn:aws:s3:::media/*"), conditional, "violated"},
		{"may elsewhere", allow("s3:DeleteObject", "arn:aws:s3:::other/*"), "", "proven AccessDenied"},
	} {
		for _, hides := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", missing objects are hidden ", hides), func(t *testing.T) {
				t.Parallel()
				f := iam.New(t, iam.Config{DeleteHidesMissing: hides})
				f.PutObject("media", "shop/a.txt", s3.Object{Body: []byte("x")})
				f.PutObject("media", "private/b.txt", s3.Object{Body: []byte("x")})
				f.SetVersioning("media")
				f.SetBucketPolicy("media", tt.bucket)
				statements := []string{read}
				if tt.statement != "" {
					statements = append(statements, tt.statement)
				}
				key := keyOf(f, f.AddUser("/", "u", document(statements...)))
				for range 2 {
					if got := verdicts(Check(t.Context(), key, shop()))[NameDelete]; !strings.HasPrefix(got, tt.want) {
						t.Errorf("%s, want %s", got, tt.want)
					}
				}
				if got := f.DeleteMarkers("media"); len(got) != 0 {
					t.Errorf("delete markers of %v", got)
				}
				if got := f.Versions("media"); len(got) != 2 {
					t.Errorf("versions: %v", got)
				}
			})
		}
	}
}

// TestLeftovers: what a server makes that ignores If-Match is deleted by its version, so that
// nothing is left of it; where that is refused, the check says so.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	const note = "delete it"
	for _, tt := range []struct {
		name, put, remove string
		removeVersion     string
		check             string
		versions, plain   int // deletes
		left              bool
	}{
		{"no versions", "200", "204", "", NameWrite, 0, 2, false},
		{"a version", "200 v1", "204", "204", NameWrite, 1, 1, false},
		{"a version that stays", "200 v1", "403 AccessDenied", "403 AccessDenied", NameWrite, 1, 1, true},
		{"a delete marker", "403 AccessDenied", "204 m1 true", "204", NameDelete, 1, 1, false},
		{"a delete marker that stays", "403 AccessDenied", "204 m1 true", "403 AccessDenied", NameDelete, 1, 1, true},
		{"a version that was not named", "200", "204 m1 true", "204", NameWrite, 2, 2, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			answers := goodAnswers()
			answers["UploadPart"], answers["PutObject"] = "501 NotImplemented", tt.put
			answers["DeleteObject"], answers["DeleteObject version"] = tt.remove, tt.removeVersion
			s := newStub(t, answers)
			checks, _ := Check(t.Context(), s.key(t), shop())
			i := slices.IndexFunc(checks, func(c alias.Check) bool { return c.Name == tt.check })
			if c := checks[i]; c.Verdict != alias.VerdictViolated || strings.Contains(c.Detail, note) != tt.left {
				t.Errorf("%s: %s, %q", c.Name, c.Verdict, c.Detail)
			}
			if s.count("DeleteObject version") != tt.versions || s.count("DeleteObject") != tt.plain {
				t.Errorf("%d deletes of a version and %d others, want %d and %d",
					s.count("DeleteObject version"), s.count("DeleteObject"), tt.versions, tt.plain)
			}
		})
	}
}

// TestMark: every call of a check carries the mark of its context.
func TestMark(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	f.PutObject("media", "shop/a.txt", s3.Object{Body: []byte("x")})
	key := keyOf(f, f.AddUser("/", "u", document(allow("*", "*"))))
	where := shop()
	where.Location.Endpoint, key.CustomIAM = f.S3URL, true // AssumeRole too
	Check(WithMark(t.Context(), "verify-1"), key, where)
	services := map[string]int{}
	for _, c := range f.Calls() {
		services[c.Service]++
		if !strings.HasSuffix(c.UserAgent, " ixmage-probe/verify-1") {
			t.Errorf("%s %s: user agent %q", c.Service, c.Action, c.UserAgent)
		}
	}
	if services["s3"] < 12 || services["iam"] < 5 || services["sts"] < 3 {
		t.Errorf("calls: %v", services)
	}
}

// TestQuiet: where the control plane has shown the whole user, AWS gets no call of
// management that it denies. It says what it has shown, and what is left.
func TestQuiet(t *testing.T) {
	t.Parallel()
	seen := []alias.Check{
		{Name: NameIAMSelf, Verdict: alias.VerdictProven}, {Name: NameIAMOwnRights, Verdict: alias.VerdictViolated, Detail: "seen"},
		{Name: "policies", Verdict: alias.VerdictProven},
	}
	for _, tt := range []struct {
		name     string
		plane    *ControlPlane
		custom   bool
		most     int // denied calls of management
		notTried []string
	}{
		{"probes", nil, false, 12, []string{NameAssumeRole, UntriedOwnUser, UntriedActions, UntriedBuckets, UntriedServices, UntriedResources}},
		{"a part", &ControlPlane{Checks: seen}, false, 7, []string{
			NameAssumeRole, UntriedOwnUser, UntriedActions, UntriedBuckets, UntriedServices, UntriedResources,
		}},
		{"the whole user", &ControlPlane{Checks: seen, Whole: true}, false, 0, []string{
			NameListBuckets, NameBucketPolicy, NameIAMKeys, NameIAMCreateKey, NameAssumeRole, NameFederation, NamePassword, NameOtherKeys,
			UntriedResources,
		}},
		{"a call that the server lacks", &ControlPlane{Checks: seen, Absent: []string{NamePassword}}, true, 8, []string{
			NameAssumeRole, NamePassword, UntriedOwnUser, UntriedActions, UntriedBuckets, UntriedServices, UntriedResources,
		}},
		{"the whole user, at another server", &ControlPlane{Checks: seen, Whole: true}, true, 8, []string{NameAssumeRole, UntriedResources}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := iam.New(t, iam.Config{})
			f.PutObject("media", "shop/a.txt", s3.Object{Body: []byte("x")})
			key := keyOf(f, f.AddUser("/", "u", document(allow("s3:GetObject", "arn:aws:s3:::media/shop/*"))))
			where := shop()
			where.ControlPlane = tt.plane
			if tt.custom {
				where.Location.Endpoint, key.CustomIAM = f.S3URL, true
			}
			checks, notTried := Check(t.Context(), key, where)
			var denied []string
			for _, c := range f.Calls() {
				if c.Code == "AccessDenied" && (c.Service != "s3" || c.Action == "ListBuckets" || c.Action == "GetBucketPolicy") {
					denied = append(denied, c.Action)
				}
			}
			if len(denied) > tt.most || (len(denied) == 0) != (tt.most == 0) {
				t.Errorf("%d denied calls of management, want %d at most: %v", len(denied), tt.most, denied)
			}
			var names []string
			for _, n := range notTried {
				names = append(names, n.Name)
			}
			if !slices.Equal(names, tt.notTried) {
				t.Errorf("not tried: %v, want %v", names, tt.notTried)
			}
			if tt.plane == nil {
				return
			}
			for _, want := range seen {
				i := slices.IndexFunc(checks, func(c alias.Check) bool { return c.Name == want.Name })
				if i < 0 || checks[i].Verdict != want.Verdict || checks[i].Evidence != alias.EvidenceControlPlane {
					t.Errorf("%s: %+v", want.Name, checks)
				}
			}
		})
	}
}

// TestSTSDefault: STS of a region that the account has not enabled does not know the key; that
// of the default region does, and is asked the rest.
func TestSTSDefault(t *testing.T) {
	t.Parallel()
	answers := goodAnswers()
	maps.Copy(answers, map[string]string{
		"GetCallerIdentity": "403 InvalidClientTokenId", "GetFederationToken": "403 InvalidClientTokenId",
	})
	there, home := newStub(t, answers), newStub(t, goodAnswers())
	key := there.key(t)
	got := verdicts(Check(t.Context(), key, shop()))
	if got[NameIdentity] != "not-proven InvalidClientTokenId" || got[NameFederation] != "not-proven InvalidClientTokenId" {
		t.Errorf("without the default region: %v", got)
	}
	for _, c := range first(Check(t.Context(), key, shop())) {
		if c.Name == NameIdentity && !strings.Contains(c.Detail, "has not enabled this region") {
			t.Errorf("detail %q", c.Detail)
		}
	}
	key.STSDefault = home.key(t).STS
	got = verdicts(Check(t.Context(), key, shop()))
	if got[NameIdentity] != "proven "+stubARN || got[NameFederation] != "proven AccessDenied" {
		t.Errorf("with the default region: %v", got)
	}
	if home.count("GetCallerIdentity") != 1 || there.count("GetCallerIdentity") != 3 {
		t.Error("the default region is not asked once")
	}
}

// TestExpect: a pasted key that is meant to read every bucket is not called violated for it,
// and still is for anything beyond.
func TestExpect(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, statement string
		expect          alias.PolicyMode
		violated        []string
	}{
		{"as expected", "", alias.PolicyReadOnly, nil},
		{"nothing expected", "", "", []string{
			NameReadOutside, NameReadSibling, NameList, NameListInside, NameListBuckets, NameACL, NameTagging, NameBucketPolicy,
		}},
		{"writes too", allow("s3:PutObject", "*"), alias.PolicyReadOnly, []string{NameWrite}},
		{"reads IAM too", allow("iam:GetUser", "*"), alias.PolicyReadOnly, []string{NameIAMSelf}},
		{"no more than the alias needs", `{"Effect":"Deny","NotAction":"s3:GetObject","Resource":"*"}`, alias.PolicyReadOnly, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := iam.New(t, iam.Config{})
			f.PutObject("media", "shop/a.txt", s3.Object{Body: []byte("x")})
			f.PutObject("media", "private/b.txt", s3.Object{Body: []byte("x")})
			policy := ""
			if tt.statement != "" {
				policy = document(tt.statement)
			}
			kp := f.AddUser("/", "ixmage-s3read", policy)
			f.AttachPolicy("ixmage-s3read", f.ReadOnlyARN())
			where := shop()
			where.Expect = tt.expect
			checks, _ := Check(t.Context(), keyOf(f, kp), where)
			var violated []string
			for _, c := range checks {
				if c.Verdict == alias.VerdictViolated {
					violated = append(violated, c.Name)
				}
			}
			if !slices.Equal(violated, tt.violated) {
				t.Errorf("violated: %v, want %v", violated, tt.violated)
			}
		})
	}
}
