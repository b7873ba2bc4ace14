package disk

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// marksMax is how many marks all spaces may have together. Then the space with the most is
// dropped.
const marksMax = 1 << 17

// Purge covers objects with m. It returns how many objects of m the index has, and their
// bytes; for a prefix, which the index does not know, 0. If err is nil, the purge is
// durable. If not, it still holds until the process ends, and the store is not used again
// before the mark is durable. It blocks on the disk.
func (s *Store) Purge(m Mark) (entries int, bytes int64, err error) {
	entries, bytes, durable := s.Cover(m)
	return entries, bytes, durable()
}

// Cover is Purge in two steps: the purge holds when Cover returns, which does not block. It
// is durable when the returned function, which must be called once, returns nil.
func (s *Store) Cover(m Mark) (entries int, bytes int64, durable func() error) {
	mark := &m
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, 0, func() error { return ErrOff }
	}
	mark = s.addMarkLocked(mark)
	on := s.on
	if sp := s.index.spaces[m.spaceID()]; sp != nil && m.wholeSpace() {
		entries, bytes = sp.entries, sp.bytes
	}
	if e := s.index.lookup(Key{m.Space, m.Epoch, m.Object}.hash()); e != nil && !m.Prefix {
		entries, bytes = 1, e.bytes()
	}
	s.mu.Unlock()
	return entries, bytes, func() error { return s.keepMark(mark, on) }
}

// HasVariants reports whether there may be files of variants of an epoch.
func (s *Store) HasVariants(space, epoch int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	sp := s.index.spaces[spaceID{space, epoch}]
	return !s.complete || sp != nil && sp.variants > 0
}

// keepMark removes what a hard mark covers, and makes the mark durable.
func (s *Store) keepMark(m *Mark, on bool) error {
	if on && m.Hard {
		_ = s.purgeFiles(m) // a file that could not be removed is covered by the mark
	}
	if err := s.journal.append(m); err != nil {
		return s.failed("sync", err)
	}
	return nil
}

// purgeFiles removes what a hard mark covers, as far as the index tells it.
func (s *Store) purgeFiles(m *Mark) error {
	switch {
	case m.wholeSpace():
		return s.dropSpace(m.spaceID(), "purged")
	case m.Prefix:
		return nil
	}
	h := Key{m.Space, m.Epoch, m.Object}.hash()
	mu := s.stripe(h)
	mu.Lock()
	defer mu.Unlock()
	return s.enforce(h, m.spaceID(), []*Mark{m})
}

// addMarkLocked remembers a mark. With too many, it becomes one hard mark of the space: a
// cache may lose objects, and may not forget a purge. It returns the mark that is valid.
func (s *Store) addMarkLocked(m *Mark) *Mark {
	id := m.spaceID()
	ms := s.marks[id]
	if ms == nil {
		ms = new(marks)
		s.marks[id] = ms
	}
	before := ms.count()
	ms.add(m)
	keys, prefixes := ms.len()
	if keys > keyMarks || prefixes > prefixMarks {
		s.crowded[id] = true
		s.wake()
	}
	if keys > 4*keyMarks || prefixes > 4*prefixMarks || s.markCount > marksMax && keys+prefixes > 1 {
		all := &Mark{Space: id.space, Epoch: id.epoch, Prefix: true, Hard: true, Generation: m.Generation, At: m.At}
		for _, o := range ms.all() {
			all.Generation = max(all.Generation, o.Generation)
		}
		ms.add(all)
		m = all
	}
	s.markCount += ms.count() - before
	return m
}

// dropSpace drops all objects of an epoch. Their folder is moved away at once and deleted by
// maintain. If the folder cannot be moved, the entries stay, and a hard mark covers them.
func (s *Store) dropSpace(id spaceID, reason string) error {
	to := s.trashPath()
	s.lockAll() // no object is published meanwhile: it would be moved away, and counted
	err := s.fs.Rename(filepath.Join(s.cfg.Dir, "objects", id.String()), to)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.unlockAll()
		return s.failed("rename", err)
	}
	s.mu.Lock()
	sp := s.index.drop(id)
	s.discardLocked(to, sp)
	s.mu.Unlock()
	s.unlockAll()
	if sp.entries > 0 {
		s.cfg.Recorder.Evicted("disk", reason, sp.entries)
	}
	s.wake()
	return nil
}

// discardLocked counts what a dropped space takes until its folder is deleted. Files that are open
// are counted until they are closed.
func (s *Store) discardLocked(path string, sp *space) {
	bytes := sp.bytes + int64(sp.folders)*folderCost
	for h, o := range s.opened {
		if i, ok := s.index.slot[h]; ok && s.index.entries[i].space == sp.number && sp.dropped {
			delete(s.opened, h)
			o.gone, o.cost = true, s.index.entries[i].bytes()
			bytes -= o.cost
		}
	}
	s.dirty = true
	s.trash = append(s.trash, trash{path, bytes})
}

// trashPath is a new name in the trash.
func (s *Store) trashPath() string {
	name := strconv.FormatUint(rand.Uint64(), 36) //nolint:gosec // it only has to be another one
	return filepath.Join(s.cfg.Dir, "trash", name)
}

// Keep drops all objects of spaces that are not live, and the marks of these spaces, in the
// background. live is called from another goroutine, until the work is done. A Keep that has
// not been done yet holds too.
func (s *Store) Keep(live func(space, epoch int64) bool) {
	s.mu.Lock()
	s.keepLocked(live)
	s.mu.Unlock()
	s.wake()
}

func (s *Store) keepLocked(live func(space, epoch int64) bool) {
	before := s.live
	s.live = live
	if before != nil {
		s.live = func(space, epoch int64) bool { return before(space, epoch) && live(space, epoch) }
	}
}

// keepLive does what Keep says.
func (s *Store) keepLive(live func(space, epoch int64) bool) error {
	dead, err := s.spaces()
	if err != nil {
		return err
	}
	for id := range dead {
		if live(id.space, id.epoch) {
			delete(dead, id)
			continue
		}
		if err := s.dropSpace(id, "gone"); err != nil {
			return err
		}
	}
	if len(dead) == 0 {
		return nil
	}
	if err := s.fs.SyncDir(s.path("objects")); err != nil { // before the marks are forgotten
		return s.failed("sync", err)
	}
	s.mu.Lock()
	for id := range dead {
		s.markCount -= s.marks[id].count()
		delete(s.marks, id)
		delete(s.crowded, id)
	}
	s.mu.Unlock()
	return s.saveMarks()
}

// EachSpace calls visit with each space and epoch that has files, entries or marks. The error
// says that some may be missing.
func (s *Store) EachSpace(visit func(space, epoch int64)) error {
	all, err := s.spaces()
	for id := range all {
		visit(id.space, id.epoch)
	}
	return err
}

// spaces returns all that have files, entries or marks.
func (s *Store) spaces() (map[spaceID]bool, error) {
	all := make(map[spaceID]bool)
	s.mu.Lock()
	for id := range s.marks {
		all[id] = true
	}
	for id := range s.index.spaces {
		all[id] = true
	}
	s.mu.Unlock()
	folders, err := s.list(s.path("objects"))
	for _, f := range folders {
		if id, ok := parseSpaceID(f.Name()); ok {
			all[id] = true
		}
	}
	return all, err
}

// saveMarks rewrites the journal with the marks that are left.
func (s *Store) saveMarks() error {
	err := s.journal.rewrite(func() []*Mark {
		s.mu.Lock()
		defer s.mu.Unlock()
		var all []*Mark
		for _, ms := range s.marks {
			all = append(all, ms.all()...)
		}
		return all
	})
	if err != nil {
		return s.failed("sync", err)
	}
	return nil
}

// compact removes the files of a space that its marks cover, and then the marks:
//
//  1. floor keeps older objects from being stored from now on, and lockAll waits for those
//     that are being stored.
//  2. Every file that a mark covers is removed. A soft mark loses its object, which nobody has asked
//     for since many purges.
//  3. The folders are synced, so that a power cut does not bring a file back.
//  4. The marks are forgotten, and the journal is rewritten.
func (s *Store) compact(id spaceID) error {
	s.mu.Lock()
	delete(s.crowded, id)
	ms := s.marks[id]
	if ms == nil {
		s.mu.Unlock()
		return nil
	}
	gone := filter(ms.all(), func(m *Mark) bool { return m.Hard || !m.wholeSpace() })
	for _, m := range gone {
		ms.floor = max(ms.floor, m.Generation)
	}
	s.mu.Unlock()
	s.lockAll()
	s.unlockAll()
	if err := s.enforceAll(id, gone); err != nil {
		return err
	}
	if err := s.syncSpace(id); err != nil {
		return s.failed("sync", err)
	}
	s.mu.Lock()
	before := ms.count()
	ms.forget(gone)
	s.markCount += ms.count() - before
	s.mu.Unlock()
	return s.saveMarks()
}

// enforceAll removes the files that marks cover. Those of a prefix may have any name, and those of
// the variants of an object that of any variant; the folder tells them, since the index may not know all.
func (s *Store) enforceAll(id spaceID, gone []*Mark) error {
	var all []hash
	var err error
	variants, prefix := false, false
	for _, m := range gone {
		variants = variants || m.variants()
		prefix = prefix || m.Prefix && !m.variants()
	}
	if variants || prefix {
		all, err = s.hashes(id)
	}
	if !prefix {
		all = slices.DeleteFunc(all, func(h hash) bool { return !h.isVariant() })
		for _, m := range gone {
			if !m.Prefix {
				all = append(all, Key{m.Space, m.Epoch, m.Object}.hash())
			}
		}
	}
	for _, h := range all {
		if err = errors.Join(err, s.ctx.Err()); err != nil {
			break
		}
		mu := s.stripe(h)
		mu.Lock()
		err = s.enforce(h, id, gone)
		mu.Unlock()
	}
	return err
}

// hashes lists all files of a space.
func (s *Store) hashes(id spaceID) (all []hash, err error) {
	dir := filepath.Join(s.cfg.Dir, "objects", id.String())
	folders, err := s.list(dir)
	for _, folder := range folders {
		files, err := s.list(filepath.Join(dir, folder.Name()))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			if h, ok := parseHash(f.Name()); ok && f.Name()[:2] == folder.Name() {
				all = append(all, h)
			}
		}
	}
	return all, err
}

// list is empty for a folder that is gone, or that is none.
func (s *Store) list(dir string) ([]fs.DirEntry, error) {
	entries, err := s.fs.List(dir)
	if errors.Is(err, fs.ErrNotExist) || notDir(err) {
		return nil, nil
	}
	if err != nil {
		return nil, s.failed("list", err)
	}
	return entries, nil
}

// enforce removes a file that one of the marks covers. The caller holds the stripe.
func (s *Store) enforce(h hash, id spaceID, marks []*Mark) error {
	f, err := s.fs.Open(s.objectPath(id, h), os.O_RDONLY)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.forget(h)
		return nil
	case err != nil && !isLink(err):
		return s.failed("open", err)
	}
	var header Header
	if err == nil {
		header, _, err = readHeader(f)
		f.Close()
	}
	if err != nil && !errors.Is(err, errMalformed) && !isLink(err) {
		return s.failed("read", err)
	}
	if err != nil {
		s.complain(err, h, id)
		s.removeFile(h, id, "corrupt")
		return nil
	}
	for _, m := range marks {
		if header.Generation < m.Generation && m.contains(&Mark{Object: header.Key.Object}) {
			s.removeFile(h, id, "purged")
			return nil
		}
	}
	return nil
}

// syncSpace makes all removals in a space durable.
func (s *Store) syncSpace(id spaceID) error {
	dir := filepath.Join(s.cfg.Dir, "objects", id.String())
	folders, err := s.fs.List(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range folders {
		if err := s.fs.SyncDir(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := s.fs.SyncDir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return s.fs.SyncDir(s.path("objects"))
}
