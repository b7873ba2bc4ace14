// Package usage counts per alias what S3 was asked for and what it was spared.
// It counts in memory and adds to the store now and then, so that a request costs
// some atomic additions and a crash one interval at most.
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

// Limits of one way to the store.
const (
	// maxBatch keeps a transaction short: writers of the registry wait for it.
	maxBatch     = 500
	flushTimeout = 10 * time.Second
)

// Store keeps usage for good; alias.Store does.
type Store interface {
	AddUsage(ctx context.Context, b alias.UsageBatch) error
	Usage(ctx context.Context, aliasID int64) (alias.Usage, error)
}

// Config is what an Accounts works with.
type Config struct {
	Store Store
	Every time.Duration // interval of Run; must be positive for it
	Log   *slog.Logger
}

// Accounts has the accounts of all aliases. Its methods are safe for concurrent
// use; only Usage, Flush and Run do I/O.
//
// Counts are in one of three places: in accounts, in pending, or stored. A batch
// that failed stays as it is until it has been added, because nobody knows
// whether it was: the store may have committed it and the answer was lost. The
// store tells by writer and number, and adds it once.
type Accounts struct {
	cfg      Config
	writer   string
	accounts sync.Map // of int64 to *Account

	// turn holds one token, as in alias.Registry. Who has it may go to the store,
	// and use the fields below.
	turn    chan struct{}
	number  int64
	pending *alias.UsageBatch
}

// New makes an empty usage. It counts into the store while Run runs.
func New(cfg Config) *Accounts {
	return &Accounts{cfg: cfg, writer: rand.Text(), turn: make(chan struct{}, 1)}
}

// Of is the account of an alias, made if need be.
func (l *Accounts) Of(aliasID int64) *Account {
	if a, ok := l.accounts.Load(aliasID); ok {
		return a.(*Account)
	}
	a, _ := l.accounts.LoadOrStore(aliasID, &Account{id: aliasID})
	return a.(*Account)
}

// Forget drops the account of an alias that is gone; what is stored goes with the
// alias itself. Who still holds the account counts for nobody.
func (l *Accounts) Forget(aliasID int64) { l.accounts.Delete(aliasID) }

// Usage is all that was counted for an alias, stored or not.
func (l *Accounts) Usage(ctx context.Context, aliasID int64) (alias.Usage, error) {
	end, err := l.begin(ctx)
	if err != nil {
		return alias.Usage{}, err
	}
	defer end()
	// What is pending may be stored already. Only when it surely is or is not, it
	// is known whether to add it.
	_ = l.settle(ctx) // a store that cannot take it still may be read
	total, err := l.cfg.Store.Usage(ctx, aliasID)
	if err != nil {
		return alias.Usage{}, err
	}
	if l.pending != nil {
		for _, d := range l.pending.Deltas {
			if d.AliasID == aliasID {
				total = total.Plus(d.Usage)
			}
		}
	}
	if a, ok := l.accounts.Load(aliasID); ok {
		total = total.Plus(a.(*Account).load())
	}
	return total, nil
}

// Run flushes every so often until ctx ends, and once more then. It returns nil.
func (l *Accounts) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := l.flush(ctx); err != nil {
				l.cfg.Log.WarnContext(ctx, "the usage could not be stored; it is kept in memory and tried again", "error", err)
			}
		case <-ctx.Done():
			if err := l.flush(context.WithoutCancel(ctx)); err != nil {
				l.cfg.Log.WarnContext(ctx, "the usage since the last time could not be stored and is lost", "error", err)
			}
			return nil
		}
	}
}

func (l *Accounts) flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, flushTimeout)
	defer cancel()
	return panics.Catch(l.cfg.Log, "storing of usage", func() error { return l.Flush(ctx) })
}

// Flush stores what was counted. After an error nothing is lost: the same is
// tried by the next call.
func (l *Accounts) Flush(ctx context.Context) error {
	end, err := l.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	if err := l.settle(ctx); err != nil {
		return err
	}
	var accounts []*Account
	l.accounts.Range(func(_, a any) bool {
		accounts = append(accounts, a.(*Account))
		return true
	})
	for some := range slices.Chunk(accounts, maxBatch) {
		l.collect(some)
		if err := l.settle(ctx); err != nil {
			return err
		}
	}
	return nil
}

// collect takes counts out of accounts and makes them the pending batch. There
// must be none.
func (l *Accounts) collect(accounts []*Account) {
	var deltas []alias.UsageDelta
	for _, a := range accounts {
		if u := a.take(); u != (alias.Usage{Since: u.Since}) {
			deltas = append(deltas, alias.UsageDelta{AliasID: a.id, Usage: u})
		}
	}
	if len(deltas) == 0 {
		return
	}
	l.number++
	l.pending = &alias.UsageBatch{Writer: l.writer, Number: l.number, At: time.Now(), Deltas: deltas}
}

// settle adds the pending batch to the store, if there is one.
func (l *Accounts) settle(ctx context.Context) error {
	if l.pending == nil {
		return nil
	}
	if err := l.cfg.Store.AddUsage(ctx, *l.pending); err != nil {
		return fmt.Errorf("store the usage of %d aliases: %w", len(l.pending.Deltas), err)
	}
	l.pending = nil
	return nil
}

func (l *Accounts) begin(ctx context.Context) (end func(), err error) {
	select {
	case l.turn <- struct{}{}:
		return func() { <-l.turn }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
