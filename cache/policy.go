package cache

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// policy decides which entries leave the memory tier, and which objects enter it when it is
// full. It keeps the entries in three lists, each in the order in which they came to it:
//
//   - window has the newest entries. A request that soon follows the first one is a hit, however
//     popular the other entries are.
//   - probation has the entries that left the window, and those that left protected. The next
//     entry to be evicted is here.
//   - protected has entries that were hit while they were in probation.
//
// When the tier is full, the oldest entry of the window moves to probation only if its key is
// requested more often than that of the next entry to be evicted, by the estimate of the
// sketches; otherwise it is evicted itself (W-TinyLFU). So objects with one request, and scans,
// do not evict popular ones. An object that is too large for the window enters probation by
// the same rule, or is rejected.
//
// A hit only sets Entry.hits: lists change when an entry is stored or leaves, and an entry that
// was hit goes round again (as in CLOCK and S3-FIFO).
//
// Lock order: Cache.mu, policy.mu, the lock of a shard. An entry is first added to its shard and
// removed from it, then here.
type policy struct {
	estimate func(Key) int
	limit    int64 // of all entries

	mu     sync.Mutex // guards the rest
	lists  [segments]entryList
	owners map[int64]*owner // by Key.Space; those that have entries, or a share
	floors int64            // the sum of all floors
}

// segment is one of the lists of a policy.
type segment int8

const (
	unlisted segment = iota // not added yet, or chosen to leave
	window
	probation
	protected
	segments
)

const (
	// The window has a windowShare of the limit at most, or one object of a largestShare.
	windowShare  = 32
	largestShare = 8
	// protectedShare is the part that protected has of what the window leaves. Like the
	// other figures, it was found by make bench-hitratio.
	protectedShare = 11. / 14
	// maxHits is how often an entry can go round again without another hit.
	maxHits = 3
	// maxKept is how many entries that their space's floor keeps are passed over in one search.
	maxKept = 4096
)

// entryList has its newest entry in front.
type entryList struct {
	lru   *simplelru.LRU[*Entry, struct{}]
	bytes int64
}

func (p *policy) init(limit int64, estimate func(Key) int) {
	p.limit, p.estimate = limit, estimate
	p.owners = make(map[int64]*owner)
	for i := range p.lists {
		// simplelru requires a size, in entries. This cache is bounded in bytes.
		p.lists[i].lru, _ = simplelru.NewLRU[*Entry, struct{}](math.MaxInt, nil)
	}
}

func (p *policy) windowLimit() int64 { return p.limit / windowShare }

// entersWindow reports whether an object of this cost begins in the window, if need be alone.
func (p *policy) entersWindow(cost int64) bool { return cost <= p.limit/largestShare }

// oldest is nil if the list is empty.
func (l *entryList) oldest() *Entry {
	e, _, _ := l.lru.GetOldest()
	return e
}

// moveLocked makes e the newest entry of a list. To unlisted, it only removes e.
func (p *policy) moveLocked(e *Entry, to segment) {
	if e.segment == to && to != unlisted {
		p.lists[to].lru.Get(e)
		return
	}
	if e.segment != unlisted {
		from := &p.lists[e.segment]
		from.lru.Remove(e)
		from.bytes -= e.body.cost
	}
	if e.segment = to; to != unlisted {
		p.lists[to].lru.Add(e, struct{}{})
		p.lists[to].bytes += e.body.cost
	}
}

// add adds an entry that was put into its shard, and whose cost was reserved by next. If the
// window is too large, which is so while the tier is not full, its oldest entries leave it.
func (p *policy) add(e *Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if e.gone { // it was removed from its shard meanwhile
		return
	}
	p.owners[e.key.Space].push(e)
	if !p.entersWindow(e.body.cost) {
		p.moveLocked(e, probation)
		return
	}
	p.moveLocked(e, window)
	for w := &p.lists[window]; w.bytes > p.windowLimit() && w.oldest() != e; {
		p.graduateLocked(w.oldest())
	}
}

// graduateLocked moves an entry from the window to probation. Its hits do not count there:
// many objects are only popular for a moment.
func (p *policy) graduateLocked(e *Entry) {
	e.hits.Store(0)
	p.moveLocked(e, probation)
}

// remove removes an entry that was removed from its shard, and releases its cost.
func (p *policy) remove(e *Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e.gone = true
	p.moveLocked(e, unlisted)
	p.owners[e.key.Space].remove(e)
	p.releaseLocked(e.key.Space, e.body.cost)
}

// renew puts e in the place of old, which it replaced in their shard.
func (p *policy) renew(old, e *Entry) {
	p.mu.Lock()
	defer p.mu.Unlock()
	to, o := old.segment, p.owners[e.key.Space]
	p.moveLocked(old, unlisted)
	if o != nil {
		o.remove(old)
	}
	if e.gone { // it was removed from its shard meanwhile
		return
	}
	if to == unlisted { // old was chosen to leave, but e was used
		to = probation
	}
	o.push(e)
	p.moveLocked(e, to)
}

// admission is the attempt to store an object.
type admission struct {
	key      Key
	cost     int64
	promised bool // it is to be stored, whatever its key's estimate
	rejected int  // objects that were requested too seldom
}

// next reserves the cost of an object in stored, or returns an entry that has to leave before.
// If ok is false, the object is not to be stored.
func (p *policy) next(a *admission, stored *budget) (leaves *Entry, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.ownerLocked(a.key.Space)
	switch {
	case o.ceiling > 0 && o.bytes+a.cost > o.ceiling:
		leaves = o.victim(a.cost)
	case stored.reserve(a.cost):
		o.bytes += a.cost
		return nil, true
	default:
		leaves = p.chooseLocked(a)
	}
	if leaves == nil {
		p.releaseLocked(a.key.Space, 0)
		return nil, false
	}
	p.moveLocked(leaves, unlisted)
	return leaves, true
}

// chooseLocked returns the entry that has to leave for a, nil if a is rejected.
func (p *policy) chooseLocked(a *admission) *Entry {
	w, by := &p.lists[window], a.key.Space
	fits := p.entersWindow(a.cost)
	for fits && w.bytes > 0 && w.bytes+a.cost > p.windowLimit() {
		e := w.oldest()
		if p.belowFloorLocked(e) {
			p.graduateLocked(e)
			continue
		}
		v := p.victimLocked(by)
		if !p.winsLocked(e.key, v) {
			a.rejected++
			return e
		}
		p.graduateLocked(e)
		return v
	}
	v := p.victimLocked(by)
	switch {
	case v == nil:
		return p.oldestInWindowLocked(by)
	case fits || a.promised || float64(p.owners[by].bytes+a.cost) <= p.floorLocked(p.owners[by]):
		return v
	case p.winsLocked(a.key, v):
		a.promised = true
		return v
	}
	a.rejected++
	return nil
}

// winsLocked reports whether key is requested more often than the next entry to be evicted. An
// entry that is requested as often or more goes round again, so that the next one is another.
func (p *policy) winsLocked(key Key, v *Entry) bool {
	if v == nil {
		return false
	}
	if p.estimate(key) > p.estimate(v.key) {
		return true
	}
	p.moveLocked(v, probation)
	return false
}

// victimLocked returns the entry outside the window that is the next to be evicted for the
// space by, nil if there is none.
func (p *policy) victimLocked(by int64) *Entry {
	for kept := 0; kept <= min(maxKept, p.lists[probation].lru.Len()); {
		e := p.lists[probation].oldest()
		switch {
		case e == nil && !p.demoteLocked():
			return nil
		case e == nil:
		case p.keptLocked(e, by):
			kept++
			p.moveLocked(e, probation)
		case e.takeHit():
			p.protectLocked(e)
		default:
			return e
		}
	}
	return nil
}

// protectLocked moves e to protected. The oldest entries there make room.
func (p *policy) protectLocked(e *Entry) {
	p.moveLocked(e, protected)
	l := &p.lists[protected]
	for float64(l.bytes) > protectedShare*float64(l.bytes+p.lists[probation].bytes) {
		if old := l.oldest(); old == e {
			e.hits.Store(0)
			p.moveLocked(e, probation)
		} else {
			p.demoteLocked()
		}
	}
}

// demoteLocked moves the oldest entry of protected to probation, unless it was hit. It reports
// false if there is none.
func (p *policy) demoteLocked() bool {
	e := p.lists[protected].oldest()
	switch {
	case e == nil:
		return false
	case e.takeHit():
		p.moveLocked(e, protected)
	default:
		p.moveLocked(e, probation)
	}
	return true
}

// anyOf returns the entry that has to leave so that memory for something else than an entry
// gets free, nil if there is none.
func (p *policy) anyOf(by int64) *Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	e, v := p.oldestInWindowLocked(by), p.victimLocked(by)
	if e == nil || v != nil && !p.lessWantedLocked(e, v) {
		e = v
	}
	if e != nil {
		p.moveLocked(e, unlisted)
	}
	return e
}

// lessWantedLocked reports whether e is requested more seldom than v. Of two that are requested as
// often, the smaller one is worth its memory more.
func (p *policy) lessWantedLocked(e, v *Entry) bool {
	re, rv := p.estimate(e.key), p.estimate(v.key)
	return re < rv || re == rv && e.body.cost >= v.body.cost
}

func (p *policy) oldestInWindowLocked(by int64) *Entry {
	if e := p.lists[window].oldest(); e != nil && !p.keptLocked(e, by) {
		return e
	}
	return nil
}

// admits reports whether an object would be stored if it were complete now.
func (p *policy) admits(key Key, cost int64, stored *budget) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	o := p.owners[key.Space]
	switch {
	case cost > stored.limit || o != nil && o.ceiling > 0 && cost > o.ceiling:
		return false
	case p.entersWindow(cost) || stored.used.Load()+cost <= stored.limit:
		return true
	}
	return p.deservesLocked(key)
}

// deserves reports whether an object that is not new should be in memory: there is room, or its
// key is requested more often than the next entry to be evicted.
func (p *policy) deserves(key Key, cost int64, stored *budget) bool {
	if stored.used.Load()+cost <= stored.limit {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.deservesLocked(key)
}

func (p *policy) deservesLocked(key Key) bool {
	v := p.lists[probation].oldest()
	if v == nil {
		v = p.lists[protected].oldest()
	}
	return v != nil && p.estimate(key) > p.estimate(v.key)
}

// use counts a hit.
func (e *Entry) use() {
	if n := e.hits.Load(); n < maxHits {
		e.hits.Store(n + 1)
	}
}

// takeHit reports whether e was hit, and takes one hit back.
func (e *Entry) takeHit() bool {
	n := e.hits.Load()
	if n > 0 {
		e.hits.Store(n - 1)
	}
	return n > 0
}
