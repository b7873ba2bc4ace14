package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"

	"github.com/minio/crc64nvme"
)

// Writer writes one object into a temporary file. One goroutine calls Write, Commit and
// Abort.
type Writer struct {
	s       *Store
	h       Header
	hash    hash
	f       File
	stamp   int64 // see Object.stamp
	temp    string
	head    int64 // length of the header
	pages   uint32
	cost    int64 // reserved
	written atomic.Int64
	sums    []uint64
	sum     uint64 // of the block that is being written
	err     error  // of an earlier Write
	done    bool   // published or aborted
	closed  bool   // the file is closed, or belongs to an Object
}

// Put stores a whole object. It blocks on the disk.
func (s *Store) Put(h Header, body []byte) error {
	if h.Size != int64(len(body)) {
		return fmt.Errorf("a body of %d bytes where the header says %d", len(body), h.Size)
	}
	w, err := s.Create(h)
	if err != nil {
		return err
	}
	defer w.Abort()
	if _, err := w.Write(body); err != nil {
		return err
	}
	return w.publish()
}

// Create starts an object whose body arrives in pieces. The caller must Abort it, at
// the latest after Commit has failed.
// Header.Size must be known. It blocks on the disk.
func (s *Store) Create(h Header) (*Writer, error) {
	head := headerLen(&h)
	if h.Size < 0 || h.Size > s.cfg.ObjectMax || head > headerMax {
		return nil, ErrNoRoom
	}
	if err := s.accepts(&h); err != nil {
		return nil, err
	}
	if h.Body == 0 {
		h.Body = NewBody()
	}
	w := &Writer{s: s, h: h, hash: h.Key.hash(), head: head}
	w.pages = s.pages(head + h.Size + trailerLen(h.Size))
	w.cost = fileCost(w.pages) + 2*folderCost
	if err := s.reserve(w.cost); err != nil {
		return nil, err
	}
	w.temp = filepath.Join(s.cfg.Dir, "tmp", strconv.FormatUint(s.temp.Add(1), 10))
	f, err := s.fs.Open(w.temp, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		s.unreserve(w.cost, 0)
		return nil, s.failed("open", err)
	}
	w.f = f
	return w, nil
}

// NewBody returns a number for Header.Body.
func NewBody() uint64 { return rand.Uint64() | 1 } //nolint:gosec // it tells files apart

// accepts reports whether an object may be stored: a purge that covers it may have come
// after its fetch, and a mark may have been forgotten since.
func (s *Store) accepts(h *Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acceptsLocked(h)
}

func (s *Store) acceptsLocked(h *Header) error {
	if s.closed || !s.on {
		return ErrOff
	}
	ms := s.marks[h.Key.spaceID()]
	if hard, _ := ms.covers(h.Key.Object, h.Generation); hard || ms != nil && h.Generation < ms.floor {
		return ErrPurged
	}
	return nil
}

// Write appends to the body. It blocks on the disk.
func (w *Writer) Write(p []byte) (int, error) {
	at := w.written.Load()
	switch {
	case w.done:
		return 0, fs.ErrClosed
	case w.err != nil:
		return 0, w.err
	case at+int64(len(p)) > w.h.Size:
		w.err = fmt.Errorf("a body of more than %d bytes", w.h.Size)
		return 0, w.err
	}
	if err := writeFull(w.f, p, w.head+at); err != nil {
		w.err = w.s.failed("write", err)
		return 0, w.err
	}
	w.count(p, at)
	w.written.Add(int64(len(p)))
	return len(p), nil
}

// count adds p to the sums of its blocks.
func (w *Writer) count(p []byte, at int64) {
	for len(p) > 0 {
		n := min(int64(len(p)), blockSize-at%blockSize)
		w.sum = crc64nvme.Update(w.sum, p[:n])
		p, at = p[n:], at+n
		if at%blockSize == 0 || at == w.h.Size {
			w.sums = append(w.sums, w.sum)
			w.sum = 0
		}
	}
}

// ReadAt reads what has been written. Other goroutines may call it beside Write. It fails
// after Abort, and once the Object that Commit returned is closed. It blocks on the disk.
func (w *Writer) ReadAt(p []byte, off int64) (int, error) {
	n := min(int64(len(p)), w.written.Load()-off)
	if off < 0 || n <= 0 {
		return 0, io.EOF
	}
	if err := readFull(w.f, p[:n], w.head+off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

// Commit publishes the object and returns it open and verified. After an error the object is
// not stored, and ReadAt works until Abort. It blocks on the disk.
func (w *Writer) Commit() (*Object, error) {
	if err := w.publish(); err != nil {
		return nil, err
	}
	o := &Object{Header: w.h, s: w.s, f: w.f, hash: w.hash, head: w.head}
	if err := w.s.register(o); err != nil {
		return nil, err // purged since
	}
	w.closed = true
	o.stamp.Store(w.stamp)
	o.verified.Store(true) // the sums are of what was written
	return o, nil
}

// publish completes the file and gives it its name.
func (w *Writer) publish() error {
	switch {
	case w.done:
		return fs.ErrClosed
	case w.err != nil:
		return w.err
	case w.written.Load() != w.h.Size:
		return fmt.Errorf("%d bytes of a body of %d", w.written.Load(), w.h.Size)
	}
	err := writeFull(w.f, encodeTrailer(w.sums, w.h.Body), w.head+w.h.Size)
	if err == nil {
		err = writeFull(w.f, encodeHeader(&w.h, w.head), 0)
	}
	if err != nil {
		return w.s.failed("write", err)
	}
	w.stamp = modified(w.f)
	mu := w.s.stripe(w.hash)
	mu.Lock()
	defer mu.Unlock()
	made, err := w.rename()
	if made > 0 {
		w.s.countFolders(w.h.Key.spaceID(), made)
	}
	if err != nil {
		w.s.unreserve(int64(made)*folderCost, int64(made)*folderCost)
		w.cost -= int64(made) * folderCost
		return err
	}
	w.done = true
	return w.insert(made)
}

// rename moves the file to its place and makes the folders if it must. The caller holds
// the stripe.
func (w *Writer) rename() (made int, err error) {
	id := w.h.Key.spaceID()
	path := w.s.objectPath(id, w.hash)
	for try := 0; ; try++ {
		if err := w.s.accepts(&w.h); err != nil {
			return made, err
		}
		err := w.s.fs.Rename(w.temp, path)
		if err == nil {
			return made, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || try == 2 {
			return made, w.s.failed("rename", err)
		}
		// The outer folder may vanish in between, with the last object of another stripe.
		n, err := w.s.makeFolders(w.hash, id)
		made = min(made+n, 2)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return made, w.s.failed("open", err)
		}
	}
}

// insert makes the published file an entry, unless a purge came meanwhile. The caller holds
// the stripe.
func (w *Writer) insert(made int) error {
	s, id := w.s, w.h.Key.spaceID()
	kept := fileCost(w.pages) + int64(made)*folderCost
	s.unreserve(w.cost, kept)
	s.mu.Lock()
	old := s.index.lookup(w.hash)
	if old != nil {
		s.freedLocked(s.detachLocked(old))
	}
	e := s.index.insert(w.hash, id, w.pages)
	e.tag = bodyTag(w.h.Body)
	e.flags |= flagSeen | flagVerified
	e.stamp = uint32(w.stamp)
	delete(s.doomed, w.hash) // that one has been replaced
	s.dirty = true
	err := s.acceptsLocked(&w.h)
	s.mu.Unlock()
	if old != nil {
		s.cfg.Recorder.Evicted("disk", "replaced", 1)
	}
	if errors.Is(err, ErrPurged) {
		s.removeFile(w.hash, id, "purged")
		return err
	}
	return nil
}

// Abort drops what has been written. After Commit it does nothing.
func (w *Writer) Abort() {
	if w.closed {
		return
	}
	w.f.Close()
	w.closed = true
	if w.done {
		return // Put: the file is published
	}
	w.done = true
	err := w.s.fs.Remove(w.temp)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		w.s.unreserve(w.cost, 0)
		return
	}
	w.s.fail("remove", err)
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	w.s.stray[w.temp] = w.cost
}

// Update replaces everything but the body, after the source has confirmed the object with
// a 304. h is the Header of an Object with other times and Meta: the file must still have
// h.Body. An object that a purge covers stays as it is: ErrPurged. It blocks on the disk.
func (s *Store) Update(h Header) error {
	hash, id := h.Key.hash(), h.Key.spaceID()
	s.mu.Lock()
	has := s.hasLocked(hash)
	s.mu.Unlock()
	if !has {
		return ErrNotFound
	}
	mu := s.stripe(hash)
	mu.Lock()
	defer mu.Unlock()
	f, err := s.fs.Open(s.objectPath(id, hash), os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		s.forget(hash)
		return ErrNotFound
	}
	if err != nil {
		return s.failed("open", err)
	}
	defer f.Close()
	old, size, err := readHeader(f)
	switch {
	case errors.Is(err, errMalformed):
		s.complain(err, hash, id)
		s.removeFile(hash, id, "corrupt")
		return ErrNotFound
	case err != nil:
		return s.failed("read", err)
	case old.Key != h.Key || old.Body != h.Body || old.Size != h.Size:
		return ErrNotFound
	}
	if err := s.updatable(&old, &h); err != nil {
		return err
	}
	if headerLen(&h) > size {
		s.removeFile(hash, id, "replaced")
		return ErrNoRoom
	}
	if err := writeFull(f, encodeHeader(&h, size), 0); err != nil {
		s.removeFile(hash, id, "corrupt")
		return s.failed("write", err)
	}
	return nil
}

// updatable refuses to renew an object that a purge covers: it would come back as if it
// had been fetched after the purge.
func (s *Store) updatable(old, h *Header) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.acceptsLocked(h); err != nil {
		return err
	}
	ms := s.marks[h.Key.spaceID()]
	if hard, soft := ms.covers(h.Key.Object, old.Generation); hard || soft != nil {
		return ErrPurged
	}
	return nil
}

// writeFull writes all of p.
func writeFull(f File, p []byte, off int64) error {
	if len(p) == 0 {
		return nil
	}
	n, err := f.WriteAt(p, off)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return err
}
