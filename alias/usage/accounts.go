// Package usage counts, for each alias, the requests and bytes that it has cost at
// S3 and those that the cache saved. It counts in memory and adds to the store at
// an interval, so that a request costs a few atomic additions and a crash loses one
// interval at most.
package usage

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/internal/panics"
)

// Limits of one batch.
const (
	// maxBatch keeps a transaction short: writers of the registry wait for it.
	maxBatch     = 500
	flushTimeout = 10 * time.Second
)

// Store keeps usage permanently; alias.Store implements it.
type Store interface {
	AddUsage(ctx context.Context, b alias.UsageBatch) error
	Usage(ctx context.Context, q alias.UsageQuery) (map[int64]alias.UsageHistory, error)
}

// Config holds the dependencies of Accounts.
type Config struct {
	Store Store
	Every time.Duration // interval of Run; Run needs a positive one
	Log   *slog.Logger
}

// Accounts has the accounts of all aliases. Its methods are safe for concurrent
// use; only Usage, Flush and Run do I/O.
//
// A count is in one of three places: in an account, in pending, or stored. A batch
// that failed stays pending until the store confirms it, because the store may have
// committed it although the answer was lost. The store identifies batches by writer and
// number, and adds each once.
type Accounts struct {
	cfg      Config
	writer   string
	accounts sync.Map // of int64 to *Account

	// storing holds a token while the store is used, and guards the fields below. It is a
	// channel, so that waiting for it ends with the context.
	storing chan struct{}
	number  int64
	pending *alias.UsageBatch
}

// New makes Accounts without counts. They are stored while Run runs.
func New(cfg Config) *Accounts {
	return &Accounts{cfg: cfg, writer: rand.Text(), storing: make(chan struct{}, 1)}
}

// Of returns the account of an alias, and makes it if necessary.
func (s *Accounts) Of(aliasID int64) *Account {
	if a, ok := s.accounts.Load(aliasID); ok {
		return a.(*Account)
	}
	a, _ := s.accounts.LoadOrStore(aliasID, &Account{id: aliasID})
	return a.(*Account)
}

// Forget drops the account of a deleted alias; its stored usage is deleted with the
// alias itself. Counts on an account that is still held are lost.
func (s *Accounts) Forget(aliasID int64) { s.accounts.Delete(aliasID) }

// Usage returns all counts of aliases, stored or not; an alias without any is absent.
// Counts that are not stored yet are in the period of q.Now.
func (s *Accounts) Usage(ctx context.Context, q alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	// The pending batch may be stored already. If storing it again succeeds, it is in the
	// sum of the store; otherwise it is added here.
	_ = s.storePending(ctx) // a store that cannot be written may be readable
	all, err := s.cfg.Store.Usage(ctx, q)
	if err != nil {
		return nil, err
	}
	pending := make(map[int64]alias.Usage)
	if s.pending != nil {
		for _, d := range s.pending.Deltas {
			pending[d.AliasID] = d.Usage
		}
	}
	h := histories{all, q}
	for _, id := range q.AliasIDs {
		if u, ok := pending[id]; ok {
			h.add(id, s.pending.At, u)
		}
		if a, ok := s.accounts.Load(id); ok {
			h.add(id, q.Now, a.(*Account).load())
		}
	}
	return all, nil
}

// histories are the answer to a query.
type histories struct {
	all map[int64]alias.UsageHistory
	q   alias.UsageQuery
}

// add adds a usage at a time to the history of an alias.
func (r histories) add(id int64, at time.Time, u alias.Usage) {
	if u == (alias.Usage{}) {
		return
	}
	h := r.all[id]
	h.Usage = h.Plus(u)
	if r.q.By != "" && u != (alias.Usage{Since: u.Since}) {
		if h.Periods == nil {
			h.Periods = make(map[time.Time]alias.Usage)
		}
		period := r.q.By.Begin(at)
		h.Periods[period] = h.Periods[period].Plus(u)
	}
	r.all[id] = h
}

// Run flushes at the interval until ctx ends, and once more afterwards. It returns nil.
func (s *Accounts) Run(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.flush(ctx); err != nil {
				s.cfg.Log.WarnContext(ctx, "store usage failed; the counts stay in memory until the next flush", "error", err)
			}
		case <-ctx.Done():
			if err := s.flush(context.WithoutCancel(ctx)); err != nil {
				s.cfg.Log.WarnContext(ctx, "store usage failed at shutdown; counts since the last flush are lost", "error", err)
			}
			return nil
		}
	}
}

func (s *Accounts) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return panics.Catch(s.cfg.Log, "store usage", func() error { return s.Flush(ctx) })
}

// Flush stores all counts. An error loses no count: the next call stores the same batch
// again.
func (s *Accounts) Flush(ctx context.Context) error {
	unlock, err := s.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := s.storePending(ctx); err != nil {
		return err
	}
	var accounts []*Account
	s.accounts.Range(func(_, a any) bool {
		accounts = append(accounts, a.(*Account))
		return true
	})
	for some := range slices.Chunk(accounts, maxBatch) {
		s.collect(some)
		if err := s.storePending(ctx); err != nil {
			return err
		}
	}
	return nil
}

// collect moves counts from accounts to a new pending batch. There must be no pending
// batch.
func (s *Accounts) collect(accounts []*Account) {
	var deltas []alias.UsageDelta
	for _, a := range accounts {
		if u := a.take(); u != (alias.Usage{Since: u.Since}) {
			deltas = append(deltas, alias.UsageDelta{AliasID: a.id, Usage: u})
		}
	}
	if len(deltas) == 0 {
		return
	}
	s.number++
	s.pending = &alias.UsageBatch{Writer: s.writer, Number: s.number, At: time.Now(), Deltas: deltas}
}

// storePending adds the pending batch to the store, if there is one.
func (s *Accounts) storePending(ctx context.Context) error {
	if s.pending == nil {
		return nil
	}
	if err := s.cfg.Store.AddUsage(ctx, *s.pending); err != nil {
		return fmt.Errorf("store the usage of %d aliases: %w", len(s.pending.Deltas), err)
	}
	s.pending = nil
	return nil
}

func (s *Accounts) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.storing <- struct{}{}:
		return func() { <-s.storing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
