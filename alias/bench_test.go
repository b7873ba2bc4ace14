package alias_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
)

// seedMany stores n aliases, each with a sealed credential of its own, in few
// transactions.
func seedMany(b *testing.B, store alias.Store, sealer alias.Sealer, n int) {
	b.Helper()
	const batch = 10_000
	for from := 0; from < n; from += batch {
		err := store.Update(b.Context(), func(tx alias.Tx) error {
			for i := from; i < min(from+batch, n); i++ {
				if err := seedOne(tx, sealer, int64(i+1)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// seedOne spreads the ids over all of int64, as random ones are.
func seedOne(tx alias.Tx, sealer alias.Sealer, i int64) error {
	id := i * 0x5851F42D4C957F2D & (1<<63 - 1)
	sealed, err := sealer.Seal(alias.NewSecret(theSecret), id, 1)
	if err != nil {
		return err
	}
	at := time.UnixMicro(1_700_000_000_000_000 + i).UTC()
	name := alias.Name(fmt.Sprintf("customer-%06d", i))
	err = tx.InsertCredential(&alias.Credential{
		ID: id, Name: name, Provider: alias.Static{AccessKeyID: fmt.Sprintf("AKIA%016d", i)}, Sealed: sealed,
		Version: 1, State: alias.CredentialActive, Revision: 1, CreatedAt: at, UpdatedAt: at,
	})
	if err != nil {
		return err
	}
	a := draft(name)
	a.ID, a.CredentialID, a.Credential = id, id, name
	a.Bucket, a.Prefix = "media-of-"+string(name), "website/images/"
	a.State, a.Epoch, a.Revision, a.CreatedAt, a.UpdatedAt = alias.StateActive, 1, 1, at, at
	return tx.InsertAlias(a)
}

// BenchmarkOpen100k loads a registry of 100,000 aliases. MiB is the memory that stays on
// the heap; the database driver's own memory is outside of it and does not grow
// with the registry.
func BenchmarkOpen100k(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	sealer, err := seal.Open(b.Context(), seal.Spec{Dir: dir, Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	path := filepath.Join(dir, "registry.db")
	store, err := sqlstore.OpenSQLite(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	seedMany(b, store, sealer, n)
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	var took time.Duration
	var heap uint64
	for b.Loop() {
		before := liveHeap()
		start := time.Now()
		store, err := sqlstore.OpenSQLite(b.Context(), path)
		if err != nil {
			b.Fatal(err)
		}
		r, err := alias.Open(b.Context(), store, sealer, alias.Policy{})
		if err != nil {
			b.Fatal(err)
		}
		took += time.Since(start)
		heap = liveHeap() - before
		if got := r.Count()[alias.StateActive]; got != n {
			b.Fatalf("got %d aliases, want %d", got, n)
		}
		if err := store.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(took.Seconds()/float64(b.N), "load-s")
	b.ReportMetric(float64(heap)/(1<<20), "MiB")
}

func liveHeap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkCreateAlias makes aliases one by one in registries of two sizes. The
// cost must not follow the size, or making n of them would be quadratic. Look at
// B/op: the time is mostly the disk's, and on a shared one says little unless
// TMPDIR is in memory.
func BenchmarkCreateAlias(b *testing.B) {
	for _, n := range []int{1000, 100_000} {
		b.Run(fmt.Sprint("aliases=", n), func(b *testing.B) {
			f := newFixture(b)
			seedMany(b, f.store, f.sealer, n)
			r, err := alias.Open(b.Context(), f.store, f.sealer, alias.Policy{})
			if err != nil {
				b.Fatal(err)
			}
			use := pair("AKIA1")
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := r.CreateAlias(b.Context(), draft(alias.Name(fmt.Sprint("new-", i))), use); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLookup asks for aliases in turn, which in a large registry is mostly
// the time of the memory.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{1, 100_000} {
		f := newFixture(b)
		seedMany(b, f.store, f.sealer, n)
		r, err := alias.Open(b.Context(), f.store, f.sealer, alias.Policy{})
		if err != nil {
			b.Fatal(err)
		}
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("customer-%06d", i+1)
		}
		b.Run(fmt.Sprint("aliases=", n), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for i := 0; pb.Next(); i++ {
					if _, ok := r.Lookup(names[i%n]); !ok {
						b.Error("not found")
					}
				}
			})
		})
	}
}
