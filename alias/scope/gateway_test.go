package scope

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	fakes3 "ixmage/internal/awstest/s3"
)

// probeTime is the time of a probe whose server answers: the machine may be busy.
const probeTime = time.Minute

// testKey is a prober against servers of a test, which has the SDK try once.
func testKey(t *testing.T, s3URL, iamURL string, kp alias.KeyPair) Key {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	creds := credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
	p := Key{Now: time.Now, Timeout: probeTime, S3: s3.New(s3.Options{
		BaseEndpoint: &s3URL, Region: "us-east-1", UsePathStyle: true, RetryMaxAttempts: 1,
		RequestChecksumCalculation: aws.RequestChecksumCalculationWhenRequired,
		Credentials:                creds, HTTPClient: client,
	})}
	if iamURL != "" {
		p.IAM = iam.New(iam.Options{
			BaseEndpoint: &iamURL, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: creds, HTTPClient: client,
		})
		p.STS = sts.New(sts.Options{
			BaseEndpoint: &iamURL, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: creds, HTTPClient: client,
		})
	}
	return p
}

// gatewayUser makes an IAM user with a policy of statements, and a key of his.
func gatewayUser(t *testing.T, g *gateway.Server, name string, statements ...string) alias.KeyPair {
	t.Helper()
	root := testKey(t, g.S3URL, g.IAMURL, g.Root).IAM
	if _, err := root.CreateUser(t.Context(), &iam.CreateUserInput{UserName: &name}); err != nil {
		t.Fatal(err)
	}
	if len(statements) > 0 {
		doc := `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
		_, err := root.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{
			UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &doc,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	kp, err := g.AddKey(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return kp
}

func allow(actions, resource string) string {
	return `{"Effect":"Allow","Action":["` + strings.ReplaceAll(actions, ",", `","`) + `"],"Resource":"` + resource + `"}`
}

// general are the names of what no check covers.
var general = []string{UntriedServices, UntriedBuckets, UntriedActions, UntriedOwnUser, UntriedResources}

// verdicts are those of checks, by name, and the reasons why others were not tried.
func verdicts(checks []alias.Check, notTried []alias.NotTried) map[string]string {
	out := map[string]string{}
	for _, n := range notTried {
		if !slices.Contains(general, n.Name) {
			out[n.Name] = "not-tried " + string(n.Why)
		}
	}
	for _, c := range checks {
		out[c.Name] = string(c.Verdict) + " " + c.Got
		if c.Failed {
			out[c.Name] += " failed"
		}
	}
	return out
}

// shop is the alias that the tests verify: bucket media, prefix shop/.
func shop() Target {
	return Target{
		Location: alias.Location{Bucket: "media", Prefix: "shop/"},
		Grants:   []alias.Grant{{Bucket: "media", Prefix: "shop/"}},
		Inside:   "shop/a.txt", Outside: "private/b.txt",
	}
}

// atGateway is the alias at a gateway, which is not AWS.
func atGateway(g *gateway.Server) Target {
	where := shop()
	where.Location.Endpoint = g.S3URL
	return where
}

// expect compares verdicts with a row: "check: verdict code", and for all
// checks that have no line of their own the verdict and code of "*".
func expect(t *testing.T, checks []alias.Check, notTried []alias.NotTried, rows map[string]string) {
	t.Helper()
	got := verdicts(checks, notTried)
	for name, outcome := range got {
		want, ok := rows[name]
		if !ok {
			want = rows["*"]
		}
		if outcome != want {
			t.Errorf("%s: got %q, want %q", name, outcome, want)
		}
	}
	for name := range rows {
		if _, ok := got[name]; !ok && name != "*" {
			t.Errorf("%s was not checked", name)
		}
	}
	for _, c := range checks {
		if c.Detail == "" || c.Evidence != alias.EvidenceProbe || c.Expected == "" || c.At.IsZero() || c.Positive != (c.Name == NameIdentity || c.Name == NameReadInside) {
			t.Errorf("check is not complete: %+v", c)
		}
	}
}

// objects puts what the tests read into the bucket.
func objects(t *testing.T, put func(key string) error) {
	t.Helper()
	for _, key := range []string{"shop/a.txt", "private/b.txt"} {
		if err := put(key); err != nil {
			t.Fatal(err)
		}
	}
}

func scopeOf(checks []alias.Check) alias.Verdict {
	v := alias.Verification{Checks: checks}
	return v.Scope()
}

func blocks(checks []alias.Check) bool {
	v := alias.Verification{Checks: checks}
	return v.Blocks()
}

// TestMatrixGateway is the matrix against a real server. Of what it says here
// docs/iam.md has the table.
func TestMatrixGateway(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	if err := g.CreateBucket(t.Context(), "media"); err != nil {
		t.Fatal(err)
	}
	objects(t, func(key string) error {
		return g.PutObject(t.Context(), "media", key, fakes3.Object{Body: []byte("x")})
	})
	const (
		refused = "proven AccessDenied"
		vague   = "not-proven AccessDenied"
		arn     = "arn:aws:iam::000000000000:"
	)
	// Of STS it has GetCallerIdentity only.
	without := map[string]string{
		NameAssumeRole: "not-tried not-implemented", NameFederation: "not-tried not-implemented", NameOtherKeys: vague, NamePassword: vague,
	}
	wideS3 := map[string]string{
		"*": refused, NameReadInside: "proven 200",
		NameReadOutside: "violated 200", NameReadSibling: "violated NoSuchKey", NameWrite: "violated NoSuchUpload",
		NameDelete: "violated 200", NameList: "violated 200", NameListInside: "violated 200",
		NameListBuckets: "violated 200", NameACL: "not-tried not-implemented", NameTagging: "violated 200",
		NameBucketPolicy: "violated NoSuchBucketPolicy",
	}
	// A key that cannot do what it must is unknown to S3, so its refusals prove nothing.
	blind := map[string]string{
		"*": refused, NameReadInside: vague + " failed", NameReadOutside: vague, NameReadSibling: vague,
		NameWrite: vague, NameDelete: vague, NameList: vague, NameListInside: vague,
		NameListBuckets: vague, NameACL: vague, NameTagging: vague, NameBucketPolicy: vague,
	}
	unknown := map[string]string{"*": "not-proven InvalidAccessKeyId"}
	for _, name := range []string{NameIdentity, NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NameIAMOwnRights, NamePassword, NameOtherKeys} {
		unknown[name] = "not-proven InvalidClientTokenId"
	}
	read := allow("s3:GetObject", "arn:aws:s3:::media/shop/*")
	readOnly := gatewayUser(t, g, "read-only", read)
	for _, tt := range []struct {
		name  string
		keys  alias.KeyPair
		bare  bool // no objects are given
		rows  []map[string]string
		scope alias.Verdict
		block bool
	}{
		{"read-only", readOnly, false, []map[string]string{without, {
			"*": refused, NameIdentity: "proven " + arn + "user/read-only", NameReadInside: "proven 200",
		}}, alias.VerdictNotProven, false},
		{"read-only without objects", readOnly, true, []map[string]string{without, {
			"*": refused, NameIdentity: "proven " + arn + "user/read-only", NameReadInside: "weak NoSuchKey",
		}}, alias.VerdictNotProven, false},
		{"no policy", gatewayUser(t, g, "nothing"), false, []map[string]string{without, blind, {
			NameIdentity: "proven " + arn + "user/nothing",
		}}, alias.VerdictNotProven, true},
		{"writes only", gatewayUser(t, g, "put", allow("s3:PutObject", "arn:aws:s3:::media/*")), false, []map[string]string{without, blind, {
			NameIdentity: "proven " + arn + "user/put", NameWrite: "violated NoSuchUpload",
		}}, alias.VerdictViolated, true},
		{"lists too", gatewayUser(t, g, "list", read, allow("s3:ListBucket", "arn:aws:s3:::media")), false, []map[string]string{without, {
			"*": refused, NameIdentity: "proven " + arn + "user/list", NameReadInside: "proven 200",
			NameList: "violated 200", NameListInside: "violated 200",
		}}, alias.VerdictViolated, true},
		{"deletes too", gatewayUser(t, g, "delete", read, allow("s3:DeleteObject", "arn:aws:s3:::media/shop/*")), false, []map[string]string{without, {
			"*": refused, NameIdentity: "proven " + arn + "user/delete", NameReadInside: "proven 200", NameDelete: "violated 200",
		}}, alias.VerdictViolated, true},
		{"sibling too", gatewayUser(t, g, "sibling", allow("s3:GetObject", "arn:aws:s3:::media/shop*")), false, []map[string]string{without, {
			"*": refused, NameIdentity: "proven " + arn + "user/sibling", NameReadInside: "proven 200", NameReadSibling: "violated NoSuchKey",
		}}, alias.VerdictViolated, true},
		{"all of S3", gatewayUser(t, g, "s3", allow("s3:*", "*")), false, []map[string]string{without, wideS3, {
			NameIdentity: "proven " + arn + "user/s3",
		}}, alias.VerdictViolated, true},
		{"all of IAM", gatewayUser(t, g, "iam", read, allow("iam:*", "*")), false, []map[string]string{without, {
			"*": refused, NameIdentity: "proven " + arn + "user/iam", NameReadInside: "proven 200",
			NameIAMSelf: "violated 200", NameIAMKeys: "violated 200", NameIAMCreateKey: "violated NoSuchEntity",
			NameIAMOwnRights: "violated NoSuchEntity", NamePassword: "not-tried not-implemented", NameOtherKeys: "proven 200",
		}}, alias.VerdictViolated, true},
		{"root", g.Root, false, []map[string]string{without, wideS3, {
			NameIdentity: "proven " + arn + "root", NameIAMSelf: "violated 200", NameIAMKeys: "not-proven ValidationError",
			NameIAMCreateKey: "violated NoSuchEntity", NameIAMOwnRights: "violated 200",
			NamePassword: "not-tried not-implemented", NameOtherKeys: "not-proven ValidationError",
		}}, alias.VerdictViolated, true},
		{"unknown key", alias.KeyPair{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: readOnly.SecretAccessKey}, false,
			[]map[string]string{unknown, {
				NameAssumeRole: "not-proven SignatureDoesNotMatch", NameFederation: "not-proven SignatureDoesNotMatch",
			}}, alias.VerdictNotProven, false},
		{"wrong secret", alias.KeyPair{AccessKeyID: readOnly.AccessKeyID, SecretAccessKey: g.Root.SecretAccessKey}, false,
			[]map[string]string{{"*": "not-proven SignatureDoesNotMatch"}}, alias.VerdictNotProven, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			where := atGateway(g)
			if tt.bare {
				where.Inside, where.Outside = "", ""
			}
			rows := map[string]string{}
			for _, m := range tt.rows {
				maps.Copy(rows, m)
			}
			key := testKey(t, g.S3URL, g.IAMURL, tt.keys)
			key.CustomIAM = true
			checks, notTried := Check(t.Context(), key, where)
			expect(t, checks, notTried, rows)
			if scopeOf(checks) != tt.scope || blocks(checks) != tt.block {
				t.Errorf("scope %s, blocks %t, want %s, %t", scopeOf(checks), blocks(checks), tt.scope, tt.block)
			}
			if want := tt.name != "unknown key" && tt.name != "wrong secret"; Conclusive(checks) != want {
				t.Errorf("conclusive %t, want %t", Conclusive(checks), want)
			}
		})
	}
}

// TestMatrixLeavesNothing has keys that may write and delete go through the
// matrix: the bucket is the same afterwards.
func TestMatrixLeavesNothing(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	if err := g.CreateBucket(t.Context(), "media"); err != nil {
		t.Fatal(err)
	}
	objects(t, func(key string) error {
		return g.PutObject(t.Context(), "media", key, fakes3.Object{Body: []byte("x")})
	})
	p := testKey(t, g.S3URL, g.IAMURL, g.Root)
	where := atGateway(g)
	Check(t.Context(), p, where)
	// The write that comes second to those who are refused the first.
	r := newRound(p, where)
	put, _ := r.put(t.Context(), r.probeKey())
	if denyVerdict(NameWrite, put) != alias.VerdictViolated {
		t.Errorf("put under If-Match: got %+v, want an error that shows the right", put)
	}
	out, err := p.S3.ListObjectsV2(t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("media")})
	if err != nil || len(out.Contents) != 2 {
		t.Errorf("%d objects, want 2 (%v)", len(out.Contents), err)
	}
	keys, err := p.IAM.ListUsers(t.Context(), &iam.ListUsersInput{})
	if err != nil || len(keys.Users) != 0 {
		t.Errorf("%d users, want none (%v)", len(keys.Users), err)
	}
}
