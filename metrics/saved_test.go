package metrics

import (
	"strings"
	"testing"
)

func TestSaved(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name            string
		alias           string
		by              string
		requests, bytes int64
		want            []string // the lines
	}{
		{"hit", "shop", "hit", 1, 100, []string{`_requests_total{alias="shop",by="hit"} 1`, `_bytes_total{alias="shop",by="hit"} 100`}},
		{"collapsed", "shop", "collapsed", 3, 1 << 40, []string{`_requests_total{alias="shop",by="collapsed"} 3`, `_bytes_total{alias="shop",by="collapsed"} 1.099511627776e+12`}},
		{"304", "shop", "not_modified", 0, 7, []string{`_requests_total{alias="shop",by="not_modified"} 0`, `_bytes_total{alias="shop",by="not_modified"} 7`}},
		{"negative", "shop", "hit", -1, -1, []string{`_requests_total{alias="shop",by="hit"} 0`, `_bytes_total{alias="shop",by="hit"} 0`}},
		{"other word", "shop", "HIT", 1, 1, nil},
		{"no word", "shop", "", 1, 1, nil},
		{"no name", "", "hit", 1, 1, []string{`_requests_total{alias="_unknown",by="hit"} 1`, `_bytes_total{alias="_unknown",by="hit"} 1`}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{AliasCap: 1000})
			m.Series(row.alias).Saved(row.by, row.requests, row.bytes)
			var got []string
			for line := range strings.Lines(scrape(t, m)) {
				if rest, ok := strings.CutPrefix(line, "ixmage_saved"); ok {
					got = append(got, strings.TrimSpace(rest))
				}
			}
			if len(got) != len(row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
			for _, want := range row.want {
				if !strings.Contains(strings.Join(got, "\n"), want) {
					t.Errorf("no line %q in %q", want, got)
				}
			}
		})
	}
}

func TestSavedCapAndForget(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	shop := m.Series("shop")
	shop.Saved("hit", 1, 10)
	m.Series("second").Saved("hit", 2, 20)
	for _, want := range []string{`{alias="shop",by="hit"} 1`, `{alias="_other",by="hit"} 2`} {
		if !has(t, m, "ixmage_saved_requests_total"+want+"\n") {
			t.Errorf("no line %s", want)
		}
	}
	m.Forget("shop")
	shop.Saved("hit", 4, 40) // by a request that is still under way
	if !has(t, m, `ixmage_saved_requests_total{alias="_other",by="hit"} 6`+"\n") || !has(t, m, `ixmage_saved_bytes_total{alias="_other",by="hit"} 60`+"\n") {
		t.Errorf("after Forget:\n%s", scrape(t, m))
	}
	if has(t, m, `alias="shop"`) {
		t.Error("series outlive their alias")
	}
}

// A handle that loaded its cells before Forget does not bring the series back.
func TestSavedForgetRace(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 1})
	c := m.Series("shop").cells.Load()
	m.Forget("shop")
	m.savedCell(c, 0).requests.Inc()
	if has(t, m, `alias="shop"`) || !has(t, m, `ixmage_saved_requests_total{alias="_other",by="hit"} 1`) {
		t.Errorf("got:\n%s", scrape(t, m))
	}
}

//nolint:paralleltest // AllocsPerRun counts what other goroutines allocate too.
func TestSavedDoesNotAllocate(t *testing.T) {
	s := New(Config{AliasCap: 1000}).Series("shop")
	s.Saved("hit", 1, 4096)
	if n := testing.AllocsPerRun(100, func() { s.Saved("hit", 1, 4096) }); n != 0 {
		t.Errorf("got %v allocations", n)
	}
}

func BenchmarkSaved(b *testing.B) {
	s := New(Config{AliasCap: 1000}).Series("shop")
	b.ReportAllocs()
	for b.Loop() {
		s.Saved("hit", 1, 4096)
	}
}
