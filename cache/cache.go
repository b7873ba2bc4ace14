// Package cache keeps objects in memory under one byte budget and lets many
// readers share one fetch while its bytes arrive. It knows bytes and keys. The
// caller knows what an object is, where it comes from and what a client may do with it.
//
// Three laws hold everywhere in the package. An object becomes an entry only
// when it is complete and its source said so. No reader sees the last byte
// before that. Every byte in memory is counted, whoever holds it: entries,
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

// Key names one object. Space is the immutable identity of the owner of the object.
// Raising Epoch makes all older entries of a space unreachable at once. Keys are compared
// whole, never joined to a string.
type Key struct {
	Space  int64
	Epoch  int64
	Object string
}

// Source is an object that a Load has opened: its metadata and its bytes.
type Source struct {
	// Meta is given to every reader. It must not change any more.
	Meta any
	// MetaBytes is the memory that Meta takes, for the byte budget.
	MetaBytes int64
	// Size is the exact length of Body, negative if it is not known.
	Size int64
	// Fresh is how long the object may be served without asking the source again,
	// from an Age of 0 on. An object that is not fresh when it comes is neither
	// stored nor shared, unless Validate is set.
	Fresh time.Duration
	// Validate lets an object be stored that may only be served after the source has
	// confirmed, for each request, that it is still the same.
	Validate bool
	// StaleWhileRevalidate is how long the object may be served after that while it is
	// refreshed, StaleIfError while the source fails (RFC 5861).
	StaleWhileRevalidate, StaleIfError time.Duration
	// DefaultStaleWhileRevalidate says that StaleWhileRevalidate is the default of the object's space, which
	// Revalidate may replace.
	DefaultStaleWhileRevalidate bool
	// Age is how much of Fresh has passed when Load returns.
	Age time.Duration
	// Same says that the stored entry is still the current object. Meta and the times
	// replace those of the entry; Size and Body are ignored.
	Same bool
	// Body returns io.EOF only if the object is complete and its checksum is right;
	// any other end is an error. A Read must return when the context of its Load ends.
	// The cache closes Body once, and never during a Read.
	Body io.ReadCloser
}

// Load fetches an object. ctx lives as long as the fetch, and not as long as the request
// that began it; its cause is ErrAbandoned or ErrClosed if the cache ended it. old is the
// stored entry if it is not fresh any more, else nil; it may be used until Load returns.
// Loads of one key must be interchangeable, since one of them answers all requests. An
// error that is a *NotFound or an *Unavailable decides what happens to old.
type Load func(ctx context.Context, old *Entry) (*Source, error)

// Recorder counts what happens inside. Its methods must be quick and safe for concurrent
// use.
type Recorder interface {
	// Evicted counts entries that left the tier. reason is capacity, expired,
	// replaced, purged or gone. New calls it with 0 for each reason, so that the
	// counters exist before the first entry leaves.
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
	// Log gets a line for each load or body that panics; nil discards them.
	Log *slog.Logger
}

// fetchFloor is how many bytes all fetches may hold if Memory is smaller. Without it, a
// small or disabled cache could not share a fetch.
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

// New makes an empty cache. The caller must Close it, which ends its fetches.
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
// all entries. Readers of a cancelled fetch get an error. Bytes that a reader or a caller
// of Hit holds stay valid. From then on, Get fails with ErrClosed.
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

// Has reports whether there is an entry of key, fresh or not.
func (c *Cache) Has(key Key) bool { return c.memory.has(key) }

// Get returns the object of key: from memory, by joining a fetch, or by
// starting one with load. It returns once the object's metadata is known; the
// bytes follow through the Reader, which the caller must Close. An error of
// load reaches everybody who waits for it. ctx ends only this caller's wait.
//
// A stale entry is returned at once while its source allows that (StaleWhileRevalidate),
// and refreshed in the background. After that, Get waits for the fetch, and returns the
// stale entry if that fails (StaleIfError).
func (c *Cache) Get(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.get(ctx, key, load, false)
}

// GetMeta is Get for a caller that may need only the metadata. If another reader alone
// may have the bytes, the Reader has none: NoBody is set.
func (c *Cache) GetMeta(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.get(ctx, key, load, true)
}

func (c *Cache) get(ctx context.Context, key Key, load Load, metaOnly bool) (*Reader, error) {
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
	return w.wait(ctx, load, metaOnly)
}

// HeapBytes is how many bytes of bodies may lie on Go's heap, from where they are sent
// by copying. It is 0 where the system has memory files.
func (c *Cache) HeapBytes() int64 {
	if c.memory.arena != nil {
		return 0
	}
	return c.memory.held.limit
}

// Generation is that of the last purge or other invalidation in key's space and epoch. If
// it is the same before and after a request to the source, nothing of them was invalidated
// meanwhile.
func (c *Cache) Generation(key Key) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spaceLocked(key).changed
}

// Stats are the figures of the memory tier.
type Stats struct {
	Bytes    int64 // held now: entries, fetches, and evicted bodies still being sent
	Capacity int64
	Entries  int64
}

// Stats reads the current figures.
func (c *Cache) Stats() Stats { return c.memory.stats() }
