package alias

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestTableAgainstMap does the same random changes to a table and to maps, and
// looks at all of the old versions at the end: a change must not reach them.
func TestTableAgainstMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	type version struct {
		table table[int]
		want  map[Name]int
	}
	now := version{newTable[int](), map[Name]int{}}
	var versions []version
	for i := range 5000 {
		name := Name(fmt.Sprint("n", rng.IntN(400)))
		now.want = maps.Clone(now.want)
		if rng.IntN(3) == 0 {
			now.table = now.table.without(name)
			delete(now.want, name)
		} else {
			now.table = now.table.with(name, i)
			now.want[name] = i
		}
		if i%100 == 0 {
			versions = append(versions, now)
		}
	}
	for i, v := range append(versions, now) {
		wantTable(t, fmt.Sprint("version ", i), v.table, v.want)
	}
}

func wantTable(t *testing.T, what string, got table[int], want map[Name]int) {
	t.Helper()
	if all := maps.Collect(got.all()); !maps.Equal(all, want) {
		t.Fatalf("%s: got %v, want %v", what, all, want)
	}
	if got.len() != len(want) {
		t.Errorf("%s: got length %d, want %d", what, got.len(), len(want))
	}
	for name, v := range want {
		if x, ok := got.get(name); !ok || x != v {
			t.Errorf("%s: get %s: got %d, %v, want %d", what, name, x, ok, v)
		}
	}
	if x, ok := got.get("none"); ok || x != 0 {
		t.Errorf("%s: get none: got %d, %v", what, x, ok)
	}
}

// TestTableFullBuckets has enough names that many share a bucket.
func TestTableFullBuckets(t *testing.T) {
	t.Parallel()
	built, grown := newTable[int](), newTable[int]()
	want := map[Name]int{}
	for i := range 3 * fan * fan {
		name := Name(fmt.Sprint(i))
		want[name] = i
		built.put(name, i)
		if i < 2000 {
			grown = grown.with(name, i)
		}
	}
	wantTable(t, "built", built, want)
	less := built
	for i := range 1000 {
		less = less.without(Name(fmt.Sprint(i)))
	}
	wantTable(t, "built, after changes to its successor", built, want)
	for i := range 1000 {
		delete(want, Name(fmt.Sprint(i)))
	}
	wantTable(t, "less", less, want)
	if grown.len() != 2000 {
		t.Errorf("grown: got length %d, want 2000", grown.len())
	}
}

// TestTableChangeCopiesOneBranch is what keeps n writes from costing n squared:
// however large the table, all but one of its branches are shared with the next.
func TestTableChangeCopiesOneBranch(t *testing.T) {
	t.Parallel()
	before := newTable[int]()
	for i := range 100_000 {
		before.put(Name(fmt.Sprint(i)), i)
	}
	for what, after := range map[string]table[int]{
		"new name":     before.with("new", 1),
		"other value":  before.with("7", 1),
		"removed name": before.without("7"),
	} {
		branches, buckets := 0, 0
		for i := range after.root {
			if after.root[i] == before.root[i] {
				continue
			}
			branches++
			for j := range after.root[i] {
				if a, b := after.root[i][j], before.root[i][j]; len(a) != len(b) || len(a) > 0 && &a[0] != &b[0] {
					buckets++
				}
			}
		}
		if branches != 1 || buckets != 1 {
			t.Errorf("%s: %d branches and %d buckets are not shared, want one of each", what, branches, buckets)
		}
	}
}

func TestTableWithoutUnknown(t *testing.T) {
	t.Parallel()
	one := newTable[int]().with("a", 1)
	wantTable(t, "without a name that is not there", one.without("b"), map[Name]int{"a": 1})
	wantTable(t, "empty", one.without("a"), map[Name]int{})
}

func TestTableAllStops(t *testing.T) {
	t.Parallel()
	table, seen := newTable[int]().with("a", 1).with("b", 2).with("c", 3), 0
	for range table.all() {
		if seen++; seen == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("got %d names after a break at 2", seen)
	}
}

// BenchmarkTableWith shows that the cost of a change does not grow with the
// table.
func BenchmarkTableWith(b *testing.B) {
	for _, size := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("names=", size), func(b *testing.B) {
			table := newTable[int]()
			for i := range size {
				table.put(Name(fmt.Sprint(i)), i)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table = table.with(Name(fmt.Sprint(i%size)), i)
			}
		})
	}
}
