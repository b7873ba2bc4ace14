package admin

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	"ixmage/alias"
)

// usageFunc is a UsageReader made of a function.
type usageFunc func(q alias.UsageQuery) (map[int64]alias.UsageHistory, error)

func (f usageFunc) Usage(_ context.Context, q alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
	return f(q)
}

func withUsage(f usageFunc) func(*Config) { return func(c *Config) { c.UsageReader = f } }

func TestUsage(t *testing.T) {
	t.Parallel()
	var id int64
	var answer alias.Usage
	a := newAPI(t, withUsage(func(q alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
		id = q.AliasIDs[0]
		if answer == (alias.Usage{}) {
			return nil, nil //nolint:nilnil // no alias has usage
		}
		return map[int64]alias.UsageHistory{id: {Usage: answer}}, nil
	}))
	a.register("shop")
	const nothing = `{"requests":0,"bytes":0}`
	want := `{"alias":"shop","since":null,"spent":` + nothing + `,"saved":{"hit":` + nothing + `,"collapsed":` + nothing +
		`,"not_modified":` + nothing + `},"transforms":{"jobs":0,"worker_ms":0,"saved_bytes":0}}` + "\n"
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
		Transforms: alias.Work{Jobs: 9, Milliseconds: 10, SavedBytes: 11},
	}
	want = `{"alias":"shop","since":"2026-02-03T04:05:06.000007Z","spent":{"requests":1,"bytes":2},"saved":{"hit":{"requests":3,"bytes":9007199254740992},` +
		`"collapsed":{"requests":5,"bytes":6},"not_modified":{"requests":0,"bytes":8}},"transforms":{"jobs":9,"worker_ms":10,"saved_bytes":11}}` + "\n"
	if r := a.do("GET", "/api/v1/aliases/shop/usage", "").want(200, ""); r.body != want {
		t.Errorf("got %s, want %s", r.body, want)
	}
}

// usageHistories counts n requests of an alias in the n-th period from the last one.
type usageHistories map[alias.Name][]int

func (h usageHistories) reader(a *api) usageFunc {
	return func(q alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
		found := map[int64]alias.UsageHistory{}
		for name, back := range h {
			stored, err := a.store.Alias(a.t.Context(), name)
			if err != nil {
				return nil, err
			}
			u := alias.UsageHistory{Periods: map[time.Time]alias.Usage{}}
			for _, n := range back {
				one := alias.Usage{Hit: alias.Tally{Requests: int64(n)}}
				u.Usage = u.Plus(one)
				if q.By != "" && n < q.Last {
					u.Periods[q.By.Begin(q.Now).Add(-time.Duration(n)*q.By.Length())] = one
				}
			}
			found[stored.ID] = u
		}
		return found, nil
	}
}

// usageAnswer is an answer to a call for usage.
type usageAnswer struct {
	Alias string
	Saved struct{ Hit struct{ Requests int } }

	Series *[]struct {
		At    time.Time
		Saved struct{ Hit struct{ Requests int } }
	}
}

func TestUsageSeries(t *testing.T) {
	t.Parallel()
	var reader usageFunc
	a := newAPI(t, withUsage(func(q alias.UsageQuery) (map[int64]alias.UsageHistory, error) { return reader(q) }))
	for _, name := range []string{"busy", "idle", "old", "shop"} {
		a.register(name)
	}
	reader = usageHistories{"busy": {1, 3, 40, 200}, "old": {200}, "shop": {2}}.reader(a)
	for _, row := range []struct {
		query  string
		length time.Duration
		points int
		hits   map[string][]int // by alias, in the n-th period from the last one
	}{
		{"by=hour", time.Hour, 72, map[string][]int{"busy": {1, 3, 40}, "idle": nil, "old": nil, "shop": {2}}},
		{"by=day", 24 * time.Hour, 90, map[string][]int{"busy": {1, 3, 40}, "idle": nil, "old": nil, "shop": {2}}},
		{"by=hour&last=3", time.Hour, 3, map[string][]int{"busy": {1}, "idle": nil, "old": nil, "shop": {2}}},
		{"by=day&last=2&after=busy&limit=2", 24 * time.Hour, 2, map[string][]int{"idle": nil, "old": nil}},
		{"by=day&last=90&after=shop", 24 * time.Hour, 90, map[string][]int{}},
	} {
		t.Run(row.query, func(t *testing.T) {
			var list struct{ Usage []usageAnswer }
			body := a.do("GET", "/api/v1/usage?"+row.query, "").want(200, "").body
			if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Usage) != len(row.hits) || list.Usage == nil {
				t.Fatalf("got %s, %v", body, err)
			}
			for i, u := range list.Usage {
				if i > 0 && list.Usage[i-1].Alias >= u.Alias {
					t.Errorf("%s is behind %s", u.Alias, list.Usage[i-1].Alias)
				}
				wantPoints(t, u, row.hits[u.Alias], row.points, row.length)
			}
		})
	}
	var one usageAnswer
	body := a.do("GET", "/api/v1/aliases/busy/usage?by=hour", "").want(200, "").body
	if err := json.Unmarshal([]byte(body), &one); err != nil || one.Saved.Hit.Requests != 244 {
		t.Errorf("got %s, %v", body, err)
	}
	wantPoints(t, one, []int{1, 3, 40}, 72, time.Hour)
	var sums struct{ Usage []usageAnswer }
	body = a.do("GET", "/api/v1/usage", "").want(200, "").body
	if err := json.Unmarshal([]byte(body), &sums); err != nil || len(sums.Usage) != 4 || sums.Usage[0].Series != nil || sums.Usage[3].Saved.Hit.Requests != 2 {
		t.Errorf("got %s, %v", body, err)
	}
}

// wantPoints: a series without hits is empty, any other has every period, the oldest first.
func wantPoints(t *testing.T, u usageAnswer, hits []int, points int, length time.Duration) {
	t.Helper()
	if hits == nil {
		points = 0
	}
	if u.Series == nil || len(*u.Series) != points {
		t.Fatalf("%s: got %v, want %d points", u.Alias, u.Series, points)
	}
	got := map[int]bool{}
	for i, p := range *u.Series {
		if !p.At.Equal(p.At.Truncate(length)) || i > 0 && p.At.Sub((*u.Series)[i-1].At) != length {
			t.Errorf("%s: point %d is at %s", u.Alias, i, p.At)
		}
		if n := p.Saved.Hit.Requests; n > 0 {
			got[n] = n == points-1-i
		}
	}
	for _, n := range hits {
		if !got[n] {
			t.Errorf("%s: %d is not in its period", u.Alias, n)
		}
	}
	if len(got) != len(hits) {
		t.Errorf("%s: got %v, want %v", u.Alias, got, hits)
	}
}

func TestUsageRefused(t *testing.T) {
	t.Parallel()
	failure := alias.ErrUnavailable
	a := newAPI(t, withUsage(func(alias.UsageQuery) (map[int64]alias.UsageHistory, error) { return nil, failure }))
	a.register("shop")
	a.do("GET", "/api/v1/aliases/none/usage", "").want(404, "not-found")
	a.do("GET", "/api/v1/aliases/SHOP/usage", "").want(404, "not-found")
	a.do("GET", "/api/v1/aliases/none/usage?by=hour", "").want(404, "not-found")
	for _, path := range []string{"/api/v1/aliases/shop/usage", "/api/v1/usage"} {
		for _, query := range []string{
			"since=x", "by=", "by=Hour", "by=week", "by=hour&by=day", "last=3", "by=hour&last=", "by=hour&last=0", "by=hour&last=-1",
			"by=hour&last=73", "by=day&last=91", "by=day&last=1.5", "by=day&last=99999999999999999999",
		} {
			a.do("GET", path+"?"+query, "").want(400, "invalid")
		}
		a.do("GET", path, "{}").want(400, "bad-request")
		a.do("GET", path, "").want(503, "unavailable")
		a.do("GET", path, "", "Authorization", "").want(401, "unauthorized")
	}
	r := a.do("GET", "/api/v1/usage?by=week&limit=0&after=A", "").want(400, "invalid")
	if got := r.fields(); !slices.Equal(slices.Sorted(slices.Values(got)), []string{"after", "by", "limit"}) {
		t.Errorf("got problems of %q", got)
	}
	a.do("GET", "/api/v1/aliases/shop/usage?limit=1", "").want(400, "invalid")
	failure = errors.New("boom")
	a.do("GET", "/api/v1/aliases/shop/usage", "").want(500, "internal")
	a.do("GET", "/api/v1/usage", "").want(500, "internal")
	b := newAPI(t)
	b.register("shop")
	b.do("GET", "/api/v1/usage", "").want(501, "not-implemented")
}
