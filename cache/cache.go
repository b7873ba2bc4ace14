// Package cache keeps objects in memory under one byte budget, and on disk under another, and
// lets many readers share one fetch while its bytes arrive. It handles bytes and keys only: the
// caller defines the objects, their source and the rules for clients.
//
// Three invariants hold in the whole package. An object becomes an entry only
// when it is complete and its source said so. No reader sees the last byte
// before that. Every byte in memory is counted: in entries, in fetches, and in
// evicted entries that a slow reader still sends.
package cache

import (
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Key names one object. Space is the immutable identity of the owner of the object.
// Raising Epoch makes all older entries of a space unreachable at once. Keys are compared
// whole, never joined to a string.
//
// A derivation of an object has a Key of its own: see Variant. Apart from the separator there, an
// Object has no NUL.
type Key struct {
	Space  int64
	Epoch  int64
	Object string
}

// Variant returns the key of a derivation of the object of k, with a name that tells it from
// others. A purge of the object, or of a prefix of it, purges its variants.
func (k Key) Variant(name string) Key {
	k.Object += variantMark + name
	return k
}

const variantMark = "\x00"

// IsVariant reports whether k was made by Variant.
func (k Key) IsVariant() bool { return strings.Contains(k.Object, variantMark) }

// Source is an object that a Load has opened: its metadata and its bytes.
type Source struct {
	// Meta is given to every reader. It must not be modified after Load has returned.
	Meta any
	// MetaBytes is the memory that Meta takes, for the byte budget.
	MetaBytes int64
	// Size is the exact length of Body, negative if it is not known. Then the end of Body
	// tells it, and Measured, if set, returns the Meta of the entry, which must not take more
	// memory than Meta.
	Size     int64
	Measured func(size int64) any
	// Fresh is how long the object may be served without a request to the source,
	// from an Age of 0 on. An object that is not fresh when Load returns is neither
	// stored nor shared, unless Validate is set.
	Fresh time.Duration
	// Validate lets an object be stored that may only be served after the source has
	// confirmed, for each request, that it is still the same.
	Validate bool
	// StaleWhileRevalidate is how long the object may be served after Fresh while it is
	// refreshed, StaleIfError how long after Fresh while the source fails (RFC 5861).
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

// Load fetches an object. ctx ends with the fetch, and not with the request that started
// the fetch; its cause is ErrAbandoned or ErrClosed if the cache cancelled it. old is the
// stored entry if it is stale, else nil; it may be used until Load returns.
// Loads of one key must be interchangeable, since one of them answers all requests. An
// error that is a *NotFound or an *Unavailable decides what happens to old.
type Load func(ctx context.Context, old *Entry) (*Source, error)

// Recorder counts events in the cache. Its methods must be quick and safe for concurrent
// use.
type Recorder interface {
	// Evicted counts entries that left the tier. reason is capacity, expired,
	// replaced, purged or gone. New calls it with 0 for each reason, so that the
	// counters exist before the first entry leaves.
	Evicted(tier, reason string, n int)
	// Rejected counts objects that were not stored, or evicted while they were new, because
	// the entries that would have had to leave for them are requested at least as often.
	Rejected(tier string, n int)
	// Pushed counts entries of the space lost that were evicted for capacity to make room
	// for an object of the space by, which may be the same. by is 0 if the room is for a
	// reservation.
	Pushed(by, lost int64, n int)
}

// Config sizes a Cache, in bytes.
type Config struct {
	// Memory is the budget of the memory tier: bodies, keys and overhead of
	// entries and of running fetches. With zero nothing is stored; requests still
	// share fetches, within fetchFloor.
	Memory int64
	// ObjectMax is the size above which an object is streamed past the cache.
	ObjectMax int64
	// Relieve is called when a fetch needs memory that bodies in use may hold: pinned
	// bytes of limit are theirs. It may end the slowest of the readers that have called
	// Pin, and says what it did. It must not call the cache. Nil ends none.
	Relieve func(pinned, limit int64) Relief
	// Disk is the second tier; nil if there is none.
	Disk *Disk
	// Log gets a line for each load or body that panics; nil discards them.
	Log *slog.Logger
}

// fetchFloor is how many bytes all fetches may hold if Memory is smaller. Without it, a
// small or disabled cache could not share a fetch.
const fetchFloor = 32 << 20

// Cache is a memory tier, a disk tier and the fetches that fill them. All methods are safe
// for concurrent use.
//
// Lock order: Cache.mu before the locks of shards, files, bodies, negative and hitForPass. No
// goroutine holds two of the latter. No Load, Source or Recorder is called with a lock
// held, and the disk is not waited for. A hit in memory takes the lock of one shard only.
type Cache struct {
	memory     *memory
	disk       *Disk  // nil: there is no disk tier, and files and saver are nil too
	files      *files // entries whose bytes lie on disk
	saver      *saver
	negative   *negative
	hitForPass *hitForPass
	guard      guard

	base context.Context //nolint:containedctx // fetches end with the cache, not with their callers
	stop context.CancelCauseFunc
	wg   sync.WaitGroup

	// generation counts the events that make fetches or entries outdated: purges,
	// Revalidate and ForgetNegative. A fetch records it at its start, so that a later
	// event can invalidate its outcome. Incremented under mu.
	generation atomic.Uint64
	// variants says that there may be entries, fetches or negative entries of variants in memory.
	variants atomic.Bool

	// mu guards the fields below and the state of every fetch. Close cancels base under mu,
	// so that no fetch starts afterwards.
	mu        sync.Mutex
	fetches   map[Key]*fetch // requests join these
	moves     map[Key]*move  // entries on their way from the disk into a table
	spaces    map[spaceID]*space
	refreshes int // running background fetches
	moving    int // running moves, also those that were detached
}

// New makes an empty cache. The caller must Close it, which ends its fetches.
func New(cfg Config, rec Recorder) *Cache {
	base, stop := context.WithCancelCause(context.Background())
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	c := &Cache{
		memory:     newMemory(cfg, rec),
		negative:   newNegative(min(cfg.Memory, negativeMax)),
		hitForPass: newHitForPass(),
		guard:      guard{log},
		base:       base,
		stop:       stop,
		fetches:    make(map[Key]*fetch),
		moves:      make(map[Key]*move),
		spaces:     make(map[spaceID]*space),
	}
	if cfg.Disk != nil {
		c.disk, c.files, c.saver = cfg.Disk, newFiles(cfg.Disk.cfg.OpenFiles), newSaver(c.memory.held.limit)
		c.generation.Store(c.disk.Generation())
		c.wg.Go(c.runSaver)
	}
	return c
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
	if c.disk != nil {
		c.files.clear()
		c.disk.Close()
	}
}

// Hit returns the fresh entry of key, if it exists, and marks it as used. It
// neither waits nor allocates; but with a disk tier, it may start a copy of the entry from one
// tier to the other. The caller must Release the entry.
func (c *Cache) Hit(key Key, now time.Time) (*Entry, bool) {
	e := c.memory.hit(key, now)
	if c.disk == nil {
		return e, e != nil
	}
	if e == nil {
		if e = c.files.hit(key, now); e != nil {
			e.body.file.Touch()
			c.memory.request(key) // which decides whether it is promoted
			c.disk.hits.Add(1)
			c.promote(e)
		}
	} else if e.saved.Load() == unsaved {
		c.save(e, true) // a hit is at least the second request for e
	}
	return e, e != nil
}

// Has reports whether key has an entry, fresh or stale. It does not look on disk: see Open.
func (c *Cache) Has(key Key) bool { return c.memory.has(key) || c.disk != nil && c.files.has(key) }

// look returns the entry of key, fresh or stale, retained for the caller, and marks it as
// used.
func (c *Cache) look(key Key) *Entry {
	e := c.memory.look(key)
	if e == nil && c.disk != nil {
		e = c.files.look(key)
	}
	return e
}

// peek is look without counting as a use.
func (c *Cache) peek(key Key) *Entry {
	e := c.memory.peek(key)
	if e == nil && c.disk != nil {
		e = c.files.peek(key)
	}
	return e
}

// stores reports whether e is still the entry of its key.
func (c *Cache) stores(e *Entry) bool {
	if e.OnDisk() {
		return c.files.stores(e)
	}
	return c.memory.stores(e)
}

// remove removes e from all tiers, if it is still the entry of its key.
func (c *Cache) remove(e *Entry, reason string) {
	switch {
	case !e.OnDisk():
		c.memory.remove(e, reason)
	case !c.files.remove(e):
		return
	}
	c.dropFile(e.key, reason)
}

// Get returns the object of key: from memory, by joining a fetch, or by
// starting one with load. It returns once the object's metadata is known; the
// bytes follow through the Reader, which the caller must Close. An error of
// load is returned to every request that waits for it. ctx ends only this caller's wait.
//
// During StaleWhileRevalidate, a stale entry is returned at once and refreshed in the
// background. After that, Get waits for the fetch; if the fetch fails, Get returns the
// stale entry during StaleIfError.
func (c *Cache) Get(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.get(ctx, key, load, false)
}

// GetMeta is Get for a caller that may need only the metadata. If the bytes belong to
// another reader exclusively, the Reader has none and NoBody is set.
func (c *Cache) GetMeta(ctx context.Context, key Key, load Load) (*Reader, error) {
	return c.get(ctx, key, load, true)
}

func (c *Cache) get(ctx context.Context, key Key, load Load, metaOnly bool) (*Reader, error) {
	if c.hitForPass.marked(key) {
		return c.private(ctx, key, load, true)
	}
	c.Open(ctx, key)
	w, err := c.join(key, load) //nolint:contextcheck // a fetch does not end with the request that started it
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

// HeapBytes is the largest number of bytes that bodies may take on Go's heap; sending
// them copies them. It is 0 if the system has memory files.
func (c *Cache) HeapBytes() int64 {
	if c.memory.arena != nil {
		return 0
	}
	return c.memory.held.limit
}

// Generation returns the generation of the last purge or other invalidation in key's space
// and epoch. If it is equal before and after a request to the source, nothing in the epoch
// was invalidated in between.
func (c *Cache) Generation(key Key) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spaceLocked(key).changed
}

// Stats are the figures of the memory tier.
type Stats struct {
	Bytes    int64 // entries, fetches, and evicted bodies that are still being sent
	Pinned   int64 // of Bytes: fetches, and what slow readers keep from being freed
	Capacity int64
	Entries  int64
	Resident int64 // pages of bodies, freed ones that are kept for the next included; 0 if bodies are on the heap
}

// Stats reads the current figures.
func (c *Cache) Stats() Stats { return c.memory.stats() }
