package sqlstore

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"ixmage/alias"
)

// BenchmarkFlush adds the usage of 10,000 aliases in batches of 500.
func BenchmarkFlush(b *testing.B) {
	path := filepath.Join(b.TempDir(), "registry.db")
	s, err := OpenSQLite(b.Context(), path)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	const n = 10000
	c := someCredential(1, "shop")
	err = s.Update(b.Context(), func(tx alias.Tx) error {
		if err := tx.InsertCredential(c); err != nil {
			return err
		}
		for i := range int64(n) {
			a := &alias.Alias{
				ID: 1<<40 + i*7919, Name: alias.Name(fmt.Sprint("a", i)), CredentialID: 1,
				State: alias.StateActive, Epoch: 1, Revision: 1,
			}
			if err := tx.InsertAlias(a); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	at, number := time.Now(), int64(0)
	flush := func() {
		for from := int64(0); from < n; from += 500 {
			number++
			batch := alias.UsageBatch{Writer: "w", Number: number, At: at}
			for i := from; i < from+500; i++ {
				u := alias.Usage{Since: at, Spent: alias.Tally{Requests: 3, Bytes: 40000}, Hit: alias.Tally{Requests: 50, Bytes: 1000000}}
				batch.Deltas = append(batch.Deltas, alias.UsageDelta{AliasID: 1<<40 + i*7919, Usage: u})
			}
			if err := s.AddUsage(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
		}
	}
	flush()
	for b.Loop() {
		flush()
	}
}
