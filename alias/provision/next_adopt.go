package provision

import (
	"fmt"
	"slices"
	"time"

	"ixmage/alias"
)

// The rules for a user that an operator made and ixmage adopts, or adopted.

// userTaken reads a user that is to be adopted, before anything else is asked of it. A user
// that was not read was not changed either.
func userTaken(d desired, _ observed, _ time.Time) *decision {
	switch {
	case d.Adopted == nil || d.User.ID != "":
		return nil
	case d.absent():
		return &decision{}
	}
	return &decision{act: actAdopt, step: stepAdoptUser}
}

// userMarked gives a user that is adopted our tags and the boundary, and waits until IAM shows
// them.
func userMarked(d desired, o observed, _ time.Time) *decision {
	again := decision{act: actLookUser, step: stepAdoptUser, again: d.timing.Visible}
	switch {
	case !d.adopts:
		return nil
	case o.user.lacks != "" && !o.tagged:
		return &decision{act: actTag, step: stepAdoptUser}
	case o.user.lacks != "":
		again.stop = failf(codeIAM, "the IAM server did not store the tag %s of %s: ixmage needs a server that keeps tags",
			o.user.lacks, d.User.Name)
		return &again
	case o.user.boundary == d.User.Boundary:
		return nil
	case d.Adopted.Boundary && o.user.boundary == "" && !o.bounded:
		return &decision{act: actBound, step: stepAdoptUser}
	}
	again.stop = failf(codeBoundary, "the permissions boundary of %s is %s, not %s: "+
		"the IAM server ignored it, or another client changed it",
		d.User.Name, orNone(o.user.boundary), orNone(d.User.Boundary))
	return &again
}

// userOpened raises the generation of an adopted user when its key is verified: a copy of the
// registry in which this operation still runs then undoes nothing.
func userOpened(d desired, o observed, _ time.Time) *decision {
	if !d.adopts || d.undo || o.untagged || generationNumber(d.Generation) != 1+d.taken {
		return nil
	}
	return &decision{act: actRaise, step: stepOpen}
}

// keyRetired makes the key that an adopted user had inactive, if that was asked for.
func keyRetired(d desired, o observed, now time.Time) *decision {
	for _, k := range o.keys {
		if d.kind == "" && !d.absent() && d.keepsKey(k.id) && d.retires(k, now) {
			return &decision{act: actDeactivate, key: k.id}
		}
	}
	return nil
}

// retires reports whether a day has passed since our key took the place of the one that the
// user had, and IAM, which shows a use hours late, shows none since.
func (d desired) retires(k accessKey, now time.Time) bool {
	since := d.Adopted.Since
	return d.Adopted.Retire && k.active && !d.keptInUse && !since.IsZero() && now.Sub(since) > neverUsedFor &&
		(k.use == useNever || k.use == useSome && !k.last.After(since))
}

// keptSlot is the error of an adopted user whose own key takes the place of a new one.
func (d desired) keptSlot(k accessKey) error {
	text := fmt.Sprintf("%s has the access key %s, which it had before it was adopted (%s), and a user has at most "+
		"two keys: delete it when nothing uses it, then repeat this; ixmage never deletes it",
		d.User.Name, k.id, k.lastUse())
	if d.emergency && d.AccessKeyID != "" {
		text += ". Until then the leaked key works: aws iam update-access-key --user-name " + d.User.Name +
			" --access-key-id " + d.AccessKeyID + " --status Inactive ends that, and the aliases of the credential with it"
	}
	return failf(codeUnknownKeys, "%s", text)
}

// userReleased takes off an adopted user what is ours. All other keys and rights stay.
func userReleased(d desired, o observed, now time.Time) *decision {
	switch {
	case d.Adopted == nil:
		return nil
	case !o.listed:
		return &decision{act: actLookKeys, step: removeStep(d, stepDeactivateKeys)}
	}
	for _, k := range o.keys {
		if step := d.releasesKey(k, o, now); step != nil {
			return step
		}
	}
	if key := d.AccessKeyID; key != "" && !o.refused[key] && d.kind == alias.OperationRemove {
		return &decision{act: actRefused, step: stepProbeRefused, key: key}
	}
	return &decision{act: actRelease, step: removeStep(d, stepReleaseUser)}
}

// releasesKey makes a key of ours inactive, and deletes one whose secret was lost.
func (d desired) releasesKey(k accessKey, o observed, now time.Time) *decision {
	inactive := decision{act: actDeactivate, step: removeStep(d, stepDeactivateKeys), key: k.id}
	removed := d.kind == alias.OperationRemove && !k.active && k.use == useNever
	switch {
	case d.keepsKey(k.id), slices.Contains(o.deleted, k.id):
	case d.isSuspect(k.id):
		if removed || d.abandoned && d.isForgotten(k, now) {
			return &decision{act: actDeleteKey, step: removeStep(d, stepReleaseUser), key: k.id}
		}
	case d.ours(k):
		if k.active {
			return &inactive
		}
	case d.madeByUs(k):
		inactive.act = actSuspect
		return &inactive
	}
	return nil
}

// userGivenBack ends the work on an adopted user that has nothing of ours any more.
func userGivenBack(d desired, o observed, _ time.Time) *decision {
	if o.released || d.released && o.user.bare {
		return &decision{}
	}
	return nil
}
