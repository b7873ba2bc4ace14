package provision

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// TestBucketOwner: at AWS the bucket of a new alias must belong to the account of the user,
// unless the request names another one: in a bucket that was deleted and made again by
// somebody else, that one could serve what he likes.
func TestBucketOwner(t *testing.T) {
	t.Parallel()
	const stranger = "999999999999"
	atAWS := func(r *policy.Request) { r.Endpoint, r.PathStyle = "", false }
	for _, row := range []struct {
		name  string
		edit  func(*policy.Request)
		owner string // of the bucket; empty: the account of the user
		want  string // of the alias; empty: it is not opened
	}{
		{"the user's account", atAWS, "", testAccount},
		{"another account", atAWS, stranger, ""},
		{"another account, named", func(r *policy.Request) { atAWS(r); r.BucketOwner = stranger }, stranger, stranger},
		{"the wrong account, named", func(r *policy.Request) { atAWS(r); r.BucketOwner = stranger }, "", ""},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			if row.owner != "" {
				w.iam.SetBucketOwner(testBucket, row.owner)
				w.iam.SetBucketPolicy(testBucket, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*",`+
					`"Action":"s3:GetObject","Resource":"arn:aws:s3:::`+testBucket+`/web/*"}]}`)
			}
			w.edit = func(c *Config) {
				fake := c.S3
				c.S3 = func(at alias.Location, kp alias.KeyPair) *s3.Client {
					at.Endpoint, at.PathStyle = w.iam.S3URL, true
					return fake(at, kp)
				}
			}
			p := w.start()
			op := p.do(p.Provision(t.Context(), actor, w.request("shop", row.edit)))
			if opened := op.State == alias.OperationDone; opened != (row.want != "") {
				t.Fatalf("%s: %+v", op.State, op.Error)
			}
			if row.want == "" {
				return
			}
			a, err := p.registry.Alias(t.Context(), "shop")
			if err != nil || a.BucketOwner != row.want {
				t.Errorf("owner %q, %v; want %q", a.BucketOwner, err, row.want)
			}
			again, err := p.Provision(t.Context(), actor, w.request("shop", row.edit))
			if err != nil || again.ID != op.ID {
				t.Errorf("the same request again: %+v, %v", again, err)
			}
		})
	}
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	if a, err := p.registry.Alias(t.Context(), "shop"); err != nil || a.BucketOwner != "" {
		t.Errorf("on a server that is not AWS: owner %q, %v", a.BucketOwner, err)
	}
}
