// Package cache keeps objects in memory under one byte budget and lets many
// readers share one fetch while its bytes arrive. It knows bytes and keys; what
// an object is, where it comes from and what a client may do with it is the
// caller's affair.
//
// Three laws hold everywhere in the package. An object becomes an entry only
// when it is complete and its source said so. No reader sees the last byte
// before that. Every byte that is held is counted, whoever holds it: entries,
// fetches, and entries already evicted that a slow reader still sends.
package cache

import (
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
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
	// less, or no more than Age, means that it is never stored and never shared,
	// but for Validate.
	Fresh time.Duration
	// Validate lets an object be stored that may not be served without asking
	// each time whether it is still the same.
	Validate bool
	// StaleWhileRevalidate is how long after that it may be served while it is fetched
	// anew, StaleIfError while that fails (RFC 5861).
	StaleWhileRevalidate, StaleIfError time.Duration
	// DefaultStaleWhileRevalidate says that StaleWhileRevalidate is the default of the object's space, which
	// Revalidate may replace.
	DefaultStaleWhileRevalidate bool
	// Age is how much of Fresh has passed by the time that Load returns.
	Age time.Duration
	// Same says that the entry which Load was told of is the object still. Meta
	// and times are new; Size and the bytes of Body count for nothing.
	Same bool
	// Body returns io.EOF only when the object is complete and checked; any
	// other end is an error. A Read must end when the context of its Load does.
	// The cache closes the body once, and never while it is being read.
	Body io.ReadCloser
}

// Load fetches an object. ctx lives as long as the fetch, whoever asked first:
// its cause is ErrAbandoned or ErrClosed when the cache ended it. old is what is
// stored and not fresh any more, nil if nothing is; it may be used until Load
// returns. Loads of one key must be interchangeable, since one of them answers for
// all. An error that is a *NotFound or an *Unavailable says what becomes of old.
type Load func(ctx context.Context, old *Entry) (*Source, error)

// Recorder is told what happens inside. Methods must be quick and safe for
// concurrent use.
type Recorder interface {
	// Evicted counts entries that left the tier: reason is capacity, expired,
	// replaced, purged or gone. New calls it with 0 for each, so that none has
	// to be missing until its first entry.
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

// fetchFloor is what fetches under way may hold together when Memory is
// smaller: without it, a small or absent cache could not share a fetch at all.
const fetchFloor = 32 << 20

// Cache is a memory tier and the fetches that fill it. All methods are safe for
// concurrent use.
//
// Lock order: Cache.mu before the locks of shards, bodies, missing and passes, and none
// of those before another of them. Neither a Load, a Source nor a Recorder is called with
// any lock held. A hit takes one shard's lock alone.
type Cache struct {
	memory     *memory
	negative   *negative
	hitForPass *hitForPass
	guard      guard

	base context.Context //nolint:containedctx // the life of all fetches, which outlive their callers
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	// generation counts what makes fetches or entries outdated: purges, Revalidate and
	// ForgetNegative. A fetch records it at its start, and what it is compared with when
	// the fetch ends tells whether its outcome still counts. Raised under mu.
	generation atomic.Uint64

	// mu guards what follows, the state of every fetch, and that no fetch starts after
	// Close.
	mu        sync.Mutex
	fetches   map[Key]*fetch // that requests join
	spaces    map[spaceID]*space
	refreshes int // fetches in the background that are under way
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
		memory:     newMemory(cfg, rec),
		negative:   newNegative(min(cfg.Memory, negativeMax)),
		hitForPass: newHitForPass(),
		guard:      guard{log},
		base:       base,
		stop:       stop,
		fetches:    make(map[Key]*fetch),
		spaces:     make(map[spaceID]*space),
	}
}

// Close cancels every fetch, waits until the last fetch has ended and drops
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
	e := c.memory.hit(key, now)
	return e, e != nil
}

// Has reports whether something is stored of key, fresh or not.
func (c *Cache) Has(key Key) bool { return c.memory.has(key) }

// Get returns the object of key: from memory, by joining a fetch, or by
// starting one with load. It returns once the object's metadata is known; the
// bytes follow through the Reader, which the caller must Close. An error of
// load reaches everybody who waits for it. ctx ends only this caller's wait.
//
// What is stored and not fresh is returned at once while its source allows that
// (StaleWhileRevalidate), and fetched anew by a fetch that nobody waits for. After that it
// waits for the fetch, and is returned if that fails (StaleIfError).
func (c *Cache) Get(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.get(ctx, key, load, false)
}

// GetPart is Get for who may need no more than the metadata. Where the bytes come
// for one reader alone and that is another, the Reader has none: it is NoBody.
func (c *Cache) GetPart(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.get(ctx, key, load, true)
}

func (c *Cache) get(ctx context.Context, key Key, load Load, part bool) (*Reader, error) {
	if c.hitForPass.marked(key) {
		return c.private(ctx, key, load, true)
	}
	w, err := c.join(key, load) //nolint:contextcheck // a fetch outlives who began it
	switch {
	case err != nil:
		return nil, err
	case w.entry != nil:
		return entryReader(w.entry, w.status), nil
	case w.fetch == nil:
		return c.private(ctx, key, load, true)
	}
	return w.wait(ctx, load, part)
}

// HeapBytes is how many bytes of bodies may lie on Go's heap, from where they are sent
// by copying. It is 0 where the system has memory files.
func (c *Cache) HeapBytes() int64 {
	if c.memory.arena != nil {
		return 0
	}
	return c.memory.held.limit
}

// Generation counts what invalidates something: who records it before a fetch, and
// finds it unchanged after, knows that nothing was purged meanwhile.
func (c *Cache) Generation() uint64 { return c.generation.Load() }

// Stats are the figures of the memory tier.
type Stats struct {
	Bytes    int64 // held now: entries, fetches, and evicted bodies still being sent
	Capacity int64
	Entries  int64
}

// Stats reads the current figures.
func (c *Cache) Stats() Stats { return c.memory.stats() }
