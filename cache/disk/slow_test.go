package disk

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// slowFS waits in some calls.
type slowFS struct {
	*memFS

	wait func(op string)
}

//nolint:ireturn // as the interface says
func (f *slowFS) Open(name string, flag int) (File, error) {
	file, err := f.memFS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &slowFile{file, f}, nil
}

type slowFile struct {
	File

	fs *slowFS
}

func (f *slowFile) Sync() error {
	f.fs.wait("fsync")
	return f.File.Sync()
}

func (f *slowFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.wait("read")
	return f.File.ReadAt(p, off)
}

func slowEnv(t *testing.T, play func(e *env, disk *slowFS)) {
	disk := &slowFS{newMemFS(), func(string) {}}
	memEnv(t, func(c *Config, f *memFS) { disk.memFS, c.FS = f, disk }, func(e *env, _ *memFS) { play(e, disk) })
}

// TestGroupCommit: purges that come while the disk is busy share one sync, and none returns before its own.
func TestGroupCommit(t *testing.T) {
	t.Parallel()
	const purges = 50
	disk := &slowFS{newMemFS(), func(string) {}}
	e := open(t, func(c *Config) { c.Dir, c.FS = "/cache", disk })
	e.walk() // it has ended
	var syncs, done atomic.Int64
	started, release := make(chan struct{}, purges), make(chan struct{})
	disk.wait = func(op string) {
		if op == "fsync" {
			syncs.Add(1)
			started <- struct{}{}
			<-release
		}
	}
	var wg sync.WaitGroup
	purge := func(i int) {
		wg.Go(func() {
			e.purge(Mark{Object: numbered(i).Object, Hard: true})
			done.Add(1)
		})
	}
	purge(0)
	<-started
	for i := range purges - 1 {
		purge(1 + i)
	}
	for waiting := 0; waiting < purges-1; runtime.Gosched() {
		e.journal.mu.Lock()
		if e.journal.next != nil {
			all, _ := parseMarks(e.journal.next.records)
			waiting = len(all)
		}
		e.journal.mu.Unlock()
	}
	if done.Load() != 0 {
		t.Errorf("%d purges are done before they are durable", done.Load())
	}
	release <- struct{}{}
	<-started
	if n := done.Load(); n > 1 {
		t.Errorf("%d purges are done after the first sync", n)
	}
	close(release)
	wg.Wait()
	if syncs.Load() != 2 {
		t.Errorf("%d syncs for %d purges, want 2", syncs.Load(), purges)
	}
}

// TestSlowDisk: a disk that does not answer holds up a bounded number of calls; the others are told at once that nothing is
// found, and nothing else waits.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	slowEnv(t, func(e *env, disk *slowFS) {
		const extra = 100
		e.put(key("a"), body(1, 1000))
		var running, refused atomic.Int64
		release := make(chan struct{})
		disk.wait = func(op string) {
			if op == "read" {
				running.Add(1)
				<-release
				running.Add(-1)
			}
		}
		var wg sync.WaitGroup
		for i := range gateCalls + gateWaiting {
			if i == gateCalls {
				synctest.Wait() // a call that has just got its turn counts among those that wait for theirs
			}
			wg.Go(func() {
				o, err := e.Get(key("a"))
				if err != nil {
					t.Error(err)
					return
				}
				o.Close()
			})
		}
		synctest.Wait()
		for range extra {
			if _, err := e.Get(key("a")); errors.Is(err, ErrNotFound) {
				refused.Add(1)
			}
		}
		if !e.Has(key("a")) || !e.Stats().Available {
			t.Error("a slow disk is off")
		}
		// None has ended yet.
		if n := running.Load(); n != gateCalls || refused.Load() != extra {
			t.Errorf("%d calls at a time, %d refused; want %d and %d", n, refused.Load(), gateCalls, extra)
		}
		close(release)
		wg.Wait()
		time.Sleep(time.Minute) //nolint:forbidigo // of the bubble
		e.want(key("a"), body(1, 1000))
	})
}
