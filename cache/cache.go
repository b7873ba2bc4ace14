// Package cache keeps objects in memory under one byte budget and lets many
// readers share one fetch while its bytes arrive. It knows bytes and keys; what
// an object is, where it comes from and what a client may do with it is the
// caller's affair.
//
// Three laws hold everywhere in the package. An object becomes an entry only
// when it is complete and its source said so. No reader sees the last byte
// before that. Every byte that is held is counted, whoever holds it: entries,
// flights, and entries already evicted that a slow reader still sends.
package cache

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// Key names one object. Space is the immutable identity of whatever the object
// belongs to, Epoch its generation: raising it makes all older entries
// unreachable at once. Keys are compared whole, never joined to a string.
type Key struct {
	Space  int64
	Epoch  int64
	Object string
}

// Source is an object on its way: what is known of it, and its bytes.
type Source struct {
	// Meta is handed to every reader. It must not change any more.
	Meta any
	// MetaBytes is what Meta holds, for the byte budget.
	MetaBytes int64
	// Size is the exact length of Body, negative where it is not known.
	Size int64
	// Fresh is how long the object may be served without asking again. Zero or
	// less, or no more than Age, means that it is never stored and never shared.
	Fresh time.Duration
	// Age is how much of Fresh has passed by the time that Load returns.
	Age time.Duration
	// Body returns io.EOF only when the object is complete and checked; any
	// other end is an error. A Read must end when the context of its Load does.
	// The cache closes the body once, and never while it is being read.
	Body io.ReadCloser
}

// Load fetches an object. ctx lives as long as the fetch, whoever asked first:
// its cause is ErrAbandoned or ErrClosed when the cache ended it. Loads of one
// key must be interchangeable, since one of them answers for all.
type Load func(ctx context.Context) (*Source, error)

// Recorder is told what happens inside. Methods must be quick and safe for
// concurrent use.
type Recorder interface {
	// Evicted counts entries that left the tier: reason is capacity, expired
	// or replaced. New calls it with 0 for each, so that none has to be
	// missing until its first entry.
	Evicted(tier, reason string, n int)
}

// Config sizes a Cache, in bytes.
type Config struct {
	// Memory is the budget of the memory tier: bodies, keys and overhead of
	// entries and of fetches under way. Zero stores nothing; fetches are
	// shared all the same, within the floor below.
	Memory int64
	// ObjectMax is the size above which an object is streamed past the cache.
	ObjectMax int64
	// Log is told of loads and bodies that panic; nil discards.
	Log *slog.Logger
}

// flightFloor is what fetches under way may hold together when Memory is
// smaller: without it, a small or absent cache could not share a fetch at all.
const flightFloor = 32 << 20

// Cache is a memory tier and the flights that fill it. All methods are safe for
// concurrent use.
type Cache struct {
	objectMax int64
	memory    *memory
	passes    *passes
	rec       Recorder
	log       *slog.Logger

	base context.Context //nolint:containedctx // the life of all flights, which outlive their callers
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	// mu guards flights, parts of every flight, and that none starts after
	// Close. The locks of shards and blobs may be taken under it, and nothing
	// else may.
	mu      sync.Mutex
	flights map[Key]*flight
}

// New makes an empty cache, which tells rec of entries that leave. Close it to
// end what it has under way.
func New(cfg Config, rec Recorder) *Cache {
	base, stop := context.WithCancelCause(context.Background())
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Cache{
		objectMax: min(cfg.ObjectMax, max(cfg.Memory, flightFloor)),
		memory:    newMemory(cfg.Memory, rec),
		passes:    newPasses(),
		rec:       rec,
		log:       log,
		base:      base,
		stop:      stop,
		flights:   make(map[Key]*flight),
	}
}

// Close cancels every fetch, waits until the last flight has ended and drops
// what is stored. Readers of a cancelled fetch get an error; what a reader or a
// held entry has stays valid. Get fails with ErrClosed from then on.
func (c *Cache) Close() {
	c.mu.Lock()
	c.stop(ErrClosed)
	c.mu.Unlock()
	c.wg.Wait()
	c.memory.clear()
}

// Hit returns the fresh entry of key, if there is one, and marks it as used. It
// does not wait, start anything or allocate. The caller must Release the entry.
func (c *Cache) Hit(key Key, now time.Time) (*Entry, bool) {
	e, _ := c.memory.hit(key, now)
	return e, e != nil
}

// Get returns the object of key: from memory, by joining a flight, or by
// starting one with load. It returns once the object's metadata is known; the
// bytes follow through the Reader, which the caller must Close. An error of
// load reaches everybody who waits for it. ctx ends only this caller's wait.
func (c *Cache) Get(ctx context.Context, key Key, load Load) (*Reader, error) {
	if c.passes.marked(key) {
		return c.pass(ctx, key, load)
	}
	seat, err := c.join(key, load) //nolint:contextcheck // a flight outlives who began it
	if err != nil {
		return nil, err
	}
	if seat.entry != nil {
		return hitReader(seat.entry), nil
	}
	return c.board(ctx, seat, load)
}

// OnHeap reports that the system gives no memory file, so that bodies lie on Go's
// heap and are sent by copying.
func (c *Cache) OnHeap() bool { return c.memory.arena == nil }

// Stats are the figures of the memory tier.
type Stats struct {
	Bytes    int64 // held now: entries, flights, and evicted bodies still being sent
	Capacity int64
	Entries  int64
}

// Stats reads the current figures.
func (c *Cache) Stats() Stats { return c.memory.stats() }
