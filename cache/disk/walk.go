package disk

import (
	"errors"
	"io/fs"
	"path/filepath"
	"time"
)

// walk compares the index with the folder: names and sizes, no contents. An entry without a
// file is removed, a file without an entry gets one, and what is no object is deleted. With an index
// that is not complete, nothing is stored until the walk has ended, because nobody knows
// how much is taken.
//
// It works on one file at a time under its stripe, beside everything else.
func (s *Store) walk() {
	s.walking.Lock()
	defer s.walking.Unlock()
	w := walker{s: s, since: time.Now()}
	s.mu.Lock()
	w.sizes = !s.complete
	s.mu.Unlock()
	s.emptyTrash() // what it takes is not known
	if !w.objects() || !w.missing() {
		s.mu.Lock()
		s.rewalk = true // after the trouble
		s.mu.Unlock()
		return
	}
	s.mu.Lock()
	was := s.complete
	s.complete = len(s.trash) == 0 || was
	s.rewalk = s.rewalk || !s.complete
	entries, used := s.index.live, s.used
	s.mu.Unlock()
	if !was {
		s.log.Info("disk cache is indexed", "folder", s.cfg.Dir, "objects", entries, "bytes", used)
	}
	s.wake()
}

type walker struct {
	s     *Store
	sizes bool // the index is not complete: entries too may have another size
	since time.Time
	n     int
}

// pause lets other work go first: the walk takes half of the time.
func (w *walker) pause() bool {
	w.n++
	if w.n%256 == 0 {
		t := time.NewTimer(min(time.Since(w.since), 50*time.Millisecond))
		select {
		case <-t.C:
		case <-w.s.ctx.Done():
			t.Stop()
		}
		w.since = time.Now()
	}
	return w.s.ctx.Err() == nil && w.s.usable()
}

func (s *Store) usable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// objects visits all files. It returns false if it had to stop.
func (w *walker) objects() bool {
	objects := w.s.path("objects")
	spaces, err := w.s.list(objects)
	if err != nil {
		return false
	}
	for _, sp := range spaces {
		dir := filepath.Join(objects, sp.Name())
		id, ok := parseSpaceID(sp.Name())
		if !ok || !sp.IsDir() {
			w.foreign(dir)
			continue
		}
		if !w.space(id, dir) {
			return false
		}
	}
	return w.s.ctx.Err() == nil
}

func (w *walker) space(id spaceID, dir string) bool {
	folders, err := w.s.list(dir)
	if err != nil {
		return false
	}
	count := 1
	for _, xx := range folders {
		sub := filepath.Join(dir, xx.Name())
		if len(xx.Name()) != 2 || !xx.IsDir() {
			w.foreign(sub)
			continue
		}
		count++
		files, err := w.s.list(sub)
		if err != nil {
			return false
		}
		for _, f := range files {
			h, ok := parseHash(f.Name())
			switch {
			case !ok || f.Name()[:2] != xx.Name() || !f.Type().IsRegular():
				w.foreign(filepath.Join(sub, f.Name()))
			case !w.pause() || !w.s.confirm(id, h, w.sizes):
				return false
			}
		}
	}
	w.folders(id, count)
	return true
}

// folders counts the folders of a space, unless they have been counted as they were made.
func (w *walker) folders(id spaceID, count int) {
	s := w.s
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.complete {
		return
	}
	sp := s.index.space(id)
	s.used += int64(count-sp.folders) * folderCost
	sp.folders = count
	s.index.release(sp)
}

// confirm sees that the index has a file that exists, with its size if sizes is set. It returns false if it
// cannot know.
func (s *Store) confirm(id spaceID, h hash, sizes bool) bool {
	mu := s.stripe(h)
	mu.Lock()
	defer mu.Unlock()
	s.mu.Lock()
	e := s.index.lookup(h)
	seen := e != nil && (e.flags&flagSeen != 0 || !sizes)
	if seen {
		e.flags |= flagSeen
	}
	s.mu.Unlock()
	if seen {
		return true
	}
	info, err := s.fs.Stat(s.objectPath(id, h))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return true // removed since
	case err != nil:
		s.fail("stat", err)
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	pages := s.pages(info.Size())
	e = s.index.lookup(h)
	if e == nil {
		e = s.index.insert(h, id, pages)
		s.used += e.bytes()
	}
	s.used += int64(pages)*page - int64(e.pages)*page
	s.index.resize(e, pages)
	e.flags |= flagSeen
	s.dirty = true
	return true
}

// missing removes the entries whose files were not seen.
func (w *walker) missing() bool {
	type unseen struct {
		hash hash
		id   spaceID
	}
	const step = 8192
	s := w.s
	for at, end := 0, false; !end; at += step {
		var all []unseen
		s.mu.Lock()
		x := s.index
		for i := at; i < min(at+step, len(x.entries)); i++ {
			e := &x.entries[i]
			if e.flags&(flagLive|flagSeen) == flagLive && !x.numbers[e.space].dropped {
				all = append(all, unseen{e.hash, x.numbers[e.space].id})
			}
		}
		end = at+step >= len(x.entries)
		s.mu.Unlock()
		for _, u := range all {
			if !w.pause() || !s.confirmGone(u.hash, u.id) {
				return false
			}
		}
	}
	return true
}

// confirmGone removes an entry if its file is gone.
func (s *Store) confirmGone(h hash, id spaceID) bool {
	mu := s.stripe(h)
	mu.Lock()
	defer mu.Unlock()
	_, err := s.fs.Stat(s.objectPath(id, h))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		s.forget(h)
	case err != nil:
		s.fail("stat", err)
		return false
	}
	return true
}

// foreign deletes what is no object.
func (w *walker) foreign(path string) {
	if err := w.s.removeAny(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.s.fail("remove", err)
		return
	}
	w.s.cfg.Recorder.Evicted("disk", "corrupt", 1)
	w.s.log.Warn("deleted what does not belong into the disk cache", "path", path)
}
