package provision

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awstest/iam"
)

// TestBoundaryAsked: only users of an AWS account need a boundary, or the word of the
// operator that none is meant.
func TestBoundaryAsked(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		cfg  Config
		ok   bool
	}{
		{"AWS", Config{}, false},
		{"AWS with a boundary", Config{Boundary: testBoundary}, true},
		{"AWS without one, meant", Config{NoBoundary: true}, true},
		{"another server", Config{IAMEndpoint: "https://iam.example.com"}, true},
	} {
		err := New(tt.cfg).boundaryAsked(nil)
		if tt.ok != (err == nil) || err != nil && (!errors.Is(err, alias.ErrNoBoundary) ||
			!strings.Contains(err.Error(), "--iam-boundary") || !strings.Contains(err.Error(), "--iam-no-boundary")) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestNoBoundary: on AWS without a boundary nothing is made and no key is rotated, and no
// call of IAM is made for it. An emergency and a removal work.
func TestNoBoundary(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	hasShop(alias.PolicyInline)(w.start())
	w.edit = func(cfg *Config) { cfg.IAMEndpoint = "" } // as on AWS; the clients still call the fake
	p := w.start()
	before := w.iamCalls()
	for name, call := range map[string]func() (*alias.Operation, error){
		"provision": func() (*alias.Operation, error) { return p.Provision(t.Context(), actor, w.request("blog")) },
		"reuse": func() (*alias.Operation, error) {
			return p.Provision(t.Context(), actor, w.request("blog", reusing("shop")))
		},
		"rotate": func() (*alias.Operation, error) { return p.Rotate(t.Context(), actor, "shop", false) },
	} {
		if op, err := call(); !errors.Is(err, alias.ErrNoBoundary) {
			t.Errorf("%s: %+v, %v", name, op, err)
		}
	}
	if n := w.iamCalls() - before; n > 0 {
		t.Errorf("%d calls of IAM", n)
	}
	if c, _ := p.provisioned("shop"); c.State != alias.CredentialActive {
		t.Errorf("the credential is %s", c.State)
	}
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
}

// TestScheduleWithoutBoundary: a scheduled rotation that needs a boundary is not tried each minute,
// and the log says so once.
func TestScheduleWithoutBoundary(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.RotateEvery = time.Hour })))
	w.clock.advance(2 * time.Hour)
	p, log := w.trapped(func(cfg *Config) { cfg.IAMEndpoint = "" })
	for range 2 {
		p.rotateDue(t.Context())
	}
	if n := strings.Count(log.lines.String(), "scheduled rotation"); n != 1 || !log.has("--iam-no-boundary") {
		t.Errorf("%d lines: %s", n, &log.lines)
	}
}

// TestNotAllowed: the lists of the configuration are checked before IAM is called, and the
// error names the flag and the value that is not in it.
func TestNotAllowed(t *testing.T) {
	t.Parallel()
	tagged := func(r *policy.Request) { r.Tags = map[string]string{"team": "web"} }
	for _, tt := range []struct {
		name string
		edit func(*policy.Request)
		cfg  func(*Config)
		says []string
	}{
		{"bucket", func(r *policy.Request) { r.Bucket = "other" }, func(*Config) {}, []string{"other", "--provision-buckets"}},
		{"tag", tagged, func(*Config) {}, []string{`"team"`, "--provision-tags"}},
		{"another tag", tagged, func(c *Config) { c.TagKeys = []string{"cost"} }, []string{`"team"`, "--provision-tags"}},
		{"user", func(r *policy.Request) { r.Adopt = "by-hand" }, func(*Config) {}, []string{"by-hand", "--adopt-users"}},
		{"another user", func(r *policy.Request) { r.Adopt = "by-hand" }, func(c *Config) { c.Adopt = []string{"ixmage-*"} }, []string{"by-hand", "--adopt-users"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			w.edit = tt.cfg
			_, err := w.start().Provision(t.Context(), actor, w.request("shop", tt.edit))
			if !errors.Is(err, alias.ErrForbidden) || w.iamCalls() > 0 {
				t.Fatalf("%v after %d calls", err, w.iamCalls())
			}
			for _, part := range tt.says {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q does not say %s", err, part)
				}
			}
		})
	}
	w := newEnv(t, iam.Config{})
	w.edit = func(c *Config) { c.TagKeys = []string{"cost", "team"} }
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", tagged)))
	_, prov := p.provisioned("shop")
	if user, _ := w.iam.User(prov.User.Name); user.Tags["team"] != "web" {
		t.Errorf("tags %v", user.Tags)
	}
}

// TestEleventhLocation: IAM attaches ten managed policies to a user, so the eleventh location is
// refused before anything is made.
func TestEleventhLocation(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyManaged)(p)
	err := p.registry.Apply(t.Context(), []alias.Name{"shop"}, func(tx alias.Tx) ([]alias.Change, error) {
		c, err := tx.Credential("shop")
		if err != nil {
			return nil, err
		}
		prov, _ := c.Provisioned()
		prov = prov.Clone()
		for i := range 9 {
			prov.Grants = append(prov.Grants, alias.Grant{Bucket: "media", Prefix: string(rune('a'+i)) + "/"})
		}
		c.Provider, c.Revision = prov, c.Revision+1
		return []alias.Change{{CredentialPut: c}}, tx.UpdateCredential(c)
	})
	if err != nil {
		t.Fatal(err)
	}
	before := w.iamCalls()
	op, err := p.Provision(t.Context(), actor, w.request("blog", reusing("shop")))
	if _, invalid := errors.AsType[*alias.ValidationError](err); !invalid || w.iamCalls() > before {
		t.Errorf("%+v, %v after %d calls", op, err, w.iamCalls()-before)
	}
	if _, err := p.registry.Alias(t.Context(), "blog"); !errors.Is(err, alias.ErrNotFound) {
		t.Errorf("the alias exists: %v", err)
	}
}

// TestShippedBoundary: a user within docs/boundary-policy.json reads what its alias needs, and
// a session that somebody made with its key reads nothing. Each row spoils the document.
func TestShippedBoundary(t *testing.T) {
	t.Parallel()
	const key = "arn:aws:kms:us-east-1:" + testAccount + ":key/1234abcd"
	whole, encrypted := func(*delegatedPolicy) {}, func(r *policy.Request) { r.KMSKeyARN = key }
	plain := func(*policy.Request) {}
	for _, row := range []struct {
		name     string
		spoil    spoiling
		edit     func(*policy.Request)
		works    bool
		sessions bool // a session reads
	}{
		{"as shipped", whole, plain, true, false},
		{"as shipped, managed", whole, withPolicy(alias.PolicyManaged), true, false},
		{"as shipped, read-only-access", whole, withPolicy(alias.PolicyReadOnly), true, false},
		{"as shipped, encrypted", whole, encrypted, true, false},
		{"without kms:Decrypt", dropping("DecryptThroughS3"), encrypted, false, false},
		{"without a condition", freeing("ReadPictures"), plain, true, true},
		{"another account", func(d *delegatedPolicy) {
			d.statement("ReadPictures")["Condition"].(map[string]any)["StringEquals"] = map[string]any{"aws:ResourceAccount": "000000000000"}
		}, plain, false, false},
		{"a condition on all statements", func(d *delegatedPolicy) {
			d.statement("DecryptThroughS3")["Condition"].(map[string]any)["Null"] = map[string]any{"aws:TokenIssueTime": "true"}
		}, encrypted, false, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := delegate(t, iam.Config{}, readDelegated(t))
			if w.request("shop", row.edit).KMSKeyARN != "" {
				w.iam.Encrypt(testBucket, key)
			}
			var doc delegatedPolicy
			if err := json.Unmarshal([]byte(readCopied(t, "boundary-policy.json")), &doc); err != nil {
				t.Fatal(err)
			}
			row.spoil(&doc)
			w.iam.RemovePolicy(testBoundary)
			w.iam.AddPolicy("/", "ixmage-boundary", doc.text(t))
			p := w.start()
			op := p.do(p.Provision(t.Context(), actor, w.request("shop", row.edit)))
			if works := op.State == alias.OperationDone; works != row.works {
				t.Fatalf("%s: %+v", op.State, op.Error)
			}
			if !row.works {
				return
			}
			_, prov := p.provisioned("shop")
			session := w.iam.NewSession(prov.User.Name)
			at := w.request("shop").Location
			err := scope.ReadByte(t.Context(), w.iam.S3ClientOf(session), at, "web/a.png")
			if (err == nil) != row.sessions {
				t.Errorf("a session reads: %v", err)
			}
		})
	}
}
