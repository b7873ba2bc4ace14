package provision

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
	"ixmage/internal/awstest/iam"
)

const (
	testKey  = "arn:aws:kms:us-east-1:" + testAccount + ":key/1234abcd-12ab-34cd"
	otherKey = "arn:aws:kms:us-east-1:" + testAccount + ":key/9876fedc-12ab-34cd"
)

// TestReadError: which answers to a new key end a verification, with which code and words.
func TestReadError(t *testing.T) {
	t.Parallel()
	refused := func(action string, reason awserr.Reason) scope.Refusal {
		return scope.Refusal{Reply: awserr.Reply{Code: "AccessDenied", Status: 403, Action: action, Reason: reason}, Given: true}
	}
	coded := func(code string, status int) scope.Refusal {
		return scope.Refusal{Reply: awserr.Reply{Code: code, Status: status}, Given: true, Fault: awserr.FaultOf(code, "")}
	}
	edit := func(r scope.Refusal, fn func(*scope.Refusal)) scope.Refusal { fn(&r); return r }
	named := func(key string) func(*scope.Refusal) { return func(r *scope.Refusal) { r.KMSKey = key } }
	in := func(region string) func(*scope.Refusal) { return func(r *scope.Refusal) { r.Region = region } }
	random := func(r *scope.Refusal) { r.Given = false }
	decrypt := func(reason awserr.Reason) scope.Refusal { return edit(refused(actionDecrypt, reason), named(testKey)) }
	with := func(keys ...string) scope.Target {
		target := scope.Target{
			Location: alias.Location{Bucket: "media", Prefix: "web/", Region: "us-east-1", BucketOwner: testAccount},
			Mode:     alias.PolicyInline, User: alias.IAMUser{Name: "reader", Boundary: testBoundary},
		}
		for _, key := range keys {
			target.Grants = append(target.Grants, alias.Grant{Bucket: "media", Prefix: "web/", KMSKeyARN: key})
		}
		return target
	}
	readOnly := with("")
	readOnly.Mode = alias.PolicyReadOnly
	for _, tt := range []struct {
		name   string
		target scope.Target
		answer scope.Refusal
		soon   string // code before the time is over; empty: wait
		late   string // code then; empty: as soon
		words  string
	}{
		{"works now", with(""), coded("200", 0), "", "", ""},
		{"key not known yet", with(""), coded("InvalidAccessKeyId", 403), "", "", ""},
		{"secret not known yet", with(""), coded("SignatureDoesNotMatch", 403), "", "", ""},
		{"no answer", with(""), coded("timeout", 0), "", "", ""},
		{"busy", with(""), coded("SlowDown", 503), "", "", ""},
		{"skewed clock", with(""), coded("RequestTimeTooSkewed", 403), "", "", ""},
		{"policy not known yet", with(""), refused(actionRead, awserr.ReasonIdentity), "", codeReadDenied, "exists bucket_owner " + testBoundary},
		{"no reason", with(""), refused("", awserr.ReasonNone), "", codeReadDenied, "exists policy organization"},
		{"403 alone", with(""), coded("403", 403), "", codeReadDenied, "exists"},

		{"no such bucket", with(""), coded("NoSuchBucket", 404), codeBucketMissing, "", "media"},
		{"no bucket of that name", with(""), coded("InvalidBucketName", 400), codeBucketMissing, "", "media name"},
		{"moved", with(""), coded("PermanentRedirect", 301), codeWrongRegion, "", "us-east-1"},
		{"moved to a region", with(""), edit(coded("PermanentRedirect", 301), in("eu-west-1")), codeWrongRegion, "", "eu-west-1"},
		{"malformed", with(""), edit(coded("AuthorizationHeaderMalformed", 400), in("eu-west-1")), codeWrongRegion, "", "eu-west-1"},
		{"malformed for this region", with(""), edit(coded("AuthorizationHeaderMalformed", 400), in("us-east-1")), codeWrongRegion, "", "region"},
		{"another location", with(""), coded("IllegalLocationConstraintException", 400), codeWrongRegion, "", "region"},

		{"no such object", with(""), coded("NoSuchKey", 404), codeObjectMissing, "", "probe.inside media"},
		{"no such object, hidden", with(""), refused("s3:ListBucket", awserr.ReasonIdentity), codeObjectMissing, "", "probe.inside"},
		{"no such object, hidden by the boundary", with(""), refused("s3:ListBucket", awserr.ReasonBoundary), codeObjectMissing, "", "probe.inside"},
		{"a random object is missing", with(""), edit(coded("NoSuchKey", 404), random), "", "", ""},

		{"boundary", with(""), refused(actionRead, awserr.ReasonBoundary), codeReadDenied, "", testBoundary + " forbids"},
		{"scp", with(""), refused(actionRead, awserr.ReasonSCP), codeReadDenied, "", "service control policy organization"},
		{"rcp", with(""), refused(actionRead, awserr.ReasonRCP), codeReadDenied, "", "resource control policy organization"},
		{"endpoint", with(""), refused(actionRead, awserr.ReasonVPCEndpoint), codeReadDenied, "", "VPC endpoint"},
		{"bucket policy", with(""), refused(actionRead, awserr.ReasonResource), codeReadDenied, "", "policy of the bucket"},
		{"explicit deny", with(""), refused(actionRead, awserr.ReasonIdentityDeny), codeReadDenied, "", "explicit deny reader"},
		{"session", with(""), refused(actionRead, awserr.ReasonSession), codeReadDenied, "", "session policy"},
		{"another kind", with(""), refused(actionRead, awserr.ReasonOther), codeReadDenied, "", "CloudTrail"},
		{"endpoint, random object", with(""), edit(refused(actionRead, awserr.ReasonVPCEndpoint), random), codeReadDenied, "", "VPC endpoint"},

		{"kms not asked for", with(""), decrypt(awserr.ReasonIdentity), codeKMSDenied, "", "kms_key_arn " + testKey + " " + testBoundary},
		{"kms not named", with(""), refused(actionDecrypt, awserr.ReasonNone), codeKMSDenied, "", "kms_key_arn ARN"},
		{"kms with another key", with(otherKey), decrypt(awserr.ReasonIdentity), codeKMSDenied, "", testKey + " " + otherKey},
		{"kms policy not known yet", with(testKey), decrypt(awserr.ReasonIdentity), "", codeKMSDenied, "policy of the KMS key"},
		{"kms of another grant not known yet", with(otherKey, testKey), decrypt(awserr.ReasonIdentity), "", codeKMSDenied, testKey},
		{"kms boundary", with(testKey), decrypt(awserr.ReasonBoundary), codeKMSDenied, "", testBoundary + " kms:Decrypt"},
		{"kms key policy", with(testKey), decrypt(awserr.ReasonResource), codeKMSDenied, "", "policy of the KMS key"},
		{"kms scp", with(testKey), decrypt(awserr.ReasonSCP), codeKMSDenied, "", "service control policy"},
		{"kms read-only-access", readOnly, decrypt(awserr.ReasonIdentity), codeKMSDenied, "", "read-only-access inline kms_key_arn"},
		{"kms key disabled", with(""), coded("KMS.DisabledException", 400), codeKMSKey, "", "KMS.DisabledException"},
		{"customer key", with(""), edit(coded("InvalidRequest", 400), func(r *scope.Refusal) { r.Fault = awserr.CustomerKey }), codeReadDenied, "", "SSE-C"},
		{"requester pays", with(""), edit(refused("", ""), func(r *scope.Refusal) { r.Fault = awserr.RequesterPays }), codeReadDenied, "", "requester"},
		{"account closed", with(""), coded("AllAccessDisabled", 403), codeReadDenied, "", "account"},
		{"unknown code", with(""), coded("Teapot", 418), "", "", ""},
	} {
		for _, late := range []bool{false, true} {
			want := tt.soon
			if late && tt.late != "" {
				want = tt.late
			}
			err := readError(tt.target, tt.answer, late)
			got, detail := "", ""
			if err != nil {
				why := operationError("verify", err)
				got, detail = why.Code, why.Detail
			}
			if got != want {
				t.Errorf("%s, late %t: %q (%s), want %q", tt.name, late, got, detail, want)
			}
			for word := range strings.FieldsSeq(tt.words) {
				if want != "" && !strings.Contains(detail, word) {
					t.Errorf("%s: the detail does not say %q: %s", tt.name, word, detail)
				}
			}
		}
	}
}

// TestMistakes makes the common mistakes that only the new key shows. The operation ends soon,
// says what to do, and leaves nothing in IAM.
func TestMistakes(t *testing.T) {
	t.Parallel()
	const (
		all       = `{"Effect":"Allow","Action":"*","Resource":"*"}`
		toAll     = `{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`
		denyRead  = `{"Effect":"Deny","Action":"s3:GetObject","Resource":"*"}`
		refuse    = `{"Effect":"Deny","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + testBucket + `/*"}`
		readAll   = `{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}`
		elsewhere = `{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::other/*"}`
	)
	document := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	bounded := func(statements ...string) func(*env) {
		return func(w *env) {
			arn := w.iam.AddPolicy("/", "ixmage-boundary", document(statements...))
			w.edit = func(c *Config) { c.Boundary = arn }
		}
	}
	nothing := func(*env) {}
	encrypted := func(w *env) { w.iam.Encrypt(testBucket, testKey) }
	for _, row := range []struct {
		name  string
		cfg   iam.Config
		setUp func(*env)
		edit  func(*policy.Request)
		code  string
		words string
	}{
		{"typo in probe.inside", iam.Config{}, nothing, func(r *policy.Request) { r.Inside = "web/typo.png" }, codeObjectMissing, "web/typo.png " + testBucket + " probe.inside"},
		{"typo, may list", iam.Config{}, nothing, func(r *policy.Request) { r.Inside, r.Policy = "web/typo.png", alias.PolicyReadOnly }, codeObjectMissing, "web/typo.png"},
		{"encrypted", iam.Config{}, encrypted, nil, codeKMSDenied, "kms_key_arn " + testKey},
		{"encrypted with another key", iam.Config{}, encrypted, func(r *policy.Request) { r.KMSKeyARN = otherKey }, codeKMSDenied, testKey + " " + otherKey},
		{"encrypted, read-only-access", iam.Config{}, encrypted, func(r *policy.Request) { r.Policy = alias.PolicyReadOnly }, codeKMSDenied, "inline " + testKey},
		{"encrypted, boundary", iam.Config{}, func(w *env) { encrypted(w); bounded(readAll)(w) }, func(r *policy.Request) { r.KMSKeyARN = testKey }, codeKMSDenied, "ixmage-boundary kms:Decrypt"},
		{"boundary for another bucket", iam.Config{}, bounded(elsewhere), nil, codeReadDenied, "ixmage-boundary s3:GetObject"},
		{"scp", iam.Config{}, func(w *env) { w.iam.SetServiceControlPolicy(document(all, denyRead)) }, nil, codeReadDenied, "service control policy organization"},
		{"scp, with its ARN", iam.Config{PolicyARNs: true}, func(w *env) { w.iam.SetServiceControlPolicy(document(all, denyRead)) }, nil, codeReadDenied, "service control policy"},
		{"rcp", iam.Config{}, func(w *env) { w.iam.SetResourceControlPolicy(document(refuse)) }, nil, codeReadDenied, "resource control policy"},
		{"endpoint", iam.Config{}, func(w *env) { w.iam.SetEndpointPolicy("s3", document(toAll, refuse)) }, nil, codeReadDenied, "VPC endpoint"},
		{"bucket policy", iam.Config{}, func(w *env) { w.iam.SetBucketPolicy(testBucket, document(refuse)) }, nil, codeReadDenied, "policy of the bucket"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, row.cfg)
			row.setUp(w)
			p := w.start()
			edit := row.edit
			if edit == nil {
				edit = func(*policy.Request) {}
			}
			policies := len(w.iam.Policies())
			wantStory(t, p.do(p.Provision(t.Context(), actor, w.request("shop", edit))), row.code, strings.Fields(row.words)...)
			if users := w.iam.Users(); len(users) > 0 || len(w.iam.Policies()) != policies {
				t.Errorf("left in IAM: %+v, %+v", users, w.iam.Policies())
			}
		})
	}
}

// TestMistakeWithoutReason: where S3 does not say why it refuses, the operation waits as long
// as a policy may need, and then says what may be wrong.
func TestMistakeWithoutReason(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{Terse: true})
	p := w.start()
	op := p.do(p.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.Inside = "web/typo.png" })))
	wantCode(t, op.Error, codeReadDenied)
	if took := op.FinishedAt.Sub(op.CreatedAt); took < awsTiming().VerifyBudget {
		t.Errorf("failed after %s, which a slow policy may need", took)
	}
	if !strings.Contains(op.Error.Detail, "exists") || len(w.iam.Users()) > 0 {
		t.Errorf("%s; users left: %+v", op.Error.Detail, w.iam.Users())
	}
}

// TestWrongAnswerToKey: an S3 server that does not tell its region or its buckets without a
// signature tells a key.
func TestWrongAnswerToKey(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, code, message, region string
		status                      int
		want, words                 string
	}{
		{"redirect", "PermanentRedirect", "use another endpoint", "eu-west-1", 301, codeWrongRegion, "eu-west-1"},
		{"malformed", "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-west-1'", "", 400, codeWrongRegion, "eu-west-1"},
		{"constraint", "IllegalLocationConstraintException", "incompatible for the region", "", 400, codeWrongRegion, "region"},
		{"no bucket", "NoSuchBucket", "does not exist", "", 404, codeBucketMissing, testBucket},
		{"no name", "InvalidBucketName", "is not valid", "", 400, codeBucketMissing, testBucket},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			url := w.frontS3(func(rw http.ResponseWriter, r *http.Request) bool {
				switch {
				case r.Header.Get("Authorization") == "":
					rw.WriteHeader(http.StatusMethodNotAllowed)
				case r.Method == http.MethodGet:
					rw.Header().Set("x-amz-bucket-region", row.region)
					rw.WriteHeader(row.status)
					fmt.Fprintf(rw, "<Error><Code>%s</Code><Message>%s</Message></Error>", row.code, row.message)
				default:
					return false
				}
				return true
			})
			p := w.start()
			op := p.do(p.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.Endpoint = url })))
			wantStory(t, op, row.want, strings.Fields(row.words)...)
			if !slices.Contains(w.made(), "CreateUser") || len(w.iam.Users()) > 0 {
				t.Errorf("calls %v, users left: %+v", w.made(), w.iam.Users())
			}
		})
	}
}

// TestSlowPolicyIsNoMistake: what the propagation of a key and its policy looks like ends
// nothing.
func TestSlowPolicyIsNoMistake(t *testing.T) {
	t.Parallel()
	for _, cfg := range []iam.Config{{Lag: 40 * time.Second}, {Lag: 40 * time.Second, Terse: true}} {
		w := newEnv(t, cfg)
		w.iam.Encrypt(testBucket, testKey)
		p := w.start()
		p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.KMSKeyARN = testKey })))
	}
}
