package scope

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// keyRow is a key, and the verdict that the probes alone give of it.
type keyRow struct {
	name       string
	statements []string // of its user's policy
	// arrange changes more than that at the fake; a row with it is not tried at the real
	// server.
	arrange func(*iam.Server)
	// want are the checks that are not proven, as "verdict check …", beside those of
	// every pasted key. gateway are those at the real server, if they differ: it has only
	// inline policies, no federation and other calls of IAM.
	want, gateway string
	scope         alias.Verdict
}

const (
	userU = "arn:aws:iam::123456789012:user/u"
	anyU  = "arn:aws:iam::*:user/u" // of the fake's account and of the gateway's
)

func deny(actions, resource string) string {
	return strings.Replace(allow(actions, resource), "Allow", "Deny", 1)
}

// keyRows are the keys of which docs/iam.md says what probes can prove.
func keyRows() []keyRow {
	read := allow("s3:GetObject", "arn:aws:s3:::media/shop/*")
	bucket := func(statement string) func(*iam.Server) {
		return func(f *iam.Server) { f.SetBucketPolicy("media", document(statement)) }
	}
	toU := `"Principal":{"AWS":"` + userU + `"},"Resource":"arn:aws:s3:::media/*"`
	const (
		notProven, weak, violated = alias.VerdictNotProven, alias.VerdictWeak, alias.VerdictViolated
		changesS3                 = "write delete list list-inside list-buckets acl tagging bucket-policy"
	)
	return []keyRow{
		{name: "reads its prefix", statements: []string{read}, scope: notProven},
		{
			name:       "may change its own rights", // administrator in two calls
			statements: []string{read, allow("iam:CreateAccessKey,iam:PutUserPolicy,iam:AttachUserPolicy", anyU)},
			want:       "violated iam-own-rights", gateway: "none", scope: violated,
		},
		{
			name:       "may change its own inline policies",
			statements: []string{read, allow("iam:PutUserPolicy,iam:DeleteUserPolicy", anyU)},
			want:       "violated iam-own-rights", scope: violated,
		},
		{
			name:       "may join groups",
			statements: []string{read, allow("iam:AddUserToGroup", "*")},
			want:       "violated iam-own-rights", gateway: "none", scope: violated,
		},
		{
			name: "manages its own keys", // AWS's policy for self-service
			statements: []string{read, strings.ReplaceAll(allow("iam:CreateAccessKey,iam:DeleteAccessKey,iam:UpdateAccessKey,"+
				"iam:ListAccessKeys,iam:GetAccessKeyLastUsed", anyU), "/u", "/${aws:username}")},
			want: "violated iam-create-key iam-keys; proven other-keys", scope: violated,
		},
		{
			name:       "other services", // in not_tried
			statements: []string{read, allow("dynamodb:*,ec2:*,sts:AssumeRole", "*")},
			scope:      notProven,
		},
		{
			name: "KMS", statements: []string{read, allow("kms:*", "*")}, scope: notProven,
		},
		{
			name: "administrator", statements: []string{allow("*", "*")},
			want: "violated read-outside read-sibling iam-self iam-keys iam-create-key iam-own-rights sts-federation " + changesS3 +
				"; proven console-password other-keys", scope: violated,
			gateway: "violated read-outside read-sibling iam-self iam-keys iam-create-key iam-own-rights write delete list list-inside " +
				"list-buckets tagging bucket-policy; proven other-keys",
		},
		{
			name:       "everything, denied but for reading",
			statements: []string{allow("*", "*"), `{"Effect":"Deny","NotAction":"s3:GetObject","Resource":"*"}`, `{"Effect":"Deny","Action":"s3:GetObject","NotResource":"arn:aws:s3:::media/shop/*"}`},
			scope:      notProven,
		},
		{
			name:       "all of S3, denied to write",
			statements: []string{allow("s3:*", "*"), deny("s3:Put*,s3:Delete*", "*")},
			want:       "violated read-outside read-sibling list list-inside list-buckets acl tagging bucket-policy", scope: violated,
			gateway: "violated read-outside read-sibling list list-inside list-buckets tagging bucket-policy",
		},
		{
			name: "limited by a boundary of others", statements: []string{allow("s3:*", "*")},
			arrange: func(f *iam.Server) {
				arn := f.AddPolicy("/", "b", document(read))
				f.ChangeUser("u", func(u *iam.User) { u.Boundary = arn })
			},
			want: "weak read-outside read-sibling " + changesS3, scope: notProven,
		},
		{
			name: "limited by a VPC endpoint", statements: []string{allow("s3:*", "*")},
			arrange: func(f *iam.Server) {
				f.SetEndpointPolicy("s3", document(`{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::media/shop/*"}`))
			},
			want: "weak read-outside read-sibling " + changesS3, scope: notProven,
		},
		{
			name: "limited by the organization", statements: []string{allow("*", "*")},
			arrange: func(f *iam.Server) {
				f.SetServiceControlPolicy(document(allow("*", "*"), `{"Effect":"Deny","NotAction":["s3:GetObject","sts:GetCallerIdentity"],"Resource":"*"}`))
			},
			want: "weak read-sibling iam-self iam-keys iam-create-key iam-own-rights sts-federation " + changesS3 +
				"; violated read-outside", scope: violated,
		},
		{
			name: "limited by a resource control policy", statements: []string{read, allow("s3:DeleteObject", "*")},
			arrange: func(f *iam.Server) {
				f.SetResourceControlPolicy(document(`{"Effect":"Deny","Principal":"*","Action":"s3:DeleteObject","Resource":"*"}`))
			},
			want: "weak delete", scope: notProven,
		},
		{
			name: "denied by the bucket", statements: []string{read, allow("s3:PutObject", "*")},
			arrange: bucket(`{"Effect":"Deny","Action":"s3:PutObject",` + toU + `}`),
			want:    "weak write", scope: notProven,
		},
		{
			name: "granted by the bucket", statements: []string{read},
			arrange: bucket(`{"Effect":"Allow","Action":"s3:PutObject",` + toU + `}`),
			want:    "violated write", scope: violated,
		},
		{
			name: "its group may delete", statements: []string{read},
			arrange: func(f *iam.Server) {
				f.SetGroupPolicy("staff", document(allow("s3:DeleteObject", "arn:aws:s3:::media/*")))
				f.AddToGroup("u", "staff")
			},
			want: "violated delete", scope: violated,
		},
		{
			name:       "lists only",
			statements: []string{allow("s3:ListBucket", "arn:aws:s3:::media")},
			want: "violated list list-inside; not-proven read-inside read-outside read-sibling write delete list-buckets acl tagging " +
				"bucket-policy", scope: violated,
		},
		{
			name:       "reads everything of an object",
			statements: []string{allow("s3:GetObject*", "arn:aws:s3:::media/shop/*")},
			arrange: func(f *iam.Server) {
				f.SetVersioning("media")
				f.PutObject("media", "shop/a.txt", s3.Object{Body: []byte("y")})
			},
			want: "violated acl tagging object-version", scope: violated,
		},
		{
			name:       "hands out credentials",
			statements: []string{read, allow("sts:GetFederationToken", "*")},
			want:       "violated sts-federation", gateway: "none", scope: violated,
		},
	}
}

// TestKeysFake tells of twenty keys what the probes prove of them at AWS.
func TestKeysFake(t *testing.T) {
	t.Parallel()
	for _, row := range keyRows() {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			f := iam.New(t, iam.Config{})
			for _, key := range []string{"shop/a.txt", "private/b.txt"} {
				f.PutObject("media", key, s3.Object{Body: []byte("x")})
			}
			kp := f.AddUser("/", "u", document(row.statements...))
			if row.arrange != nil {
				row.arrange(f)
			}
			checks, notTried := Check(t.Context(), keyOf(f, kp), shop())
			row.compare(t, checks, row.want, row.scope)
			if !untried(notTried, UntriedServices) || !untried(notTried, NameAssumeRole) {
				t.Errorf("not tried: %v", notTried)
			}
			if got := f.DeleteMarkers("media"); len(got) != 0 {
				t.Errorf("delete markers of %v", got)
			}
			if got := f.Keys("u"); len(got) != 1 {
				t.Errorf("the user has %d keys", len(got))
			}
		})
	}
}

// TestKeysGateway has the same keys at a real server, of those that it can tell apart.
func TestKeysGateway(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	if err := g.CreateBucket(t.Context(), "media"); err != nil {
		t.Fatal(err)
	}
	objects(t, func(key string) error {
		return g.PutObject(t.Context(), "media", key, s3.Object{Body: []byte("x")})
	})
	for i, row := range keyRows() {
		if row.arrange != nil {
			continue
		}
		user := "u" + string(rune('a'+i))
		for j, s := range row.statements {
			row.statements[j] = strings.ReplaceAll(s, anyU, "arn:aws:iam::000000000000:user/"+user)
			row.statements[j] = strings.ReplaceAll(row.statements[j], "arn:aws:iam::*:", "arn:aws:iam::000000000000:")
		}
		kp := gatewayUser(t, g, user, row.statements...)
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			key := testKey(t, g.S3URL, g.IAMURL, kp)
			key.CustomIAM = true
			checks, _ := Check(t.Context(), key, atGateway(g))
			want, scope := row.want, row.scope
			switch row.gateway {
			case "":
			case "none":
				want, scope = "", alias.VerdictNotProven
			default:
				want = row.gateway
			}
			row.compare(t, checks, want, scope)
		})
	}
}

func (row keyRow) compare(t *testing.T, checks []alias.Check, want string, scope alias.Verdict) {
	t.Helper()
	expected := map[string]string{NamePassword: "not-proven", NameOtherKeys: "not-proven"}
	for group := range strings.SplitSeq(want, "; ") {
		words := strings.Fields(group)
		for _, name := range words[min(1, len(words)):] {
			expected[name] = words[0]
		}
	}
	maps.DeleteFunc(expected, func(_, verdict string) bool { return verdict == "proven" })
	got := map[string]string{}
	for _, c := range checks {
		if c.Verdict != alias.VerdictProven {
			got[c.Name] = string(c.Verdict)
		}
	}
	for name := range maps.Keys(maps.Collect(maps.All(got))) {
		if got[name] != expected[name] {
			t.Errorf("%s is %s, want %q", name, got[name], expected[name])
		}
	}
	for name := range expected {
		if got[name] == "" && slices.ContainsFunc(checks, func(c alias.Check) bool { return c.Name == name }) {
			t.Errorf("%s is proven, want %s", name, expected[name])
		}
	}
	if have := scopeOf(checks); have != scope {
		t.Errorf("scope %s, want %s", have, scope)
	}
}

func untried(list []alias.NotTried, name string) bool {
	return slices.ContainsFunc(list, func(n alias.NotTried) bool { return n.Name == name })
}
