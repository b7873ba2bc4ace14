package admin

import "testing"

type cacheReaderFunc func() CacheState

func (f cacheReaderFunc) CacheState() CacheState { return f() }

func TestCacheState(t *testing.T) {
	t.Parallel()
	newAPI(t).do("GET", "/api/v1/cache", "").want(501, "not-implemented")
	state := CacheState{}
	a := newAPI(t, func(c *Config) { c.CacheReader = cacheReaderFunc(func() CacheState { return state }) })
	get := func(query, want string) {
		t.Helper()
		if got := a.do("GET", "/api/v1/cache"+query, "").want(200, "").body; got != want+"\n" {
			t.Errorf("%q:\n got %s\nwant %s", query, got, want)
		}
	}
	get("", `{"tiers":[],"aliases":[]}`)
	state = CacheState{
		Tiers: []CacheTier{
			{Tier: "memory", Available: true, Bytes: 7, Capacity: 9, Entries: 1, Evictions: map[string]int64{"purged": 2, "capacity": 3}},
			{Tier: "disk"},
		},
		Aliases: []CacheAlias{{Alias: "b", Bytes: 1}, {Alias: "c", Bytes: 5, Evictions: AliasEvictions{1, 2, 3}}, {Alias: "a", Bytes: 1}},
	}
	const (
		tiers = `{"tiers":[{"tier":"memory","available":true,"bytes":7,"capacity":9,"entries":1,"evictions":{"capacity":3,"purged":2}},` +
			`{"tier":"disk","available":false,"bytes":0,"capacity":0,"entries":0,"evictions":{}}],"aliases":[`
		first = `{"alias":"c","bytes":5,"evictions":{"own":1,"pushed":2,"lost":3}}`
		none  = `"evictions":{"own":0,"pushed":0,"lost":0}}`
	)
	get("", tiers+first+`,{"alias":"a","bytes":1,`+none+`,{"alias":"b","bytes":1,`+none+`]}`)
	get("?limit=1", tiers+first+`]}`)
	a.do("GET", "/api/v1/cache?limit=0", "").want(400, "invalid")
	a.do("GET", "/api/v1/cache?after=a", "").want(400, "invalid")
}
