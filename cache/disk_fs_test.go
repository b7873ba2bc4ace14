package cache

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"ixmage/cache/disk"
)

// memFS is a file system in memory, so that tests of the tiers need no disk, work in a bubble
// and can stop at each call. It holds what was written: a crash of the process loses nothing,
// and clone is the state after one. What a power cut loses is tested in package disk.
type memFS struct {
	// hook is called before each operation, without a lock: it may block. An error ends the
	// operation.
	hook func(op, name string) error

	mu    sync.Mutex
	root  *inode
	locks map[string]bool
	open  int // files
}

// inode is a file, or a folder if names is set.
type inode struct {
	names map[string]*inode
	data  []byte
}

func newMemFS() *memFS {
	return &memFS{root: &inode{names: map[string]*inode{}}, locks: map[string]bool{}}
}

// clone is the file system as a process finds it that starts after a crash of the present one.
func (f *memFS) clone() *memFS {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := newMemFS()
	g.root = f.root.clone()
	return g
}

func (n *inode) clone() *inode {
	c := &inode{data: append([]byte(nil), n.data...)}
	if n.names != nil {
		c.names = make(map[string]*inode, len(n.names))
		for name, child := range n.names {
			c.names[name] = child.clone()
		}
	}
	return c
}

// begin locks f, also if it returns an error. The caller must unlock it.
func (f *memFS) begin(op, name string) error {
	f.mu.Lock()
	hook := f.hook
	f.mu.Unlock()
	var err error
	if hook != nil {
		if err = hook(op, name); err != nil {
			err = &fs.PathError{Op: op, Path: name, Err: err}
		}
	}
	f.mu.Lock()
	return err
}

// setHook replaces the hook.
func (f *memFS) setHook(hook func(op, name string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// find returns the folder of name, and the file.
func (f *memFS) find(name string) (dir *inode, base string, node *inode, err error) {
	dir = f.root
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for _, p := range parts[:len(parts)-1] {
		if dir = dir.names[p]; dir == nil || dir.names == nil {
			return nil, "", nil, fs.ErrNotExist
		}
	}
	base = parts[len(parts)-1]
	if base == "" {
		return dir, "", dir, nil
	}
	return dir, base, dir.names[base], nil
}

// existing is find for a file that must exist.
func (f *memFS) existing(name string) (dir *inode, base string, node *inode, err error) {
	dir, base, node, err = f.find(name)
	if err == nil && node == nil {
		err = fs.ErrNotExist
	}
	return dir, base, node, err
}

//nolint:ireturn // the interface exists for tests
func (f *memFS) Open(name string, flag int) (disk.File, error) {
	op := "open"
	if flag&os.O_CREATE != 0 {
		op = "create"
	}
	err := f.begin(op, name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	dir, base, node, err := f.find(name)
	switch {
	case err != nil:
		return nil, err
	case node == nil && flag&os.O_CREATE == 0:
		return nil, fs.ErrNotExist
	case node == nil:
		node = &inode{}
		dir.names[base] = node
	case flag&os.O_EXCL != 0:
		return nil, fs.ErrExist
	case flag&os.O_TRUNC != 0:
		node.data = nil
	}
	f.open++
	return &memFile{fs: f, node: node, name: name}, nil
}

func (f *memFS) Mkdir(name string) error {
	err := f.begin("mkdir", name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	dir, base, node, err := f.find(name)
	switch {
	case err != nil:
		return err
	case node != nil:
		return fs.ErrExist
	}
	dir.names[base] = &inode{names: map[string]*inode{}}
	return nil
}

func (f *memFS) Rename(from, to string) error {
	err := f.begin("rename", to)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	dir, base, node, err := f.existing(from)
	if err != nil {
		return err
	}
	toDir, toBase, old, err := f.find(to)
	switch {
	case err != nil:
		return err
	case old != nil && old.names != nil:
		return syscall.ENOTEMPTY
	}
	delete(dir.names, base)
	toDir.names[toBase] = node
	return nil
}

func (f *memFS) Remove(name string) error {
	err := f.begin("remove", name)
	defer f.mu.Unlock()
	if err != nil {
		return err
	}
	dir, base, node, err := f.existing(name)
	switch {
	case err != nil:
		return err
	case len(node.names) > 0:
		return syscall.ENOTEMPTY
	}
	delete(dir.names, base)
	return nil
}

func (f *memFS) List(name string) ([]fs.DirEntry, error) {
	err := f.begin("list", name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	_, _, node, err := f.existing(name)
	if err != nil {
		return nil, err
	}
	if node.names == nil {
		return nil, syscall.ENOTDIR
	}
	var all []fs.DirEntry
	for base, n := range node.names {
		all = append(all, fs.FileInfoToDirEntry(memInfo{base, n}))
	}
	return all, nil
}

func (f *memFS) Stat(name string) (fs.FileInfo, error) {
	err := f.begin("stat", name)
	defer f.mu.Unlock()
	if err != nil {
		return nil, err
	}
	_, base, node, err := f.existing(name)
	if err != nil {
		return nil, err
	}
	return memInfo{base, node}, nil
}

func (f *memFS) SyncDir(name string) error {
	err := f.begin("sync", name)
	f.mu.Unlock()
	return err
}

func (f *memFS) Lock(name string) (io.Closer, error) {
	err := f.begin("lock", name)
	defer f.mu.Unlock()
	switch {
	case err != nil:
		return nil, err
	case f.locks[name]:
		return nil, disk.ErrInUse
	}
	f.locks[name] = true
	return unlocker(func() { delete(f.locks, name) }), nil
}

type unlocker func()

func (u unlocker) Close() error { u(); return nil }

func (f *memFS) Free(name string) (disk.Volume, error) {
	err := f.begin("free", name)
	f.mu.Unlock()
	return disk.Volume{Total: 1 << 40, Free: 1 << 40, Block: 4096}, err
}

// objects returns all files of objects, by their paths.
func (f *memFS) objects() map[string]*inode {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := map[string]*inode{}
	var visit func(string, *inode)
	visit = func(path string, n *inode) {
		if n.names == nil {
			all[path] = n
		}
		for name, c := range n.names {
			visit(path+"/"+name, c)
		}
	}
	if _, _, n, err := f.existing(testDir + "/objects"); err == nil {
		visit(testDir+"/objects", n)
	}
	return all
}

// openFiles is how many files are open, without the journal.
func (f *memFS) openFiles() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

type memInfo struct {
	name string
	node *inode
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return int64(len(i.node.data)) }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) IsDir() bool        { return i.node.names != nil }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.IsDir() {
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
	if err == nil && f.closed {
		err = fs.ErrClosed
	}
	return err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	err := f.begin("read")
	defer f.fs.mu.Unlock()
	if err != nil || off > int64(len(f.node.data)) {
		return 0, cmpErr(err, io.EOF)
	}
	n := copy(p, f.node.data[off:])
	if n < len(p) {
		err = io.EOF
	}
	return n, err
}

func cmpErr(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.begin("write")
	defer f.fs.mu.Unlock()
	if err != nil {
		return 0, err
	}
	if end := off + int64(len(p)); end > int64(len(f.node.data)) {
		f.node.data = append(f.node.data, make([]byte, end-int64(len(f.node.data)))...)
	}
	return copy(f.node.data[off:], p), nil
}

func (f *memFile) Sync() error {
	err := f.begin("fsync")
	f.fs.mu.Unlock()
	return err
}

func (f *memFile) Stat() (fs.FileInfo, error) {
	err := f.begin("fstat")
	defer f.fs.mu.Unlock()
	return memInfo{filepath.Base(f.name), f.node}, err
}

func (f *memFile) Fd() uintptr { return ^uintptr(0) }

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.closed {
		return fs.ErrClosed
	}
	f.closed = true
	f.fs.open--
	return nil
}
