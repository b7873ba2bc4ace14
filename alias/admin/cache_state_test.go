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

// TestRestricted: a token with bucket patterns sees the cached aliases of its buckets, and no
// warnings.
func TestRestricted(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) {
		c.CacheReader = cacheReaderFunc(func() CacheState {
			return CacheState{Aliases: []CacheAlias{{Alias: "shop", Bytes: 2}, {Alias: "other", Bytes: 1}, {Alias: "gone"}}}
		})
		c.About.Warnings = []string{"the row of alias other is damaged"}
	})
	a.register("shop")
	a.do("POST", "/api/v1/aliases", `{"name":"other","bucket":"b-media","region":"eu-west-1","credential":`+keyPair+`}`).want(201, "")
	var made newTokenJSON
	a.do("POST", "/api/v1/tokens", `{"name":"tenant","roles":["read"],"buckets":["acme-*"]}`).want(201, "").decode(&made)
	own := []string{"Authorization", "Bearer " + made.Token}
	var state cacheJSON
	a.do("GET", "/api/v1/cache", "", own...).want(200, "").decode(&state)
	if len(state.Aliases) != 1 || state.Aliases[0].Alias != "shop" {
		t.Errorf("aliases: %+v", state.Aliases)
	}
	var about serverJSON
	a.do("GET", "/api/v1/server", "", own...).want(200, "").decode(&about)
	if len(about.Warnings) != 0 {
		t.Errorf("warnings: %q", about.Warnings)
	}
	for _, path := range []string{"/verification", "/picture?key=a.png"} {
		a.do("GET", "/api/v1/aliases/other"+path, "", own...).want(404, "not-found")
	}
	a.do("GET", "/api/v1/aliases/shop/picture?key=a.png", "", own...).want(501, "not-implemented")
}
