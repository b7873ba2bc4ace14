package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"testing/synctest"
)

// memEnv opens a store on a file system in memory, in a bubble.
func memEnv(t *testing.T, change func(*Config, *memFS), play func(*env, *memFS)) {
	synctest.Test(t, func(t *testing.T) {
		disk := newMemFS()
		e := &env{t: t, rec: new(counts)}
		e.cfg = Config{Dir: "/cache", Limit: 64 << 20, ObjectMax: 16 << 20, Recorder: e.rec, FS: disk}
		if change != nil {
			change(&e.cfg, disk)
		}
		e.reopen()
		defer func() { e.Close() }()
		synctest.Wait()
		play(e, disk)
	})
}

// TestBudget: the files never take more than the limit, also while objects are written, replaced and evicted,
// and the objects that are used stay.
func TestBudget(t *testing.T) {
	t.Parallel()
	memEnv(t, func(c *Config, _ *memFS) { c.Limit = 4 << 20 }, func(e *env, disk *memFS) {
		hot := key("hot")
		e.put(hot, body(1, 100_000))
		for i := range 500 {
			e.put(numbered(i), body(uint64(i), i*317%200_000))
			if _, peak := disk.usage(); peak > e.cfg.Limit {
				t.Fatalf("the files took %d of %d bytes", peak, e.cfg.Limit)
			}
			if i%20 == 0 {
				e.want(hot, body(1, 100_000))
			}
		}
		synctest.Wait()
		st := e.Stats()
		if st.Bytes > st.Capacity-e.headroom() {
			t.Errorf("%d of %d bytes: no headroom is kept", st.Bytes, st.Capacity)
		}
		if st.Bytes < st.Capacity*3/4 {
			t.Errorf("%d of %d bytes: too much is evicted", st.Bytes, st.Capacity)
		}
		if e.rec.get("disk capacity") < 300 {
			t.Errorf("got %v", e.rec.all())
		}
		h := e.header(key("huge"), 5<<20)
		if err := e.Put(h, body(1, 5<<20)); !errors.Is(err, ErrNoRoom) {
			t.Errorf("larger than the budget: got %v, want %v", err, ErrNoRoom)
		}
		if got := e.Stats(); got.Entries < 10 {
			t.Errorf("an object that cannot be stored has evicted others: %+v", got)
		}
	})
}

// TestOpenFilesAreCounted: a file that was removed while it is open takes room until it is closed.
func TestOpenFilesAreCounted(t *testing.T) {
	t.Parallel()
	memEnv(t, func(c *Config, _ *memFS) { c.Limit = 2 << 20 }, func(e *env, disk *memFS) {
		b := body(1, 700_000)
		var open []*Object
		for i := range 2 {
			e.put(numbered(i), b)
			o, err := e.Get(numbered(i))
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, o)
			switch i {
			case 0:
				e.Remove(numbered(0), "gone")
			case 1:
				e.purge(Mark{Prefix: true, Hard: true})
			}
		}
		synctest.Wait()
		if err := e.Put(e.header(numbered(3), 700_000), b); !errors.Is(err, ErrPurged) && !errors.Is(err, ErrNoRoom) {
			t.Fatalf("got %v", err)
		}
		h := e.header(numbered(3), 700_000)
		h.Generation += 10
		if err := e.Put(h, b); !errors.Is(err, ErrNoRoom) {
			t.Errorf("got %v, want %v", err, ErrNoRoom)
		}
		for _, o := range open {
			p := make([]byte, o.Size)
			if _, err := o.ReadAt(p, 0); err != nil || string(p) != string(b) {
				t.Errorf("an open object cannot be read: %v", err)
			}
			o.Close()
			o.Close()
		}
		if err := e.Put(h, b); err != nil {
			t.Error(err)
		}
		if _, peak := disk.usage(); peak > e.cfg.Limit {
			t.Errorf("the files took %d of %d bytes", peak, e.cfg.Limit)
		}
		e.want(numbered(3), b)
	})
}

// TestFreeSpace: part of the file system stays free, and a limit that does not fit is lowered.
func TestFreeSpace(t *testing.T) {
	t.Parallel()
	memEnv(t, func(c *Config, disk *memFS) {
		c.Limit = 1 << 30
		disk.volume = Volume{Total: 20 << 20, Free: 11 << 20, Block: page} // others have 9 MiB
	}, func(e *env, disk *memFS) {
		if got := e.EffectiveLimit(); got != 19<<20 {
			t.Errorf("limit %d, want 19 MiB", got)
		}
		big := body(1, 500_000)
		for i := range 60 {
			if err := e.Put(e.header(numbered(i), 500_000), big); err != nil {
				t.Fatal(err)
			}
			if v, _ := disk.Free("/"); v.Free < 1<<20 {
				t.Fatalf("%d bytes are free, want 1 MiB", v.Free)
			}
		}
		if n := e.Stats().Entries; n < 15 {
			t.Errorf("%d objects", n)
		}
	})
}

// TestManySpaces: empty folders do not fill the disk.
func TestManySpaces(t *testing.T) {
	t.Parallel()
	memEnv(t, func(c *Config, _ *memFS) { c.Limit = 2 << 20 }, func(e *env, disk *memFS) {
		for i := range 2000 {
			e.put(Key{Space: int64(i), Epoch: 1, Object: "a"}, []byte("abc"))
			if _, peak := disk.usage(); peak > e.cfg.Limit {
				t.Fatalf("%d: the files took %d bytes", i, peak)
			}
		}
		synctest.Wait()
		if n, got := e.Stats().Entries, disk.folders("/cache/objects"); got != 2*n || n < 50 {
			t.Errorf("%d folders for %d objects", got, n)
		}
	})
}

// TestKeep drops the spaces that are no more, and their marks.
func TestKeep(t *testing.T) {
	t.Parallel()
	memEnv(t, nil, func(e *env, disk *memFS) {
		for i := 1; i <= 6; i++ {
			k := Key{Space: int64(i), Epoch: 1, Object: "a"}
			e.put(k, []byte("abc"))
			e.purge(Mark{Space: int64(i), Epoch: 1, Object: "b"})
		}
		e.Keep(func(space, _ int64) bool { return space%2 == 0 })
		synctest.Wait()
		for range 2 {
			for i := 1; i <= 6; i++ {
				if got := e.Has(Key{Space: int64(i), Epoch: 1, Object: "a"}); got != (i%2 == 0) {
					t.Errorf("space %d: Has is %v", i, got)
				}
			}
			e.mu.Lock()
			if len(e.marks) != 3 {
				t.Errorf("%d spaces have marks, want 3", len(e.marks))
			}
			e.mu.Unlock()
			e.reopen()
			synctest.Wait()
		}
		if n := len(disk.files("/cache/objects")); n != 3 {
			t.Errorf("%d files", n)
		}
	})
}

// TestSmallDisk fills a real file system of 8 MiB. It needs a namespace of its own, to mount it.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("IXMAGE_SMALL_DISK"); dir != "" {
		smallDisk(t, dir)
		return
	}
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED: no tmpfs here")
	}
	dir := t.TempDir()
	mount := fmt.Sprintf("mount -t tmpfs -o size=8m,mode=700 tmpfs %s || exit 42; exec %s -test.run '^TestSmallDisk$' -test.v", dir, os.Args[0])
	cmd := exec.Command("unshare", "-rm", "sh", "-c", mount)
	cmd.Env = append(os.Environ(), "IXMAGE_SMALL_DISK="+dir)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() != 1, err != nil && !errors.As(err, &exit):
		t.Skipf("SKIPPED: !!!!! a file system cannot be mounted here, a full disk is only simulated: %v: %s", err, out)
	case err != nil:
		t.Errorf("%v\n%s", err, out)
	}
}

func smallDisk(t *testing.T, dir string) {
	e := open(t, func(c *Config) { c.Dir, c.Limit = filepath.Join(dir, "cache"), 1<<30 })
	if got := e.EffectiveLimit(); got >= 8<<20 || got < 7<<20 {
		t.Errorf("limit %d of 8 MiB", got)
	}
	for i := range 100 {
		e.put(numbered(i), body(uint64(i), 300_000))
	}
	e.want(numbered(99), body(99, 300_000))
	w, err := e.Create(e.header(key("big"), 2<<20))
	if err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(dir, "full") // somebody else fills it
	f, err := os.Create(full)
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = f.Write(make([]byte, 64<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	_, err = w.Write(body(1, 2<<20))
	w.Abort()
	if !errors.Is(err, syscall.ENOSPC) || e.Stats().Available || e.Has(numbered(99)) {
		t.Errorf("got %v, %+v, want no space and the store off", err, e.Stats())
	}
	f.Close()
	os.Remove(full)
	e.mu.Lock()
	e.retryAt = e.onSince // now
	e.mu.Unlock()
	e.wake()
	for !e.Stats().Available {
		runtime.Gosched()
	}
	e.put(key("b"), body(1, 300_000))
	e.want(key("b"), body(1, 300_000))
	if _, err := os.Stat(full); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
