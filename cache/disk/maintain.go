package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	firstBackOff   = time.Second
	longestBackOff = time.Minute
	// indexEvery is how often the index is saved. After a crash, what was used since is unknown.
	indexEvery = 5 * time.Minute
)

// failed is fail for a caller that returns the error.
func (s *Store) failed(op string, err error) error {
	s.fail(op, err)
	return fmt.Errorf("%s in the disk cache: %w", op, err)
}

// fail counts an error of the disk and switches the store off.
func (s *Store) fail(op string, err error) {
	if errors.Is(err, ErrOff) || s.ctx.Err() != nil {
		return
	}
	s.cfg.Recorder.DiskError(op, 1)
	s.mu.Lock()
	if s.on && time.Since(s.onSince) > longestBackOff {
		s.backOff = 0
	}
	first := s.on || s.backOff == 0
	s.on = false
	s.up.Store(false)
	if s.retryAt.IsZero() {
		s.backOff = min(max(firstBackOff, 2*s.backOff), longestBackOff)
		s.retryAt = time.Now().Add(s.backOff)
	}
	s.mu.Unlock()
	if first {
		s.log.Error("disk cache is off; objects are cached in memory only, and it tries again",
			"folder", s.cfg.Dir, "op", op, "error", err)
	}
	s.wake()
}

// maintain does what must not delay a request: it makes room, deletes what was dropped,
// saves the index, and tries again after trouble.
func (s *Store) maintain() {
	save := time.NewTicker(indexEvery)
	defer save.Stop()
	retry := time.NewTimer(0)
	defer retry.Stop()
	for s.ctx.Err() == nil {
		s.mu.Lock()
		on, at := s.on, s.retryAt
		s.mu.Unlock()
		switch {
		case on:
			s.work()
			retry.Stop()
		case !time.Now().Before(at):
			s.recover()
			continue
		default:
			retry.Reset(time.Until(at))
		}
		select {
		case <-s.ctx.Done():
		case <-s.kick:
		case <-retry.C:
		case <-save.C:
			s.saveIndex(false)
		}
	}
}

// work ends early when the store goes off.
func (s *Store) work() {
	s.mu.Lock()
	live, rewalk := s.live, s.rewalk
	s.live, s.rewalk = nil, false
	crowded := slices.Collect(maps.Keys(s.crowded))
	s.mu.Unlock()
	if rewalk {
		s.wg.Go(s.walk)
	}
	s.removeDoomed()
	if live != nil && s.keepLive(live) != nil {
		s.mu.Lock()
		s.keepLocked(live) // again after the trouble
		s.mu.Unlock()
	}
	for _, id := range crowded {
		if s.compact(id) != nil {
			s.mu.Lock()
			s.crowded[id] = true
			s.mu.Unlock()
			return
		}
	}
	if s.journal.long() && s.saveMarks() != nil {
		return
	}
	s.emptyTrash()
	s.makeHeadroom()
}

// emptyTrash deletes what was dropped. Its bytes are taken until then.
func (s *Store) emptyTrash() {
	s.removing.Lock()
	defer s.removing.Unlock()
	s.mu.Lock()
	stray := maps.Clone(s.stray)
	s.mu.Unlock()
	for path, cost := range stray {
		if err := s.fs.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.fail("remove", err)
			return
		}
		s.unreserve(cost, 0)
		s.mu.Lock()
		delete(s.stray, path)
		s.mu.Unlock()
	}
	for s.ctx.Err() == nil {
		s.mu.Lock()
		if len(s.trash) == 0 {
			s.mu.Unlock()
			s.sweep()
			return
		}
		t := s.trash[0]
		s.mu.Unlock()
		if err := s.removeAny(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.fail("remove", err)
			return
		}
		s.mu.Lock()
		s.trash = s.trash[1:]
		s.freedLocked(t.bytes)
		s.mu.Unlock()
	}
}

// sweep frees the entries of dropped spaces, in steps that do not hold mu for long.
func (s *Store) sweep() {
	const step = 8192
	for at, end := 0, false; !end; {
		s.mu.Lock()
		at = s.index.sweep(at, step)
		end = at >= len(s.index.entries)
		s.mu.Unlock()
	}
}

// recover tries whether the folder can be used again.
func (s *Store) recover() {
	s.mu.Lock()
	ready := s.ready
	s.retryAt = time.Time{}
	s.mu.Unlock()
	if ready && !s.ours() {
		ready = false // another folder is there, or an empty one
	}
	if !ready {
		if err := s.setup(true); err != nil {
			s.fail("open", err)
			return
		}
		s.log.Info("disk cache is on again, and empty", "folder", s.cfg.Dir)
		return
	}
	if err := s.probe(); err != nil {
		s.fail("write", err)
		return
	}
	// Marks that came meanwhile are durable before an object is served.
	if s.saveMarks() != nil {
		return
	}
	s.mu.Lock()
	for i := range s.index.entries {
		s.index.entries[i].flags &^= flagVerified | flagSeen // the trouble may have been with what was written
	}
	s.on, s.rewalk, s.onSince = true, true, time.Now()
	s.up.Store(!s.closed)
	s.mu.Unlock()
	s.log.Info("disk cache is on again", "folder", s.cfg.Dir)
}

// ours reports whether the folder is still the one that was set up. An error counts as yes.
func (s *Store) ours() bool {
	n, err := s.readIncarnation()
	return n == s.incarnation || err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errMalformed)
}

// probe writes and syncs a page.
func (s *Store) probe() error {
	f, err := replaceFile(s.fs, filepath.Join(s.cfg.Dir, "tmp", "probe"), make([]byte, page))
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.fs.Remove(filepath.Join(s.cfg.Dir, "tmp", "probe")))
}

// readAll reads a small file.
func (s *Store) readAll(name string) ([]byte, error) {
	f, err := s.fs.Open(s.path(name), os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	b := make([]byte, info.Size())
	return b, readFull(f, b, 0)
}
