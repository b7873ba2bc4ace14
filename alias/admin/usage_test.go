package admin

import (
	"context"
	"errors"
	"testing"
	"time"

	"ixmage/alias"
)

// usageFunc is a UsageReader made of a function.
type usageFunc func(ctx context.Context, aliasID int64) (alias.Usage, error)

func (f usageFunc) Usage(ctx context.Context, aliasID int64) (alias.Usage, error) {
	return f(ctx, aliasID)
}

func withUsage(f usageFunc) func(*Config) { return func(c *Config) { c.UsageReader = f } }

func TestUsage(t *testing.T) {
	t.Parallel()
	var id int64
	var answer alias.Usage
	a := newAPI(t, withUsage(func(_ context.Context, aliasID int64) (alias.Usage, error) {
		id = aliasID
		return answer, nil
	}))
	a.register("shop")
	const nothing = `{"requests":0,"bytes":0}`
	want := `{"alias":"shop","since":null,"spent":` + nothing + `,"saved":{"hit":` + nothing + `,"collapsed":` + nothing +
		`,"not_modified":` + nothing + `}}` + "\n"
	if r := a.do("GET", "/api/v1/aliases/shop/usage", "").want(200, ""); r.body != want {
		t.Errorf("got %s, want %s", r.body, want)
	}
	if stored, err := a.store.Alias(t.Context(), "shop"); err != nil || stored.ID != id {
		t.Errorf("asked about %d, want the alias's id; %v", id, err)
	}
	answer = alias.Usage{
		Since: time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC),
		Spent: alias.Tally{Requests: 1, Bytes: 2}, Hit: alias.Tally{Requests: 3, Bytes: 1 << 53},
		Collapsed: alias.Tally{Requests: 5, Bytes: 6}, NotModified: alias.Tally{Bytes: 8},
	}
	want = `{"alias":"shop","since":"2026-02-03T04:05:06.000007Z","spent":{"requests":1,"bytes":2},"saved":{"hit":{"requests":3,"bytes":9007199254740992},` +
		`"collapsed":{"requests":5,"bytes":6},"not_modified":{"requests":0,"bytes":8}}}` + "\n"
	if r := a.do("GET", "/api/v1/aliases/shop/usage", "").want(200, ""); r.body != want {
		t.Errorf("got %s, want %s", r.body, want)
	}
}

func TestUsageRefused(t *testing.T) {
	t.Parallel()
	failure := alias.ErrUnavailable
	a := newAPI(t, withUsage(func(context.Context, int64) (alias.Usage, error) { return alias.Usage{}, failure }))
	a.register("shop")
	a.do("GET", "/api/v1/aliases/none/usage", "").want(404, "not-found")
	a.do("GET", "/api/v1/aliases/SHOP/usage", "").want(404, "not-found")
	a.do("GET", "/api/v1/aliases/shop/usage?since=x", "").want(400, "invalid")
	a.do("GET", "/api/v1/aliases/shop/usage", "{}").want(400, "bad-request")
	a.do("GET", "/api/v1/aliases/shop/usage", "").want(503, "unavailable")
	failure = errors.New("boom")
	a.do("GET", "/api/v1/aliases/shop/usage", "").want(500, "internal")
	a.do("GET", "/api/v1/aliases/shop/usage", "", "Authorization", "").want(401, "unauthorized")
}
