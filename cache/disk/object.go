package disk

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/minio/crc64nvme"
)

// Object is an open object. It stays readable after it has been removed or replaced.
// Its methods are safe for concurrent use, except that nothing may follow Close.
type Object struct {
	Header

	// Mark is what soft purges cover it, as one: with the earliest time and the greatest
	// generation. It is nil if none does.
	Mark *Mark

	s        *Store
	f        File
	hash     hash
	head     int64   // where the body begins
	opened   *opened // nil if the file has no entry
	verified atomic.Bool
	stamp    atomic.Int64 // when the file was changed last, for as long as what was verified holds
	closed   atomic.Bool

	mu   sync.Mutex
	sums []uint64 // of the blocks; nil before the first read
	good []uint64 // a bit for each block that was compared
	left int64    // blocks that were not
}

// load reads the header and compares it with what was asked for, and with the length of
// the file.
func (o *Object) load(key Key) error {
	info, err := o.f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%w: it is no file", errMalformed)
	}
	o.stamp.Store(info.ModTime().UnixNano())
	if o.Header, o.head, err = readHeader(o.f); err != nil {
		return err
	}
	if o.Key != key {
		return fmt.Errorf("%w: it holds another key", errMalformed)
	}
	if want := o.head + o.Size + trailerLen(o.Size); info.Size() != want {
		return fmt.Errorf("%w: it has %d bytes, want %d", errMalformed, info.Size(), want)
	}
	return nil
}

// tag is never 0.
func (o *Object) tag() uint32 { return bodyTag(o.Body) }

func bodyTag(body uint64) uint32 { return uint32(body) | 1 }

// ReadAt reads from the body. It blocks on the disk. An error is io.EOF, ErrCorrupt or of the
// disk; with the latter two, what is in p must not be used.
func (o *Object) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read at %d: negative offset", off)
	}
	if off >= o.Size {
		return 0, io.EOF
	}
	short := int64(len(p)) > o.Size-off
	if short {
		p = p[:o.Size-off]
	}
	var err error
	if o.Verified() {
		err = readFull(o.f, p, o.head+off)
	} else {
		err = o.readChecked(p, off)
	}
	switch {
	case err != nil:
		return 0, o.trouble(err)
	case short:
		return len(p), io.EOF
	}
	return len(p), nil
}

// trouble drops an object that cannot be read.
func (o *Object) trouble(err error) error {
	if o.closed.Load() {
		return err
	}
	id := o.Key.spaceID()
	reason := "gone"
	if errors.Is(err, errMalformed) {
		o.s.complain(err, o.hash, id)
		err, reason = ErrCorrupt, "corrupt"
	}
	mu := o.s.stripe(o.hash)
	mu.Lock()
	if o.s.current(o) {
		o.s.removeFile(o.hash, id, reason)
	}
	mu.Unlock()
	if reason == "gone" {
		o.s.fail("read", err)
	}
	return err
}

// current reports whether the file of o is still the one with its name.
func (s *Store) current(o *Object) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.index.lookup(o.hash)
	return e != nil && (e.tag == 0 || e.tag == o.tag()) || e == nil && !s.complete
}

var buffers = sync.Pool{New: func() any { return new([blockSize]byte) }}

// readChecked reads a range and compares all blocks that it touches.
func (o *Object) readChecked(p []byte, off int64) error {
	if err := o.loadSums(); err != nil {
		return err
	}
	for len(p) > 0 {
		block := off / blockSize
		begin := block * blockSize
		size := min(blockSize, o.Size-begin)
		n := min(int64(len(p)), begin+size-off)
		var err error
		switch {
		case o.isGood(block):
			err = readFull(o.f, p[:n], o.head+off)
		case n == size:
			err = o.readBlock(p[:n], block)
		default:
			buf := buffers.Get().(*[blockSize]byte)
			err = o.readBlock(buf[:size], block)
			copy(p[:n], buf[off-begin:])
			buffers.Put(buf)
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+n
	}
	return nil
}

func (o *Object) readBlock(p []byte, block int64) error {
	if err := readFull(o.f, p, o.head+block*blockSize); err != nil {
		return err
	}
	if crc64nvme.Checksum(p) != o.sums[block] {
		return fmt.Errorf("%w: the checksum of block %d is wrong", errMalformed, block)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if bit := uint64(1) << (block % 64); o.good[block/64]&bit == 0 {
		o.good[block/64] |= bit
		o.left--
	}
	if o.left == 0 && o.verified.CompareAndSwap(false, true) {
		o.s.setVerified(o)
	}
	return nil
}

func (o *Object) isGood(block int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.good[block/64]>>(block%64)&1 == 1
}

// loadSums reads the trailer once.
func (o *Object) loadSums() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.sums != nil {
		return nil
	}
	b := make([]byte, trailerLen(o.Size))
	if err := readFull(o.f, b, o.head+o.Size); err != nil {
		return err
	}
	sums, err := decodeTrailer(b, o.Size, o.Body)
	if err != nil {
		return err
	}
	o.sums, o.good, o.left = sums, make([]uint64, len(sums)/64+1), int64(len(sums))
	return nil
}

func (s *Store) setVerified(o *Object) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.index.lookup(o.hash); e != nil && e.tag == o.tag() {
		e.flags |= flagVerified
		e.stamp = uint32(o.stamp.Load())
	}
}

// Verified reports whether the whole body has been compared with its checksums since the start,
// and its file was not changed after that.
func (o *Object) Verified() bool { return o.verified.Load() && o.unchanged() }

// unchanged forgets which blocks were compared if the file was changed.
func (o *Object) unchanged() bool {
	now := modified(o.f)
	if now == o.stamp.Load() {
		return true
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.stamp.Store(now)
	o.verified.Store(false)
	clear(o.good)
	o.left = int64(len(o.sums))
	return false
}

// Verify compares the whole body with its checksums. It blocks on the disk.
func (o *Object) Verify() error {
	buf := buffers.Get().(*[blockSize]byte)
	defer buffers.Put(buf)
	for off := int64(0); off < o.Size && !o.verified.Load(); off += blockSize {
		if err := o.readChecked(buf[:min(blockSize, o.Size-off)], off); err != nil {
			return o.trouble(err)
		}
	}
	return nil
}

// File returns the file and where the body begins in it, for sendfile, or -1 before the
// object is verified. The descriptor belongs to o.
func (o *Object) File() (fd int, off int64) {
	if !o.Verified() {
		return -1, 0
	}
	return int(o.f.Fd()), o.head
}

// Touch counts a use. It does not block.
func (o *Object) Touch() {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	if e := o.s.index.lookup(o.hash); e != nil {
		e.touch()
	}
}

// Close closes the file.
func (o *Object) Close() error {
	if o.closed.Swap(true) {
		return nil
	}
	err := o.f.Close()
	if o.opened != nil {
		o.s.release(o)
	}
	return err
}
