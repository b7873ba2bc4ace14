package cache

import (
	"sync"
	"sync/atomic"
	"time"
)

// Relief is what a call of Config.Relieve has achieved.
type Relief uint8

// Values of Relief.
const (
	NoRelief        Relief = iota // no reader may be ended
	ReliefLater                   // a reader that has just begun may turn out to be slow
	ReliefRequested               // a reader was ended and will release its bytes
)

// fetchWait is the longest wait of a fetch for the bytes of a reader that was ended, or of
// another fetch.
const fetchWait = 600 * time.Millisecond

// pins counts the bytes of a budget that eviction cannot free: those of bodies that a fetch
// fills or a slow reader reads. A body counts once, however many readers it has.
type pins struct {
	bytes   atomic.Int64
	waiting atomic.Int64 // callers of changed whose channel may still be open

	mu     sync.Mutex // guards change
	change chan struct{}
}

// changed returns a channel that is closed with the next signal. The caller must call
// stopWaiting.
func (p *pins) changed() <-chan struct{} {
	p.waiting.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.change == nil {
		p.change = make(chan struct{})
	}
	return p.change
}

func (p *pins) stopWaiting() { p.waiting.Add(-1) }

// signal says that bytes were released or are pinned no longer.
func (p *pins) signal() {
	if p.waiting.Load() == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.change != nil {
		close(p.change)
		p.change = nil
	}
}

// pin counts b among the bodies in use until unpin, which may come after the release of b.
func (b *body) pin() {
	if b.pins.Add(1) == 1 {
		b.budget.bytes.Add(b.cost)
	}
}

func (b *body) unpin() {
	if b.pins.Add(-1) == 0 {
		b.budget.bytes.Add(-b.cost)
		b.budget.signal()
	}
}

// Pin says that the caller holds e for longer than a moment, because its client is slow, and
// returns how many bytes that keeps from being freed. Unpin must follow, after Release.
func (e *Entry) Pin() int64 {
	e.body.pin()
	return e.body.cost
}

// Unpin ends a Pin.
func (e *Entry) Unpin() { e.body.unpin() }

// Pin is Entry.Pin for a Reader; an Exclusive one keeps nothing. Unpin must follow, after
// Close.
func (r *Reader) Pin() int64 {
	if r.body == nil {
		return 0
	}
	r.body.pin()
	r.body.mu.Lock() // its fetch may let it grow
	defer r.body.mu.Unlock()
	return r.body.cost
}

// Unpin ends a Pin.
func (r *Reader) Unpin() {
	if r.body != nil {
		r.body.unpin()
	}
}

// pinned is the number of bytes that eviction cannot free, reservations included.
func (m *memory) pinned() int64 { return m.held.bytes.Load() + m.reserved.used.Load() }

// relieve ends a slow reader if bodies in use take more than their share. It reports
// whether bytes may be released soon, so that no entry should be evicted for them: by a
// reader, or by one of the fetches under way, if these are many.
func (m *memory) relieve() bool {
	pinned, limit := m.pinned(), m.held.limit
	if m.relief == nil {
		return false
	}
	return m.relief(pinned, limit) != NoRelief || pinned > limit/3*2 && m.filling.Load() > pinned/2
}

// fetchRoom reserves n bytes of held for a fetch of the space by. It ends slow readers if they have more
// than their share, and evicts entries otherwise.
func (m *memory) fetchRoom(by, n int64) bool {
	if m.held.reserve(n) {
		return true
	}
	if n > m.held.limit {
		return false
	}
	for end := time.Now().Add(fetchWait); ; {
		change := m.held.changed()
		if m.held.reserve(n) {
			m.held.stopWaiting()
			return true
		}
		wait := time.Until(end)
		soon := wait > 0 && m.relieve()
		if soon {
			// A reader becomes slow by time alone, without a signal.
			waitFor(change, min(wait, fetchWait/12))
		}
		m.held.stopWaiting()
		if soon {
			continue
		}
		e := m.policy.anyOf(by)
		if e == nil {
			return false
		}
		m.evict(e, by)
	}
}

// waitFor waits until ch is closed or d has passed.
func waitFor(ch <-chan struct{}, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
	case <-timer.C:
	}
}
