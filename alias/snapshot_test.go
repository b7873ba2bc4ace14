package alias

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// TestRouteNeedsIdentity: an alias whose credential was made anew under the same
// name, which no sequence of writes leads to, must not be signed with it.
func TestRouteNeedsIdentity(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		uses       Name
		credential *Credential
		found      bool
	}{
		"its own":                    {"key", &Credential{ID: 1, Name: "key"}, true},
		"of another id":              {"key", &Credential{ID: 2, Name: "key"}, false},
		"none":                       {"key", &Credential{ID: 1, Name: "other"}, false},
		"of its name":                {"shop", &Credential{ID: 1, Name: "shop"}, true},
		"of its name and another id": {"shop", &Credential{ID: 2, Name: "shop"}, false},
		"of its name, not used":      {"key", &Credential{ID: 1, Name: "shop"}, false},
		"of its name, none":          {"shop", &Credential{ID: 1, Name: "other"}, false},
	} {
		a := &Alias{Name: "shop", CredentialID: 1, Credential: row.uses}
		s := (&snapshot{names: newTable(), states: map[State]int{}}).
			with([]Change{{AliasPut: a}, {CredentialPut: row.credential}})
		route, ok := s.route("shop")
		if ok != row.found || (route != Route{}) != row.found {
			t.Errorf("%s: got %v, %v, want found %v", name, route, ok, row.found)
		}
		s, _, damaged, err := load(t.Context(), fixedStore{credential: row.credential, alias: a})
		if err != nil || (len(damaged) == 0) != row.found {
			t.Errorf("%s: load: got %v, %v, want it to work: %v", name, damaged, err, row.found)
		}
		if !row.found && (!strings.Contains(damaged[0].Error(), "the alias shop is damaged: its credential "+string(row.uses)) ||
			s.names.get("shop").alias != nil) {
			t.Errorf("%s: load: got %v", name, damaged[0])
		}
	}
}

// fixedStore loads one alias and one credential, as no real store would.
type fixedStore struct {
	Store

	credential *Credential
	alias      *Alias
}

func (f fixedStore) Load(
	_ context.Context, credential func(*Credential) error, alias func(*Alias) error,
) (Position, error) {
	if err := credential(f.credential); err != nil {
		return Position{}, err
	}
	return Position{}, alias(f.alias)
}

// value is an entry that differs from every other.
func value() entry { return entry{alias: new(Alias)} }

// TestTableAgainstMap does the same random changes to a table and to maps, and
// looks at all of the old versions at the end: a change must not reach them.
func TestTableAgainstMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	type version struct {
		table table
		want  map[Name]entry
	}
	now := version{newTable(), map[Name]entry{}}
	var versions []version
	for i := range 5000 {
		name := Name(fmt.Sprint("n", rng.IntN(400)))
		now.want = maps.Clone(now.want)
		if rng.IntN(3) == 0 {
			now.table = now.table.with(name, entry{})
			delete(now.want, name)
		} else {
			e := value()
			now.table = now.table.with(name, e)
			now.want[name] = e
		}
		if i%100 == 0 {
			versions = append(versions, now)
		}
	}
	for i, v := range append(versions, now) {
		wantTable(t, fmt.Sprint("version ", i), v.table, v.want)
	}
}

func wantTable(t *testing.T, what string, got table, want map[Name]entry) {
	t.Helper()
	all, n := map[entry]bool{}, 0
	for e := range got.all() {
		all[e] = true
		n++
	}
	if n != len(want) {
		t.Errorf("%s: got length %d, want %d", what, n, len(want))
	}
	for name, e := range want {
		if !all[e] {
			t.Fatalf("%s: all has no %s", what, name)
		}
		if x := got.get(name); x != e {
			t.Errorf("%s: get %s: got %v, want %v", what, name, x, e)
		}
	}
	if x := got.get("none"); x != (entry{}) {
		t.Errorf("%s: get none: got %v", what, x)
	}
}

// TestTableFullMaps has many names in each map.
func TestTableFullMaps(t *testing.T) {
	t.Parallel()
	built, grown := newTable(), newTable()
	want, first := map[Name]entry{}, map[Name]entry{}
	for i := range 50_000 {
		name, e := Name(fmt.Sprint(i)), value()
		want[name] = e
		built.put(name, e)
		if i < 2000 {
			grown = grown.with(name, e)
			first[name] = e
		}
	}
	wantTable(t, "built", built, want)
	wantTable(t, "grown", grown, first)
	less := built
	for i := range 1000 {
		less = less.with(Name(fmt.Sprint(i)), entry{})
	}
	wantTable(t, "built, after changes to its successor", built, want)
	for i := range 1000 {
		delete(want, Name(fmt.Sprint(i)))
	}
	wantTable(t, "less", less, want)
}

// TestTableChangeCopiesOneMap ensures that n writes do not cost n squared:
// however large the table, all but one of its maps are shared with the next.
func TestTableChangeCopiesOneMap(t *testing.T) {
	t.Parallel()
	const n = 100_000
	before := newTable()
	for i := range n {
		before.put(Name(fmt.Sprint(i)), value())
	}
	for what, after := range map[string]table{
		"new name":     before.with("new", value()),
		"other value":  before.with("7", value()),
		"removed name": before.with("7", entry{}),
	} {
		branches, copied := 0, 0
		for i := range after.root {
			if after.root[i] == before.root[i] {
				continue
			}
			branches++
			for j, m := range after.root[i] {
				if reflect.ValueOf(m).Pointer() != reflect.ValueOf(before.root[i][j]).Pointer() {
					copied++
				}
			}
		}
		if branches != 1 || copied != 1 {
			t.Errorf("%s: %d branches and %d maps are not shared, want one of each", what, branches, copied)
		}
	}
	for _, b := range before.root {
		for _, m := range b {
			if len(m) > 2*n/(fan*fan) {
				t.Errorf("a map has %d of %d names", len(m), n)
			}
		}
	}
}

func TestTableRemoveUnknown(t *testing.T) {
	t.Parallel()
	a := value()
	one := newTable().with("a", a)
	wantTable(t, "without a name that is not there", one.with("b", entry{}), map[Name]entry{"a": a})
	wantTable(t, "empty", one.with("a", entry{}), map[Name]entry{})
}

func TestTableAllStops(t *testing.T) {
	t.Parallel()
	table, seen := newTable().with("a", value()).with("b", value()).with("c", value()), 0
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
			table, e := newTable(), value()
			for i := range size {
				table.put(Name(fmt.Sprint(i)), e)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				table = table.with(Name(fmt.Sprint(i%size)), e)
			}
		})
	}
}
