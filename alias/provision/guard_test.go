package provision

import (
	"errors"
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// TestUserReadBack: a server that drops the boundary or a tag of a new user makes no
// alias.
func TestUserReadBack(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, code string }{{"boundary", codeBoundary}, {"tag", codeIAM}} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			boundary := w.iam.AddPolicy("/", "boundary", `{"Version":"2012-10-17","Statement":[`+
				`{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::`+testBucket+`/*"}]}`)
			w.edit = func(cfg *Config) { cfg.Boundary, cfg.TagKeys = boundary, []string{"team"} }
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				switch {
				case c.Action != "CreateUser":
					return nil
				case row.name == "boundary":
					return iam.DropBoundary()
				}
				return &iam.Fault{After: func() {
					w.iam.ChangeUser(c.Params.Get("UserName"), func(u *iam.User) { delete(u.Tags, "team") })
				}}
			})
			tagged := func(r *policy.Request) { r.Tags = map[string]string{"team": "web"} }
			p := w.start()
			wantCode(t, p.mustFail(p.Provision(t.Context(), actor, w.request("shop", tagged))), row.code)
			if users := w.iam.Users(); len(users) > 0 {
				t.Errorf("left: %+v", users)
			}
		})
	}
}

// TestRemovalOfChangedUser: a user with a password of another client is not deleted.
func TestRemovalOfChangedUser(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	w.iam.AddLoginProfile(prov.User.Name)
	if op, err := p.Remove(t.Context(), actor, "shop", 0); !errors.Is(err, alias.ErrInUse) {
		t.Errorf("removal while an alias uses it: got %+v, %v", op, err)
	}
	p.deleteAlias("shop")
	wantCode(t, p.mustFail(p.Remove(t.Context(), actor, "shop", 0)), codeChanged)
	if _, ok := w.iam.User(prov.User.Name); !ok {
		t.Error("the user was deleted")
	}
}
