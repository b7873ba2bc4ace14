package provision

import (
	"slices"
	"strings"
	"time"

	"ixmage/alias"
)

// retiring reports whether the previous key is being taken out of use: after the swap, or
// before a new key is made if an earlier rotation left it, because a user has at most two.
// step is the given one in the first case. waits means that requests may still need the key:
// neither in an emergency nor for a key that is left.
func (d desired) retiring(step string) (named string, waits, ok bool) {
	switch {
	case d.kind != alias.OperationRotate || d.undo || d.Previous == nil:
		return "", false, false
	case d.Pending == nil:
		return step, !d.emergency, true
	}
	return stepCheckKeys, false, d.Pending.AccessKeyID == ""
}

// unfollowed reports whether a node may sign with the previous key as its current one. An emergency
// does not ask.
func (d desired) unfollowed() (step string, may bool) {
	step, _, ok := d.retiring(stepSoak)
	return step, ok && d.fleet && !d.emergency && d.Previous.InactiveAt.IsZero() && d.Previous.FollowedAt.IsZero()
}

// nodesAsked asks the nodes of the fleet which of them sign with the current key.
func nodesAsked(d desired, o observed, now time.Time) *decision {
	if step, may := d.unfollowed(); may && !now.Before(o.nodesAt.Add(nodesEvery)) {
		return &decision{act: actLookNodes, step: step}
	}
	return nil
}

// nodesFollowed waits until all of them do. The wait has no end of its own.
func nodesFollowed(d desired, o observed, _ time.Time) *decision {
	if step, may := d.unfollowed(); may {
		return &decision{until: o.nodesAt.Add(nodesEvery), step: step}
	}
	return nil
}

// nodesEvery is the interval in which the nodes are asked.
const nodesEvery = 5 * time.Second

// awaitNodes says for which nodes a rotation waits, because they have not applied the key that signs
// and may sign with another one, and what ends the wait.
func awaitNodes(names []string, signs, other string) string {
	list, command := strings.Join(names, ", "), "ixmage node rm "+names[0]
	who := "the node " + list + " has not applied " + signs + " and may sign with " + other + ": " +
		"the wait ends when it is back"
	if len(names) > 1 {
		who = "the nodes " + list + " have not applied " + signs + " and may sign with " + other + ": " +
			"the wait ends when they are back"
		command = "ixmage node rm NAME"
	}
	return who + ", after " + command + ", or after --node-grace without a sign of life"
}

// previousSoaked keeps the previous key active for a time, and longer while requests use it.
func previousSoaked(d desired, _ observed, now time.Time) *decision {
	step, waits, _ := d.retiring(stepSoak)
	if !waits || !d.Previous.InactiveAt.IsZero() {
		return nil
	}
	end := d.Previous.SwappedAt.Add(d.timing.Soak)
	last := later(d.Previous.SwappedAt, d.Previous.FollowedAt).Add(4 * d.timing.Soak)
	if d.fleet { // a node that has just followed may have requests under way
		end = later(end, d.Previous.FollowedAt.Add(min(d.timing.Quiet, d.timing.Soak)))
	}
	if quiet := d.fellBack.Add(d.timing.Quiet); quiet.After(end) {
		end = quiet
	}
	switch {
	case !now.Before(end):
		return nil
	case !now.Before(last):
		return &decision{act: actRevert, step: step}
	}
	return &decision{until: earlier(end, now.Add(d.timing.Quiet)), step: step}
}

func previousInactive(d desired, o observed, _ time.Time) *decision {
	step, _, ok := d.retiring(stepDeactivateOld)
	switch {
	case !ok:
		return nil
	case !o.listed:
		return &decision{act: actLookKeys, step: step}
	case d.Previous.InactiveAt.IsZero(), isActive(o.keys, d.Previous.AccessKeyID):
		return &decision{act: actDeactivate, step: step, key: d.Previous.AccessKeyID}
	}
	return nil
}

// sessionsDenied ends the sessions that were made with a leaked key. That is inactive by then,
// so that no further one can be made.
func sessionsDenied(d desired, _ observed, _ time.Time) *decision {
	if step, _, ok := d.retiring(stepRevoke); ok && d.emergency && d.RevokedAt.IsZero() {
		return &decision{act: actRevoke, step: step}
	}
	return nil
}

// inactiveSoaked waits while the previous key is inactive, which can be undone, and then tries
// the current key.
func inactiveSoaked(d desired, o observed, now time.Time) *decision {
	step, waits, _ := d.retiring(stepSoakInactive)
	if !waits {
		return nil
	}
	if end := d.Previous.InactiveAt.Add(d.timing.SoakInactive); now.Before(end) {
		return &decision{until: end, step: step}
	}
	if !o.works {
		return &decision{act: actTry, step: step}
	}
	return nil
}

// previousDeleted deletes the previous key. One that an earlier rotation left need not be refused
// before: it holds the place of a new key, which an emergency cannot wait for.
func previousDeleted(d desired, o observed, _ time.Time) *decision {
	step, _, ok := d.retiring(stepProbeRefused)
	switch {
	case !ok:
		return nil
	case d.Pending == nil && !o.refused[d.Previous.AccessKeyID]:
		return &decision{act: actRefused, step: step, key: d.Previous.AccessKeyID}
	}
	step, _, _ = d.retiring(stepDeleteOld)
	return &decision{act: actDeleteKey, step: step, key: d.Previous.AccessKeyID}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func isActive(keys []accessKey, id string) bool {
	return slices.ContainsFunc(keys, func(k accessKey) bool { return k.id == id && k.active })
}
