package fleet

import (
	"testing"

	"ixmage/alias"
)

// keyRules are the rules of following, of retiring a key and of a start. Those of the program
// are programRules.
type keyRules struct {
	order       [3]part // in which a node shows changes
	noBehind    bool    // a key is retired without asking who is behind
	noQuiet     bool    // at once, when no node is behind
	loadsFirst  bool    // a start loads before the database knows of the node
	keepsFailed bool    // a replica that cannot be written stays
	keepsDisk   bool    // a start without a replica keeps the disk tier
}

// part is one of the parts of alias.Registry's show.
type part uint8

const (
	observers part = iota + 1 // memory, and the caches
	replicated
	reported
)

// The life of a node.
const (
	down uint8 = iota
	joined
	loaded // but does not serve
	serving
)

// keyNode is the program of one node. Revisions are those of the log.
type keyNode struct {
	life     uint8
	memory   int8
	position int8
	replica  int8 // -1: none
	showing  int8 // how many parts are shown of the changes up to target
	target   int8
	purged   bool // the disk tier has the mark of the purge
	row      int8 // what was reported; -1: no row
	seen     int8
	told     int8  // the highest that was reported
	removed  bool  // the rotation did not wait for it: ixmage node rm, or silent for the grace
	request  uint8 // 0: none; 1: signed with the previous key; 2: with the current one
	age      int8
}

type keyState struct {
	now, head       int8
	swap, purge     int8 // revisions; 0: not yet
	epoch           bool // the purge raises the epoch: the disk tier keeps the files
	followed        int8 // when no node was behind; -1: not yet
	inactive        bool // the previous key, or deleted
	kills, failures int8
	broken          string
	node            [nodes]keyNode
}

// keyBound bounds the states: the swap and the purge are explored one at a time.
type keyBound struct {
	end, kills, failures int8
	swap, purge          bool
	grace                bool // nodes also beat without news: without that, all seem silent for the grace
}

// keyGrace leaves time for a rotation before a node that is never seen again is given up.
const keyGrace = 2 * tick

func keySpace(bound keyBound) func(keyRules) space[keyState] {
	return func(r keyRules) space[keyState] {
		start := keyState{followed: -1}
		for i := range start.node { // all follow, and the last one is new
			start.node[i] = keyNode{life: serving}
		}
		start.node[nodes-1] = keyNode{life: down, replica: -1, row: -1}
		return space[keyState]{start: start, bad: keyState.bad, steps: func(s keyState, to func(string, keyState)) {
			if next, ok := s.tick(bound); ok {
				to("tick", next)
			}
			r.ownerSteps(s, bound, to)
			for i := range nodes {
				r.startSteps(s, i, to)
				r.followSteps(s, i, bound, to)
				r.requestSteps(s, i, bound, to)
			}
		}}
	}
}

func (s keyState) tick(bound keyBound) (keyState, bool) {
	for i := range s.node {
		if s.node[i].request != 0 {
			if s.node[i].age++; s.node[i].age > 1 {
				return s, false
			}
		}
	}
	s.now++
	return s, s.now <= bound.end
}

// bad also looks at what each node would serve now.
func (s keyState) bad() string {
	for _, n := range s.node {
		has := s.epoch && n.memory < s.purge || !s.epoch && !n.purged
		if s.purge > 0 && n.life == serving && n.told >= s.purge && has {
			return "a node that reported a purge serves what was purged"
		}
	}
	return s.broken
}

// rows are those of the database, as Behind reads them.
func (s keyState) rows() []*alias.Node {
	var list []*alias.Node
	for i, n := range s.node {
		if n.row >= 0 {
			seen := instant(n.seen, 0)
			list = append(list, &alias.Node{
				Name: by(i, ""), Revision: int64(n.row), SeenAt: seen, Live: instant(s.now, 0).Sub(seen) < tick,
			})
		}
	}
	return list
}

// ownerSteps are those of the rotation, and of purges.
func (r keyRules) ownerSteps(s keyState, bound keyBound, to func(string, keyState)) {
	was := s
	if s.swap == 0 && bound.swap {
		s.head++
		s.swap = s.head
		to("swap", s)
	}
	if s = was; s.purge == 0 && bound.purge {
		s.head++
		s.purge = s.head
		to("purge an object", s)
		s.epoch = true
		to("purge an alias", s)
	}
	if s = was; s.swap > 0 && s.followed < 0 {
		if r.noBehind || len(behind(s.rows(), int64(s.swap), instant(s.now, 0), keyGrace)) == 0 {
			s.followed = s.now
			for i, n := range s.node {
				silent := n.row >= 0 && n.row < s.swap && instant(s.now, 0).Sub(instant(n.seen, 0)) >= keyGrace
				s.node[i].removed = n.removed || silent
			}
			to("nobody is behind", s)
		}
	}
	if s = was; s.followed >= 0 && !s.inactive && (r.noQuiet || s.now > s.followed+1) {
		s.inactive = true
		to("deactivate", s)
	}
}

// startSteps are those of a start.
func (r keyRules) startSteps(s keyState, i int, to func(string, keyState)) {
	was := s
	n := &s.node[i]
	load := func() {
		if n.replica < 0 {
			n.memory, n.replica, n.purged = s.head, s.head, !r.keepsDisk || n.purged // the disk tier is emptied
		} else {
			n.memory = n.replica
		}
		n.position = n.memory
	}
	join := func() {
		n.row, n.seen = 0, s.now
	}
	switch n.life {
	case down:
		if n.replica >= 0 {
			n.life, n.memory, n.position = serving, n.replica, n.replica
			to(by(i, "starts without the database"), s)
		}
		if s = was; r.loadsFirst {
			load()
			n.life = joined
			to(by(i, "loads"), s)
		} else {
			join()
			n.life = joined
			to(by(i, "joins"), s)
		}
	case joined:
		if n.life = loaded; r.loadsFirst {
			join()
			to(by(i, "joins"), s)
		} else {
			load()
			to(by(i, "loads"), s)
		}
	case loaded:
		if n.position == s.head && n.showing == 0 {
			n.life = serving
			to(by(i, "serves"), s)
		}
	}
}

// followSteps are those of follow.
func (r keyRules) followSteps(s keyState, i int, bound keyBound, to func(string, keyState)) {
	was := s
	n := &s.node[i]
	if n.life != loaded && n.life != serving {
		return
	}
	if n.showing == 0 {
		if n.position < s.head {
			n.target = s.head
			to(by(i, "reads the log"), r.show(s, i))
		}
		if s = was; n.row != n.position || n.seen != s.now && bound.grace {
			n.row, n.seen, n.told = n.position, s.now, max(n.told, n.position)
			to(by(i, "beats"), s)
		}
		return
	}
	to(by(i, "shows"), r.show(s, i))
	if r.order[n.showing] == replicated && s.failures < bound.failures {
		s.failures++
		next := r.show(s, i)
		if next.node[i].replica = -1; r.keepsFailed {
			next.node[i].replica = n.replica
		}
		to(by(i, "cannot write the replica"), next)
	}
	if n.position > n.row { // between two parts the node may beat
		n.row, n.seen, n.told = n.position, s.now, max(n.told, n.position)
		to(by(i, "beats"), s)
	}
}

// show is the next part.
func (r keyRules) show(s keyState, i int) keyState {
	n := &s.node[i]
	switch r.order[n.showing] {
	case observers:
		if n.memory < s.purge && s.purge <= n.target {
			n.purged = true
		}
		n.memory = n.target
	case replicated:
		if n.replica >= 0 {
			n.replica = n.target
		}
	case reported:
		n.position = n.target
	}
	if n.showing = (n.showing + 1) % int8(len(r.order)); n.showing == 0 {
		n.target = 0
	}
	return s
}

// requestSteps are those of a request, and the end of a node.
func (r keyRules) requestSteps(s keyState, i int, bound keyBound, to func(string, keyState)) {
	was := s
	n := &s.node[i]
	if n.life == serving && n.request == 0 && s.swap > 0 {
		if n.request = 1; n.memory >= s.swap {
			n.request = 2
		}
		if n.request == 1 { // those with the current key cannot fail
			to(by(i, "signs"), s)
		}
	}
	if s = was; n.request != 0 {
		if n.request == 1 && s.inactive && !n.removed {
			s.broken = "a request is signed with a key that a rotation has retired"
		}
		n.request, n.age = 0, 0
		to(by(i, "is answered"), s)
	}
	if s = was; n.life != down && s.kills < bound.kills {
		s.kills++
		*n = keyNode{
			replica: n.replica, purged: n.purged, row: n.row, seen: n.seen, told: n.told, removed: n.removed,
		}
		to(by(i, "is killed"), s)
	}
	if s = was; n.row >= 0 && s.now > n.seen && s.swap > 0 && s.kills < bound.kills {
		s.kills++ // it bounds the states too
		n.row, n.removed = -1, true
		to(by(i, "is removed by ixmage node rm"), s)
	}
}

// programRules are those of the program.
func programRules(t *testing.T) keyRules {
	t.Helper()
	r := keyRules{order: shownOrder(t)}
	if want := [3]part{observers, replicated, reported}; r.order != want {
		t.Errorf("a registry shows changes in the order %v, want %v", r.order, want)
	}
	return r
}

// TestSimulatedKeys: no request is signed with a key that a rotation has retired.
func TestSimulatedKeys(t *testing.T) {
	t.Parallel()
	program := programRules(t)
	unasked, unquiet, unknown, unwritten := program, program, program, program
	unasked.noBehind, unquiet.noQuiet, unknown.loadsFirst = true, true, true
	unwritten.order = [3]part{observers, reported, replicated}
	bound := keyBound{end: 2, kills: 1, swap: true}
	if long() {
		bound.grace = true
	}
	simulate(t, 4_000_000, keySpace(bound), program, map[string]keyRules{
		"asking who is behind":          unasked,
		"time for requests under way":   unquiet,
		"the row before the load":       unknown,
		"the replica before the report": unwritten,
	})
}

// TestSimulatedPurges: a node that reported a purge does not serve what was purged, whatever is
// killed and in which order.
func TestSimulatedPurges(t *testing.T) {
	t.Parallel()
	program := programRules(t)
	mutants := map[string]keyRules{
		"observers before the report":     {order: [3]part{reported, observers, replicated}},
		"the replica before the report":   {order: [3]part{observers, reported, replicated}},
		"observers before the replica":    {order: [3]part{replicated, observers, reported}},
		"dropping a replica that failed":  {order: program.order, keepsFailed: true},
		"emptying a disk without replica": {order: program.order, keepsDisk: true},
	}
	bound := keyBound{end: 0, kills: 1, failures: 1, purge: true}
	if long() {
		bound.kills = 2
	}
	simulate(t, 4_000_000, keySpace(bound), program, mutants)
}
