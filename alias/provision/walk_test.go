package provision

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// TestWalk walks through all small states: a user in IAM that is absent, ours, foreign or
// copied, with up to two keys, against all that the registry may say of it, with or without
// an operation. From each state it follows every outcome of the action that next chooses:
// done, not done, done without an answer, refused, a late view of IAM, or a crash. Every
// path must end after at most walkDepth actions, and no action may break a rule of check.
// With IXMAGE_WALK=all it begins at all states and a path may have two faults, otherwise one.
func TestWalk(t *testing.T) {
	t.Parallel()
	faults, stride := int8(1), 31
	if os.Getenv("IXMAGE_WALK") == "all" {
		faults, stride = 2, 1
	}
	w := &walk{t: t, depth: map[model]int{}}
	n := 0
	for start := range starts() {
		if n++; n%stride != 0 {
			continue
		}
		start.faults = faults
		w.from(start, nil)
		if t.Failed() {
			return
		}
	}
	deepest := 0
	for _, d := range w.depth {
		deepest = max(deepest, d)
	}
	t.Logf("%d starts, %d states, at most %d actions", n, len(w.depth), deepest)
	if n < 10_000 || len(w.depth) < 10*n/stride {
		t.Errorf("only %d states from %d starts", len(w.depth), n)
	}
}

// walkDepth bounds the actions from any state to the end, faults and undo included.
const walkDepth = 60

// walk is a depth-first search with the greatest number of actions from each state to an end.
type walk struct {
	t     *testing.T
	depth map[model]int
}

// from returns the number of actions from a state to the end of the longest path.
func (w *walk) from(m model, path []string) int {
	if n, ok := w.depth[m]; ok {
		return n
	}
	if len(path) > walkDepth {
		w.failf(m, path, "no end after %d actions", walkDepth)
		return 0
	}
	if m.end != running {
		w.rest(m, path)
		w.depth[m] = 0
		return 0
	}
	choice := next(m.desired(), m.observed(), m.time())
	m.check(choice, func(format string, args ...any) { w.failf(m, append(path, describe(choice)), format, args...) })
	deepest := 0
	for _, s := range m.after(choice) {
		if w.t.Failed() {
			return 0
		}
		if m.works() && !m.absent() && !s.works() {
			w.failf(s, append(path, describe(choice)), "the current key does not work any more")
		}
		deepest = max(deepest, 1+w.from(s, append(path, describe(choice))))
	}
	w.depth[m] = deepest
	return deepest
}

func (w *walk) failf(m model, path []string, format string, args ...any) {
	w.t.Errorf(format+"\n  %s\n  at %+v", append(args, strings.Join(path, "\n  "), m)...)
}

// rest checks the state after the end of an operation.
func (w *walk) rest(m model, path []string) {
	switch {
	case m.pending != none:
		w.failf(m, path, "a pending key outlives its operation")
	case m.end == ended && m.op == opRemove && m.user != hers && m.user != gone:
		w.failf(m, path, "removed, and the user is there")
	case m.end == ended && m.op == opRotate && m.previous != none:
		w.failf(m, path, "rotated, and the previous key is there")
	case m.end == ended && m.op == opProvision && !m.works():
		w.failf(m, path, "provisioned, and the key does not work")
	}
}

func describe(d decision) string {
	switch {
	case d.act != "":
		return strings.TrimSpace(string(d.act) + " " + d.key)
	case d.stop != nil:
		return "stop: " + d.stop.Error()
	case !d.until.IsZero():
		return "wait"
	}
	return "done"
}

// model is a small state of the registry, of IAM and of a task. It is comparable. Keys are
// numbered; none is no key.
type model struct {
	// The operation.
	op                                       opKind
	undo, raised, proven, widened, emergency bool
	deleted                                  keySet
	end                                      ending
	// The credential in the registry.
	current, pending, previous, adopted int8
	pendingDeletion, suspects, beside   keySet
	swapped, inactive, suspectAt, since int32 // minutes; zero for never
	revoked                             int32
	known, extra, seen                  bool // the id of the user, extra grants, the generation
	generation, before                  int8
	// IAM.
	user   owner
	tag    int8 // the generation on the user
	policy bool // that of the registry
	keys   [keyCount]modelKey
	// The task.
	task   memory
	faults int8 // that a path may still have
	now    int32
}

// memory is what a crash loses.
type memory struct {
	view                                         userState
	tag                                          int8
	bucket, listed, put, vanished, taken, hidden bool
	untagged, unmade, works, searched            bool
	resumed, maybeOurs, created                  bool
	rights                                       view
	keys                                         [keyCount]modelKey
	refused                                      keySet
	gone, looks, making                          int8
}

type modelKey struct {
	there, active, ours, used bool
	blind                     bool // IAM does not tell the use
	created                   int32
}

const (
	keyCount = 8
	none     = int8(-1)
	unborn   = int8(-2) // a pending key that is not made yet
	other    = int8(99) // the generation of another registry
	hour     = 60
	epoch    = 10_000 // the minute at which walks start
)

type keySet uint8

func (s keySet) has(k int8) bool       { return k >= 0 && s&(1<<k) != 0 }
func (s keySet) with(k int8) keySet    { return s | 1<<k }
func (s keySet) without(k int8) keySet { return s &^ (1 << k) }

func (s keySet) ids() (ids []string) {
	for k := range int8(keyCount) {
		if s.has(k) {
			ids = append(ids, keyName(k))
		}
	}
	return ids
}

func keyName(k int8) string {
	if k < 0 {
		return ""
	}
	return "K" + string(rune('0'+k))
}

func keyNumber(id string) int8 { return int8(id[1] - '0') }

type opKind int8

const (
	opNone opKind = iota
	opProvision
	opReuse
	opRotate
	opRemove
)

// owner is whose user there is in IAM.
type owner int8

const (
	gone owner = iota
	mine
	hers
)

type ending int8

const (
	running ending = iota
	ended
	failed
	stopped // without an operation
)

func (m model) absent() bool {
	return m.op == opRemove && !m.undo || m.op == opProvision && m.undo
}

// works reports whether the current key works.
func (m model) works() bool {
	return m.current >= 0 && m.keys[m.current].there && m.keys[m.current].active
}

func (m model) time() time.Time { return minute(m.now) }

func minute(n int32) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return testNow.Add(time.Duration(n-epoch) * time.Minute)
}

func generation(n int8) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprint(n)
}

var kinds = map[opKind]alias.OperationKind{
	opProvision: alias.OperationProvision, opReuse: alias.OperationProvision, opRotate: alias.OperationRotate,
	opRemove: alias.OperationRemove,
}

func (m model) desired() desired {
	p := &alias.Provisioned{
		AccessKeyID: keyName(m.current), User: alias.IAMUser{Name: "u"}, Generation: generation(m.generation),
		GenerationSeen: m.seen, KeySince: minute(m.since), KeyBeside: m.beside.ids(), RevokedAt: minute(m.revoked),
		PendingDeletion: m.pendingDeletion.ids(),
	}
	for n := range m.before {
		p.GenerationsBefore = append(p.GenerationsBefore, generation(m.generation-m.before+n))
	}
	if m.known {
		p.User.ID = "AIDA"
	}
	if m.extra {
		p.ExtraGrants = []alias.Grant{{Bucket: testBucket}}
	}
	if m.pending != none {
		p.Pending = &alias.PendingKey{SealedKey: alias.SealedKey{AccessKeyID: keyName(m.pending)}}
	}
	if m.previous != none {
		p.Previous = &alias.PreviousKey{
			SealedKey: alias.SealedKey{AccessKeyID: keyName(m.previous)}, SwappedAt: minute(m.swapped), InactiveAt: minute(m.inactive),
		}
	}
	if m.adopted != none {
		p.Adopted = &alias.Adopted{AccessKeyID: keyName(m.adopted)}
	}
	for _, id := range m.suspects.ids() {
		p.Suspects = append(p.Suspects, alias.SuspectKey{AccessKeyID: id, InactiveAt: minute(m.suspectAt)})
	}
	d := desired{
		Provisioned: p, kind: kinds[m.op], emergency: m.emergency, creates: m.op == opProvision, raised: m.raised,
		undo: m.undo, timing: awsTiming(), began: minute(epoch),
	}
	if m.proven {
		d.scope = alias.VerdictProven
	}
	return d
}

func (m model) observed() observed {
	t := m.task
	o := observed{
		user: userView{state: t.view, tag: generation(t.tag)}, bucket: t.bucket, listed: t.listed, rights: t.rights, put: t.put,
		vanished: t.vanished, taken: t.taken, hidden: t.hidden, untagged: t.untagged, unmade: t.unmade, works: t.works,
		searched: t.searched, gone: int(t.gone), deleted: m.deleted.ids(), refused: map[string]bool{},
	}
	for _, id := range t.refused.ids() {
		o.refused[id] = true
	}
	for k, key := range t.keys {
		if !key.there {
			continue
		}
		seen := accessKey{id: keyName(int8(k)), active: key.active, created: minute(key.created).Unix(), use: useNever}
		if key.blind {
			seen.use = useUnknown
		} else if key.used {
			seen.use = useSome
		}
		o.keys = append(o.keys, seen)
	}
	return o
}

// check reports what an action must not do.
func (m model) check(d decision, report func(string, ...any)) {
	looks := map[actionKind]bool{
		"": true, actLookUser: true, actLookKeys: true, actLookRights: true, actLookBucket: true, actSearch: true, actProve: true,
		actTry: true, actRefused: true,
	}
	switch {
	case looks[d.act]:
	case d.act == actCreateUser, d.act == actRaise: // the first is refused for a user that exists, the second stores only
	case m.user == hers:
		report("an action on a user of another client")
	case m.user == mine && !m.tagged():
		report("an action on a user of another registry")
	}
	switch d.act {
	case actSwap:
		if !m.proven {
			report("the swap to a key that is not verified")
		}
		return
	case actDeleteKey, actStrip:
	default:
		return
	}
	for k := range int8(keyCount) {
		switch key := m.keys[k]; {
		case d.act == actDeleteKey && k != keyNumber(d.key), d.act == actStrip && !m.task.keys[k].there, !key.there:
		case d.act == actStrip && !m.absent(), d.act == actDeleteKey && k == m.current:
			report("the deletion of the current key %s", keyName(k))
		case key.active && k == m.previous:
			report("the deletion of the key %s, which may be in use", keyName(k))
		case k == m.adopted:
			report("the deletion of the key %s, which a person made", keyName(k))
		case key.ours && m.explains(k):
		case key.ours:
			report("the deletion of %s, which no row of the registry explains", keyName(k))
		case !m.suspects.has(k) || d.act == actDeleteKey && m.now-m.suspectAt <= 24*hour && !m.emergency && m.suspectAt >= epoch || key.used && !m.task.keys[k].blind || key.active:
			report("the deletion of %s, which another client made", keyName(k))
		}
	}
}

// explains reports whether a row of the registry allows the deletion of a key.
func (m model) explains(k int8) bool {
	return k == m.previous || k == m.pending || m.absent() && k == m.current || m.pendingDeletion.has(k) || m.suspects.has(k)
}

// tagged reports whether the user has a generation of this registry.
func (m model) tagged() bool { return m.tag <= m.generation && m.tag >= m.generation-m.before }
