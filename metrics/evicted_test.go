package metrics

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// evictedLines returns the lines of evictions by alias.
func evictedLines(t *testing.T, m *Metrics) []string {
	t.Helper()
	var lines []string
	for line := range strings.Lines(scrape(t, m)) {
		if rest, ok := strings.CutPrefix(line, "ixmage_cache_alias_evictions_total"); ok {
			lines = append(lines, strings.TrimSpace(rest))
		}
	}
	return lines
}

// TestPushed: an eviction counts for the alias that needed the room and for the one that lost
// an entry, and gives no alias a series that has none.
func TestPushed(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, by, lost string
		n              int
		want           []string
	}{
		{"another", "shop", "blog", 2, []string{`{alias="blog",role="lost"} 2`, `{alias="shop",role="pushed"} 2`}},
		{"its own", "shop", "shop", 3, []string{`{alias="shop",role="own"} 3`}},
		{"nobody", "", "blog", 1, []string{`{alias="blog",role="lost"} 1`}},
		{"a deleted alias lost", "shop", "", 1, []string{`{alias="_other",role="lost"} 1`, `{alias="shop",role="pushed"} 1`}},
		{"a deleted alias lost for nobody", "", "", 1, []string{`{alias="_other",role="lost"} 1`}},
		{"past the cap", "third", "blog", 1, []string{`{alias="_other",role="pushed"} 1`, `{alias="blog",role="lost"} 1`}},
		{"none", "shop", "blog", 0, nil},
		{"negative", "shop", "blog", -1, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m := New(Config{AliasCap: 2})
			m.Series("shop")
			m.Series("blog")
			m.Pushed(row.by, row.lost, row.n)
			if got := evictedLines(t, m); !slices.Equal(got, row.want) {
				t.Errorf("got %q, want %q", got, row.want)
			}
		})
	}
}

// TestEvictionsRead: the counts can be read by their labels.
func TestEvictionsRead(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 2})
	m.Series("shop")
	m.Evicted("memory", "capacity", 2)
	m.Evicted("memory", "purged", 0)
	m.Evicted("disk", "capacity", 5)
	m.Pushed("shop", "gone", 3)
	m.Pushed("shop", "shop", 4)
	for name, c := range map[string][2]map[string]map[string]int64{
		"tiers":   {m.Evictions(), {"memory": {"capacity": 2, "purged": 0}, "disk": {"capacity": 5}}},
		"aliases": {m.AliasEvictions(), {"shop": {"pushed": 3, "own": 4}, "_other": {"lost": 3}}},
	} {
		if !reflect.DeepEqual(c[0], c[1]) {
			t.Errorf("%s: got %v, want %v", name, c[0], c[1])
		}
	}
}

// TestPushedForget: the series go with their alias, and an eviction after that does not make
// them again.
func TestPushedForget(t *testing.T) {
	t.Parallel()
	m := New(Config{AliasCap: 2})
	shop := m.Series("shop")
	m.Pushed("shop", "shop", 1)
	m.Forget("shop")
	if got := evictedLines(t, m); len(got) > 0 {
		t.Errorf("after the deletion: %q", got)
	}
	m.Pushed("shop", "shop", 1)
	shop.evicted(evictedLost, 2) // by an eviction that is under way
	want := []string{`{alias="_other",role="lost"} 2`, `{alias="_other",role="own"} 1`}
	if got := evictedLines(t, m); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
