package provision

import (
	"time"

	"ixmage/alias"
)

// The rules for a user that shall not exist. What can be undone comes first: inactive keys,
// and the search for what others gave the user.

// userVanished waits until IAM does not show a user that was deleted.
func userVanished(d desired, o observed, _ time.Time) *decision {
	if !o.vanished || o.user.state == userAbsent {
		return nil
	}
	budget := d.timing.Visible + clockSkew
	return &decision{act: actLookUser, step: removeStep(d, stepConfirmGone), again: budget, stop: notSeen(budget)}
}

// userGone ends the work when IAM does not show the user, twice, with a pause: a change is
// seen late. Another client's user of the same name is not touched.
func userGone(d desired, o observed, _ time.Time) *decision {
	switch o.user.state {
	case userCopied:
		return &decision{stop: copiedError(d, o)}
	case userForeign:
		if d.User.ID == "" || d.unfinished() {
			return &decision{} // this server made none, or the one that was adopted is gone
		}
		return stopf(codeChanged, "the IAM user %s is not the one that this server made; it was not changed", d.User.Name)
	case userAbsent:
		if d.unfinished() || o.gone >= 2 {
			return &decision{}
		}
		return &decision{act: actLookUser, step: stepConfirmGone, after: d.timing.ConfirmGap}
	case userUnknown, userOurs, userRaising:
	}
	return nil
}

// unfinished reports whether the user was not made or adopted to the end: the operation runs
// still, or it failed and left something.
func (d desired) unfinished() bool { return d.creates || d.adopts || d.abandoned }

// removeStep is a step of a removal. The undo of a provisioning has no steps.
func removeStep(d desired, step string) string {
	if d.kind == alias.OperationRemove {
		return step
	}
	return ""
}

// keysListed stops at a key that is not ours, before anything is deleted. In a removal a key
// whose secret was lost becomes inactive, which IAM shows late, and is deleted with the user.
func keysListed(d desired, o observed, now time.Time) *decision {
	if !o.listed {
		return &decision{act: actLookKeys, step: removeStep(d, stepDeactivateKeys)}
	}
	for _, k := range o.keys {
		// A registry that was restored from a backup may undo an operation that the live
		// registry has finished since.
		if d.creates && k.use == useSome {
			return stopf(codeChanged, "the IAM user %s was not removed, because its key %s is in use", d.User.Name, k.id)
		}
	}
	lost := ""
	foreign := o.others(func(k accessKey) bool {
		if d.kind == alias.OperationRemove && !d.recorded(k) && d.madeByUs(k) {
			lost = k.id
			return true
		}
		return d.ours(k) || k.use != useSome && now.Sub(d.suspectSince(k.id)) < d.timing.Visible
	})
	switch {
	case len(foreign) > 0:
		return &decision{stop: unknownKeys(d, o, foreign)}
	case lost != "":
		return &decision{act: actSuspect, step: stepDeactivateKeys, key: lost}
	}
	return nil
}

// keysInactive makes the keys inactive, and waits until the current one is refused.
func keysInactive(d desired, o observed, _ time.Time) *decision {
	for _, k := range o.keys {
		if k.active {
			return &decision{act: actDeactivate, step: removeStep(d, stepDeactivateKeys), key: k.id}
		}
	}
	if key := d.AccessKeyID; key != "" && len(o.keys) > 0 && !o.refused[key] && d.kind == alias.OperationRemove {
		return &decision{act: actRefused, step: stepProbeRefused, key: key}
	}
	return nil
}

func userStripped(d desired, o observed, _ time.Time) *decision {
	search := decision{act: actSearch, step: removeStep(d, stepInspectUser)}
	if o.missing {
		search.again, search.stop = d.timing.Visible, notSeen(d.timing.Visible)
	}
	if !o.searched {
		return &search
	}
	return &decision{act: actStrip, step: removeStep(d, stepDeleteUser)}
}
