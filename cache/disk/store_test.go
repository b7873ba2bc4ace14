package disk

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPutGet(t *testing.T) {
	t.Parallel()
	e := open(t)
	sizes := []int{0, 1, 4095, 4096, 65535, 65536, 65537, 3 << 20}
	for i, size := range sizes {
		e.put(numbered(i), body(uint64(i), size))
	}
	for range 2 {
		for i, size := range sizes {
			h := e.want(numbered(i), body(uint64(i), size))
			if string(h.Meta) != "meta of "+numbered(i).Object || h.Key != numbered(i) {
				t.Errorf("got %+v", h)
			}
		}
		e.wantNone(key("none"))
		if got := e.Stats(); got.Entries != len(sizes) || !got.Available {
			t.Errorf("got %+v", got)
		}
		e.reopen()
	}
	err := filepath.WalkDir(e.cfg.Dir, func(path string, d fs.DirEntry, err error) error {
		info, _ := d.Info()
		if path != e.cfg.Dir && info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestHeader: every field comes back, also after a restart.
func TestHeader(t *testing.T) {
	t.Parallel()
	e := open(t)
	want := Header{
		Key: Key{Space: -3, Epoch: 1 << 40, Object: strings.Repeat("k", 1024)}, Generation: e.Generation() + 7,
		Origin: [16]byte{1, 2}, Stored: time.Date(2020, 1, 2, 3, 4, 5, 6, time.UTC),
		Expires: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC),
		Meta:    bytes.Repeat([]byte("m"), 9000), Size: 3,
	}
	if err := e.Put(want, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	e.reopen()
	got := e.want(want.Key, []byte("abc"))
	if !got.Stored.Equal(want.Stored) || !got.Expires.Equal(want.Expires) {
		t.Errorf("got %v and %v", got.Stored, got.Expires)
	}
	want.Stored, want.Expires, want.Body = got.Stored, got.Expires, got.Body
	if string(got.Meta) != string(want.Meta) {
		t.Error("another Meta")
	}
	got.Meta, want.Meta = nil, nil
	if got.Key != want.Key || got.Origin != want.Origin || got.Generation != want.Generation || got.Size != 3 {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestRefused: what cannot be stored.
func TestRefused(t *testing.T) {
	t.Parallel()
	e := open(t)
	for name, change := range map[string]func(*Header){
		"too large":     func(h *Header) { h.Size = e.cfg.ObjectMax + 1 },
		"negative size": func(h *Header) { h.Size = -1 },
		"long meta":     func(h *Header) { h.Meta = make([]byte, headerMax) },
	} {
		h := e.header(key("a"), 10)
		change(&h)
		if _, err := e.Create(h); !errors.Is(err, ErrNoRoom) {
			t.Errorf("%s: got %v, want %v", name, err, ErrNoRoom)
		}
	}
	if err := e.Put(e.header(key("a"), 10), make([]byte, 9)); err == nil {
		t.Error("a body of another size is stored")
	}
	w, err := e.Create(e.header(key("a"), 10))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 11)); err == nil {
		t.Error("too many bytes are written")
	}
	if _, err := w.Commit(); err == nil {
		t.Error("an object of too many bytes is stored")
	}
	w.Abort()
	w, err = e.Create(e.header(key("a"), 10))
	if err != nil {
		t.Fatal(err)
	}
	w.Write(make([]byte, 9))
	if _, err := w.Commit(); err == nil {
		t.Error("an object of too few bytes is stored")
	}
	w.Abort()
	e.wantNone(key("a"))
	if got := e.Stats(); got.Bytes != baseCost || got.Entries != 0 {
		t.Errorf("got %+v", got)
	}
}

// path is where an object lies.
func (e *env) path(k Key) string { return e.objectPath(k.spaceID(), k.hash()) }

// damage changes a file between two runs.
func damage(t *testing.T, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamaged: a file that is not what was written is found at Get or when it is read, dropped and counted.
func TestDamaged(t *testing.T) {
	t.Parallel()
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			b[(at+len(b))%len(b)] ^= 1
			return b
		}
	}
	tests := map[string]struct {
		change func([]byte) []byte
		at     string // where it is noticed
	}{
		"magic":           {flip(0), "get"},
		"version":         {flip(8), "get"},
		"header length":   {flip(13), "get"},
		"header checksum": {flip(16), "get"},
		"generation":      {flip(40), "get"},
		"expires":         {flip(85), "get"},
		"key length":      {flip(96), "get"},
		"key":             {flip(112), "get"},
		"meta":            {flip(120), "get"},
		"short":           {func(b []byte) []byte { return b[:len(b)-1] }, "get"},
		"long":            {func(b []byte) []byte { return append(b, 0) }, "get"},
		"header only":     {func(b []byte) []byte { return b[:page] }, "get"},
		"empty":           {func([]byte) []byte { return nil }, "get"},
		"zeros":           {func(b []byte) []byte { return make([]byte, len(b)) }, "get"},
		"first block":     {flip(page), "read"},
		"last block":      {flip(page + 199_999), "read"},
		"sum":             {flip(page + 200_000), "read"},
		"body number":     {flip(-16), "read"},
		"trailer sum":     {flip(-1), "read"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t)
			e.put(key("a"), body(1, 200_000))
			e.put(key("b"), body(2, 200_000))
			e.Close()
			damage(t, e.path(key("a")), tt.change)
			e.Store = nil
			e.reopen()
			o, err := e.Get(key("a"))
			if tt.at == "get" {
				if !errors.Is(err, ErrNotFound) {
					t.Fatalf("Get: got %v, want %v", err, ErrNotFound)
				}
			} else {
				if err != nil {
					t.Fatal(err)
				}
				_, err := io.Copy(io.Discard, io.NewSectionReader(o, 0, o.Size))
				if !errors.Is(err, ErrCorrupt) || o.Verified() || o.Verify() == nil {
					t.Errorf("ReadAt: got %v, want %v", err, ErrCorrupt)
				}
				o.Close()
			}
			if n := e.rec.get("disk corrupt"); n != 1 {
				t.Errorf("counted %d times", n)
			}
			if _, err := os.Stat(e.path(key("a"))); !errors.Is(err, fs.ErrNotExist) || e.Has(key("a")) {
				t.Errorf("it is still there: %v", err)
			}
			if !e.Stats().Available {
				t.Error("the store is off")
			}
			e.want(key("b"), body(2, 200_000))
		})
	}
}

// TestDamageElsewhere: a range of good blocks is served although another block is bad.
func TestDamageElsewhere(t *testing.T) {
	t.Parallel()
	e := open(t)
	b := body(1, 300_000)
	e.put(key("a"), b)
	e.Close()
	damage(t, e.path(key("a")), func(b []byte) []byte { b[page+250_000] ^= 1; return b })
	e.Store = nil
	e.reopen()
	o, err := e.Get(key("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	p := make([]byte, 1000)
	if n, err := o.ReadAt(p, 70_000); err != nil || !bytes.Equal(p[:n], b[70_000:71_000]) {
		t.Errorf("got %d, %v", n, err)
	}
	if fd, _ := o.File(); fd != -1 {
		t.Error("it can be sent, and is not verified")
	}
}

// TestWrongKey: a file in the place of another is not served.
func TestWrongKey(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.put(key("a"), body(1, 1000))
	e.put(key("b"), body(2, 1000))
	if err := os.Rename(e.path(key("b")), e.path(key("a"))); err != nil {
		t.Fatal(err)
	}
	e.wantNone(key("a"))
	e.wantNone(key("b"))
	if c, g := e.rec.get("disk corrupt"), e.rec.get("disk gone"); c != 1 || g != 1 {
		t.Errorf("%d corrupt and %d gone, want 1 and 1", c, g)
	}
}

// TestNoFile: a link or a folder in the place of an object is not followed, read or served.
func TestNoFile(t *testing.T) {
	t.Parallel()
	for name, place := range map[string]func(path string) error{
		"link":   func(path string) error { return os.Symlink("/etc/passwd", path) },
		"folder": func(path string) error { return os.MkdirAll(filepath.Join(path, "inner"), 0o700) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := open(t)
			e.put(key("a"), body(1, 1000))
			os.Remove(e.path(key("a")))
			if err := place(e.path(key("a"))); err != nil {
				t.Fatal(err)
			}
			e.wantNone(key("a"))
			// The walk of the start may have found it too.
			if n := e.rec.get("disk corrupt"); n < 1 || n > 2 || !e.Stats().Available {
				t.Errorf("got %v, %+v", e.rec.all(), e.Stats())
			}
			e.put(key("a"), body(1, 1000))
			e.want(key("a"), body(1, 1000))
		})
	}
}

// TestForeign: what is no object is deleted by the walk; what lies beside the store's own folders stays.
func TestForeign(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.put(key("a"), body(1, 1000))
	e.Close()
	dir := filepath.Dir(e.path(key("a")))
	foreign := []string{
		filepath.Join(dir, "readme"), filepath.Join(dir, strings.Repeat("0", 31)+"g"), filepath.Join(dir, strings.Repeat("0", 32)),
		filepath.Join(e.cfg.Dir, "objects", "readme"), filepath.Join(e.cfg.Dir, "objects", "7-2", "abc"),
		filepath.Join(e.cfg.Dir, "objects", "07-2", "ab", "x"), filepath.Join(e.cfg.Dir, "tmp", "1"),
	}
	own := filepath.Join(e.cfg.Dir, "mine")
	for _, f := range append(foreign, own) {
		os.MkdirAll(filepath.Dir(f), 0o700)
		os.WriteFile(f, []byte("text"), 0o600)
	}
	pipe := filepath.Join(dir, filepath.Base(dir)+strings.Repeat("0", 30))
	if err := os.Symlink(own, pipe); err != nil {
		t.Fatal(err)
	}
	e.Store = nil
	e.reopen()
	e.walk()
	for _, f := range append(foreign, pipe) {
		if _, err := os.Lstat(f); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there: %v", f, err)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Error(err)
	}
	e.want(key("a"), body(1, 1000))
	if n := e.Stats().Entries; n != 1 {
		t.Errorf("%d entries", n)
	}
}

// TestInUse: of two stores, the second is refused.
func TestInUse(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.put(key("a"), body(1, 1000))
	if _, err := Open(e.cfg); !errors.Is(err, ErrInUse) {
		t.Errorf("got %v, want %v", err, ErrInUse)
	}
	e.want(key("a"), body(1, 1000))
	e.reopen()
	e.want(key("a"), body(1, 1000))
}

// TestEmptied: a folder whose own files are damaged or of another version is emptied, and that is logged.
func TestEmptied(t *testing.T) {
	t.Parallel()
	set := func(at int, v byte) func([]byte) []byte {
		return func(b []byte) []byte { b[at] = v; return b }
	}
	long := func(b []byte) []byte { // a damaged frame before a good one
		b[journalHeader+20] ^= 1
		return b
	}
	tests := map[string]struct {
		file   string
		change func([]byte) []byte // nil removes the file
	}{
		"newer":              {"incarnation", set(8, 2)},
		"older":              {"incarnation", set(8, 0)},
		"incarnation":        {"incarnation", set(17, 9)},
		"lost incarnation":   {"incarnation", nil},
		"lost journal":       {"journal", nil},
		"journal beginning":  {"journal", set(0, 0)},
		"middle of journal":  {"journal", long},
		"journal is a stump": {"journal", func(b []byte) []byte { return b[:7] }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := new(bytes.Buffer)
			e := open(t, func(c *Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) })
			e.put(key("a"), body(1, 1000))
			e.purge(Mark{Object: "x", Hard: true})
			e.purge(Mark{Object: "y", Hard: true})
			before := e.Generation()
			e.Close()
			path := filepath.Join(e.cfg.Dir, tt.file)
			if tt.change == nil {
				os.Remove(path)
			} else {
				damage(t, path, tt.change)
			}
			e.Store = nil
			e.reopen()
			e.wantNone(key("a"))
			e.walk() // nothing is stored before the old objects are deleted: they take room
			e.put(key("b"), body(2, 1000))
			e.want(key("b"), body(2, 1000))
			if !strings.Contains(log.String(), "emptied the disk cache") {
				t.Errorf("not logged: %s", log)
			}
			if tt.file == "journal" && e.Generation() <= before {
				t.Errorf("generation %d after %d", e.Generation(), before)
			}
			e.reopen()
			e.wantNone(key("a"))
			e.want(key("b"), body(2, 1000))
			if n := strings.Count(log.String(), "emptied"); n != 1 {
				t.Errorf("emptied %d times", n)
			}
		})
	}
}

// TestTornJournal: a frame that was never confirmed is left out, and the rest holds.
func TestTornJournal(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.put(key("a"), body(1, 1000))
	e.put(key("b"), body(1, 1000))
	e.purge(Mark{Object: "a"})
	e.Close()
	damage(t, filepath.Join(e.cfg.Dir, "journal"), func(b []byte) []byte {
		return append(b, appendFrame(nil, 2, appendMark(nil, &Mark{Space: 7, Epoch: 2, Object: "b", Hard: true, Generation: 1 << 60}))[:40]...)
	})
	e.Store = nil
	e.reopen()
	o, err := e.Get(key("a"))
	if err != nil || o.Mark == nil {
		t.Fatalf("got %+v, %v, want a soft mark", o, err)
	}
	o.Close()
	e.want(key("b"), body(1, 1000))
}

// TestSomebodysFolder: a folder that is not a store's is left alone.
func TestSomebodysFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "objects", "12", "abc") // as in a .git folder
	os.MkdirAll(filepath.Dir(file), 0o700)
	os.WriteFile(file, []byte("text"), 0o600)
	os.WriteFile(filepath.Join(dir, "HEAD"), []byte("text"), 0o600)
	log := new(bytes.Buffer)
	e := open(t, func(c *Config) { c.Dir = dir; c.Log = slog.New(slog.NewTextHandler(log, nil)) })
	if e.Stats().Available || e.Has(key("a")) {
		t.Error("it is used")
	}
	e.Close()
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "HEAD") || !strings.Contains(log.String(), "name an empty folder") {
		t.Errorf("got %s", log)
	}
}

// TestClockSetBack: an object from the future is never fresh.
func TestClockSetBack(t *testing.T) {
	t.Parallel()
	e := open(t)
	for _, ahead := range []time.Duration{time.Second, time.Hour} {
		h := e.header(key("a"), 3)
		h.Stored, h.Expires = h.Stored.Add(ahead), h.Expires.Add(ahead)
		if err := e.Put(h, []byte("abc")); err != nil {
			t.Fatal(err)
		}
		got := e.want(key("a"), []byte("abc"))
		fresh := time.Now().Before(got.Expires)
		if fresh != (ahead == time.Second) {
			t.Errorf("stored %v ahead: fresh is %v", ahead, fresh)
		}
		if !fresh && !got.Stored.Equal(time.Unix(0, 0)) {
			t.Errorf("got %+v", got)
		}
	}
}

// TestLateFolder: a folder that could not be used at the start comes back, and is emptied: its generations
// mean nothing beside those of this run.
func TestLateFolder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newMemFS()
		rec := new(counts)
		cfg := Config{Dir: "/a/cache", Limit: 64 << 20, ObjectMax: 1 << 20, Recorder: rec, FS: disk}
		for range 5 { // generations of earlier runs are greater than those of the run below
			s, err := Open(cfg)
			if err != nil {
				t.Fatal(err)
			}
			e := &env{Store: s, t: t, cfg: cfg}
			e.put(key("a"), body(1, 1000))
			s.Close()
		}
		set := func(err error) {
			disk.mu.Lock()
			defer disk.mu.Unlock()
			disk.fault = func(string, string) error { return err }
		}
		set(fs.ErrPermission)
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		e := &env{Store: s, t: t, cfg: cfg}
		defer func() { e.Close() }()
		m := Mark{Space: 7, Epoch: 2, Object: "a", Hard: true, Generation: e.Generation() + 1}
		if _, _, err := e.Purge(m); !errors.Is(err, ErrOff) {
			t.Errorf("got %v, want %v", err, ErrOff)
		}
		set(nil)
		time.Sleep(3 * time.Minute) //nolint:forbidigo // of the bubble
		synctest.Wait()
		if !e.Stats().Available {
			t.Fatal("it does not come back")
		}
		e.wantNone(key("a"))
		if err := e.Put(e.header(key("b"), 3), []byte("abc")); err != nil {
			t.Fatal(err)
		}
		before := e.Generation()
		e.reopen()
		e.want(key("b"), []byte("abc"))
		if e.Generation() <= before {
			t.Errorf("generation %d after %d", e.Generation(), before)
		}
	})
}

// TestFolderReplaced: a folder that vanishes while the store runs is made again.
func TestFolderReplaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		disk := newMemFS()
		cfg := Config{Dir: "/cache", Limit: 64 << 20, ObjectMax: 1 << 20, Recorder: new(counts), FS: disk}
		s, err := Open(cfg)
		if err != nil {
			t.Fatal(err)
		}
		e := &env{Store: s, t: t, cfg: cfg}
		defer func() { e.Close() }()
		e.put(key("a"), body(1, 1000))
		disk.mu.Lock()
		disk.root.names["cache"].names = map[string]*inode{}
		disk.mu.Unlock()
		e.wantNone(key("a"))
		if err := e.Put(e.header(key("b"), 3), []byte("abc")); err == nil {
			t.Error("stored in a folder that is gone")
		}
		time.Sleep(3 * time.Minute) //nolint:forbidigo // of the bubble
		synctest.Wait()
		e.put(key("b"), body(2, 1000))
		e.want(key("b"), body(2, 1000))
		e.reopen()
		e.want(key("b"), body(2, 1000))
	})
}

// TestForeignBody: the body and the trailer of another file do not belong to a header.
func TestForeignBody(t *testing.T) {
	t.Parallel()
	e := open(t)
	e.put(key("a"), body(1, 1000))
	e.put(key("b"), body(2, 1000))
	e.Close()
	other, err := os.ReadFile(e.path(key("b")))
	if err != nil {
		t.Fatal(err)
	}
	damage(t, e.path(key("a")), func(b []byte) []byte { return append(b[:page:page], other[page:]...) })
	e.Store = nil
	e.reopen()
	o, err := e.Get(key("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if err := o.Verify(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want %v", err, ErrCorrupt)
	}
}
