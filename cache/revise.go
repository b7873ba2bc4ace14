package cache

import "time"

// revision is what a Revise asks for: what is known of entries whose fetch began
// before seq is to be what with says.
type revision struct {
	seq  uint64
	with func(meta any) *Source
}

// Revise gives what is stored of an epoch other metadata and lifetimes, as if it had
// come with what with returns, of which Size, Age and Body count for nothing. What is
// not to be stored any more, or would need more memory than is counted, is dropped. A
// fetch that is under way goes on for its readers, and leaves no entry.
//
// It takes a time that does not depend on how many entries there are: each is revised
// when it is next asked for. A walk would have to put a new entry in each one's place,
// and so make it the one used last: what nobody wants would outlive what is in demand.
//
// with is called as long as entries from before are there, by many goroutines at once,
// without a lock. Of several Revises the last one counts alone, so with must not need
// what another has made.
//
// The sequence that an entry says for which revisions it was made (Entry.since):
//
//  1. A stream past the cache asks whether K is still the same. It is in no table.
//  2. It is told yes, and makes up its mind how long K lives.
//  3. Revise.
//  4. The stream puts the renewed entry of K, with a life from before 3.
//
// What counts is when a fetch began, since no one can tell when it made up its mind.
// From that follows what a Load has to do: one that begins after Revise was called must
// go by what Revise was called for, whenever whoever wanted it set out.
//
// The sequence that join looks at since under Cache.mu for, and begins anew:
//
//  1. A finds the entry E of K, which is as it should be.
//  2. Revise, which finds no flight of K.
//  3. A begins flight F of K, with E for who must not wait, or if F fails.
//  4. B joins F, and is given E stale, for as long as was right before 2.
func (c *Cache) Revise(spaceNo, epoch int64, with func(meta any) *Source) {
	at := Key{Space: spaceNo, Epoch: epoch}
	c.mu.Lock()
	defer c.mu.Unlock()
	// Where there is none, neither a flight nor an entry of it is there.
	s := c.spaces[spaceID{spaceNo, epoch}]
	if s == nil {
		return
	}
	m, _ := c.detachLocked(func(k Key) bool { return under(k, at) }, false)
	s.revision.Store(&revision{seq: m.seq, with: with})
}

// place is join, but what is stored has been revised.
func (c *Cache) place(key Key, load Load) (seat, error) {
	for {
		s, err := c.join(key, load)
		if s.entry == nil || s.entry.outdated() == nil {
			return s, err
		}
		c.memory.revise(s.entry)
		s.entry.Release()
	}
}

// revisedHit is Hit, of what was outdated.
func (c *Cache) revisedHit(key Key, now time.Time) *Entry {
	e := c.memory.look(key)
	if e != nil && !e.fresh(now) {
		e.Release()
		return nil
	}
	return e
}

// outdated is the revision that e was not made for, nil if there is none.
func (e *Entry) outdated() *revision {
	if r := e.space.revision.Load(); r != nil && e.since < r.seq {
		return r
	}
	return nil
}

// current is e as it is to be taken now, nil if it is not to be stored any more. It
// may be another one, which is not stored and lives no longer than the hold on e.
func (e *Entry) current() *Entry {
	r := e.outdated()
	if r == nil {
		return e
	}
	src := r.with(e.Meta)
	if !e.outlives(src) {
		return nil
	}
	return e.revised(r, src)
}

// outlives reports whether e may be stored with what src says.
func (e *Entry) outlives(src *Source) bool {
	return src.MetaBytes <= e.metaBytes && (src.Fresh > 0 || src.Validate)
}

// revised is e with what src says. What a purge did to it stands, and that it could
// not be fetched anew; that it is being fetched does not: that fetch leaves no entry.
func (e *Entry) revised(r *revision, src *Source) *Entry {
	n := &Entry{
		Meta: src.Meta, Stored: e.Stored, Expires: e.Stored.Add(src.Fresh), early: early(src.Fresh - time.Since(e.Stored)),
		graceWhile: src.StaleWhile, graceError: src.StaleError,
		key: e.key, metaBytes: e.metaBytes, blob: e.blob, space: e.space, seq: e.seq, since: r.seq,
	}
	n.purged.Store(e.purged.Load())
	n.rest.Store(e.rest.Load())
	n.trouble.Store(e.trouble.Load())
	return n
}

// latest is what revisions have made of e, as far as that was stored: e itself if
// there were none. Whoever has held e since before must not do less to it than a
// purge, say, has done to that.
func (e *Entry) latest() *Entry {
	for next := e.next.Load(); next != nil; next = e.next.Load() {
		e = next
	}
	return e
}

// revise puts in old's place what is to be there now, or takes it out. It may be
// outdated again by then.
func (m *memory) revise(old *Entry) {
	r := old.outdated()
	if r == nil {
		return
	}
	src := r.with(old.Meta)
	if !old.outlives(src) {
		m.remove(old, reasonReplaced)
		return
	}
	s := m.of(old.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.hasLocked(old) {
		return
	}
	e := old.revised(r, src) // under the lock, which purges take as well
	e.used = m.clock.Add(1)
	s.replaceLocked(old, e)
	old.next.Store(e)
}
