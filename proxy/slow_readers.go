package proxy

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"ixmage/cache"
)

// A client must take stallBytes in a time of stallTime, or it is cut off. Only time in
// which an answer waits for its client counts.
const (
	stallTime  = 30 * time.Second
	stallBytes = 30 << 10
)

// Rates in bytes per second, see pace.rate. If a fetch needs memory and slow clients hold
// more than a third of the cache's budget, a client below slowRate is cut; if they hold more
// than two thirds, one below fairRate; more than five sixths, one below goodRate that has not
// waited for provenTime. If a call has waited for a slot at S3 for a while, a client below
// fairRate is cut whose answer holds one. The slowest is cut first.
const (
	slowRate = 8 << 10
	fairRate = 64 << 10
	goodRate = 256 << 10
)

// A rate is an average over the time in which an answer waits for its client, in which
// bytes count less the longer ago they were taken: after rateTime, 1/e. However many were
// taken at once, no more than burstMax count, or else a client could rest for long after it.
const (
	rateTime = 2 * time.Second
	burstMax = goodRate * float64(rateTime/time.Second)
)

// An answer that has waited for less than graceTime has no rate yet, and begins as if its
// client had taken graceBytes: the first bytes need a round trip and go out slowly.
const (
	graceTime  = 300 * time.Millisecond
	graceBytes = 32 << 10
)

// provenTime is how long an answer must have waited for its client until fairRate is
// sufficient in all cases. Otherwise a burst of clients whose kernels take the first bytes
// quickly could hold all memory.
const provenTime = 2 * time.Second

// Reasons for which a client is cut: it took less than stallBytes in stallTime, or others
// needed the memory, or the slot at S3, that its answer held.
const (
	cutStalled = "stalled"
	cutMemory  = "memory"
	cutSlot    = "slot"
)

// cutReasons are all values of reason in Recorder.ClientCut.
var cutReasons = [...]string{cutStalled, cutMemory, cutSlot}

// client is the connection of an answer.
type client interface {
	// acknowledged is how many of sent bytes have reached the client, as far as that is
	// known.
	acknowledged(sent int64) int64
	// reset closes the connection and makes a write under way fail. It is called by
	// another goroutine than the one that writes.
	reset()
}

// pace measures how quickly a client takes an answer. The goroutine that writes the answer
// owns it; what SlowReaders reads of it is guarded.
type pace struct {
	client client
	sent   atomic.Int64 // bytes of the answer that the kernel has taken
	x      *exchange    // the answer that is being sent, nil between answers

	// The stall rule compares two consecutive periods of stallTime/2 with stallBytes.
	checked      time.Duration // waited at the beginning of the present period, negative before the first
	checkedBytes int64         // acknowledged at that time
	lastPeriod   int64         // acknowledged in the period before, negative if there is none

	// Guarded by SlowReaders.mu.
	waited time.Duration // in earlier waits of this answer
	since  time.Time     // begin of the present wait
	holds  holding
	// The average rate is average bytes in averageTime seconds, as of the time waited and
	// the bytes acknowledged at the last sample.
	average, averageTime float64
	sampled              time.Duration
	sampledBytes         int64
}

// holding is what an answer keeps from others while its client is slow.
type holding struct {
	bytes int64 // of the cache's budget
	slot  bool  // at S3
	alias int64
}

// begin starts an answer.
func (p *pace) begin(x *exchange) {
	p.x = x
	p.sent.Store(0)
	p.waited, p.checked, p.lastPeriod = 0, -1, -1
	p.average, p.averageTime, p.sampled, p.sampledBytes = graceBytes, 0, 0, 0
}

// sample updates the average, as if the client had been steady since the last sample.
// SlowReaders.mu must be held during a wait.
func (p *pace) sample(now time.Time) {
	got, waited := p.client.acknowledged(p.sent.Load()), p.waited+now.Sub(p.since)
	since := max(waited-p.sampled, time.Microsecond).Seconds()
	kept := math.Exp(-since / rateTime.Seconds())
	weight := rateTime.Seconds() * (1 - kept)
	p.averageTime = p.averageTime*kept + weight
	p.average = min(p.average*kept+float64(max(0, got-p.sampledBytes))*weight/since, burstMax)
	p.sampled, p.sampledBytes = waited, max(got, p.sampledBytes)
}

// rate is how many bytes per second the client takes, as of the last sample.
func (p *pace) rate() int64 { return int64(p.average / max(p.averageTime, graceTime.Seconds())) }

// SlowReaders are the answers that wait because their clients do not read as quickly as the
// bytes are there. Only an answer whose socket is full enters, so that others do not pay for
// it. It cuts the slowest clients when others need what their answers hold. All methods
// are safe for concurrent use.
type SlowReaders struct {
	count func(reason string)
	log   *slog.Logger

	mu      sync.Mutex
	waiting map[*pace]struct{}
	ending  int64 // bytes held by answers that were cut and have not ended
	cuts    tally
}

// NewSlowReaders makes an empty table. count is called for each client that is cut. It must
// be quick and safe for concurrent use; reason is stalled, memory or slot. It is called with
// n = 0 for each reason first, so that the counters exist.
func NewSlowReaders(count func(reason string, n int), log *slog.Logger) *SlowReaders {
	for _, reason := range cutReasons {
		count(reason, 0)
	}
	return &SlowReaders{
		count: func(reason string) { count(reason, 1) }, log: log, waiting: make(map[*pace]struct{}),
	}
}

// enter adds an answer that has begun to wait for its client. leave must follow.
func (s *SlowReaders) enter(p *pace) {
	holds := p.x.hold()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	p.holds, p.since = holds, now
	s.waiting[p] = struct{}{}
}

// leave removes an answer that waits no longer, or has been cut.
func (s *SlowReaders) leave(p *pace) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	p.sample(now)
	p.waited += now.Sub(p.since)
	delete(s.waiting, p)
}

// waitedFor is how long an answer has waited for its client, the present wait included.
func (s *SlowReaders) waitedFor(p *pace) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return p.waited + time.Since(p.since)
}

// nextCheck is when stalled should be called during a wait.
func (s *SlowReaders) nextCheck(p *pace) time.Time {
	waited := s.waitedFor(p)
	if p.checked < 0 {
		p.checked, p.checkedBytes = waited, p.client.acknowledged(p.sent.Load())
	}
	return time.Now().Add(max(time.Millisecond, p.checked+stallTime/2-waited))
}

// stalled cuts the client if it took too little in the last stallTime, and reports whether
// it did.
func (s *SlowReaders) stalled(p *pace) bool {
	waited := s.waitedFor(p)
	if waited-p.checked < stallTime/2 {
		return false
	}
	got := p.client.acknowledged(p.sent.Load())
	period := got - p.checkedBytes
	if p.lastPeriod >= 0 && p.lastPeriod+period < stallBytes {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.cutLocked(p, cutStalled)
		return true
	}
	p.lastPeriod, p.checkedBytes, p.checked = period, got, waited
	return false
}

// CutForMemory is for cache.Config.Relieve.
func (s *SlowReaders) CutForMemory(pinned, limit int64) cache.Relief {
	third := limit / 3
	if pinned <= third {
		return cache.NoRelief
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if pinned -= s.ending; pinned <= third {
		return cache.ReliefRequested
	}
	hard := pinned > 2*third
	c := s.slowestLocked(func(h holding) bool { return h.bytes > 0 }, pinned > limit-third/2)
	switch {
	case c.rate < slowRate && c.mayGo(pinned-third),
		hard && c.rate < c.least && c.mayGo(pinned-2*third):
		s.cutLocked(c.slowest, cutMemory)
		return cache.ReliefRequested
	case hard && c.young:
		return cache.ReliefLater
	case s.ending > 0:
		return cache.ReliefRequested
	}
	return cache.NoRelief
}

// CutForSlot cuts the slowest client whose answer holds a slot at S3: one of an alias's
// slots, or any if alias is 0.
func (s *SlowReaders) CutForSlot(alias int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.slowestLocked(func(h holding) bool { return h.slot && (alias == 0 || h.alias == alias) }, false)
	if c.slowest != nil && c.rate < c.least {
		s.cutLocked(c.slowest, cutSlot)
	}
}

// candidates are the answers that hold what is needed.
type candidates struct {
	slowest *pace // nil if all have just begun
	rate    int64 // of slowest
	largest int64 // number of bytes that one of them holds
	young   bool  // one of them has just begun
	least   int64 // rate below which one may be cut
}

// mayGo reports whether there is one to be cut for the bytes above a share, which one body
// alone may exceed.
func (c *candidates) mayGo(excess int64) bool { return c.slowest != nil && c.largest < excess }

// slowestLocked looks at the answers for which holds is true. If extreme is set, goodRate is
// wanted of those that have not proven fairRate.
func (s *SlowReaders) slowestLocked(holds func(holding) bool, extreme bool) (c candidates) {
	now := time.Now()
	c.least = fairRate
	if extreme {
		c.least = goodRate
	}
	for p := range s.waiting {
		if !holds(p.holds) {
			continue
		}
		c.largest = max(c.largest, p.holds.bytes)
		p.sample(now)
		switch rate := p.rate(); {
		case p.sampled < graceTime:
			c.young = true
		case extreme && p.sampled >= provenTime && rate >= fairRate:
		case c.slowest == nil || rate < c.rate:
			c.slowest, c.rate = p, rate
		}
	}
	return c
}

// cutLocked resets the connection of an answer that waits. The writer cannot begin another
// answer meanwhile: it must leave first, under the same lock.
func (s *SlowReaders) cutLocked(p *pace, reason string) {
	if p.x.cut {
		return
	}
	delete(s.waiting, p)
	p.x.cut, p.x.cutBytes = true, p.holds.bytes
	s.ending += p.holds.bytes
	p.client.reset()
	s.count(reason)
	if n := s.cuts.add(1, time.Now()); n > 0 {
		s.log.LogAttrs(context.Background(), slog.LevelWarn, "slow clients cut",
			slog.String("reason", reason), slog.Int("clients", n))
	}
}

// ended says that an answer that was cut has released what it held.
func (s *SlowReaders) ended(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ending -= bytes
}

// pinner is a cache.Entry or a cache.Reader.
type pinner interface {
	Pin() int64
	Unpin()
}

// hold returns what the answer keeps from others. It counts its bytes as pinned, once,
// until Close.
func (x *exchange) hold() holding {
	h := holding{alias: x.route.Alias.ID}
	var p pinner
	source := x.reader
	if s, ok := source.(*rangeStream); ok {
		source = s.chunkReader
	}
	switch r := source.(type) {
	case *cache.Reader:
		if r.OnDisk() { // it waits without memory
			return h
		}
		h.slot = r.Exclusive()
		p = r
	case *blocks: // their bytes count as reserved
		h.slot = r.rest != nil
		if r.block != nil {
			h.bytes = r.block.cost
		}
		return h
	}
	if x.entry != nil {
		p = x.entry
	}
	if x.pinned == nil && p != nil {
		x.pinned, x.pinnedBytes = p, p.Pin()
	}
	h.bytes = x.pinnedBytes
	return h
}

// countedWriter sends an answer through a connection that is not ours, and counts what it sends as
// acknowledged.
type countedWriter struct {
	net.Conn
	pace
}

func newCountedWriter(c net.Conn) *countedWriter {
	w := &countedWriter{Conn: c}
	w.client = w
	return w
}

func (*countedWriter) acknowledged(sent int64) int64 { return sent }

func (w *countedWriter) reset() { _ = w.Close() }

// write sends all of p, as long as the client keeps reading.
func (w *countedWriter) write(p []byte) (int, error) {
	slow := w.x.proxy.slow
	slow.enter(&w.pace)
	defer slow.leave(&w.pace)
	for sent := 0; ; {
		if err := w.SetWriteDeadline(slow.nextCheck(&w.pace)); err != nil {
			return sent, err
		}
		n, err := w.Write(p[sent:])
		sent += n
		w.sent.Add(int64(n))
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || slow.stalled(&w.pace) {
			return sent, err
		}
	}
}
