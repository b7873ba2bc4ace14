package provision

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// TestAllTags: a request with as many tags as are allowed is within the quota of IAM, also
// when its user gets another generation.
func TestAllTags(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	tags := map[string]string{}
	for i := range 46 {
		tags[fmt.Sprint("team", i)] = "x"
	}
	w.edit = func(cfg *Config) { cfg.TagKeys = slices.Collect(maps.Keys(tags)) }
	withTags := func(r *policy.Request) { r.Tags = tags }
	_, err := w.start().Provision(t.Context(), actor, w.request("shop", withTags))
	if _, ok := errors.AsType[*alias.ValidationError](err); !ok {
		t.Fatalf("%d tags: %v", len(tags), err)
	}
	delete(tags, "team0")
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", withTags)))
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	w.wantSound(p, "shop")
}

// TestFullTagsOfBefore: a user of a version before generations that has no room for one more tag is
// rotated and removed.
func TestFullTagsOfBefore(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	w.iam.ChangeUser(prov.User.Name, func(u *iam.User) {
		delete(u.Tags, policy.TagGeneration)
		for i := len(u.Tags); i < 50; i++ {
			u.Tags[fmt.Sprint("team", i)] = "x"
		}
	})
	p.setProvisioned("shop", func(prov *alias.Provisioned) {
		prov.Generation, prov.GenerationsBefore, prov.GenerationSeen = "", nil, false
	})
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", true))
	w.wantSound(p, "shop")
	p.deleteAlias("shop")
	p.mustSucceed(p.Remove(t.Context(), actor, "shop", 0))
}

// TestLongPolicyOfBefore: a user whose inline policy uses the room that an emergency needs, as
// versions before it allowed, is compared like any other.
func TestLongPolicyOfBefore(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	p.setProvisioned("shop", func(prov *alias.Provisioned) {
		g := prov.Grants[0]
		for i := range 28 {
			g.Prefix = fmt.Sprint(strings.Repeat("x", 40), i, "/")
			prov.Grants = append(prov.Grants, g)
		}
	})
	_, prov := p.provisioned("shop")
	doc, err := policy.Document("aws", prov.Grants)
	if err != nil || len(doc) < 1900 || len(doc) > 2048 {
		t.Fatalf("%d characters, %v", len(doc), err)
	}
	w.iam.PutPolicy(prov.User.Name, policy.InlineName, string(doc))
	w.clock.advance(2 * time.Hour)
	p.reconcile(t.Context())
	if len(p.report().Orphans) > 0 {
		t.Errorf("orphans: %+v", p.report().Orphans)
	}
	p.mustSucceed(p.Rotate(t.Context(), actor, "shop", false))
	why := p.mustFail(p.Rotate(t.Context(), actor, "shop", true))
	wantCode(t, why, codeQuota)
	if !strings.Contains(why.Detail, policy.RevokeName) {
		t.Errorf("the emergency failed with %s", why.Detail)
	}
}
