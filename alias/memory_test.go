package alias_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// lossy is a store whose Update fails now and then: before the commit, or after
// it, as when a database commits and its answer is lost.
type lossy struct {
	alias.Store
	fail func() (before, after bool)
}

var errLost = errors.New("connection lost")

func (l *lossy) Update(ctx context.Context, fn func(alias.Tx) error) error {
	before, after := l.fail()
	err := l.Store.Update(ctx, func(tx alias.Tx) error {
		if err := fn(tx); err != nil || !before {
			return err
		}
		return errLost
	})
	if err == nil && after {
		return errLost
	}
	return err
}

// TestMemoryIsWhatIsStored does random operations on few names, with a store
// that loses answers, and compares with a registry that was opened anew.
func TestMemoryIsWhatIsStored(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			base := newFixture(t)
			rng := rand.New(rand.NewPCG(seed, 0))
			works := func() (before, after bool) { return false, false }
			breaks := func() (before, after bool) { n := rng.IntN(10); return n == 0, n == 1 }
			store := &lossy{Store: base.store, fail: works}
			f := openFixture(t, base.dir, store)
			names := []alias.Name{"a", "b"}
			lost, done := 0, 0
			for done < 25 || lost < 3 {
				store.fail = breaks
				err := randomWrite(t.Context(), f.Registry, rng, names)
				store.fail = works
				if err == nil {
					done++
				} else if errors.Is(err, errLost) {
					lost++
				}
				f.wantAsStored(t, names...)
			}
		})
	}
}

// TestLostSharedCredential loses the answer to the write that makes the shared
// credential: memory must find it although its name is not that of the alias.
func TestLostSharedCredential(t *testing.T) {
	t.Parallel()
	base := newFixture(t)
	base.create(t, "shop", pair("AKIA1"))
	store := &lossy{Store: base.store, fail: func() (before, after bool) { return false, true }}
	f := openFixture(t, base.dir, store)
	_, err := f.UpdateAlias(t.Context(), "shop", 0, func(_ *alias.Alias, use *alias.CredentialRef) error {
		use.Anonymous = true
		return nil
	})
	wantError(t, err, errLost, "")
	if route, ok := f.Lookup("shop"); !ok || route.Credential.Name != alias.SharedAnonymous {
		t.Errorf("got %+v", route)
	}
	f.wantAsStored(t, "shop")
}

// randomWrite does one of everything that writes.
func randomWrite(ctx context.Context, r *alias.Registry, rng *rand.Rand, names []alias.Name) error {
	name, other := names[rng.IntN(len(names))], names[rng.IntN(len(names))]
	revision := int64(rng.IntN(3)) // any, or perhaps the current one
	var err error
	switch rng.IntN(10) {
	case 0, 1:
		_, err = r.CreateAlias(ctx, draft(name), pair("AKIA1"))
	case 2:
		_, err = r.CreateAlias(ctx, draft(name), anonymous)
	case 3:
		_, err = r.CreateAlias(ctx, draft(name), alias.CredentialRef{Name: other})
	case 4:
		_, err = r.UpdateAlias(ctx, name, revision, func(a *alias.Alias, use *alias.CredentialRef) error {
			a.TTL, a.State = time.Duration(rng.IntN(3)), []alias.State{alias.StateActive, alias.StateFailed}[rng.IntN(2)]
			switch rng.IntN(4) {
			case 0:
				use.Name = other
			case 1:
				use.Anonymous = true
			case 2:
				a.Bucket = strings.Repeat("b", 3+rng.IntN(3))
			}
			return nil
		})
	case 5:
		err = r.DeleteAlias(ctx, name, revision)
	case 6:
		_, err = r.CreateCredential(ctx, name, pair("AKIA2"))
	case 7:
		_, err = r.ReplaceKeyPair(ctx, name, revision, *pair("AKIA3").KeyPair)
	case 9:
		_, err = r.RaiseEpoch(ctx, name)
	case 8:
		err = r.DeleteCredential(ctx, name, revision)
	}
	return err
}
