package proxy

import (
	"errors"
	"sync"
	"time"

	"ixmage/cache"
)

// diskReads bounds how many calls read from the disk tier at a time. Each takes a thread of
// the system while the disk is slow, and a buffer unless it sends from the file.
type diskReads struct{ running chan struct{} }

const (
	maxDiskReads = 64
	// diskWait is the longest wait for other reads. An answer that has begun is cut then.
	diskWait = 10 * time.Second
	// diskChunk is how many bytes are read at a time, one block of a checksum, and diskSend
	// how many are sent from a file at a time.
	diskChunk = 64 << 10
	diskSend  = 1 << 20
)

var errDiskBusy = errors.New("the disk is too slow: too many other reads wait for it")

func newDiskReads() *diskReads { return &diskReads{make(chan struct{}, maxDiskReads)} }

// begin waits until the caller may read. end must follow if it returns nil.
func (d *diskReads) begin() error {
	select {
	case d.running <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(diskWait)
	defer timer.Stop()
	select {
	case d.running <- struct{}{}:
		return nil
	case <-timer.C:
		return errDiskBusy
	}
}

func (d *diskReads) end() { <-d.running }

// diskError is a failed read of the disk tier.
type diskError struct{ err error }

func (e *diskError) Error() string { return "read from the disk tier: " + e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

var diskBuffers = sync.Pool{New: func() any { return new([diskChunk]byte) }}

// smallBody is memory for a body that leaves with its header.
type smallBody [bufferedMax]byte

var smallBodies = sync.Pool{New: func() any { return new(smallBody) }}

// fromDisk makes f the representation of an entry on disk. It reads a small body, and returns
// false if that fails: then nothing has been sent, and S3 can still answer.
func (x *exchange) fromDisk(f *representation, e *cache.Entry, cond *conditions) bool {
	r := e.NewReader()
	f.status, f.reader, x.reader = diskHitStatus(e.Expires, x.start), r, r
	if r.Size > bufferedMax || !x.fc.IsGet() || cond.evaluate(f.obj.validators) != proceed {
		return true
	}
	d := x.proxy.disk
	if d.begin() != nil {
		return true // the disk may have recovered when the body is sent
	}
	defer d.end()
	b := smallBodies.Get().(*smallBody)
	if _, err := r.ReadAt(b[:r.Size], 0); err != nil {
		smallBodies.Put(b)
		return false
	}
	f.whole, x.small = b[:r.Size], b
	return true
}

// diskReader returns the reader of a representation that is on disk, or nil.
func (f *representation) diskReader() *cache.Reader {
	if r, ok := f.reader.(*cache.Reader); ok && r.OnDisk() {
		return r
	}
	return nil
}
