package provision

import (
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/sdk"
)

// TestEmergencyEndsSessions: a session that a thief made with the leaked key reads nothing after
// the emergency. The denial is taken back by a rotation when no such session can live any more,
// and not before.
func TestEmergencyEndsSessions(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	stolen := w.iam.S3ClientOf(w.iam.NewSession(prov.User.Name))
	if _, code := sdk.Get(t, stolen, testBucket, "web/a.png"); code != "" {
		t.Fatalf("the session does not read before the emergency: %s", code)
	}
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	if _, code := sdk.Get(t, stolen, testBucket, "web/a.png"); code != "AccessDenied" {
		t.Errorf("the session reads after the emergency: %q", code)
	}
	w.wantSound(p, "shop")
	revoked := func() bool {
		u, _ := w.iam.User(prov.User.Name)
		_, ok := u.Inline["ixmage-revoke"]
		return ok
	}
	for _, row := range []struct {
		after time.Duration
		want  bool
	}{{time.Hour, true}, {longestSession, false}} {
		w.clock.advance(row.after)
		p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
		if revoked() != row.want {
			t.Errorf("%s later: revoked %v", row.after, revoked())
		}
		w.wantSound(p, "shop")
	}
}
