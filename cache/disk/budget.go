package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

const (
	// baseCost is what the folder takes without objects: its own folders, the lock, the
	// incarnation and a short journal.
	baseCost = 64 << 10
	// folderCost is what a folder takes.
	folderCost = page
	// Of the file system, keepShare or keepMax bytes stay free, whichever is less.
	keepShare = 20
	keepMax   = 1 << 30
	// maintain keeps 1/headroomShare of the budget free, at most headroomMax, so that a new object seldom waits
	// for the removal of others.
	headroomShare = 16
	headroomMax   = 64 << 20
)

// pages is how many units of 4 KiB a file of size bytes takes.
func (s *Store) pages(size int64) uint32 {
	block := max(page, s.block.Load())
	return uint32((size + block - 1) / block * (block / page))
}

func (v Volume) keep() int64 { return min(v.Total/keepShare, keepMax) }

// lacksLocked is how many bytes must be freed before n more may be written; 0 or less is none.
func (s *Store) lacksLocked(n int64) int64 {
	return max(s.used+n-s.limit, s.volume.keep()+s.reserved+n-s.volume.Free)
}

// freedLocked returns bytes to the budget.
func (s *Store) freedLocked(n int64) {
	s.used -= n
	s.volume.Free += n // until the next look
}

// reserve takes n bytes of the budget before they are written. It evicts other objects if
// it must, and blocks on the disk then. The caller holds no stripe.
func (s *Store) reserve(n int64) error {
	s.measure()
	err := s.tryReserve(n)
	if !errors.Is(err, ErrNoRoom) {
		return err
	}
	s.evicting.Lock()
	defer s.evicting.Unlock()
	for {
		more := s.evictSome(n)
		err := s.tryReserve(n)
		if !more || !errors.Is(err, ErrNoRoom) {
			return err
		}
	}
}

// tryReserve is reserve without an eviction. It wakes maintain after the reservation, so that the headroom is
// restored with these bytes counted.
func (s *Store) tryReserve(n int64) error {
	s.mu.Lock()
	err := s.reserveLocked(n)
	low := s.lacksLocked(s.headroom()) > 0
	s.mu.Unlock()
	if low {
		s.wake()
	}
	return err
}

func (s *Store) reserveLocked(n int64) error {
	switch {
	case s.closed || !s.on:
		return ErrOff
	case !s.complete || s.lacksLocked(n) > 0:
		return ErrNoRoom // while the index is rebuilt, nobody knows how much is taken
	}
	s.used += n
	s.reserved += n
	return nil
}

// unreserve returns a reservation of which kept bytes stay taken.
func (s *Store) unreserve(n, kept int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reserved -= n
	s.used -= n - kept
	s.volume.Free -= kept
}

func (s *Store) headroom() int64 { return min(s.limit/headroomShare, headroomMax) }

// evictSome removes a few objects if n bytes do not fit. It reports whether it removed any.
// The caller holds evicting.
func (s *Store) evictSome(n int64) bool {
	const step = 32
	type victim struct {
		hash  hash
		id    spaceID
		pages uint32
		cost  int64
	}
	var victims []victim
	s.mu.Lock()
	lacks := s.lacksLocked(n)
	if n > s.limit || !s.on || !s.complete {
		lacks = 0
	}
	for lacks > 0 && len(victims) < step {
		e := s.index.victim(func(e *entry) bool { return s.opened[e.hash] != nil })
		if e == nil {
			break
		}
		v := victim{hash: e.hash, id: s.index.numbers[e.space].id, pages: e.pages}
		v.cost = s.detachLocked(e)
		lacks -= v.cost
		victims = append(victims, v)
	}
	s.mu.Unlock()
	for _, v := range victims {
		mu := s.stripe(v.hash)
		mu.Lock()
		s.mu.Lock()
		replaced := s.index.lookup(v.hash) != nil // by an object that came meanwhile
		if replaced {
			s.freedLocked(v.cost)
		}
		s.mu.Unlock()
		if !replaced {
			_, _ = s.unlink(v.hash, v.id, v.pages, v.cost) // or the entry is back
		}
		mu.Unlock()
	}
	if len(victims) > 0 {
		s.cfg.Recorder.Evicted("disk", "capacity", len(victims))
	}
	return len(victims) > 0
}

// makeHeadroom evicts ahead of need.
func (s *Store) makeHeadroom() {
	s.measure()
	s.evicting.Lock()
	defer s.evicting.Unlock()
	for more := true; more && s.ctx.Err() == nil; {
		more = s.evictSome(s.headroom())
	}
}

// measure looks how full the file system is, at most once a second.
func (s *Store) measure() {
	s.mu.Lock()
	now := time.Now()
	fresh := !s.on || now.Sub(s.volumeAt) < time.Second && !now.Before(s.volumeAt)
	if !fresh {
		s.volumeAt = now
	}
	s.mu.Unlock()
	if fresh {
		return
	}
	v, err := s.fs.Free(s.cfg.Dir)
	if err != nil {
		s.fail("stat", err)
		return
	}
	s.mu.Lock()
	s.volume.Total, s.volume.Free = v.Total, v.Free
	s.mu.Unlock()
}

// makeFolders makes the folders of an object and returns how many are new.
func (s *Store) makeFolders(h hash, id spaceID) (made int, err error) {
	xx := filepath.Dir(s.objectPath(id, h))
	for _, dir := range []string{filepath.Dir(xx), xx} {
		switch err := s.fs.Mkdir(dir); {
		case err == nil:
			made++
		case !errors.Is(err, fs.ErrExist):
			return made, err
		}
	}
	return made, nil
}

// fewEntries is how many entries a space has when its folders may be empty.
const fewEntries = 512

// removeFolders removes the folders of an object that was removed, if they are empty: with many
// spaces, empty folders would take more than objects. The caller holds the stripe, so that
// no file comes into the inner folder.
func (s *Store) removeFolders(h hash, id spaceID) {
	s.mu.Lock()
	sp := s.index.spaces[id]
	entries := 0
	if sp != nil {
		entries = sp.entries
	}
	s.mu.Unlock()
	if entries > fewEntries {
		return
	}
	xx := filepath.Dir(s.objectPath(id, h))
	if s.fs.Remove(xx) != nil {
		return // it has other files
	}
	s.countFolders(id, -1)
	if entries == 0 && s.fs.Remove(filepath.Dir(xx)) == nil {
		s.countFolders(id, -1)
	}
}

// countFolders counts folders that were made or removed. Those that are made were reserved.
func (s *Store) countFolders(id spaceID, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.index.space(id)
	if n < 0 {
		n = max(n, -sp.folders) // of folders that were never counted
		s.freedLocked(int64(-n) * folderCost)
	}
	sp.folders += n
	s.index.release(sp)
}

// removeAny removes a file or, if it is a folder, all that is in it.
func (s *Store) removeAny(path string) error {
	err := s.fs.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	info, stat := s.fs.Stat(path)
	if stat != nil || !info.IsDir() {
		return err
	}
	entries, err := s.fs.List(path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.removeAny(filepath.Join(path, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return s.fs.Remove(path)
}
