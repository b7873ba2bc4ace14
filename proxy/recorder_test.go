package proxy

import (
	"slices"
	"testing"
)

// roll is a recorder with room for some aliases.
type roll struct {
	room int
	own  []string
	asks int
}

// place counts for one alias, or for all that have none.
type place struct {
	roll  *roll
	alias string
}

func (p place) Request(Outcome)          {}
func (place) Saved(Saving, int64, int64) {}
func (place) SignatureCheck(string)      {}
func (p place) Shared() bool             { return !slices.Contains(p.roll.own, p.alias) }

func (r *roll) Series(alias string) Series {
	r.asks++
	if !slices.Contains(r.own, alias) && len(r.own) < r.room {
		r.own = append(r.own, alias)
	}
	if !slices.Contains(r.own, alias) {
		alias = ""
	}
	return place{r, alias}
}

func (r *roll) Forget(alias string) {
	r.own = slices.DeleteFunc(r.own, func(a string) bool { return a == alias })
}

func (r *roll) InFlight(int) {}

// A request that looked its alias up before that was deleted asks for the handle
// after everybody has forgotten it.
func TestSeriesOfDeletedAlias(t *testing.T) {
	t.Parallel()
	r := &roll{room: 10}
	aliases := map[string]bool{"shop": true, "blog": true}
	table := newSeriesTable(r, func(name string) bool { return aliases[name] })
	table.get("blog")
	delete(aliases, "shop")
	r.Forget("shop")
	table.forget("shop")
	if s := table.get("shop"); s == nil || !s.Shared() {
		t.Error("the handle is not one of many")
	}
	if !slices.Equal(r.own, []string{"blog"}) {
		t.Errorf("places are taken by %q", r.own)
	}
	if _, kept := (*table.view.Load())["shop"]; kept {
		t.Error("the table keeps it")
	}
	// Made again, it is as any other.
	aliases["shop"] = true
	if s := table.get("shop"); s.Shared() || len(r.own) != 2 {
		t.Errorf("made again, it has no place: %q", r.own)
	}
}

// The handle of an alias without a place is kept, so that its requests take no
// lock, until there may be a place for it.
func TestSeriesPastTheCap(t *testing.T) {
	t.Parallel()
	r := &roll{room: 1}
	table := newSeriesTable(r, func(string) bool { return true })
	for range 3 {
		if table.get("first").Shared() || !table.get("second").Shared() || !table.get("third").Shared() {
			t.Fatalf("the place has %q", r.own)
		}
	}
	if r.asks != 3 {
		t.Errorf("the recorder was asked %d times for 3 aliases", r.asks)
	}
	r.Forget("third") // has no place
	table.forget("third")
	if !table.get("second").Shared() || table.get("first").Shared() {
		t.Errorf("the place has %q", r.own)
	}
	r.Forget("first")
	table.forget("first")
	if table.get("second").Shared() || !table.get("third").Shared() {
		t.Errorf("the freed place has %q", r.own)
	}
}
