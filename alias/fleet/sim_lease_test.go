package fleet

import (
	"testing"
	"time"
)

// leaseRules are the rules of leases. The zero value has them all.
type leaseRules struct {
	ends           time.Duration // after the holder asked; 0: heldUntil
	fromAnswer     bool          // the end counts from the answer
	byWallClock    bool          // the end is the time that the database told
	renewsAny      bool          // a beat renews a lease of any holder
	renewsEnded    bool          // an answer brings an ended lease back, though another may have it
	takenEarly     bool          // the database gives it away while it lasts
	noCheck        bool          // a transaction does not check it
	removalDeletes bool          // node rm deletes the leases of a node
}

// A call of the database on its way.
const (
	noCall uint8 = iota
	acquireAsked
	acquireDone
	beatAsked
	beatRenewed
	beatRefused
)

// leaseNode is the program of one node.
type leaseNode struct {
	lease    uint8 // the token of the lease that it has; 0: none
	until    int8  // by its clock
	call     uint8
	asked    int8  // by its clock
	token    uint8 // of the call
	told     int8  // the end of the lease by the clock of the database
	effect   uint8 // token of a request under way; 0: none
	age      int8  // of it
	lastSeen int8  // in the row of the node
}

type leaseState struct {
	now     int8
	last    uint8 // token that was given away
	row     uint8 // token; 0: no row
	expires int8
	kills   int8
	broken  string
	node    [nodes]leaseNode
}

// leaseBound bounds the states.
type leaseBound struct{ end, tokens, kills int8 }

// leaseOffsets are the clocks of the nodes minus that of the database, in minutes.
var leaseOffsets = [nodes]int8{0, 7, -7}

func leaseSpace(bound leaseBound) func(leaseRules) space[leaseState] {
	return func(r leaseRules) space[leaseState] {
		return space[leaseState]{
			bad: func(s leaseState) string { return s.broken },
			steps: func(s leaseState, to func(string, leaseState)) {
				if next, ok := s.tick(bound); ok {
					to("tick", next)
				}
				for i := range nodes {
					r.askSteps(s, i, bound, to)
					r.answerSteps(s, i, to)
					r.actSteps(s, i, bound, to)
				}
			},
		}
	}
}

// tick passes the time. A request under way has its effect before.
func (s leaseState) tick(bound leaseBound) (leaseState, bool) {
	for i := range s.node {
		if s.node[i].effect != 0 {
			if s.node[i].age++; s.node[i].age > 1 {
				return s, false
			}
		}
	}
	s.now++
	return s, s.now <= bound.end
}

// local is the clock of a node.
func (s leaseState) local(i int) time.Time { return instant(s.now, leaseOffsets[i]) }

func (s leaseState) valid(i int) bool {
	n := s.node[i]
	return n.lease != 0 && before(s.local(i), instant(n.until, leaseOffsets[i]))
}

// end is when the holder stops, by its clock.
func (r leaseRules) end(s leaseState, i int) int8 {
	n := s.node[i]
	asked := instant(n.asked, leaseOffsets[i])
	if r.fromAnswer {
		asked = s.local(i)
	}
	switch {
	case r.byWallClock: // less the margin, and by a clock that differs
		return ticks(instant(n.told, 0).Add(-tick), leaseOffsets[i])
	case r.ends != 0:
		return ticks(asked.Add(r.ends), leaseOffsets[i])
	}
	return ticks(heldUntil(asked, leaseTTL), leaseOffsets[i])
}

// askSteps are what the node asks of the database, and what that does.
func (r leaseRules) askSteps(s leaseState, i int, bound leaseBound, to func(string, leaseState)) {
	n := &s.node[i]
	was := s
	switch n.call {
	case noCall:
		if n.lease == 0 && int8(s.last) < bound.tokens {
			n.call, n.asked = acquireAsked, s.now
			to(by(i, "asks for the lease"), s)
		} else if n.lease != 0 {
			n.call, n.asked, n.token = beatAsked, s.now, n.lease
			to(by(i, "beats"), s)
		}
	case acquireAsked:
		if s.row != 0 && s.expires > s.now && !r.takenEarly {
			n.call, n.asked = noCall, 0
			to(by(i, "is refused"), s)
			break
		}
		s.last++
		s.row, s.expires = s.last, s.now+marginShare
		n.call, n.token, n.told = acquireDone, s.last, s.expires
		to(by(i, "is given the lease"), s)
	case beatAsked:
		n.lastSeen, n.call = s.now, beatRefused
		if s.row == n.token || r.renewsAny && s.row != 0 {
			s.expires, n.call, n.told = s.now+marginShare, beatRenewed, s.now+marginShare
		}
		to(by(i, "is seen"), s)
	}
	if was.node[i].call != noCall {
		s = was
		s.node[i].call, s.node[i].asked, s.node[i].token, s.node[i].told = noCall, 0, 0, 0
		to(by(i, "gets no answer"), s)
	}
}

// answerSteps are what the node does with an answer.
func (r leaseRules) answerSteps(s leaseState, i int, to func(string, leaseState)) {
	n := &s.node[i]
	switch n.call {
	case acquireDone:
		n.until, n.lease = r.end(s, i), n.token
	case beatRenewed:
		if n.lease == n.token && (s.valid(i) || r.renewsEnded) || r.renewsEnded && n.lease == 0 {
			n.until, n.lease = r.end(s, i), n.token
		}
	case beatRefused:
		if n.lease == n.token && !r.renewsAny {
			n.lease, n.until = 0, 0
		}
	default:
		return
	}
	n.call, n.asked, n.token, n.told = noCall, 0, 0, 0
	to(by(i, "gets the answer"), s)
}

// actSteps are what a node does with a lease, and how it loses it.
func (r leaseRules) actSteps(s leaseState, i int, bound leaseBound, to func(string, leaseState)) {
	was := s
	n := &s.node[i]
	if n.effect == 0 && s.valid(i) {
		n.effect, n.age = n.lease, 0
		to(by(i, "begins a request"), s)
	}
	if s = was; n.effect != 0 {
		if s.row != n.effect {
			s.broken = "a request has its effect without the lease"
		}
		n.effect, n.age = 0, 0
		to(by(i, "has its effect"), s)
	}
	if s = was; n.lease != 0 { // also when it is not valid: the check is in the transaction
		if r.noCheck && s.row != n.lease {
			s.broken = "a transaction commits without the lease"
			to(by(i, "commits"), s)
		}
		if s = was; !s.valid(i) && !r.renewsEnded {
			n.lease, n.until = 0, 0
			to(by(i, "loses the lease"), s)
		}
	}
	if s = was; n.lease != 0 && n.effect == 0 && n.call == noCall {
		if s.row == n.lease {
			s.row, s.expires = 0, 0
		}
		n.lease, n.until = 0, 0
		to(by(i, "releases"), s)
	}
	if s = was; s.kills < bound.kills && (n.lease != 0 || n.call != noCall) {
		s.kills++
		*n = leaseNode{effect: n.effect, age: n.age, lastSeen: n.lastSeen} // what was sent is on its way
		to(by(i, "is killed"), s)
	}
	if s = was; r.removalDeletes && n.lastSeen+marginShare <= s.now && s.row != 0 && s.row == n.lease {
		s.row, s.expires = 0, 0
		to(by(i, "is removed"), s)
	}
}

var leaseMutants = map[string]leaseRules{
	"a margin":                        {ends: leaseTTL},
	"an end from when it was asked":   {fromAnswer: true},
	"the clock of the holder":         {byWallClock: true},
	"no renewal after the loss":       {renewsEnded: true, renewsAny: true},
	"taking it after its end":         {takenEarly: true},
	"a check in the transaction":      {noCheck: true},
	"leases outliving ixmage node rm": {removalDeletes: true},
}

// TestSimulatedLeases: never do two nodes act.
func TestSimulatedLeases(t *testing.T) {
	t.Parallel()
	bound := leaseBound{end: 3, tokens: 2}
	if long() {
		bound = leaseBound{end: 4, tokens: 2, kills: 1}
	}
	simulate(t, 4_000_000, leaseSpace(bound), leaseRules{}, leaseMutants)
}
