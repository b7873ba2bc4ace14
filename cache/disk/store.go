package disk

import "io"

// FS is the part of a file system that the store uses.
type FS interface{}

// Store is a disk tier. All methods are safe for concurrent use.
type Store struct{ cfg Config }

// Open locks the folder and starts the store. Its only error is ErrInUse: with any other
// trouble, the store is off and tries again in the background.
func Open(cfg Config) (*Store, error) { return &Store{cfg}, nil }

// Close writes the index and unlocks the folder. Objects that are open stay readable.
func (s *Store) Close() {}

// Generation is the first generation of this start, greater than all generations of
// earlier ones.
func (s *Store) Generation() uint64 { return 0 }

// EffectiveLimit is Config.Limit or, if the file system is smaller, what fits into it.
func (s *Store) EffectiveLimit() int64 { return s.cfg.Limit }

// Stats returns the numbers of the store.
func (s *Store) Stats() Stats { return Stats{Capacity: s.cfg.Limit} }

// Has reports whether key may be stored. It does not block.
func (s *Store) Has(Key) bool { return false }

// Get opens an object. The caller must Close it. It blocks on the disk.
func (s *Store) Get(Key) (*Object, error) { return nil, ErrNotFound }

// Touch counts a use of an object that is open already. It does not block.
func (s *Store) Touch(Key) {}

// Put stores a whole object.
func (s *Store) Put(Header, []byte) error { return ErrOff }

// Create starts an object whose body arrives in pieces. The caller must Commit or Abort it.
func (s *Store) Create(Header) (*Writer, error) { return nil, ErrOff }

// Update replaces everything but the body: after a 304.
func (s *Store) Update(Header) error { return ErrNotFound }

// Remove drops an object and counts it under reason.
func (s *Store) Remove(Key, string) {}

// Purge covers objects with m. It returns how many objects the index has of them.
// If err is nil, the purge is durable. If not, it holds until the process ends, and the
// folder is emptied or the mark is made durable before the store is used again.
func (s *Store) Purge(Mark) (entries int, bytes int64, err error) { return 0, 0, nil }

// Keep drops all objects of spaces that are not live, in the background.
func (s *Store) Keep(func(space, epoch int64) bool) {}

// Object is an open object. It stays readable after it has been removed or replaced.
// Its methods are safe for concurrent use, except that nothing may follow Close.
type Object struct {
	Header
	Mark *Mark // the newest soft purge that covers it, or nil
}

// ReadAt reads from the body. It blocks on the disk. An error is ErrCorrupt, or of the disk.
func (o *Object) ReadAt(p []byte, off int64) (int, error) { return 0, io.EOF }

// Verified reports whether the whole body has been compared with its checksums since the start.
func (o *Object) Verified() bool { return false }

// Verify compares the whole body with its checksums.
func (o *Object) Verify() error { return nil }

// File returns the file and where the body begins in it, for sendfile. Only bytes of a
// verified object may be sent so. The descriptor belongs to o.
func (o *Object) File() (fd int, off int64) { return -1, 0 }

// Close closes the file.
func (o *Object) Close() error { return nil }

// Writer writes one object.
type Writer struct{}

// Write appends to the body. It blocks on the disk.
func (w *Writer) Write(p []byte) (int, error) { return 0, ErrOff }

// ReadAt reads what has been written. It may run beside Write.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) { return 0, ErrOff }

// Commit publishes the object and returns it open and verified.
func (w *Writer) Commit() (*Object, error) { return nil, ErrOff }

// Abort drops what has been written. It may follow Commit, and then does nothing.
func (w *Writer) Abort() {}
