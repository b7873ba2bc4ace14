package metrics

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestSeriesLabels(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		alias   string
		request Request
		want    []string // beginnings of lines
		not     []string
	}{
		{
			name: "hit", alias: "shop", request: hit(100),
			want: []string{
				`ixmage_http_requests_total{alias="shop",code="200",method="GET"} 1`,
				`ixmage_http_request_duration_seconds_count{alias="shop",cache="hit"} 1`,
				`ixmage_http_time_to_first_byte_seconds_count{alias="shop",cache="hit"} 1`,
				`ixmage_http_response_bytes_total{alias="shop",cache="hit"} 100`,
				`ixmage_http_client_aborts_total{alias="shop"} 0`,
				`ixmage_cache_requests_total{alias="shop",cache="hit"} 1`,
			},
		},
		{
			name: "no name", request: Request{Method: "GET", Code: 404, Cache: "none"},
			want: []string{`ixmage_http_requests_total{alias="_unknown",code="404",method="GET"} 1`},
			not:  []string{`ixmage_cache_requests_total`},
		},
		{
			name: "name that is not text", alias: "\xff", request: hit(1),
			want: []string{`ixmage_http_requests_total{alias="_unknown",`},
		},
		{
			name: "name of the rest", alias: "_other", request: hit(1),
			want: []string{`ixmage_http_requests_total{alias="_other",`},
		},
		{
			name: "method of a stranger", alias: "shop", request: Request{Method: "get", Code: 405},
			want: []string{`ixmage_http_requests_total{alias="shop",code="405",method="other"} 1`},
		},
		{
			name: "code of nobody", alias: "shop", request: Request{Method: "HEAD", Code: 299},
			want: []string{`ixmage_http_requests_total{alias="shop",code="other",method="HEAD"} 1`},
		},
		{
			name: "cache word of nobody", alias: "shop", request: Request{Method: "GET", Code: 200, Cache: "HIT"},
			want: []string{`ixmage_http_request_duration_seconds_count{alias="shop",cache="none"} 1`},
			not:  []string{`ixmage_cache_requests_total`},
		},
		{
			name: "nothing was sent", alias: "shop",
			request: Request{Method: "GET", Code: 200, Cache: "miss", Bytes: -1, Aborted: true},
			want: []string{
				`ixmage_http_time_to_first_byte_seconds_count{alias="shop",cache="miss"} 0`,
				`ixmage_http_response_bytes_total{alias="shop",cache="miss"} 0`,
				`ixmage_http_client_aborts_total{alias="shop"} 1`,
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{AliasCap: 1000})
			m.Series(tt.alias).Request(tt.request)
			for _, want := range tt.want {
				if !has(t, m, want) {
					t.Errorf("no line %s in\n%s", want, scrape(t, m))
				}
			}
			for _, not := range tt.not {
				if has(t, m, not) {
					t.Errorf("unwanted line %s", not)
				}
			}
		})
	}
}

// Every known value has a slot of its own and its own text, and no two slots
// share one.
func TestSlots(t *testing.T) {
	t.Parallel()
	for want, label := range cacheLabels {
		if got := cacheSlot(label); got != want {
			t.Errorf("cacheSlot(%q) = %d, want %d", label, got, want)
		}
	}
	for want, label := range outcomeLabels {
		if got := outcomeSlot(label); got != want {
			t.Errorf("outcomeSlot(%q) = %d, want %d", label, got, want)
		}
	}
	seen := make(map[string]int)
	for code := -1; code < 1000; code++ {
		slot := codeSlot(code)
		label := codeLabel(slot)
		if label != "other" && label != fmt.Sprint(code) {
			t.Errorf("code %d is counted as %s", code, label)
		}
		if other, ok := seen[label]; ok && other != slot {
			t.Errorf("label %s has slots %d and %d", label, other, slot)
		}
		seen[label] = slot
	}
	if len(seen) != codeSlots {
		t.Errorf("%d labels of codes, want %d", len(seen), codeSlots)
	}
}

func TestSeriesCap(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	first := m.Series("first")
	if m.Series("first") != first {
		t.Error("the second handle of an alias differs from the first")
	}
	if m.Series("second") != m.Series(labelOther) {
		t.Error("an alias past the cap has a handle of its own")
	}
	m.Forget("second") // has no place, frees none
	if m.Series("third") != m.Series(labelOther) {
		t.Error("forgetting an alias without a place freed one")
	}
	if first.Shared() || !m.Series("third").Shared() || m.Series("").Shared() {
		t.Error("the handle of an alias with a place is shared, or that of one without is not")
	}
	m.Forget("first")
	if !first.Shared() {
		t.Error("the handle of a forgotten alias is not shared")
	}
	if m.Series("third") == m.Series(labelOther) {
		t.Error("forgetting an alias did not free its place")
	}
	if none := New(Config{}); none.Series("shop") != none.Series(labelOther) {
		t.Error("with a cap of 0 an alias has a handle of its own")
	}
}

func TestForget(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	s := m.Series("shop")
	use := func(s *Series) {
		for _, cache := range cacheLabels {
			s.Request(Request{
				Method: "GET", Code: 200, Cache: cache,
				Duration: time.Second, FirstByte: 1, Bytes: 1, Aborted: true,
			})
		}
		s.Request(Request{Method: "HEAD", Code: 299})
		for _, outcome := range outcomeLabels {
			m.OriginRequest("shop", outcome, time.Second)
		}
		m.OriginBytes("shop", 1)
		m.OriginRetries("shop", 1)
	}
	use(s)
	if !has(t, m, `ixmage_origin_bytes_total{alias="shop"} 1`) {
		t.Fatal("nothing was counted")
	}
	m.Forget("shop")
	if got := scrape(t, m); strings.Contains(got, "shop") {
		t.Errorf("series outlive their alias:\n%s", got)
	}

	use(s)
	if got := scrape(t, m); strings.Contains(got, "shop") {
		t.Errorf("a kept handle brought series back:\n%s", got)
	}
	for _, want := range []string{
		`ixmage_http_requests_total{alias="_other",code="200",method="GET"} 8`,
		`ixmage_origin_requests_total{alias="_other",outcome="ok"} 1`,
	} {
		if !has(t, m, want) {
			t.Errorf("no line %s", want)
		}
	}

	m.Series("shop").Request(hit(1))
	if !has(t, m, `ixmage_http_requests_total{alias="shop",code="200",method="GET"} 1`+"\n") {
		t.Error("an alias made again does not count from zero")
	}
}

// A request that loaded its cells before Forget finds no cell in them: it must
// not make one.
func TestForgetRaceOnFirstUse(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	before := m.Series("shop").cells.Load()
	m.Forget("shop")
	m.requestCell(before, methodSlot("GET"), codeSlot(200)).Inc()
	m.cacheCell(before, cacheSlot("hit")).bytes.Add(1)
	m.outcomeCell(before, outcomeSlot("ok")).Inc()
	m.originCell(before).bytes.Add(1)
	if got := scrape(t, m); strings.Contains(got, "shop") {
		t.Errorf("series came back:\n%s", got)
	}
	if !has(t, m, `ixmage_http_requests_total{alias="_other",code="200",method="GET"} 1`) {
		t.Error("the request is lost")
	}
}

func TestReservedNamesAreNotForgotten(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1000})
	for _, name := range []string{"", labelUnknown, labelOther} {
		m.Series(name).Request(hit(1))
		m.Forget(name)
	}
	for _, want := range []string{
		`alias="_unknown",code="200",method="GET"} 2`,
		`alias="_other",code="200",method="GET"} 1`,
	} {
		if !has(t, m, "ixmage_http_requests_total{"+want) {
			t.Errorf("no line with %s", want)
		}
	}
}

// What strangers send and what aliases come and go must not decide how many
// series there are.
func TestCardinality(t *testing.T) {
	t.Parallel()
	const aliasCap, names = 50, 100_000
	m := New(Config{AliasCap: aliasCap})
	random := rand.New(rand.NewPCG(1, 2))
	text := func() string { return fmt.Sprintf("%x", random.Uint64()) }
	for range names {
		name := text()
		q := Request{Method: text(), Code: random.IntN(100_000) - 10, Cache: text(), Bytes: 1, FirstByte: 1}
		if random.IntN(2) == 0 {
			q = Request{Method: "GET", Code: 100 + random.IntN(500), Cache: cacheLabels[random.IntN(cacheSlots)]}
		}
		series := m.Series(name)
		series.Request(q)
		series.SignatureCheck(text())
		m.OriginRequest(name, text(), 0)
		m.TransformJob(name, TransformJob{Outcome: text(), Format: text(), Encode: 1})
		m.WorkerEnded(text())
		if random.IntN(2) == 0 {
			m.Forget(name)
		}
	}
	if got := len(m.own); got > aliasCap {
		t.Errorf("%d aliases are remembered, cap %d", got, aliasCap)
	}
	shown := make(map[string]int) // lines by alias
	for line := range strings.Lines(scrape(t, m)) {
		if _, rest, ok := strings.Cut(line, `{alias="`); ok {
			alias, _, _ := strings.Cut(rest, `"`)
			shown[alias]++
		}
	}
	if got, limit := len(shown), aliasCap+1; got > limit {
		t.Errorf("%d aliases are shown, want at most %d", got, limit)
	}
	const linesMax = 455 // docs/metrics.md says so
	for alias, lines := range shown {
		if lines > linesMax {
			t.Errorf("alias %s has %d lines, want at most %d", alias, lines, linesMax)
		}
	}
	if shown[labelOther] < linesMax/2 {
		t.Errorf("_other has %d lines: the names past the cap were not counted", shown[labelOther])
	}
}

// Run with -race: requests, forgetting, new handles and scrapes at once.
func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 3})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 500 {
				name := fmt.Sprintf("alias-%d", j%5)
				m.InFlight(1)
				m.Series(name).Request(Request{
					Method: "GET", Code: statusCodes[j%len(statusCodes)], Cache: cacheLabels[j%cacheSlots],
				})
				m.OriginRequest(name, outcomeLabels[j%outcomeSlots], 0)
				m.Pushed(name, fmt.Sprintf("alias-%d", j%3), 1)
				if j%50 == i {
					m.Forget(name)
				}
				m.InFlight(-1)
			}
		})
	}
	for range 5 {
		scrape(t, m)
	}
	wg.Wait()
	for i := range 5 {
		m.Forget(fmt.Sprintf("alias-%d", i))
	}
	if got := scrape(t, m); strings.Contains(got, "alias-") {
		t.Errorf("series of forgotten aliases are left:\n%s", got)
	}
	if !has(t, m, "ixmage_http_requests_in_flight 0\n") {
		t.Error("requests in flight did not return to 0")
	}
}

//nolint:paralleltest // AllocsPerRun counts what other goroutines allocate too.
func TestRequestDoesNotAllocate(t *testing.T) {
	m := New(Config{AliasCap: 1000})
	s := m.Series("shop")
	run := func() {
		s.Request(hit(4096))
		s.Request(Request{Method: "HEAD", Code: 404, Cache: "negative", Aborted: true})
		m.OriginRequest("shop", "ok", time.Millisecond)
		m.OriginBytes("shop", 10)
	}
	if got := testing.AllocsPerRun(100, run); got != 0 {
		t.Errorf("%v allocations per run, want 0", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	s := New(Config{AliasCap: 1000}).Series("shop")
	q := hit(4096)
	b.ReportAllocs()
	for b.Loop() {
		s.Request(q)
	}
}

func BenchmarkRequestParallel(b *testing.B) {
	s := New(Config{AliasCap: 1000}).Series("shop")
	q := hit(4096)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			s.Request(q)
		}
	})
}

func BenchmarkOriginRequest(b *testing.B) {
	m := New(Config{AliasCap: 1000})
	m.Series("shop")
	b.ReportAllocs()
	for b.Loop() {
		m.OriginRequest("shop", "ok", time.Millisecond)
	}
}
