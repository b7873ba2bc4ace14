package scope

import (
	"cmp"
	"maps"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// keyOf is a prober against the fake.
func keyOf(f *iam.Server, kp alias.KeyPair) Key {
	return Key{Now: time.Now, Timeout: probeTime, S3: f.S3Client(kp), IAM: f.IAMClient(kp), STS: f.STSClient(kp)}
}

func document(statements ...string) string {
	doc := `{"Version":"2012-10-17","Statement":[`
	for i, s := range statements {
		if i > 0 {
			doc += ","
		}
		doc += s
	}
	return doc + "]}"
}

// TestMatrixFake covers what the real server here does not have: managed
// policies, boundaries, KMS, bucket policies and passwords.
func TestMatrixFake(t *testing.T) {
	t.Parallel()
	const (
		denied = "proven AccessDenied"
		vague  = "not-proven AccessDenied"
		arn    = "arn:aws:iam::123456789012:"
		kms    = "arn:aws:kms:us-east-1:123456789012:key/1"
	)
	read := allow("s3:GetObject", "arn:aws:s3:::media/shop/*")
	public := `{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::media/*"}`
	for _, tt := range []struct {
		name  string
		cfg   iam.Config
		setUp func(*iam.Server) alias.KeyPair
		mode  alias.PolicyMode // empty: inline
		bare  bool
		// pasted keys are of no user of ours. Custom servers are not AWS. The boundary of
		// the user is ours.
		pasted, custom, boundary bool
		want                     map[string]string
		scope                    alias.Verdict
	}{
		{name: "inline", scope: alias.VerdictProven},
		{name: "inline, no objects given", bare: true, scope: alias.VerdictWeak, want: map[string]string{NameReadInside: "weak AccessDenied"}},
		{
			name: "inline, no reasons given", cfg: iam.Config{NoReasons: true}, scope: alias.VerdictWeak,
			want: map[string]string{"*": "weak AccessDenied"},
		},
		{
			name: "inline, no reasons given by another server than AWS", cfg: iam.Config{NoReasons: true}, custom: true,
			scope: alias.VerdictWeak,
			want: map[string]string{
				NameReadSibling: "weak AccessDenied",
			},
		},
		{
			name: "pasted", pasted: true, scope: alias.VerdictNotProven,
		},
		{
			name: "managed", scope: alias.VerdictProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				kp := f.AddUser("/", "u", "")
				f.AttachPolicy("u", f.AddPolicy("/", "bucket-specific-media-shop", document(read)))
				return kp
			},
		},
		{
			name: "read-only access", mode: alias.PolicyReadOnly, scope: alias.VerdictProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				kp := f.AddUser("/", "u", "")
				f.AttachPolicy("u", f.ReadOnlyARN())
				return kp
			},
			want: map[string]string{
				NameList: "proven 200", NameListInside: "proven 200", NameListBuckets: "proven 200", NameACL: "proven 200",
				NameTagging: "proven 200", NameBucketPolicy: "proven NoSuchBucketPolicy",
			},
		},
		{
			name: "read-only access within our boundary", mode: alias.PolicyReadOnly, boundary: true, scope: alias.VerdictProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				kp := f.AddUser("/", "u", "")
				f.AttachPolicy("u", f.ReadOnlyARN())
				boundary := f.AddPolicy("/", "b", document(allow("s3:GetObject", "arn:aws:s3:::media/*")))
				f.ChangeUser("u", func(u *iam.User) { u.Boundary = boundary })
				return kp
			},
		},
		{
			name: "boundary of another bucket", scope: alias.VerdictNotProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				kp := f.AddUser("/", "u", document(read))
				boundary := f.AddPolicy("/", "b", document(allow("s3:GetObject", "arn:aws:s3:::other/*")))
				f.ChangeUser("u", func(u *iam.User) { u.Boundary = boundary })
				return kp
			},
			want: blindRows(vague),
		},
		{
			name: "bucket that is public", scope: alias.VerdictViolated,
			setUp: func(f *iam.Server) alias.KeyPair {
				f.SetBucketPolicy("media", document(public))
				return f.AddUser("/", "u", document(read))
			},
			want: map[string]string{NameReadOutside: "violated 200", NameReadSibling: "weak AccessDenied"},
		},
		{
			name: "KMS without a grant", scope: alias.VerdictNotProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				f.Encrypt("media", kms)
				return f.AddUser("/", "u", document(read))
			},
			want: blindRows(vague),
		},
		{
			name: "KMS with a grant", scope: alias.VerdictProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				f.Encrypt("media", kms)
				return f.AddUser("/", "u", document(read, allow("kms:Decrypt", kms)))
			},
		},
		{
			name: "a person's key", pasted: true, scope: alias.VerdictViolated,
			setUp: func(f *iam.Server) alias.KeyPair {
				kp := f.AddUser("/", "u", document(read, allow("iam:GetLoginProfile,iam:ListAccessKeys", "*")))
				f.AddLoginProfile("u")
				f.AddKey("u")
				return kp
			},
			want: map[string]string{NameIAMKeys: "violated 200", NamePassword: "violated 200", NameOtherKeys: "weak 200"},
		},
		{
			name: "a program's key that may look", pasted: true, scope: alias.VerdictNotProven,
			setUp: func(f *iam.Server) alias.KeyPair {
				return f.AddUser("/", "u", document(read, allow("iam:GetLoginProfile", "*")))
			},
			want: map[string]string{NamePassword: "proven NoSuchEntity"},
		},
		{
			name: "administrator", pasted: true, scope: alias.VerdictViolated,
			setUp: func(f *iam.Server) alias.KeyPair { return f.AddUser("/", "u", document(allow("*", "*"))) },
			want: map[string]string{
				NameReadOutside: "violated 200", NameReadSibling: "violated NoSuchKey", NameWrite: "violated NoSuchKey",
				NameDelete: "violated NoSuchKey", NameList: "violated 200", NameListInside: "violated 200", NameListBuckets: "violated 200",
				NameACL: "violated 200", NameTagging: "violated 200", NameBucketPolicy: "violated NoSuchBucketPolicy",
				NameIAMSelf: "violated 200", NameIAMKeys: "violated 200", NameIAMCreateKey: "violated NoSuchEntity",
				NameIAMOwnRights: "violated NoSuchEntity", NameFederation: "violated 200", NamePassword: "proven NoSuchEntity", NameOtherKeys: "proven 200",
			},
		},
		{
			name: "a key that is not known yet", pasted: true, scope: alias.VerdictNotProven, cfg: iam.Config{Lag: time.Hour},
			setUp: func(*iam.Server) alias.KeyPair {
				return alias.KeyPair{AccessKeyID: "AKIAUNKNOWNUNKNOWN00", SecretAccessKey: alias.NewSecret("s")}
			},
			want: maps.Collect(func(yield func(string, string) bool) {
				for name := range blindRows("") {
					yield(name, "not-proven InvalidAccessKeyId")
				}
				for _, name := range []string{
					NameIdentity, NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NameIAMOwnRights, NameFederation, NamePassword, NameOtherKeys,
				} {
					yield(name, "not-proven InvalidClientTokenId")
				}
			}),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := iam.New(t, tt.cfg)
			f.CreateBucket("media")
			f.PutObject("media", "shop/a.txt", s3.Object{Body: []byte("x")})
			f.PutObject("media", "private/b.txt", s3.Object{Body: []byte("x")})
			var kp alias.KeyPair
			if tt.setUp != nil {
				kp = tt.setUp(f)
			} else {
				kp = f.AddUser("/", "u", document(read))
			}
			where := shop()
			where.Mode = cmp.Or(tt.mode, alias.PolicyInline)
			rows := map[string]string{
				"*": denied, NameIdentity: "proven " + arn + "user/u", NameReadInside: "proven 200",
				NameAssumeRole: "not-tried proves-nothing",
			}
			if tt.pasted {
				where.Mode = ""
				rows[NamePassword], rows[NameOtherKeys] = vague, vague
			}
			if tt.boundary {
				where.User.Boundary = "arn:aws:iam::123456789012:policy/b"
			}
			key := keyOf(f, kp)
			if tt.custom {
				where.Location.Endpoint, key.CustomIAM = f.S3URL, true
			}
			if tt.bare {
				where.Inside, where.Outside = "", ""
			}
			checks, notTried := Check(t.Context(), key, where)
			maps.Copy(rows, tt.want)
			expect(t, checks, notTried, rows)
			if got := scopeOf(checks); got != tt.scope {
				t.Errorf("scope %s, want %s", got, tt.scope)
			}
			if objects := f.Objects("media"); len(objects) != 2 {
				t.Errorf("the bucket has %v", objects)
			}
		})
	}
}
