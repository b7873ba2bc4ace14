package provision

import (
	"slices"
	"strings"
	"time"

	"ixmage/alias"
)

// keysKnown deletes our keys that are retired, and decides about keys that the registry does
// not know. Those that are probably ours become inactive; they are deleted when they were not
// used for a day. Any other belongs to another client: an operation that needs its place
// stops.
func keysKnown(d desired, o observed, now time.Time) *decision {
	step, needed := keysStep(d)
	if !needed {
		return nil
	}
	if !o.listed {
		return &decision{act: actLookKeys, step: step}
	}
	foreign := o.others(d.recorded)
	for _, k := range o.keys {
		switch {
		case d.kind == "" && d.isForgotten(k, now):
			return &decision{act: actDeleteKey, key: k.id}
		case slices.Contains(foreign, k.id) && d.madeByUs(k):
			return &decision{act: actSuspect, step: step, key: k.id}
		}
	}
	switch {
	case len(d.PendingDeletion) > 0:
		return retiredDeleted(d, o, now, step)
	case len(foreign) > 0 && d.kind != "" && !d.undo:
		return &decision{stop: unknownKeys(d, o, foreign)}
	}
	return nil
}

// retiredDeleted deletes a retired key. One that signed, before a rotation was undone, stays until no
// node of the fleet may sign with it any more: an operation waits for that, and a reconcile leaves
// the key to a later one. An emergency does not ask.
func retiredDeleted(d desired, o observed, now time.Time, step string) *decision {
	key := d.PendingDeletion[0]
	switch {
	case !d.fleet, d.emergency, d.Reverted == nil:
		return &decision{act: actDeleteKey, step: step, key: key}
	case o.nodesAt.IsZero(), d.kind != "" && !now.Before(o.nodesAt.Add(nodesEvery)):
		return &decision{act: actLookNodes, step: step, key: key}
	case d.kind != "":
		return &decision{until: o.nodesAt.Add(nodesEvery), step: step}
	}
	return nil
}

// keysStep is the step in which the keys of the user are looked at, and whether they have
// to be.
func keysStep(d desired) (step string, needed bool) {
	switch {
	case d.kind == "":
		return "", true
	case d.undo:
		return "", len(d.PendingDeletion) > 0
	case d.Pending != nil && d.Pending.AccessKeyID == "" && d.kind == alias.OperationRotate:
		return stepCheckKeys, true
	case d.Pending != nil && d.Pending.AccessKeyID == "":
		return stepCreateKey, true
	case d.Pending == nil && d.Previous == nil && d.kind == alias.OperationRotate:
		return stepConfirm, true
	}
	return "", false
}

// deletedAgain deletes a key again that IAM lists after its deletion, while IAM says that the user
// has too many keys. A key that was just made may have been unknown to the server that was
// asked to delete it.
func deletedAgain(d desired, o observed, _ time.Time) *decision {
	step, needed := keysStep(d)
	if !needed || !o.unmade {
		return nil
	}
	for _, k := range o.keys {
		if slices.Contains(o.deleted, k.id) {
			budget := d.timing.Visible + clockSkew
			return &decision{act: actDeleteKey, step: step, key: k.id, again: budget, stop: notSeen(budget)}
		}
	}
	return nil
}

// slotFreed deletes a key that is probably ours and holds the place of the one to be made, if it
// was named before this operation was asked for, or if that is an emergency. The operation that
// finds the key stops, so that nobody's key is deleted unseen.
func slotFreed(d desired, o observed, _ time.Time) *decision {
	if d.undo || d.Pending == nil || d.Pending.AccessKeyID != "" || d.full(o) == nil {
		return nil
	}
	for _, k := range o.keys {
		named := d.emergency || d.suspectSince(k.id).Before(d.began)
		if d.isSuspect(k.id) && named && !k.active && k.use == useNever {
			return &decision{act: actDeleteKey, step: stepCheckKeys, key: k.id}
		}
	}
	return nil
}

// keyMade makes a key and verifies it, or the current one on a location that was added.
func keyMade(d desired, o observed, _ time.Time) *decision {
	if d.undo || d.kind == "" {
		return nil
	}
	if p := d.Pending; p == nil || p.AccessKeyID != "" {
		if d.scope == "" && (p != nil || d.kind == alias.OperationProvision) {
			return &decision{act: actProve, step: stepVerify}
		}
		return nil
	}
	if full := d.full(o); full != nil {
		return &decision{stop: full}
	}
	made := decision{act: actCreateKey, step: stepCreateKey}
	if o.unmade {
		made.again = d.timing.Visible + clockSkew
		made.stop = o.limited
	}
	if o.unmade && made.stop == nil {
		made.stop = failf(codeIAMUnreachable, "iam:CreateAccessKey on user %s made no key within %s", d.User.Name, made.again)
	}
	return &made
}

// keySwapped makes the verified key the current one. The key of a new user becomes the current
// one when the operation ends.
func keySwapped(d desired, _ observed, _ time.Time) *decision {
	if d.kind == alias.OperationRotate && !d.undo && d.Pending != nil {
		return &decision{act: actSwap, step: stepSwap}
	}
	return nil
}

// keysConfirmed waits until IAM lists the current key as the only one, and takes back the
// denial of sessions when none of them can live any more.
func keysConfirmed(d desired, o observed, now time.Time) *decision {
	if d.kind != alias.OperationRotate || d.undo {
		return nil
	}
	if !d.emergency && !d.RevokedAt.IsZero() && now.Sub(d.RevokedAt) > longestSession {
		return &decision{act: actUnrevoke, step: stepConfirm}
	}
	rest := slices.DeleteFunc(slices.Clone(o.keys), func(k accessKey) bool {
		return d.isSuspect(k.id) || d.keepsKey(k.id)
	})
	if !o.listed || len(rest) != 1 || rest[0].id != d.AccessKeyID {
		budget := d.timing.Visible + clockSkew
		return &decision{act: actLookKeys, step: stepConfirm, again: budget, stop: notSeen(budget)}
	}
	return nil
}

// longestSession is the longest life of a session that a user's key can make.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const longestSession = 36 * time.Hour

// knows reports whether the registry holds a key.
func (d desired) knows(id string) bool {
	return id == d.AccessKeyID || d.Pending != nil && id == d.Pending.AccessKeyID ||
		d.Previous != nil && id == d.Previous.AccessKeyID || d.Adopted != nil && id == d.Adopted.AccessKeyID
}

// ours reports whether a key may be deleted with its user. One that is only probably ours may
// not be if somebody made it active again or used it.
func (d desired) ours(k accessKey) bool {
	return d.knows(k.id) || slices.Contains(d.PendingDeletion, k.id) || d.isSuspect(k.id) && !k.active && k.use != useSome
}

// recorded reports whether the registry has a row for a key.
func (d desired) recorded(k accessKey) bool { return d.isSuspect(k.id) || d.ours(k) }

// others are the ids of the keys for which ours is false. One that was just deleted may be
// listed still.
func (o observed) others(ours func(accessKey) bool) []string {
	var ids []string
	for _, k := range o.keys {
		if !ours(k) && !slices.Contains(o.deleted, k.id) {
			ids = append(ids, k.id)
		}
	}
	return ids
}

// keepsKey reports whether a key outlives the credential: that of an adopted user.
func (d desired) keepsKey(id string) bool {
	return id != "" && d.Adopted != nil && d.Adopted.AccessKeyID == id
}

func (d desired) isSuspect(id string) bool { return !d.suspectSince(id).IsZero() }

func (d desired) suspectSince(id string) time.Time {
	for _, s := range d.Suspects {
		if s.AccessKeyID == id {
			return s.InactiveAt
		}
	}
	return time.Time{}
}

// isForgotten reports whether a suspect key can be deleted: nobody missed it for a day.
func (d desired) isForgotten(k accessKey, now time.Time) bool {
	return d.isSuspect(k.id) && !k.active && k.use == useNever && now.Sub(d.suspectSince(k.id)) > d.timing.KeyAge
}

// madeByUs reports whether a key is probably one that we created and whose secret was
// lost: it appeared beside the keys that the user had before our last CreateAccessKey, at
// the time of that call, and was never used.
func (d desired) madeByUs(k accessKey) bool {
	if d.KeySince.IsZero() || slices.Contains(d.KeyBeside, k.id) || k.use == useSome || k.use == useDenied {
		return false
	}
	return k.created >= d.KeySince.Add(-clockSkew).Unix() && k.created <= d.KeySince.Add(keyWindow+clockSkew).Unix()
}

// keyWindow is the longest time in which a CreateAccessKey that was sent has its effect.
const keyWindow = time.Minute

// full is the reason why no key can be made; nil if one can.
func (d desired) full(o observed) error {
	there := slices.DeleteFunc(slices.Clone(o.keys), func(k accessKey) bool { return slices.Contains(o.deleted, k.id) })
	if len(there) < maxKeys {
		return nil
	}
	for _, k := range there {
		if d.keepsKey(k.id) {
			return d.keptSlot(k)
		}
	}
	for _, k := range o.keys {
		if d.isSuspect(k.id) {
			return failf(codeUnknownKeys, "%s has the key %s, which this server probably made and lost the secret of: it is "+
				"inactive, and stands in /api/v1/orphans; a user has at most two keys. If nobody misses it, "+
				"repeat the request, which then deletes it; it is also deleted when nobody has used it for a day",
				d.User.Name, k.id)
		}
	}
	return keySlotsTaken(d.User.Name, o.keys)
}

// unknownKeys names the keys of another client and the known ones with their last use,
// so that an operator can decide which to delete.
func unknownKeys(d desired, o observed, foreign []string) error {
	var others, own []string
	for _, k := range o.keys {
		text := k.id + " (" + k.lastUse() + ")"
		if slices.Contains(foreign, k.id) {
			others = append(others, text)
		} else {
			own = append(own, text)
		}
	}
	beside := ""
	if len(own) > 0 {
		beside = ", beside its own " + strings.Join(own, ", ")
	}
	return failf(codeUnknownKeys, "%s has access keys that this server did not make: %s%s; "+
		"ixmage changed nothing; find out who uses them, then delete them", d.User.Name, strings.Join(others, ", "), beside)
}
