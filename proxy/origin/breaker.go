package origin

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"ixmage/alias"
)

const (
	// maxBreakerOpen bounds the pause between probes, so that an origin that is
	// well again is served from within ten seconds.
	maxBreakerOpen = 8 * time.Second
	// circuitIdle is when a circuit that nobody asks is dropped: its alias has
	// moved elsewhere.
	circuitIdle = 10 * time.Minute
	// maxCircuits bounds the credentials that have circuits, a few hundred bytes
	// each. They are those that have failed.
	maxCircuits = 4096
)

// CircuitState says whether calls go out to an origin.
type CircuitState int

// States of a circuit, as the gauge shows them.
const (
	CircuitClosed   CircuitState = iota // they do
	CircuitHalfOpen                     // one does, to see whether the origin is well again
	CircuitOpen                         // none does
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

// CircuitInfo is how one circuit stands for the calls of one object. The zero
// CircuitInfo is a closed one in which nothing has failed.
type CircuitInfo struct {
	State    CircuitState
	Since    time.Time // when the state began; zero: it has always been closed
	Probe    time.Time // of an open one: from when on the next call goes out
	Failures int       // calls that have failed in a row
	Last     Outcome   // of the last of them
}

// breaker keeps calls away from an origin that does not work: one circuit for each
// credential and place. What fails there would hold slots, and everybody who
// waits for it, for as long as the timeouts are.
type breaker struct {
	limit int // failures in a row that open a circuit; 0: none does
	pause time.Duration
	rec   Recorder
	seed  maphash.Seed // of permit.object

	telling sync.Mutex // held while rec is told, so that the last word is the newest
	mu      sync.Mutex // guards the fields below, those of circuits, and permit.began
	byID    map[int64]map[variant]*circuit
	news    map[int64]string // names of the credentials that rec is to be told of
}

// circuit is there from the first failure on. What has failed may be one object
// alone, which S3 cannot read: then it is open for that one, and the others go out
// until one of them fails too. A way to S3 that is broken is so for all.
type circuit struct {
	name     string // of the credential
	state    CircuitState
	since    time.Time
	until    time.Time // of an open one: the time of the probe
	pause    time.Duration
	failures int
	last     Outcome
	object   uint64    // whose calls have failed
	all      bool      // more than that object's, or the way to S3
	probe    *permit   // the call that is out to see
	used     time.Time // when somebody asked
}

// permit is a call's leave to go out. It must be ended with done.
type permit struct {
	b    *breaker
	id   int64
	name string // of the credential
	at   variant
	// object is a hash of what is asked for: two that have the same share their luck.
	object uint64
	began  time.Time
	// insists goes out whatever the circuit, and has no say in it while it is open.
	insists bool
}

func newBreaker(cfg Config, rec Recorder) *breaker {
	return &breaker{
		limit: cfg.BreakerFailures, pause: cfg.BreakerOpen, rec: rec, seed: maphash.MakeSeed(),
		byID: map[int64]map[variant]*circuit{}, news: map[int64]string{},
	}
}

func (b *breaker) permit(r alias.Route, key string) *permit {
	return &permit{
		b: b, id: r.Credential.ID, name: string(r.Credential.Name), at: variantOf(r.Alias.Location),
		object: maphash.Comparable(b.seed, [2]string{r.Alias.Bucket, key}),
	}
}

func (b *breaker) info(r alias.Route, key string) CircuitInfo {
	p := b.permit(r, key)
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.byID[p.id][p.at]
	if c == nil || c.spares(p) {
		return CircuitInfo{}
	}
	info := CircuitInfo{State: c.state, Since: c.since, Failures: c.failures, Last: c.last}
	if c.state == CircuitOpen {
		info.Probe = c.until
	}
	return info
}

// forget drops the circuits of a credential. What calls under way have to say is
// about a circuit that is new then.
func (b *breaker) forget(credentialID int64) {
	b.mu.Lock()
	defer b.unlock()
	for at := range b.byID[credentialID] {
		b.dropLocked(credentialID, at)
	}
}

// unlock tells rec what is new.
func (b *breaker) unlock() {
	quiet := len(b.news) == 0
	b.mu.Unlock()
	if !quiet {
		b.tell()
	}
}

// tell says how the worst circuits of the credentials in the news stand now.
func (b *breaker) tell() {
	b.telling.Lock()
	defer b.telling.Unlock()
	worst := map[string]CircuitState{}
	b.mu.Lock()
	for id, name := range b.news {
		for _, c := range b.byID[id] {
			worst[name] = max(worst[name], c.state)
		}
		worst[name] = max(worst[name], CircuitClosed)
	}
	clear(b.news)
	b.mu.Unlock()
	for name, state := range worst {
		b.rec.OriginCircuit(name, int(state))
	}
}

// enter lets the call out, or says why not. It is asked before the call queues for a
// slot and again when it has one: the circuit may have opened meanwhile.
func (p *permit) enter() error {
	b := p.b
	if b.limit == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.unlock()
	now := time.Now()
	p.began = now
	b.sweepLocked(p, now)
	c := b.byID[p.id][p.at]
	if c == nil {
		return nil
	}
	c.used = now
	switch {
	case p.insists:
		return nil
	case c.state == CircuitClosed, c.probe == p, c.spares(p):
		return nil
	case c.probe != nil, now.Before(c.until):
		return c.refusal(now)
	}
	c.probe = p
	b.turnLocked(p.id, c, CircuitHalfOpen, now)
	return nil
}

// sweepLocked drops the circuits of places that a credential no longer reads from.
func (b *breaker) sweepLocked(p *permit, now time.Time) {
	for at, c := range b.byID[p.id] {
		if at != p.at && c.idle(now) {
			b.dropLocked(p.id, at)
		}
	}
}

func (c *circuit) idle(now time.Time) bool { return c.probe == nil && now.Sub(c.used) > circuitIdle }

func (b *breaker) dropLocked(id int64, at variant) {
	b.news[id] = b.byID[id][at].name
	delete(b.byID[id], at)
	if len(b.byID[id]) == 0 {
		delete(b.byID, id)
	}
}

func (b *breaker) turnLocked(id int64, c *circuit, s CircuitState, now time.Time) {
	if c.state != s {
		c.state, c.since = s, now
		b.news[id] = c.name
	}
}

func (c *circuit) refusal(now time.Time) error {
	return &Error{
		Outcome: OutcomeCircuitOpen, RetryAfter: max(c.until.Sub(now), defaultRetryAfter),
		err: fmt.Errorf("%w: %d in a row, the last one %s", errCircuitOpen, c.failures, c.last),
	}
}

// answered is told when S3's headers are here, of a call whose body is yet to come.
// A probe need not wait for that: a body may take hours. Its circuit closes, and
// opens again with the next failure unless a call succeeds first.
func (p *permit) answered() {
	b := p.b
	b.mu.Lock()
	defer b.unlock()
	c := b.byID[p.id][p.at]
	if c == nil || c.probe != p {
		return
	}
	now := time.Now()
	c.probe, c.failures, p.began = nil, b.limit-1, now
	b.turnLocked(p.id, c, CircuitClosed, now)
}

// done says how the call ended.
func (p *permit) done(err error) {
	b, h := p.b, healthOf(err)
	if b.limit == 0 {
		return
	}
	b.mu.Lock()
	defer b.unlock()
	now := time.Now()
	c := b.byID[p.id][p.at]
	if c == nil && h == sick {
		c = b.addLocked(p, now)
	}
	if c == nil || !c.heeds(p) || h == unknown {
		// A probe that has nothing to tell leaves it to the next call.
		return
	}
	if h == well {
		c.failures, c.pause, c.probe = 0, 0, nil // what a probe tells yet is of before
		b.turnLocked(p.id, c, CircuitClosed, now)
		return
	}
	c.blame(p, err)
	if c.failures++; c.state == CircuitHalfOpen || c.failures >= b.limit {
		b.openLocked(p.id, c, now)
	}
}

// blame notes what has failed.
func (c *circuit) blame(p *permit, err error) {
	if c.failures == 0 {
		c.object, c.all = p.object, false
	}
	c.all = c.all || c.object != p.object || wayBroken(err)
	c.last = outcomeOf(err)
}

// spares reports whether a call is of another object than the one that fails.
func (c *circuit) spares(p *permit) bool { return !c.all && c.object != p.object }

// heeds reports whether the end of a call counts: not of one that went out before
// the circuit opened, or before it closed again, for it tells how things were then.
func (c *circuit) heeds(p *permit) bool {
	if c.probe == p {
		c.probe = nil
		return true
	}
	return !p.began.Before(c.since) && (c.state == CircuitClosed || !p.insists && c.spares(p))
}

// openLocked pauses for longer after each probe that failed. The jitter keeps the
// probes of many circuits apart that one outage has opened.
func (b *breaker) openLocked(id int64, c *circuit, now time.Time) {
	c.pause = min(max(2*c.pause, b.pause), max(maxBreakerOpen, b.pause))
	c.until = now.Add(c.pause - c.pause/10 + rand.N(c.pause/5+1)) //nolint:gosec // a jitter is no secret
	b.turnLocked(id, c, CircuitOpen, now)
}

// addLocked is nil where there is no room: that credential's circuit stays closed.
func (b *breaker) addLocked(p *permit, now time.Time) *circuit {
	if len(b.byID) >= maxCircuits && b.byID[p.id] == nil {
		for id, places := range b.byID {
			for at, c := range places {
				if c.idle(now) {
					b.dropLocked(id, at)
				}
			}
		}
		if len(b.byID) >= maxCircuits {
			return nil
		}
	}
	if b.byID[p.id] == nil {
		b.byID[p.id] = map[variant]*circuit{}
	}
	c := &circuit{name: p.name, used: now}
	b.byID[p.id][p.at] = c
	return c
}

// health is what the end of a call says of the origin.
type health int

const (
	unknown health = iota // nothing: S3 was not asked, or nobody waited for the answer
	well                  // it does as it is asked
	sick
)

// healthOf is about the origin, not the object: what S3 refuses, or sends complete and
// wrong, comes from a server that works, and must not keep other objects away.
func healthOf(err error) health {
	if err == nil {
		return well
	}
	e, ok := errors.AsType[*Error](err)
	if _, ours := errors.AsType[*addressError](err); !ok || ours || e.Operation == "" {
		return unknown
	}
	switch e.Outcome {
	case OutcomeAborted, OutcomeOverloaded, OutcomeCircuitOpen:
		return unknown
	case OutcomeThrottled, OutcomeTimeout, OutcomeNetwork:
		return sick
	case OutcomeError:
		if e.Status >= 500 {
			return sick
		}
		if e.Status == 0 { // no HTTP: one object's headers may be at fault
			return unknown
		}
	case OutcomeOK, OutcomeNotModified, OutcomeNotFound, OutcomeDenied, OutcomeBadCredential,
		OutcomeRange, OutcomePrecondition:
	}
	return well
}
