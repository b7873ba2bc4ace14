package scope

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// TestTrust: who a trust policy lets in. open begins with what is said of a principal that is not a
// named identity.
func TestTrust(t *testing.T) {
	t.Parallel()
	const action, own = `"Action":"sts:AssumeRole"`, "arn:aws:iam::123456789012:"
	for _, tt := range []struct {
		name, statement string
		named, open     string
		bad             bool
	}{
		{name: "a user", statement: `"Principal":{"AWS":"` + own + `user/u"},` + action, named: own + "user/u"},
		{name: "own account", statement: `"Principal":{"AWS":"` + own + `root"},` + action, named: own + "root"},
		{name: "own account by number", statement: `"Principal":{"AWS":"123456789012"},` + action, named: "123456789012"},
		{name: "a service", statement: `"Principal":{"Service":"ec2.amazonaws.com"},` + action, named: "ec2.amazonaws.com"},
		{name: "anybody", statement: `"Principal":"*",` + action, open: "anybody"},
		{name: "anybody of AWS", statement: `"Principal":{"AWS":["` + own + `user/u","*"]},` + action, named: own + "user/u", open: "anybody"},
		{name: "anybody under conditions", statement: `"Principal":"*",` + action + `,"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-1"}}`, open: "anybody, under conditions"},
		{name: "all but one", statement: `"NotPrincipal":{"AWS":"` + own + `user/u"},` + action, open: "anybody"},
		{name: "any action", statement: `"Principal":"*","Action":"sts:*"`, open: "anybody"},
		{name: "all but another action", statement: `"Principal":"*","NotAction":"sts:TagSession"`, open: "anybody"},
		{name: "another action", statement: `"Principal":"*","Action":"sts:TagSession"`},
		{name: "another account", statement: `"Principal":{"AWS":"arn:aws:iam::999999999999:root"},` + action, open: "arn:aws:iam::999999999999:root of another account"},
		{name: "another account by number", statement: `"Principal":{"AWS":"999999999999"},` + action, open: "999999999999 of another account"},
		{name: "another account with an external id", statement: `"Principal":{"AWS":"999999999999"},` + action + `,"Condition":{"StringEquals":{"sts:ExternalId":"x1"}}`, named: "999999999999"},
		{name: "an identity provider", statement: `"Principal":{"Federated":"accounts.google.com"},"Action":"sts:AssumeRoleWithWebIdentity"`, open: "every identity of accounts.google.com"},
		{name: "identities of a provider", statement: `"Principal":{"Federated":"accounts.google.com"},"Action":"sts:AssumeRoleWithWebIdentity","Condition":{"StringEquals":{"accounts.google.com:sub":"1"}}`, named: "accounts.google.com"},
		{name: "no principal", statement: action, bad: true},
		{name: "an unknown element", statement: `"Principal":"*","Resource":"*",` + action, bad: true},
	} {
		named, open, err := trustOf([]byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+tt.statement+`}]}`), "123456789012")
		got := strings.Join(open, "; ")
		if strings.Join(named, ",") != tt.named || !strings.HasPrefix(got, tt.open) || (got == "") != (tt.open == "") || (err != nil) != tt.bad {
			t.Errorf("%s: %q, %q, %v", tt.name, named, got, err)
		}
	}
}

// FuzzTrust: no text ends the program, and nothing in a message is longer than a name, or has
// characters that no name has.
func FuzzTrust(f *testing.F) {
	f.Add(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"sts:AssumeRole"}]}`)
	f.Add(`{"Statement":{"Effect":"Allow","NotPrincipal":{},"NotAction":["x"],"Condition":{}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		named, open, err := trustOf([]byte(text), "123456789012")
		if err != nil && named != nil {
			t.Error("an error and a result")
		}
		for _, s := range append(named, open...) {
			if len(s) > 300 || strings.ContainsAny(s, "\n\r\t\x00") {
				t.Errorf("%q", s)
			}
		}
	})
}

// TestSessionAtAWS: at AWS the session policy that was sent takes the place of the calls that a
// security team would be alarmed of, and a refusal by it proves. At another server, which may ignore
// it, these calls are made.
func TestSessionAtAWS(t *testing.T) {
	t.Parallel()
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}]}`
	read := document(allow("s3:GetObject", "arn:aws:s3:::media/shop/*"))
	for _, enforced := range []bool{true, false} {
		f := iam.New(t, iam.Config{})
		for _, key := range []string{"shop/a.txt", "private/p.txt"} {
			f.PutObject("media", key, s3.Object{Body: []byte("x")})
		}
		arn := f.AddRole(iam.Role{Name: "r", Trust: trust, Inline: map[string]string{"p": document(allow("*", "*"))}})
		source := f.AddUser("/", "u", document(allow("sts:AssumeRole", "*")))
		out, err := f.STSClient(source).AssumeRole(t.Context(), &sts.AssumeRoleInput{
			RoleArn: &arn, RoleSessionName: aws.String("shop"), Policy: &read,
		})
		if err != nil {
			t.Fatal(err)
		}
		c := out.Credentials
		x := credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)
		key := Key{Now: time.Now, Timeout: probeTime, S3: f.S3ClientOf(x), IAM: f.IAMClientOf(x), STS: f.STSClientOf(x), CustomIAM: !enforced}
		where := shop()
		where.Inside, where.Outside = "shop/a.txt", "private/p.txt"
		where.Session = &Session{Role: arn, Name: "shop", Sent: read, Needed: read, Enforced: enforced}
		if !enforced {
			where.Location.Endpoint = f.S3URL
		}
		where.ControlPlane, _ = where.Session.ControlPlane(&where, nil, time.Now())
		checks, notTried := Check(t.Context(), key, where)
		if scope := scopeOf(checks); scope != alias.VerdictProven {
			t.Errorf("enforced %v: scope %s: %+v", enforced, scope, checks)
		}
		denied := slices.ContainsFunc(f.Calls(), func(c iam.Call) bool {
			return c.Code == "AccessDenied" && (c.Service != "s3" || c.Action == "ListBuckets" || c.Action == "GetBucketPolicy")
		})
		if denied == enforced {
			t.Errorf("enforced %v: denied calls of management: %v", enforced, denied)
		}
		for _, c := range checks {
			if c.Name == NameReadOutside && c.Evidence != alias.EvidenceProbe {
				t.Errorf("%+v", c)
			}
		}
		if untried(notTried, UntriedServices) == enforced {
			t.Errorf("enforced %v: not tried %v", enforced, notTried)
		}
	}
}
