package origin

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/alias"
)

const (
	// maxBreakerOpen bounds the pause between probes, so that a recovered origin
	// is used again within ten seconds.
	maxBreakerOpen = 8 * time.Second
	// circuitIdle is when an unused circuit is dropped: its aliases have moved to
	// another endpoint.
	circuitIdle = 10 * time.Minute
	// maxCircuits bounds the circuits, a few hundred bytes each. Only a failure makes
	// one, and the one used least recently goes.
	maxCircuits = 4096
)

// CircuitState says whether calls go out to an origin.
type CircuitState int

// States of a circuit, in the numbers of the gauge ixmage_origin_circuit.
const (
	CircuitClosed   CircuitState = iota // all calls go out
	CircuitHalfOpen                     // one call is out as a probe
	CircuitOpen                         // no call goes out
)

func (s CircuitState) String() string {
	switch s {
	case CircuitClosed:
		return "closed"
	case CircuitHalfOpen:
		return "half-open"
	case CircuitOpen:
		return "open"
	}
	return "unknown"
}

// CircuitInfo describes one circuit. The zero CircuitInfo is a closed circuit
// without failures.
type CircuitInfo struct {
	State    CircuitState
	Since    time.Time // when the state began; zero: it has always been closed
	Probe    time.Time // of an open circuit: when the next call may go out
	Failures int       // failures in a row, one per object
	Last     Outcome   // of the last failure
}

// breaker refuses calls to an origin that fails. Otherwise they would hold slots, and
// their clients would wait, until the timeouts. Each credential has one circuit per
// endpoint:
//
//	closed     Calls go out. When limit distinct objects have failed without a
//	           success between them, the circuit opens.
//	open       Calls are refused until the pause is over. The next one is the probe:
//	half-open  All others are refused. The probe's success closes the circuit, its
//	           failure opens it again with twice the pause, up to maxBreakerOpen.
//
// Failures are counted by object, because one object that S3 cannot read must not block
// the others. If no connection can be made, every call counts.
type breaker struct {
	limit int // 0: circuits never open
	pause time.Duration
	rec   Recorder
	seed  maphash.Seed // of permit.object

	mu       sync.Mutex // guards the circuits; held during calls of rec, so that they come in order
	circuits *simplelru.LRU[circuitKey, *circuit]
}

// circuitKey identifies a circuit: a credential at an endpoint.
type circuitKey struct {
	credential int64
	variant
}

// circuit is made by the first failure of a credential at an endpoint.
type circuit struct {
	circuitKey
	name       string // of the credential
	state      CircuitState
	generation uint64 // counts the changes of state
	since      time.Time
	pause      time.Duration
	probeAt    time.Time // when the probe may go out
	failures   int       // in a row, one per object or failed connection
	objects    map[uint64]struct{}
	last       Outcome
	used       time.Time // by the last call
}

// permit lets one call pass the breaker. A call enters before it sends anything and
// must report its end with done. The zero permit passes every circuit and does not
// count.
type permit struct {
	b      *breaker
	at     circuitKey
	name   string // of the credential
	object uint64 // hash of bucket and key
	// generation is the circuit's when the call entered. The result of a call that ends
	// after a change of state does not count, because it describes the origin before
	// the change. In a half-open circuit only the probe has the circuit's generation.
	generation uint64
}

func newBreaker(cfg Config, rec Recorder) *breaker {
	b := &breaker{limit: cfg.BreakerFailures, pause: cfg.BreakerOpen, rec: rec, seed: maphash.MakeSeed()}
	b.circuits = newLRU(maxCircuits, func(_ circuitKey, c *circuit) {
		if c.state != CircuitClosed {
			b.recordLocked(c)
		}
	})
	return b
}

func circuitKeyOf(r alias.Route) circuitKey {
	return circuitKey{r.Credential.ID, variantOf(r.Alias.Location)}
}

func (b *breaker) permit(r alias.Route, key string) permit {
	if b.limit == 0 {
		return permit{}
	}
	return permit{
		b: b, at: circuitKeyOf(r), name: string(r.Credential.Name),
		object: maphash.Comparable(b.seed, [2]string{r.Alias.Bucket, key}),
	}
}

// enter returns nil if the call may go out. A call that waits for a slot enters again
// when it has one, because the circuit may have opened meanwhile.
func (p *permit) enter() error {
	b := p.b
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.expireLocked(now)
	c, ok := b.circuits.Get(p.at)
	if !ok {
		return nil
	}
	c.used = now
	switch {
	case c.state == CircuitOpen && !now.Before(c.probeAt):
		b.setStateLocked(c, CircuitHalfOpen, now)
	case c.state == CircuitOpen, c.state == CircuitHalfOpen && p.generation != c.generation:
		return &Error{
			Outcome: OutcomeCircuitOpen, RetryAfter: max(c.probeAt.Sub(now), defaultRetryAfter),
			err: fmt.Errorf("%w: %d in a row, the last one %s", errCircuitOpen, c.failures, c.last),
		}
	}
	p.generation = c.generation
	return nil
}

// answered reports that S3's headers have arrived and a body follows. It closes the
// circuit of a probe, because the body may take hours. The failures still count, so that the next
// failure opens the circuit again unless a success comes first.
func (p *permit) answered() {
	b := p.b
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, ok := b.circuits.Peek(p.at); ok && c.state == CircuitHalfOpen && p.generation == c.generation {
		b.setStateLocked(c, CircuitClosed, time.Now())
		p.generation = c.generation
	}
}

// done reports the result of the call.
func (p *permit) done(err error) {
	b, r := p.b, resultOf(err)
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	c, ok := b.circuits.Peek(p.at)
	if !ok && r == failure {
		c, ok = &circuit{circuitKey: p.at, name: p.name, used: now, objects: map[uint64]struct{}{}}, true
		b.circuits.Add(p.at, c)
	}
	if !ok || p.generation != c.generation {
		return
	}
	switch r {
	case success:
		c.failures, c.pause = 0, 0
		clear(c.objects)
		b.setStateLocked(c, CircuitClosed, now)
	case failure:
		c.count(p, err, b.limit)
		if c.state == CircuitHalfOpen || c.failures >= b.limit {
			b.openLocked(c, now)
		}
	case unknown:
		if c.state == CircuitHalfOpen { // the next call is the probe
			b.setStateLocked(c, CircuitOpen, now)
		}
	}
}

// count counts a failure, once per object. Failures after the limit are not counted, so
// that a long outage does not fill the memory with objects.
func (c *circuit) count(p *permit, err error, limit int) {
	c.last = outcomeOf(err)
	if _, again := c.objects[p.object]; c.failures < limit && (!again || connectionFailed(err)) {
		c.objects[p.object] = struct{}{}
		c.failures++
	}
}

// openLocked doubles the pause after each failed probe. The jitter spreads the probes of
// circuits that one outage has opened together.
func (b *breaker) openLocked(c *circuit, now time.Time) {
	c.pause = min(max(2*c.pause, b.pause), max(maxBreakerOpen, b.pause))
	c.probeAt = now.Add(c.pause - c.pause/10 + rand.N(c.pause/5+1)) //nolint:gosec // a jitter is no secret
	b.setStateLocked(c, CircuitOpen, now)
}

func (b *breaker) setStateLocked(c *circuit, s CircuitState, now time.Time) {
	if c.state != s {
		c.state, c.since = s, now
		c.generation++
		b.recordLocked(c)
	}
}

// recordLocked records the worst circuit of c's credential.
func (b *breaker) recordLocked(c *circuit) {
	worst := CircuitClosed
	for _, other := range b.circuits.Values() {
		if other.credential == c.credential {
			worst = max(worst, other.state)
		}
	}
	b.rec.OriginCircuit(c.name, int(worst))
}

// expireLocked drops unused circuits, so that the gauge does not show an endpoint that no
// alias uses any more.
func (b *breaker) expireLocked(now time.Time) {
	for {
		at, c, ok := b.circuits.GetOldest()
		if !ok || now.Sub(c.used) <= circuitIdle || now.Before(c.probeAt) {
			return
		}
		b.circuits.Remove(at)
	}
}

// forget drops the circuits of a credential.
func (b *breaker) forget(credentialID int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, at := range b.circuits.Keys() {
		if at.credential == credentialID {
			b.circuits.Remove(at)
		}
	}
}

func (b *breaker) info(r alias.Route) CircuitInfo {
	b.mu.Lock()
	defer b.mu.Unlock()
	c, ok := b.circuits.Peek(circuitKeyOf(r))
	if !ok {
		return CircuitInfo{}
	}
	info := CircuitInfo{State: c.state, Since: c.since, Failures: c.failures, Last: c.last}
	if c.state == CircuitOpen {
		info.Probe = c.probeAt
	}
	return info
}

// result says whether a call shows that the origin works.
type result int

const (
	unknown result = iota // S3 was not asked, or the caller did not wait for the answer
	success               // S3 works, whether or not it returned the object
	failure
)

// resultOf returns the result for the origin, not for the object: a refusal, or a complete
// reply with wrong bytes, comes from a server that works.
func resultOf(err error) result {
	if err == nil {
		return success
	}
	e, ok := errors.AsType[*Error](err)
	if _, ours := errors.AsType[*addressError](err); !ok || ours || e.Operation == "" {
		return unknown
	}
	switch e.Outcome {
	case OutcomeAborted, OutcomeOverloaded, OutcomeCircuitOpen:
		return unknown
	case OutcomeThrottled, OutcomeTimeout, OutcomeNetwork:
		return failure
	case OutcomeError:
		if e.Status >= 500 && !isUnimplemented(e) { // which is one object's or feature's problem
			return failure
		}
		if e.Status == 0 { // no HTTP: the headers of this object may be the cause
			return unknown
		}
	case OutcomeOK, OutcomeNotModified, OutcomeNotFound, OutcomeDenied, OutcomeBadCredential,
		OutcomeRange, OutcomePrecondition:
	}
	return success
}
