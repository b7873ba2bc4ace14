package disk

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Store is a disk tier. All methods are safe for concurrent use. Those that block on the
// disk say so; a caller that does not want to wait calls them in a goroutine and leaves it.
//
// Lock order: evicting, a stripe, mu. Only the holder of evicting waits for more than one
// stripe, one after the other; lockAll takes them in order. No file is touched under mu.
type Store struct {
	cfg  Config
	fs   *gate
	log  *slog.Logger
	temp atomic.Uint64 // numbers temporary names

	block atomic.Int64 // of the file system
	up    atomic.Bool  // on, for Available

	// A stripe guards the names of all files whose hash begins with its number, which are
	// those of one folder in each space: a file and its entry change together.
	stripes  [256]sync.Mutex
	evicting sync.Mutex // one eviction at a time, so that two do not both make room for one object
	removing sync.Mutex // one goroutine empties the trash
	walking  sync.Mutex // one walk at a time
	journal  journal

	ctx  context.Context //nolint:containedctx // it ends with the store
	stop context.CancelFunc
	wg   sync.WaitGroup
	kick chan struct{} // wakes maintain

	mu          sync.Mutex
	on, closed  bool
	ready       bool // the folder was set up; from then on it is ours until Close
	lock        io.Closer
	incarnation uint64
	generation  uint64
	backOff     time.Duration
	retryAt     time.Time
	onSince     time.Time
	complaint   time.Time // of the last log line about a bad file

	index    *index
	complete bool // the index knows every file, so that used is right and a key without an entry has no file
	rewalk   bool // after trouble the index is compared with the folder
	marks    map[spaceID]*marks
	crowded  map[spaceID]bool              // spaces with many marks, for maintain
	live     func(space, epoch int64) bool // what Keep was told, for maintain

	markCount int
	opened    map[hash]*opened
	doomed    map[hash]doom // are not found any more, and are to be removed
	trash     []trash
	stray     map[string]int64 // temporary files that could not be removed, and what they take

	limit    int64
	used     int64 // by files, folders, reservations and files that are removed but open
	reserved int64 // the part of used that may not be written yet
	volume   Volume
	volumeAt time.Time
	dirty    bool // the index changed since it was saved
}

// trash is a folder that is being deleted, and what it takes.
type trash struct {
	path  string
	bytes int64
}

// opened is a file that Objects have open. Its blocks are taken until the last is closed.
type opened struct {
	refs int
	gone bool
	cost int64 // set with gone
}

// Open locks the folder and starts the store. Its only error is ErrInUse: with any other
// trouble, the store is off, logs why and tries again in the background.
func Open(cfg Config) (*Store, error) {
	s := &Store{
		cfg: cfg, fs: newGate(cfg.FS), log: cfg.Log, kick: make(chan struct{}, 1),
		marks: make(map[spaceID]*marks), crowded: make(map[spaceID]bool), opened: make(map[hash]*opened),
		doomed: make(map[hash]doom), stray: make(map[string]int64), index: newIndex(), limit: cfg.Limit, used: baseCost,
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.journal = journal{fs: s.fs, path: s.path("journal"), dir: cfg.Dir}
	s.ctx, s.stop = context.WithCancel(context.Background())
	err := s.setup(false)
	if errors.Is(err, ErrInUse) {
		return nil, err
	}
	if err != nil {
		// The generations of this run begin somewhere. Files from before are dropped when the
		// folder can be used, because their generations mean nothing beside these.
		s.generation = firstGeneration
		s.fail("open", err)
	}
	s.wg.Go(s.maintain)
	return s, nil
}

// Close writes the index and unlocks the folder. Objects that are open stay readable. It
// blocks on the disk.
func (s *Store) Close() {
	s.mu.Lock()
	closed := s.closed
	s.closed = true
	s.up.Store(false)
	s.mu.Unlock()
	s.stop()
	s.wg.Wait()
	if closed {
		return
	}
	s.lockAll() // what began before has ended
	s.unlockAll()
	if s.usable() {
		s.removeDoomed()
	}
	s.saveIndex(true)
	s.journal.close()
	if s.lock != nil {
		s.lock.Close()
	}
}

// Generation is the first generation of this start, greater than all generations of
// earlier ones.
func (s *Store) Generation() uint64 { return s.generation }

// EffectiveLimit is Config.Limit or, if the file system is smaller, what fits into it.
func (s *Store) EffectiveLimit() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.limit
}

// Stats returns the numbers of the store. While the index is rebuilt, they are of what has been
// found.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Bytes: s.used, Capacity: s.limit, Entries: s.index.live, Available: s.on && !s.closed}
}

// Available reports whether the folder can be used. It takes no lock.
func (s *Store) Available() bool { return s.up.Load() }

// Has reports whether key may be stored. It does not block.
func (s *Store) Has(key Key) bool {
	h := key.hash()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hasLocked(h)
}

func (s *Store) hasLocked(h hash) bool {
	_, doomed := s.doomed[h]
	return s.on && !s.closed && !doomed && (!s.complete || s.index.lookup(h) != nil)
}

// Get opens an object, or returns ErrNotFound. The caller must Close the object. It blocks on the disk.
func (s *Store) Get(key Key) (*Object, error) {
	h := key.hash()
	s.mu.Lock()
	has := s.hasLocked(h)
	s.mu.Unlock()
	if !has || s.fs.busy() {
		return nil, ErrNotFound
	}
	o, err := s.open(key, h)
	if err == nil && o.opened != nil {
		return o, nil
	}
	if errors.Is(err, ErrNotFound) { // trouble with the disk
		return nil, err
	}
	// The walk has not come here yet; or the file was removed after it was opened, and compact
	// has forgotten the mark that it was removed for.
	if err == nil {
		o.Close()
		s.confirm(key.spaceID(), h, true)
	}
	// An Update may be writing the header, or another file may have come: look again while
	// nobody changes it.
	mu := s.stripe(h)
	mu.Lock()
	defer mu.Unlock()
	o, err = s.open(key, h)
	switch {
	case err == nil:
		return o, nil
	case errors.Is(err, fs.ErrNotExist):
		s.forget(h)
	case errors.Is(err, ErrPurged):
		s.removeFile(h, key.spaceID(), "purged")
	case errors.Is(err, errMalformed):
		s.complain(err, h, key.spaceID())
		s.removeFile(h, key.spaceID(), "corrupt")
	}
	return nil, ErrNotFound
}

// open returns the object of key, or errMalformed, ErrPurged, fs.ErrNotExist or, for
// trouble with the disk, ErrNotFound.
func (s *Store) open(key Key, h hash) (*Object, error) {
	path := s.objectPath(key.spaceID(), h)
	f, err := s.fs.Open(path, os.O_RDONLY)
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist):
		return nil, err
	case isLink(err):
		return nil, errors.Join(errMalformed, err)
	default:
		s.fail("open", err)
		return nil, ErrNotFound
	}
	o := &Object{s: s, f: f, hash: h}
	if err = o.load(key); err == nil {
		err = s.register(o)
	}
	if err == nil {
		return o, nil
	}
	f.Close()
	if !errors.Is(err, errMalformed) && !errors.Is(err, ErrPurged) {
		s.fail("read", err)
		return nil, ErrNotFound
	}
	return nil, err
}

// clockSkew is how far in the future an object may have been stored.
const clockSkew = 5 * time.Second

// register compares a new object with the marks and counts it as open.
func (s *Store) register(o *Object) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	hard, soft := s.marks[o.Key.spaceID()].covers(o.Key.Object, o.Generation)
	if hard {
		return ErrPurged
	}
	o.Mark = soft
	if now := time.Now(); o.Stored.After(now.Add(clockSkew)) {
		// The clock was set back, and the age is unknown: the object must be revalidated, and
		// is too old to be served stale.
		o.Stored, o.Expires = time.Unix(0, 0), time.Unix(0, 0)
	}
	o.verified.Store(o.Size == 0)
	e := s.index.lookup(o.hash)
	if e == nil {
		return nil // not counted yet
	}
	e.touch()
	if e.tag == 0 {
		e.tag = o.tag()
	}
	if e.tag == o.tag() { // else the file was replaced after it was opened
		s.trackLocked(o, e)
	}
	return nil
}

func (s *Store) trackLocked(o *Object, e *entry) {
	if e.flags&flagVerified != 0 && e.stamp == uint32(o.stamp.Load()) {
		o.verified.Store(true)
	}
	o.opened = s.opened[o.hash]
	if o.opened == nil {
		o.opened = new(opened)
		s.opened[o.hash] = o.opened
	}
	o.opened.refs++
}

// release counts an object as closed.
func (s *Store) release(o *Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o.opened.refs--
	switch {
	case o.opened.refs > 0:
	case o.opened.gone:
		s.used -= o.opened.cost
	default:
		delete(s.opened, o.hash)
	}
}

// detachLocked takes an entry out of the index. It returns what its file takes, or 0 if the
// file is open and its last Object returns that.
func (s *Store) detachLocked(e *entry) int64 {
	h, cost := e.hash, e.bytes()
	s.index.remove(h)
	s.dirty = true
	if o := s.opened[h]; o != nil {
		delete(s.opened, h)
		o.gone, o.cost = true, cost
		return 0
	}
	return cost
}

// Remove drops an object and counts it under reason. It does not block: the object is not
// found any more, and its file is removed in the background, as soon as the disk works.
func (s *Store) Remove(key Key, reason string) {
	h := key.hash()
	s.mu.Lock()
	exists := s.ready && !s.closed && (!s.complete || s.index.lookup(h) != nil)
	if exists {
		s.doomed[h] = doom{key.spaceID(), reason}
	}
	s.mu.Unlock()
	if exists {
		s.wake()
	}
}

// doom is a file that is to be removed, and the reason.
type doom struct {
	id     spaceID
	reason string
}

// removeDoomed removes the files of all doomed objects. Another object of the same key that
// was stored meanwhile has replaced the file, and stays.
func (s *Store) removeDoomed() {
	s.mu.Lock()
	all := slices.Collect(maps.Keys(s.doomed))
	s.mu.Unlock()
	for _, h := range all {
		if !s.removeIfDoomed(h) {
			return
		}
	}
}

// removeIfDoomed reports false if the disk fails.
func (s *Store) removeIfDoomed(h hash) bool {
	mu := s.stripe(h)
	mu.Lock()
	defer mu.Unlock()
	s.mu.Lock()
	d, ok := s.doomed[h]
	s.mu.Unlock()
	if !ok {
		return true
	}
	if !s.removeFile(h, d.id, d.reason) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.doomed, h)
	return true
}

// removeFile removes the file of h and its entry. It reports whether there is no file any
// more. The caller holds the stripe.
func (s *Store) removeFile(h hash, id spaceID, reason string) bool {
	s.mu.Lock()
	var pages uint32
	var cost int64
	e := s.index.lookup(h)
	known := e != nil
	if known {
		pages = e.pages
		cost = s.detachLocked(e)
	}
	s.mu.Unlock()
	gone, err := s.unlink(h, id, pages, cost)
	if err == nil && (known || gone) {
		s.cfg.Recorder.Evicted("disk", reason, 1)
	}
	return err == nil
}

// unlink removes a file whose entry was taken out of the index, and returns its bytes to the
// budget. If that fails, the entry returns. The caller holds the stripe.
func (s *Store) unlink(h hash, id spaceID, pages uint32, cost int64) (gone bool, err error) {
	err = s.removeAny(s.objectPath(id, h))
	gone = err == nil
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		s.mu.Lock()
		if pages > 0 && s.index.lookup(h) == nil {
			e := s.index.insert(h, id, pages)
			s.used += e.bytes() - cost
		}
		s.doomed[h] = doom{id, "gone"} // it may have been replaced
		s.mu.Unlock()
		return false, s.failed("remove", err)
	}
	s.mu.Lock()
	s.freedLocked(cost)
	s.mu.Unlock()
	if gone {
		s.removeFolders(h, id)
	}
	return gone, nil
}

// forget removes the entry of a file that is gone. The caller holds the stripe.
func (s *Store) forget(h hash) {
	s.mu.Lock()
	e := s.index.lookup(h)
	if e != nil {
		s.freedLocked(s.detachLocked(e))
	}
	s.mu.Unlock()
	if e != nil {
		s.cfg.Recorder.Evicted("disk", "gone", 1)
	}
}

// complain logs a bad file, at most one a minute.
func (s *Store) complain(err error, h hash, id spaceID) {
	s.mu.Lock()
	now := time.Now()
	quiet := now.Sub(s.complaint) < time.Minute && now.After(s.complaint)
	if !quiet {
		s.complaint = now
	}
	s.mu.Unlock()
	if !quiet {
		s.log.Warn("dropped a bad file of the disk cache", "file", s.objectPath(id, h), "error", err)
	}
}

func (s *Store) path(name string) string { return filepath.Join(s.cfg.Dir, name) }

func (s *Store) objectPath(id spaceID, h hash) string {
	name := h.String()
	return filepath.Join(s.cfg.Dir, "objects", id.String(), name[:2], name)
}

func (s *Store) stripe(h hash) *sync.Mutex { return &s.stripes[h[0]] }

// lockAll waits until no file is being published or removed, and keeps it so.
func (s *Store) lockAll() {
	for i := range s.stripes {
		s.stripes[i].Lock()
	}
}

func (s *Store) unlockAll() {
	for i := range s.stripes {
		s.stripes[i].Unlock()
	}
}

// wake makes maintain look for work.
func (s *Store) wake() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}
