package disk

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

var faults = map[string]error{
	"ENOSPC": syscall.ENOSPC, "EIO": syscall.EIO, "EROFS": syscall.EROFS, "EMFILE": syscall.EMFILE, "short": errShort,
}

// playFault lets operations of one kind fail: from the start, after the start, or one of them.
func playFault(t *testing.T, op, when string, fault error) {
	disk := newMemFS()
	rec := new(counts)
	cfg := Config{Dir: "/cache", Limit: 64 << 20, ObjectMax: 1 << 20, Recorder: rec, FS: disk}
	n := 0
	on := func(broken bool) {
		disk.mu.Lock()
		defer disk.mu.Unlock()
		disk.fault = func(o, _ string) error {
			if !broken || o != op {
				return nil
			}
			n++
			if when == "once" && n != 3 {
				return nil
			}
			return fault
		}
	}
	on(when == "start")
	s, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	synctest.Wait()
	on(true)
	var marks []Mark
	script(s, func(m Mark) { marks = append(marks, m) })
	checkAfter(t, s, marks)
	synctest.Wait()
	if !s.Stats().Available {
		if rec.get("error open")+rec.get("error write")+rec.get("error read")+rec.get("error sync")+rec.get("error stat")+
			rec.get("error rename")+rec.get("error remove")+rec.get("error list")+rec.get("error lock") == 0 {
			t.Errorf("it is off, and nothing was counted: %v", rec.all())
		}
		h := Header{Key: key("x"), Generation: s.Generation() + 9, Size: 1}
		if s.Has(key("x")) || !errors.Is(s.Put(h, []byte("x")), ErrOff) {
			t.Error("it is off, and does not say so")
		}
	}
	on(false)
	time.Sleep(3 * time.Minute) //nolint:forbidigo // of the bubble
	synctest.Wait()
	if !s.Stats().Available {
		t.Fatalf("it does not come back: %v", rec.all())
	}
	checkAfter(t, s, marks)
	h := Header{Key: key("x"), Generation: s.Generation() + 100, Size: 70_000}
	if err := s.Put(h, body(1, 70_000)); err != nil {
		t.Fatal(err)
	}
	o, err := s.Get(key("x"))
	if err != nil {
		t.Fatal(err)
	}
	o.Close()
	m := &model{t: t, fs: disk, store: s}
	m.settled()
	s.Close()
	s, err = Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	checkAfter(t, s, marks)
	if !s.Has(key("x")) {
		t.Error("an object is lost at a restart")
	}
}

// TestPurgeWhileOff: a purge that could not be made durable says so, holds, and is durable before the store is used again.
func TestPurgeWhileOff(t *testing.T) {
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
		e.put(key("b"), body(2, 1000))
		broken := func(op, _ string) error {
			if op == "fsync" || op == "remove" {
				return syscall.EIO
			}
			return nil
		}
		set := func(f func(op, name string) error) {
			disk.mu.Lock()
			defer disk.mu.Unlock()
			disk.fault = f
		}
		set(broken)
		m := Mark{Space: 7, Epoch: 2, Object: "a", Hard: true, Generation: e.Generation() + 2, At: time.Now()}
		if _, _, err := e.Purge(m); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v, want EIO", err)
		}
		m.Object = "b"
		if _, _, err := e.Purge(m); err == nil {
			t.Error("a purge of a store that is off is durable")
		}
		e.wantNone(key("a"))
		time.Sleep(10 * time.Minute) //nolint:forbidigo // of the bubble
		synctest.Wait()
		if e.Stats().Available {
			t.Fatal("it is on, although a purge is not durable")
		}
		set(nil)
		time.Sleep(2 * time.Minute) //nolint:forbidigo // of the bubble
		synctest.Wait()
		if !e.Stats().Available {
			t.Fatal("it does not come back")
		}
		e.wantNone(key("a"))
		e.wantNone(key("b"))
		marks, err := decodeJournal(disk.files("/cache")["/cache/journal"].durable)
		if err != nil || len(marks) != 2 {
			t.Errorf("the journal has %d marks, %v, want 2", len(marks), err)
		}
		if strings.Contains(strings.Join(paths(disk), " "), key("a").hash().String()) {
			t.Errorf("the file is still there: %v", paths(disk))
		}
	})
}

func paths(disk *memFS) (all []string) {
	for p := range disk.files("/cache") {
		all = append(all, p)
	}
	return all
}
