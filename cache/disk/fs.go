package disk

import (
	"io"
	"io/fs"
	"os"
	"sync/atomic"
)

// FS is the part of a file system that a Store uses. Names are paths below Config.Dir.
// Tests replace it to inject faults.
type FS interface {
	// Open opens a file and does not follow a link; a new one gets mode 0600.
	Open(name string, flag int) (File, error)
	Mkdir(name string) error // of mode 0700
	Rename(from, to string) error
	Remove(name string) error // a file or an empty folder
	List(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error) // of a link itself
	// SyncDir makes the names in a folder durable.
	SyncDir(name string) error
	// Lock locks a file for this process until it is closed, or returns ErrInUse.
	Lock(name string) (io.Closer, error)
	// Free tells how large the file system of name is.
	Free(name string) (Volume, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Sync() error
	Stat() (fs.FileInfo, error)
	Fd() uintptr
}

// Volume is the size of a file system in bytes, and of its blocks. Total is without what
// is reserved for root.
type Volume struct{ Total, Free, Block int64 }

// osFS is the real file system.
type osFS struct{}

//nolint:ireturn // the interface exists for tests
func (osFS) Open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag|openFlags, 0o600)
	if err != nil {
		return nil, err // and not a nil *os.File
	}
	return f, nil
}

func (osFS) Mkdir(name string) error               { return os.Mkdir(name, 0o700) }
func (osFS) Rename(from, to string) error          { return os.Rename(from, to) }
func (osFS) Remove(name string) error              { return os.Remove(name) }
func (osFS) Stat(name string) (fs.FileInfo, error) { return os.Lstat(name) }
func (osFS) SyncDir(name string) error             { return syncDir(name) }
func (osFS) Lock(name string) (io.Closer, error)   { return lockFile(name) }
func (osFS) Free(name string) (Volume, error)      { return volume(name) }

func (osFS) List(name string) ([]fs.DirEntry, error) {
	d, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	return d.ReadDir(-1) // unsorted, which os.ReadDir is not
}

// A call that waits for a disk takes a thread of the operating system, and a process
// that has 10,000 of them ends. gate limits the calls that run; the others wait in Go.
const (
	gateCalls   = 128
	gateWaiting = 512
)

type gate struct {
	fs      FS
	slots   chan struct{}
	waiting atomic.Int64
}

func newGate(f FS) *gate {
	if f == nil {
		f = osFS{}
	}
	return &gate{fs: f, slots: make(chan struct{}, gateCalls)}
}

// busy reports whether so many calls wait that a new one is not worth it.
func (g *gate) busy() bool { return g.waiting.Load() >= gateWaiting }

func (g *gate) enter() {
	select {
	case g.slots <- struct{}{}:
	default:
		g.waiting.Add(1)
		g.slots <- struct{}{}
		g.waiting.Add(-1)
	}
}

func (g *gate) leave() { <-g.slots }

func gated[T any](g *gate, call func() (T, error)) (T, error) {
	g.enter()
	defer g.leave()
	return call()
}

func (g *gate) do(call func() error) error {
	g.enter()
	defer g.leave()
	return call()
}

//nolint:ireturn // it is handed through
func (g *gate) Open(name string, flag int) (File, error) {
	f, err := gated(g, func() (File, error) { return g.fs.Open(name, flag) })
	if err != nil {
		return nil, err
	}
	return &gatedFile{f, g}, nil
}

func (g *gate) Mkdir(name string) error { return g.do(func() error { return g.fs.Mkdir(name) }) }
func (g *gate) Rename(from, to string) error {
	return g.do(func() error { return g.fs.Rename(from, to) })
}
func (g *gate) Remove(name string) error  { return g.do(func() error { return g.fs.Remove(name) }) }
func (g *gate) SyncDir(name string) error { return g.do(func() error { return g.fs.SyncDir(name) }) }

func (g *gate) List(name string) ([]fs.DirEntry, error) {
	return gated(g, func() ([]fs.DirEntry, error) { return g.fs.List(name) })
}

func (g *gate) Stat(name string) (fs.FileInfo, error) {
	return gated(g, func() (fs.FileInfo, error) { return g.fs.Stat(name) })
}

func (g *gate) Lock(name string) (io.Closer, error) {
	return gated(g, func() (io.Closer, error) { return g.fs.Lock(name) })
}

func (g *gate) Free(name string) (Volume, error) {
	return gated(g, func() (Volume, error) { return g.fs.Free(name) })
}

type gatedFile struct {
	File

	g *gate
}

func (f *gatedFile) ReadAt(p []byte, off int64) (int, error) {
	f.g.enter()
	defer f.g.leave()
	return f.File.ReadAt(p, off)
}

func (f *gatedFile) WriteAt(p []byte, off int64) (int, error) {
	f.g.enter()
	defer f.g.leave()
	return f.File.WriteAt(p, off)
}

func (f *gatedFile) Sync() error { return f.g.do(f.File.Sync) }
