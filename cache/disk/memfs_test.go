package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// memFS is a file system in memory that knows what a power cut would leave. Contents are durable after Sync, names after
// SyncDir; of the rest, a power cut keeps some.
type memFS struct {
	mu    sync.Mutex
	root  *inode
	names []nameOp // that are not durable, in their order
	locks map[string]bool
	used  int64 // by all files, also open ones without a name, and folders
	peak  int64
	ops   int

	volume Volume
	// fault is asked before each operation. An error ends it; errShort lets half of a
	// write through.
	fault func(op, name string) error
}

var errShort = fmt.Errorf("half of it: %w", io.ErrShortWrite)

type inode struct {
	dir     bool
	names   map[string]*inode
	data    []byte
	durable []byte
	writes  []write // since the last Sync
	links   int
	open    int
	pages   int64
}

type write struct {
	off  int64 // negative: the file was emptied
	data []byte
}

// nameOp is one change of names, which happens whole or not at all.
type nameOp []nameChange

type nameChange struct {
	dir  *inode
	name string
	node *inode // nil removes
}

func newMemFS() *memFS {
	return &memFS{
		root: &inode{dir: true, names: map[string]*inode{}, links: 1}, locks: map[string]bool{},
		volume: Volume{Total: 1 << 40, Free: 1 << 40, Block: page},
	}
}

// begin locks f. The caller must unlock it.
func (f *memFS) begin(op, name string) error {
	f.mu.Lock()
	f.ops++
	if f.fault != nil {
		return f.fault(op, name)
	}
	return nil
}

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// find returns the folder of a name and what it names, if anything.
func (f *memFS) find(name string) (dir *inode, base string, node *inode, err error) {
	dir = f.root
	parts := strings.Split(strings.Trim(filepath.ToSlash(name), "/"), "/")
	for _, p := range parts[:len(parts)-1] {
		dir = dir.names[p]
		if dir == nil {
			return nil, "", nil, fs.ErrNotExist
		}
		if !dir.dir {
			return nil, "", nil, syscall.ENOTDIR
		}
	}
	base = parts[len(parts)-1]
	if base == "" {
		return nil, "", f.root, nil
	}
	return dir, base, dir.names[base], nil
}

func (f *memFS) change(op nameOp) {
	apply(op)
	f.names = append(f.names, op)
}

func apply(op nameOp) {
	for _, c := range op {
		if c.node == nil {
			delete(c.dir.names, c.name)
		} else {
			c.dir.names[c.name] = c.node
		}
	}
}

// grow counts what node takes.
func (f *memFS) grow(node *inode) {
	pages := (int64(len(node.data)) + page - 1) / page
	if node.dir {
		pages = 1
	}
	if node.links == 0 && node.open == 0 {
		pages = 0
	}
	f.used += (pages - node.pages) * page
	node.pages = pages
	f.peak = max(f.peak, f.used)
}

func (f *memFS) unlink(node *inode) {
	if node != nil {
		node.links--
		f.grow(node)
	}
}

//nolint:ireturn // as the interface says
func (f *memFS) Open(name string, flag int) (File, error) {
	err := f.begin("open", name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, pathError("open", name, err)
	}
	dir, base, node, err := f.find(name)
	switch {
	case err != nil:
		return nil, pathError("open", name, err)
	case node == nil && flag&os.O_CREATE == 0:
		return nil, pathError("open", name, fs.ErrNotExist)
	case node != nil && flag&os.O_EXCL != 0:
		return nil, pathError("open", name, fs.ErrExist)
	case node != nil && node.dir && flag != os.O_RDONLY:
		return nil, pathError("open", name, syscall.EISDIR)
	case node == nil:
		node = &inode{links: 1}
		f.change(nameOp{{dir, base, node}})
	case flag&os.O_TRUNC != 0:
		node.data = nil
		node.writes = append(node.writes, write{off: -1})
	}
	node.open++
	f.grow(node)
	return &memFile{fs: f, node: node, name: name}, nil
}

func (f *memFS) Mkdir(name string) error {
	err := f.begin("mkdir", name)
	defer f.mu.Unlock()
	if err != nil {
		return pathError("mkdir", name, err)
	}
	dir, base, node, err := f.find(name)
	if err == nil && node != nil {
		err = fs.ErrExist
	}
	if err != nil {
		return pathError("mkdir", name, err)
	}
	made := &inode{dir: true, names: map[string]*inode{}, links: 1}
	f.change(nameOp{{dir, base, made}})
	f.grow(made)
	return nil
}

func (f *memFS) Rename(from, to string) error {
	err := f.begin("rename", to)
	defer f.mu.Unlock()
	if err != nil {
		return pathError("rename", from, err)
	}
	oldDir, oldBase, node, err := f.find(from)
	if err == nil && node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return pathError("rename", from, err)
	}
	newDir, newBase, old, err := f.find(to)
	if err == nil && old != nil && (old.dir || node.dir) {
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return pathError("rename", to, err)
	}
	f.change(nameOp{{oldDir, oldBase, nil}, {newDir, newBase, node}})
	f.unlink(old)
	return nil
}

func (f *memFS) Remove(name string) error {
	err := f.begin("remove", name)
	defer f.mu.Unlock()
	if err != nil {
		return pathError("remove", name, err)
	}
	dir, base, node, err := f.find(name)
	switch {
	case err == nil && node == nil:
		err = fs.ErrNotExist
	case err == nil && len(node.names) > 0:
		err = syscall.ENOTEMPTY
	}
	if err != nil {
		return pathError("remove", name, err)
	}
	f.change(nameOp{{dir, base, nil}})
	f.unlink(node)
	return nil
}

func (f *memFS) List(name string) (all []fs.DirEntry, err error) {
	err = f.begin("list", name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, pathError("list", name, err)
	}
	_, _, node, err := f.find(name)
	switch {
	case err == nil && node == nil:
		err = fs.ErrNotExist
	case err == nil && !node.dir:
		err = syscall.ENOTDIR
	}
	if err != nil {
		return nil, pathError("list", name, err)
	}
	for base, n := range node.names {
		all = append(all, fs.FileInfoToDirEntry(memInfo{base, n, int64(len(n.data))}))
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (f *memFS) Stat(name string) (fs.FileInfo, error) {
	err := f.begin("stat", name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	_, base, node, err := f.find(name)
	if err == nil && node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, pathError("stat", name, err)
	}
	return memInfo{base, node, int64(len(node.data))}, nil
}

func (f *memFS) SyncDir(name string) error {
	err := f.begin("sync", name)
	defer f.mu.Unlock()
	if err != nil {
		return pathError("sync", name, err)
	}
	_, _, node, err := f.find(name)
	if err == nil && node == nil {
		err = fs.ErrNotExist
	}
	if err != nil {
		return pathError("sync", name, err)
	}
	for i, op := range f.names {
		if slices.ContainsFunc(op, func(c nameChange) bool { return c.dir == node }) {
			f.names[i] = append(nameOp{{}}, op...) // the first says that it is durable
		}
	}
	return nil
}

func (op nameOp) durable() bool { return op[0].dir == nil }

func (f *memFS) Lock(name string) (io.Closer, error) {
	err := f.begin("lock", name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, pathError("lock", name, err)
	}
	if f.locks[name] {
		return nil, ErrInUse
	}
	f.locks[name] = true
	return closer(func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.locks, name)
		return nil
	}), nil
}

type closer func() error

func (c closer) Close() error { return c() }

func (f *memFS) Free(name string) (Volume, error) {
	err := f.begin("free", name)
	defer f.mu.Unlock()
	v := f.volume
	v.Free -= f.used
	return v, err
}

// usage is what the files take, and the most that they have taken.
func (f *memFS) usage() (used, peak int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used, f.peak
}

// folders is how many folders a folder has, with those in them.
func (f *memFS) folders(dir string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, _, top, _ := f.find(dir) //nolint:dogsled // it exists
	for _, c := range top.names {
		if c.dir {
			n++
		}
		for _, cc := range c.names {
			if cc.dir {
				n++
			}
		}
	}
	return n
}

// powerCut returns the file system as it may be found after a power cut now. Names survive in
// their order, as with a journal, or in any order.
func (f *memFS) powerCut(r *rand.Rand) *memFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := newMemFS()
	g.volume = f.volume
	// Play all changes of names again, on copies.
	copies := map[*inode]*inode{f.root: g.root}
	of := func(n *inode) *inode {
		c := copies[n]
		if c == nil {
			c = &inode{dir: n.dir, data: n.survives(r)}
			c.durable = slices.Clone(c.data)
			if c.dir {
				c.names = map[string]*inode{}
			}
			copies[n] = c
		}
		return c
	}
	ordered, until := r.IntN(2) == 0, r.IntN(len(f.names)+1)
	for i, op := range f.names {
		if op.durable() {
			until = max(until, i) // a journal keeps what came before
		}
	}
	for i, op := range f.names {
		keep := op.durable() || ordered && i < until || !ordered && r.IntN(2) == 0
		if !keep {
			continue
		}
		for _, c := range op {
			switch {
			case c.dir == nil:
			case c.node == nil:
				delete(of(c.dir).names, c.name)
			default:
				of(c.dir).names[c.name] = of(c.node)
			}
		}
	}
	g.names = nil
	g.recount(g.root)
	g.flatten()
	return g
}

// flatten gives g a history of names that is durable.
func (f *memFS) flatten() {
	var visit func(*inode)
	visit = func(dir *inode) {
		for name, n := range dir.names {
			f.names = append(f.names, nameOp{{}, {dir, name, n}})
			if n.dir {
				visit(n)
			}
		}
	}
	visit(f.root)
}

func (f *memFS) recount(n *inode) {
	for _, c := range n.names {
		c.links++
		if c.links == 1 {
			f.grow(c)
			f.recount(c)
		}
	}
}

// survives is what a power cut may leave of a file: of what was not synced, each sector of
// 512 bytes or not, and any length in between.
func (n *inode) survives(r *rand.Rand) []byte {
	data := slices.Clone(n.durable)
	if len(n.writes) == 0 || r.IntN(3) == 0 {
		return data
	}
	all := r.IntN(3) == 0
	for _, w := range n.writes {
		if w.off < 0 {
			data = nil
			continue
		}
		if end := w.off + int64(len(w.data)); int64(len(data)) < end {
			if !all && r.IntN(4) == 0 {
				end = w.off + r.Int64N(int64(len(w.data))+1)
			}
			data = append(data, make([]byte, max(0, end-int64(len(data))))...)
		}
		for at := 0; at < len(w.data); at += 512 {
			if to := w.off + int64(at); to < int64(len(data)) && (all || r.IntN(8) > 0) {
				copy(data[to:], w.data[at:min(at+512, len(w.data))])
			}
		}
	}
	return data
}

type memInfo struct {
	name string
	node *inode
	size int64
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.node.dir }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.node.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

type memFile struct {
	fs     *memFS
	node   *inode
	name   string
	closed bool
}

func (f *memFile) begin(op string) error {
	err := f.fs.begin(op, f.name)
	if f.closed {
		err = fs.ErrClosed
	}
	if err != nil {
		return pathError(op, f.name, err)
	}
	return nil
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.begin("read")
	defer f.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if off >= int64(len(f.node.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.begin("write")
	defer f.fs.mu.Unlock()
	if err != nil {
		if !errors.Is(err, errShort) {
			return 0, err
		}
		p = p[:len(p)/2]
	}
	if end := off + int64(len(p)); int64(len(f.node.data)) < end {
		f.node.data = append(f.node.data, make([]byte, end-int64(len(f.node.data)))...)
	}
	n := copy(f.node.data[off:], p)
	f.node.writes = append(f.node.writes, write{off, slices.Clone(p)})
	f.fs.grow(f.node)
	return n, nil
}

func (f *memFile) Sync() error {
	err := f.begin("fsync")
	defer f.fs.mu.Unlock()
	if err != nil {
		return err
	}
	f.node.durable, f.node.writes = slices.Clone(f.node.data), nil
	return nil
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	err := f.begin("fstat")
	defer f.fs.mu.Unlock()
	return memInfo{filepath.Base(f.name), f.node, int64(len(f.node.data))}, err
}

func (f *memFile) Fd() uintptr { return 0 }

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.node.open--
	f.fs.grow(f.node)
	return nil
}

// files lists the contents of all files under a folder.
func (f *memFS) files(dir string) map[string]*inode {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]*inode{}
	var visit func(string, *inode)
	visit = func(path string, n *inode) {
		if n == nil {
			return
		}
		if !n.dir {
			all[path] = n
		}
		for name, c := range n.names {
			visit(path+"/"+name, c)
		}
	}
	_, _, n, _ := f.find(dir) //nolint:dogsled // nil if there is none
	visit(dir, n)
	return all
}

func TestMemFS(t *testing.T) {
	t.Parallel()
	// What is synced survives every power cut; what is not may be lost.
	lost := 0
	for seed := range uint64(200) {
		f := newMemFS()
		f.Mkdir("/d")
		f.SyncDir("/")
		g, _ := f.Open("/d/a", os.O_RDWR|os.O_CREATE)
		g.WriteAt([]byte("durable"), 0)
		g.Sync()
		f.Rename("/d/a", "/d/b")
		f.SyncDir("/d")
		f.Rename("/d/b", "/d/c")
		after := f.powerCut(rand.New(rand.NewPCG(seed, 0)))
		b, c := after.files("/d")["/d/b"], after.files("/d")["/d/c"]
		switch {
		case (b == nil) == (c == nil):
			t.Fatalf("both names or none: %v", after.files("/d"))
		case b != nil && string(b.data) == "durable":
			lost++
		case c == nil || string(c.data) != "durable":
			t.Fatal("the content is lost")
		}
	}
	if lost == 0 || lost == 200 {
		t.Errorf("the last rename was lost %d times of 200", lost)
	}
}
