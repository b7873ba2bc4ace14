package storetest

import (
	"errors"
	"testing"

	"ixmage/alias"
)

func testRaiseEpoch(t *testing.T, s alias.Store) {
	c := credential(1, "shop")
	a, other := anAlias(1, "shop", c), anAlias(2, "other", c)
	seed(t, s, []*alias.Credential{c}, a, other)
	read := *a
	must(t, s, func(tx alias.Tx) error {
		err := errors.Join(tx.RaiseEpoch(1), tx.RaiseEpoch(1))
		if got, errRead := tx.Alias("shop"); errRead != nil || got.Epoch != a.Epoch+2 {
			t.Errorf("inside: got %+v, %v, want the epoch %d", got, errRead, a.Epoch+2)
		}
		return err
	})
	a.Epoch += 2
	wantAlias(t, s, a)
	wantAlias(t, s, other)

	wantError(t, "none", try(t, s, func(tx alias.Tx) error { return tx.RaiseEpoch(3) }), alias.ErrNotFound)
	stop := errors.New("stop")
	wantError(t, "rolled back", try(t, s, func(tx alias.Tx) error { return errors.Join(tx.RaiseEpoch(1), stop) }), stop)
	wantAlias(t, s, a)

	// One that was read before is not written over it.
	read.Revision, read.Bucket = 2, "changed"
	wantError(t, "epoch down", try(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&read) }), alias.ErrStale)
	wantAlias(t, s, a)
	read.Epoch = a.Epoch
	must(t, s, func(tx alias.Tx) error { return tx.UpdateAlias(&read) })
	wantAlias(t, s, &read)
}
