package cache

// owner is a Key.Space with its entries in memory, of all epochs, and its share of the tier.
type owner struct {
	floor, ceiling int64 // 0: none
	bytes          int64 // of entries, reservations for new ones included
	// Its entries in the order in which they were stored, by Entry.older and Entry.newer.
	oldest, newest *Entry
}

// floorsShare is the part of the tier that all floors together can take: others need room, too.
// If the sum of the floors is larger, each is honoured in proportion.
const floorsShare = 3. / 4

// SetShare sets the floor and the ceiling of a space in the memory tier, in bytes; zero is none.
// No other space evicts entries of a space that is below its floor, and objects of that space
// are stored however seldom they are requested. A space that is at its ceiling evicts its own
// entries. It holds for all epochs of the space. A purged entry has no
// floor.
func (c *Cache) SetShare(space, floor, ceiling int64) {
	m := c.memory
	m.policy.setShare(space, max(floor, 0), max(ceiling, 0))
	for {
		e := m.policy.surplus(space)
		if e == nil {
			return
		}
		m.evict(e, space)
	}
}

// Held returns how many bytes of the memory tier the entries of each space take. Spaces without
// entries are left out.
func (c *Cache) Held() map[int64]int64 {
	p := &c.memory.policy
	p.mu.Lock()
	defer p.mu.Unlock()
	held := make(map[int64]int64, len(p.owners))
	for space, o := range p.owners {
		if o.bytes > 0 {
			held[space] = o.bytes
		}
	}
	return held
}

func (p *policy) setShare(space, floor, ceiling int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.ownerLocked(space)
	p.floors += floor - o.floor
	o.floor, o.ceiling = floor, ceiling
	p.releaseLocked(space, 0)
}

// surplus returns an entry of a space that is above its ceiling, nil if there is none.
func (p *policy) surplus(space int64) *Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[space]
	if o == nil || o.ceiling == 0 || o.bytes <= o.ceiling {
		return nil
	}
	e := o.victim(0)
	if e != nil {
		p.moveLocked(e, unlisted)
	}
	return e
}

// ownerLocked finds or makes the owner of a space.
func (p *policy) ownerLocked(space int64) *owner {
	o := p.owners[space]
	if o == nil {
		o = new(owner)
		p.owners[space] = o
	}
	return o
}

// release takes back the bytes that next has reserved for an object.
func (p *policy) release(space, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.releaseLocked(space, n)
}

// releaseLocked subtracts n bytes, and forgets an owner that has nothing left.
func (p *policy) releaseLocked(space, n int64) {
	o := p.owners[space]
	if o.bytes -= n; o.bytes == 0 && o.floor == 0 && o.ceiling == 0 {
		delete(p.owners, space)
	}
}

// keptLocked reports whether the floor of e's space keeps e from being evicted for another
// space.
func (p *policy) keptLocked(e *Entry, by int64) bool {
	return e.key.Space != by && p.belowFloorLocked(e)
}

// belowFloorLocked reports whether e's space is below its floor without e.
func (p *policy) belowFloorLocked(e *Entry) bool {
	if p.floors == 0 || e.Purged() {
		return false
	}
	o := p.owners[e.key.Space]
	return float64(o.bytes-e.body.cost) < p.floorLocked(o)
}

func (p *policy) floorLocked(o *owner) float64 {
	if o.floor == 0 {
		return 0
	}
	return float64(o.floor) * min(1, floorsShare*float64(p.limit)/float64(p.floors))
}

// victim returns the entry that has to leave because o is at its ceiling: the oldest one that
// was not hit. It returns nil if n is more than the ceiling, or if there is no entry.
func (o *owner) victim(n int64) *Entry {
	if n > o.ceiling {
		return nil
	}
	e := o.oldest
	for ; e != nil && e.takeHit(); e = o.oldest {
		o.remove(e)
		o.push(e)
	}
	if e != nil {
		o.remove(e)
	}
	return e
}

// push makes e the newest entry of o.
func (o *owner) push(e *Entry) {
	e.older, e.newer = o.newest, nil
	if o.newest != nil {
		o.newest.newer = e
	} else {
		o.oldest = e
	}
	o.newest = e
}

// remove removes e from the entries of o, if it is one.
func (o *owner) remove(e *Entry) {
	if e.older == nil && o.oldest != e {
		return
	}
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		o.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		o.newest = e.older
	}
	e.older, e.newer = nil, nil
}
