package cache

import (
	"context"
	"io"
	"maps"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

var (
	variantA = keyA.Variant("w=100")
	// besideA begins like keyA, and its variant is none of keyA.
	besideA = Key{keyA.Space, keyA.Epoch, keyA.Object + "b"}.Variant("w=100")
)

// TestPurgeVariant: a purge of an object reaches its variants, wherever they are, and no others.
func TestPurgeVariant(t *testing.T) {
	t.Parallel()
	for name, purge := range map[string]func(w *env) Purged{
		"key":    func(w *env) Purged { return w.Purge(keyA, true) },
		"prefix": func(w *env) Purged { return w.PurgePrefix(keyA, true) },
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			for _, k := range []Key{keyA, variantA, besideA} {
				w.all(t.Context(), k, w.good(k, 10))
			}
			got := purge(w)
			if w.Has(keyA) || w.Has(variantA) {
				t.Error("the variant is still there")
			}
			if name == "key" && (got.Entries != 2 || !w.Has(besideA)) {
				t.Errorf("purged %+v, and a variant of another object: %t", got, !w.Has(besideA))
			}
		})
	}
}

// TestVariantsOfObject: whatever comes and goes, variants are found by their object, each at its place.
func TestVariantsOfObject(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(16, 2))
	var all variants
	s := shard{variants: &all}
	s.init()
	for range 5_000 {
		key := Key{Space: int64(random.IntN(2)), Object: string(rune('a' + random.IntN(3)))}
		if n := random.IntN(6); n > 0 {
			key = key.Variant(string(rune('0' + n)))
		}
		switch old, e := s.entries[key], (&Entry{key: key}); {
		case old == nil:
			s.addLocked(e)
		case random.IntN(3) == 0:
			s.replaceLocked(old, e)
		default:
			s.removeLocked(old)
		}
		want := map[Key]int{} // variants by object
		for _, e := range s.all {
			if object, ok := e.key.objectOf(); ok {
				want[object]++
				if of := all.of[object]; int(e.atVariant) >= len(of) || of[e.atVariant] != e {
					t.Fatalf("%v is not at its place %d among %d", e.key, e.atVariant, len(of))
				}
			}
		}
		got := map[Key]int{}
		for object, list := range all.of {
			got[object] = len(list)
		}
		if !maps.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	}
}

// TestPurgeFetchedVariant: a variant that is being made of an object from before the purge does
// not become an entry, and a remembered failure is forgotten.
func TestPurgeFetchedVariant(t *testing.T) {
	t.Parallel()
	bubble(t, "", func(t *testing.T) {
		w := newEnv(t, roomy)
		body := newFeed()
		fetched := w.start(t.Context(), variantA, body.load(w, 10, time.Hour))
		other := keyA.Variant("w=200")
		w.all(t.Context(), other, func(context.Context, *Entry) (*Source, error) {
			return nil, &NotFound{Err: errBoom, For: time.Hour}
		})
		synctest.Wait()
		if got := w.Purge(keyA, false); got.Fetches != 1 || got.Negative != 1 {
			t.Errorf("purged %+v, want a fetch and a negative entry", got)
		}
		body.give(content(variantA, 10), io.EOF)
		(<-fetched).want(t, variantA, 10, Miss)
		w.wantEntry(variantA, false)
		w.all(t.Context(), other, w.good(other, 10)).want(t, other, 10, Miss)
	})
}

// TestPurgeVariantOnDisk: variants that an earlier process has written are purged too.
func TestPurgeVariantOnDisk(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, w *diskEnv, o object) {
		w.putFile(keyA, o)
		w.putFile(variantA, o)
		w.crash()
		if got := w.Purge(keyA, true); got.Err != nil {
			t.Fatal(got.Err)
		}
		w.crash()
		newer := o
		newer.Version = 2
		w.want(variantA, newer, Miss, w.load(variantA, newer))
	})
}
