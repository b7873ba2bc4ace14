package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/minio/crc64nvme"
)

// The incarnation counts the starts. Generations begin anew with each start and must be
// greater than those in files and marks from before.
const (
	incarnationMagic = "ixmgdisk"
	incarnationShift = 40
	incarnationMax   = 1<<(64-incarnationShift) - 1
	firstGeneration  = 1 << incarnationShift
)

// ownNames are all names in the folder of a store.
var ownNames = []string{"lock", "incarnation", "journal", "index", "objects", "tmp", "trash"}

// setup locks the folder and reads what is in it. late says that the generations of this
// run were fixed without the incarnation of the folder: then its objects are dropped.
func (s *Store) setup(late bool) error {
	if err := s.mkdirAll(s.cfg.Dir); err != nil {
		return err
	}
	if s.lock != nil {
		s.lock.Close() // of a folder that was replaced
		s.lock = nil
	}
	lock, err := s.fs.Lock(s.path("lock"))
	if err != nil {
		return err
	}
	if err := s.load(late); err != nil {
		lock.Close()
		return err
	}
	s.lock = lock
	return nil
}

// load reads the folder, raises its incarnation, and switches the store on.
func (s *Store) load(late bool) error {
	last, found, why, err := s.look(late)
	if err != nil {
		return err
	}
	v, err := s.fs.Free(s.cfg.Dir)
	if err != nil {
		return err
	}
	if err := s.prepare(why); err != nil {
		return err
	}
	s.start(last+1, late, v)
	s.adopt(found)
	if err := s.saveMarks(); err != nil {
		return err
	}
	if err := s.writeIncarnation(); err != nil {
		return err
	}
	complete := (why != "" || s.loadIndex(last)) && !s.hasTrash() // what is in there takes room
	s.mu.Lock()
	s.complete, s.on, s.ready, s.onSince, s.retryAt = complete, true, true, time.Now(), time.Time{}
	s.up.Store(!s.closed)
	s.mu.Unlock()
	s.wg.Go(s.walk)
	return nil
}

// look reads the incarnation and the marks of the folder, or why its objects cannot be used.
func (s *Store) look(late bool) (last uint64, found []*Mark, why string, err error) {
	last, why, err = s.lastIncarnation()
	switch {
	case err != nil || why != "":
	case s.cfg.Empty:
		why = "it does not have all purges"
	case late:
		why = "it could not be used when the server started"
	default:
		found, why, err = s.readJournal()
	}
	return last, found, why, err
}

// start fixes the numbers of this run.
func (s *Store) start(next uint64, late bool, v Volume) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.volume, s.volumeAt = v, time.Now()
	s.block.Store(v.Block)
	s.limit = max(0, min(s.cfg.Limit, v.Total-v.keep()))
	if !late {
		s.incarnation, s.generation = next, next<<incarnationShift
		return
	}
	s.incarnation = max(next, s.generation>>incarnationShift)
	s.index = newIndex()
	clear(s.doomed) // with all others
	s.used = baseCost + s.reserved
	for h, o := range s.opened {
		o.gone, o.cost = true, 0 // in a folder that is no longer ours
		delete(s.opened, h)
	}
}

func (s *Store) adopt(found []*Mark) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range found {
		s.addMarkLocked(m)
	}
}

// fresh is why a folder that was never used has nothing.
const fresh = "new"

// lastIncarnation returns the number of the last start, or why the objects in the folder cannot
// be used.
func (s *Store) lastIncarnation() (last uint64, why string, err error) {
	last, err = s.readIncarnation()
	switch {
	case err == nil && last >= incarnationMax-1:
		return 0, "it was started too often", nil
	case err == nil:
		return last, "", nil
	case errors.Is(err, errMalformed):
		return 0, err.Error(), nil
	case !errors.Is(err, fs.ErrNotExist):
		return 0, "", err
	}
	names, err := s.fs.List(s.cfg.Dir)
	if err != nil {
		return 0, "", err
	}
	why = fresh
	for _, n := range names {
		switch {
		case n.Name() == "objects":
			why = "its incarnation is lost"
		case n.Name() != "lost+found" && !ownName(n.Name()):
			// Somebody's own folder, named by mistake: nothing in it may be deleted.
			return 0, "", fmt.Errorf("the folder holds %s, which is not of a disk cache; name an empty folder", n.Name())
		}
	}
	return 0, why, nil
}

func ownName(name string) bool {
	for _, own := range ownNames {
		if name == own || name == own+".tmp" {
			return true
		}
	}
	return false
}

func (s *Store) readIncarnation() (uint64, error) {
	b, err := s.readAll("incarnation")
	switch {
	case err != nil:
		return 0, err
	case len(b) < 16 || string(b[:8]) != incarnationMagic:
		return 0, fmt.Errorf("%w incarnation file", errMalformed)
	case order.Uint64(b[8:]) != formatVersion:
		return 0, fmt.Errorf("%w: the folder has format %d, want %d", errMalformed, order.Uint64(b[8:]), formatVersion)
	case len(b) != 32 || crc64nvme.Checksum(b[:24]) != order.Uint64(b[24:]):
		return 0, fmt.Errorf("%w incarnation file", errMalformed)
	}
	return order.Uint64(b[16:]), nil
}

func (s *Store) writeIncarnation() error {
	b := append(make([]byte, 0, 32), incarnationMagic...)
	b = order.AppendUint64(b, formatVersion)
	b = order.AppendUint64(b, s.incarnation)
	b = order.AppendUint64(b, crc64nvme.Checksum(b))
	f, err := replaceFile(s.fs, s.path("incarnation"), b)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), s.fs.SyncDir(s.cfg.Dir))
}

// readJournal returns the marks from before, or why the objects cannot be used.
func (s *Store) readJournal() (found []*Mark, why string, err error) {
	b, err := s.readAll("journal")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "its journal is lost", nil
	}
	if err != nil && !errors.Is(err, errMalformed) {
		return nil, "", err
	}
	if err == nil {
		found, err = decodeJournal(b)
	}
	if err != nil {
		why = err.Error()
	}
	return found, why, nil
}

// prepare makes the folders and moves away what the last run has left and, if the objects
// cannot be used, all of them. maintain deletes it.
func (s *Store) prepare(why string) error {
	if err := s.mkdirAll(s.path("trash")); err != nil {
		return err
	}
	old, err := s.fs.List(s.path("trash"))
	if err != nil {
		return err
	}
	left := make([]trash, 0, len(old)+2)
	for _, o := range old {
		left = append(left, trash{path: filepath.Join(s.cfg.Dir, "trash", o.Name())})
	}
	for _, name := range []string{"tmp", "objects"} {
		if name == "tmp" || why != "" && why != fresh {
			to, err := s.moveAway(name)
			if err != nil {
				return err
			}
			if to != "" {
				left = append(left, trash{path: to})
				s.logEmptied(name, why)
			}
		}
		if err := s.fs.Mkdir(s.path(name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	s.mu.Lock()
	s.trash = left
	s.mu.Unlock()
	return s.fs.SyncDir(s.cfg.Dir)
}

func (s *Store) logEmptied(name, why string) {
	if name == "objects" {
		s.log.Warn("emptied the disk cache", "folder", s.cfg.Dir, "reason", why)
	}
}

// moveAway moves a folder to the trash, unless it is empty.
func (s *Store) moveAway(name string) (to string, err error) {
	if s.fs.Remove(s.path(name)) == nil {
		return "", nil
	}
	to = s.trashPath()
	err = s.fs.Rename(s.path(name), to)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return to, err
}

func (s *Store) hasTrash() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.trash) > 0
}

// mkdirAll makes a folder and those above it, durably: a power cut that takes the folder
// must not leave the purges' 200 without their marks.
func (s *Store) mkdirAll(dir string) error {
	err := s.fs.Mkdir(dir)
	above := filepath.Dir(dir)
	if errors.Is(err, fs.ErrNotExist) && above != dir {
		if err := s.mkdirAll(above); err != nil {
			return err
		}
		err = s.fs.Mkdir(dir)
	}
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil
	case err != nil:
		return err
	}
	return s.fs.SyncDir(above)
}
