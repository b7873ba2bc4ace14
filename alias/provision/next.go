package provision

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
)

// desired is what shall become of a user: what the registry says of its credential, and
// the operation that runs on it.
type desired struct {
	*alias.Provisioned
	name      alias.Name          // of the credential
	kind      alias.OperationKind // empty if no operation runs
	emergency bool
	creates   bool          // the operation makes the user
	adopts    bool          // the operation takes over a user
	raised    bool          // the operation gave the user a new generation
	undo      bool          // the operation failed, and what it changed is being set back
	scope     alias.Verdict // of the verification in this operation; empty before it
	timing    Timing
	// fellBack is when a request last used the previous key.
	fellBack time.Time
}

// absent reports whether the user shall not exist, or, if it was adopted, shall have
// nothing of ours.
func (d desired) absent() bool {
	return d.kind == alias.OperationRemove && !d.undo || d.creates && d.undo
}

// observed is what is known of a user. A view that is not known has to be looked at
// before a decision rests on it; an action that changes something makes its view unknown.
type observed struct {
	user   userView
	bucket bool // the bucket is where the request says
	keys   []accessKey
	listed bool // keys is known
	rights view
	drift  string // how the policy differs, if rights is viewDiffers
	put    bool   // the policy was put, and IAM may not show it yet
	// vanished means that the user was deleted or that a call did not find it, and IAM may
	// show it still.
	vanished bool
	// taken means that IAM refused to create the user because it exists, which IAM may not
	// show yet.
	taken bool
	// hidden means that this operation did not make the user that exists, and that IAM does
	// not show it to this server.
	hidden bool
	// untagged means that the server cannot tag users, so the generation stays.
	untagged bool
	// unmade means that a CreateAccessKey got no answer, or that IAM says that the user has
	// too many keys.
	unmade bool
	// deleted are keys that this operation deleted, and that IAM may list still.
	deleted  []string
	refused  map[string]bool // keys that S3 and STS refused often enough in a row
	works    bool            // S3 accepted the current key after the previous one became inactive
	searched bool            // nothing of another client is on the user
	missing  bool            // the search did not find the user, though IAM shows it
	// quarantine are the policies by which AWS says that a key of the user is public. They go
	// with the user.
	quarantine []string
	gone       int // how often in a row the user was not found
}

// view is what IAM shows of a thing in comparison with the registry.
type view int

const (
	viewUnknown view = iota
	viewSame
	viewDiffers
)

// userState is whose user IAM shows.
type userState int

const (
	userUnknown userState = iota
	userAbsent
	userOurs
	userRaising // ours, with the generation before
	userCopied  // ours, but another registry wrote its tag, or somebody took the tags off
	userForeign
)

type userView struct {
	state    userState
	boundary string
	lacks    string // a tag that the server did not keep
	tag      string // its generation
}

// actionKind is what the controller can do. There is one function for each, in actions.
type actionKind string

const (
	actLookUser   actionKind = "look at the user"
	actLookKeys   actionKind = "list the keys"
	actLookRights actionKind = "compare the policy"
	actLookBucket actionKind = "look at the bucket"
	actSearch     actionKind = "search for what others gave the user"
	actCreateUser actionKind = "create the user"
	actRaise      actionKind = "raise the generation"
	actTag        actionKind = "tag the user"
	actPut        actionKind = "put the policy"
	actLimit      actionKind = "revoke extra grants"
	actRevoke     actionKind = "deny sessions"
	actUnrevoke   actionKind = "allow sessions"
	actCreateKey  actionKind = "create a key"
	actProve      actionKind = "verify a key"
	actSwap       actionKind = "make the pending key the current one"
	actRevert     actionKind = "make the previous key the current one"
	actTry        actionKind = "try the current key"
	actSuspect    actionKind = "make a key inactive that is probably ours"
	actDeactivate actionKind = "make a key inactive"
	actRefused    actionKind = "wait until a key is refused"
	actDeleteKey  actionKind = "delete a key"
	actStrip      actionKind = "delete the user"
)

// decision is what next chooses: an action, a wait, a stop or, with none of them, the
// end.
type decision struct {
	act  actionKind
	step string // of the operation, to which the action belongs; empty for none
	key  string // of the action
	// again marks an action that is repeated with pauses until its result is another one,
	// within a budget, and then stops with stop.
	again time.Duration
	after time.Duration // a pause before the action
	until time.Time     // of a wait
	stop  error
}

func (d decision) done() bool { return d.act == "" && d.until.IsZero() && d.stop == nil }

// next decides what is to be done for a user. It is pure: it depends on its arguments
// only, so that every state can be tested.
func next(d desired, o observed, now time.Time) decision {
	if d.undo && !d.absent() && len(d.ExtraGrants)+len(d.PendingDeletion) == 0 {
		return decision{} // nothing was changed, or both keys of a swap stay
	}
	if d.kind == alias.OperationProvision && !d.undo && !o.bucket && (d.Pending == nil || d.Pending.AccessKeyID == "") {
		return decision{act: actLookBucket, step: lookStep(d)}
	}
	if o.user.state == userUnknown {
		return decision{act: actLookUser, step: lookStep(d)}
	}
	if d.absent() {
		return nextAbsent(d, o)
	}
	if step, ok := nextUser(d, o); ok {
		return step
	}
	for _, rule := range []func(desired, observed, time.Time) (decision, bool){
		nextRights, nextKeys, nextPending, nextPrevious, nextConfirmed,
	} {
		if step, ok := rule(d, o, now); ok {
			return step
		}
	}
	return decision{}
}

// lookStep is the step of the first look at the user.
func lookStep(d desired) string {
	switch {
	case d.kind == alias.OperationRotate:
		return stepCheckKeys
	case d.kind == alias.OperationRemove:
		return stepDeactivateKeys
	case d.creates && d.User.ID != "":
		return stepWaitUser
	case d.creates:
		return stepCreateUser
	case d.kind == alias.OperationProvision:
		return stepPutPolicy
	}
	return ""
}

// nextUser makes sure that the user exists and is ours.
func nextUser(d desired, o observed) (decision, bool) {
	name := d.User.Name
	switch o.user.state {
	case userForeign:
		if d.creates && d.User.ID == "" {
			return decision{stop: nameTaken(name)}, true
		}
		return stopf(codeChanged, "the IAM user %s is not the one that this server made; it was not changed", name)
	case userCopied:
		return decision{stop: copiedError(d, o)}, true
	case userAbsent:
		switch {
		case d.creates && d.User.ID == "" && o.hidden:
			return decision{stop: hiddenUser(name)}, true
		case d.creates && d.User.ID == "" && o.taken:
			return decision{act: actLookUser, step: stepCreateUser, again: d.timing.Visible, stop: hiddenUser(name)}, true
		case d.creates && d.User.ID == "":
			return decision{act: actCreateUser, step: stepCreateUser}, true
		case d.creates && d.AccessKeyID == "":
			return decision{act: actLookUser, step: stepWaitUser, again: d.timing.Visible, stop: notSeen(d.timing.Visible)}, true
		}
		return stopf(codeUserMissing, "the IAM user %s does not exist any more: provision the alias again", name)
	case userUnknown, userOurs, userRaising:
	}
	if o.vanished {
		return stopf(codeUserMissing, "the IAM user %s does not exist any more: provision the alias again", name)
	}
	if d.creates && o.user.lacks != "" {
		return stopf(codeIAM, "the IAM server did not store the tag %s of %s: ixmage needs a server that keeps tags",
			o.user.lacks, name)
	}
	if d.creates && o.user.boundary != d.User.Boundary {
		return stopf(codeBoundary, "the permissions boundary of %s is %s, not %s: the IAM server ignored it, or another client "+
			"changed it", name, orNone(o.user.boundary), d.User.Boundary)
	}
	if o.user.state == userRaising && !o.untagged {
		return decision{act: actTag, step: lookStep(d)}, true
	}
	if d.kind != "" && !d.raised && !o.untagged {
		return decision{act: actRaise, step: lookStep(d)}, true
	}
	return decision{}, false
}

// copiedError says that another registry has the user.
func copiedError(d desired, o observed) error {
	return failf(codeCopied, "the IAM user %s has the generation tag %s, and this registry wrote %s: another copy of the "+
		"registry changed the user, or somebody changed the tag. Nothing was changed. If this registry is the one to go on, "+
		"send POST /api/v1/credentials/%s/reclaim", d.User.Name, orNone(o.user.tag), orNone(d.Generation), d.name)
}

// nextRights gives the user the policy of its grants. Outside of an operation that
// changes the grants the policy is compared and reported, and only extra grants are
// revoked.
func nextRights(d desired, o observed, _ time.Time) (decision, bool) {
	step := stepPutPolicy
	if o.put {
		step = stepCheckPolicy
	}
	switch {
	case len(d.ExtraGrants) > 0 && (d.kind == "" || d.undo):
		return decision{act: actLimit}, true
	case d.kind == "" && o.rights == viewUnknown:
		return decision{act: actLookRights}, true
	case d.kind != alias.OperationProvision || d.undo:
	case o.rights == viewUnknown:
		return decision{act: actLookRights, step: step}, true
	case o.rights == viewDiffers && o.put:
		return decision{act: actLookRights, step: step, again: d.timing.Visible, stop: notSeen(d.timing.Visible)}, true
	case o.rights == viewDiffers:
		return decision{act: actPut, step: step}, true
	}
	return decision{}, false
}

// nextKeys deletes our keys that are retired, and decides about keys that the registry
// does not know. Those that are probably ours become inactive; they are deleted when they
// were not used for a day. Any other belongs to another client: an operation that needs its
// place stops.
func nextKeys(d desired, o observed, now time.Time) (decision, bool) {
	step, needed := keysStep(d)
	if !needed {
		return decision{}, false
	}
	if !o.listed {
		return decision{act: actLookKeys, step: step}, true
	}
	var foreign []string
	for _, k := range o.keys {
		switch {
		case d.knows(k.id), slices.Contains(d.PendingDeletion, k.id), slices.Contains(o.deleted, k.id):
		case d.isSuspect(k.id):
			if d.kind == "" && !k.active && k.use == useNever && now.Sub(d.suspectSince(k.id)) > neverUsedFor {
				return decision{act: actDeleteKey, key: k.id}, true
			}
		case d.madeByUs(k):
			return decision{act: actSuspect, step: step, key: k.id}, true
		default:
			foreign = append(foreign, k.id)
		}
	}
	switch {
	case len(d.PendingDeletion) > 0:
		return decision{act: actDeleteKey, step: step, key: d.PendingDeletion[0]}, true
	case d.kind == "" || d.undo:
	case len(foreign) > 0:
		return decision{stop: unknownKeys(d, o, foreign)}, true
	case d.Pending != nil && d.Pending.AccessKeyID == "" && d.Previous == nil:
		if full := d.full(o); full != nil {
			return decision{stop: full}, true
		}
	}
	return decision{}, false
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

// knows reports whether the registry holds a key.
func (d desired) knows(id string) bool {
	return id == d.AccessKeyID || d.Pending != nil && id == d.Pending.AccessKeyID ||
		d.Previous != nil && id == d.Previous.AccessKeyID || d.Adopted != nil && id == d.Adopted.AccessKeyID
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
	for _, k := range o.keys {
		if d.isSuspect(k.id) {
			return failf(codeUnknownKeys, "%s has the key %s, which this server probably made and lost the secret of: it is "+
				"inactive, stands in /api/v1/orphans and is deleted by itself if nobody uses it; "+
				"a user has at most two keys: delete it now, or repeat this later", d.User.Name, k.id)
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

// nextPending makes a key, verifies it and makes it the current one. The key of a new
// user becomes the current one when the operation ends. A key that an earlier rotation
// left is retired first, because a user has at most two.
func nextPending(d desired, o observed, now time.Time) (decision, bool) {
	p := d.Pending
	switch {
	case d.undo || d.kind == "" || p == nil && d.kind == alias.OperationRotate:
		return decision{}, false
	case p != nil && p.AccessKeyID == "" && d.Previous != nil:
		return retire(d, o, now, stepCheckKeys)
	case p != nil && p.AccessKeyID == "" && o.unmade:
		budget := d.timing.Visible + clockSkew
		return decision{act: actCreateKey, step: stepCreateKey, again: budget, stop: failf(codeIAMUnreachable,
			"iam:CreateAccessKey on user %s made no key within %s", d.User.Name, budget)}, true
	case p != nil && p.AccessKeyID == "":
		return decision{act: actCreateKey, step: stepCreateKey}, true
	case d.scope == "":
		return decision{act: actProve, step: stepVerify}, true
	case d.kind == alias.OperationRotate:
		return decision{act: actSwap, step: stepSwap}, true
	}
	return decision{}, false
}

// nextPrevious retires the key that a rotation replaced.
func nextPrevious(d desired, o observed, now time.Time) (decision, bool) {
	if d.Previous == nil || d.kind != alias.OperationRotate || d.undo || d.Pending != nil {
		return decision{}, false
	}
	return retire(d, o, now, "")
}

// retire takes the previous key out of use, step by step. In an emergency nothing is
// waited for. as is the step of all of it, if it is not the retiring of this rotation.
func retire(d desired, o observed, now time.Time, as string) (decision, bool) {
	key, named := d.Previous, func(step string) string {
		if as != "" {
			return as
		}
		return step
	}
	left := as != "" && !d.emergency // of an earlier rotation, which waited and probed
	if !d.emergency && !left && key.InactiveAt.IsZero() {
		if step, ok := soak(d, now); ok {
			return step, true
		}
	}
	if !o.listed {
		return decision{act: actLookKeys, step: named(stepDeactivateOld)}, true
	}
	if key.InactiveAt.IsZero() || isActive(o.keys, key.AccessKeyID) {
		return decision{act: actDeactivate, step: named(stepDeactivateOld), key: key.AccessKeyID}, true
	}
	switch end := key.InactiveAt.Add(d.timing.SoakInactive); {
	case d.emergency && d.RevokedAt.IsZero():
		return decision{act: actRevoke, step: named(stepRevoke)}, true
	case d.emergency || left:
	case now.Before(end):
		return decision{until: end, step: stepSoakInactive}, true
	case !o.works:
		return decision{act: actTry, step: stepSoakInactive}, true
	}
	if !left && !o.refused[key.AccessKeyID] {
		return decision{act: actRefused, step: named(stepProbeRefused), key: key.AccessKeyID}, true
	}
	return decision{act: actDeleteKey, step: named(stepDeleteOld), key: key.AccessKeyID}, true
}

// soak keeps the previous key active for a time, and longer while requests use it.
func soak(d desired, now time.Time) (decision, bool) {
	end := d.Previous.SwappedAt.Add(d.timing.Soak)
	last := d.Previous.SwappedAt.Add(4 * d.timing.Soak)
	if quiet := d.fellBack.Add(d.timing.Quiet); quiet.After(end) {
		end = quiet
	}
	switch {
	case !now.Before(end):
		return decision{}, false
	case !now.Before(last):
		return decision{act: actRevert, step: stepSoak}, true
	}
	return decision{until: earlier(end, now.Add(d.timing.Quiet)), step: stepSoak}, true
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func isActive(keys []accessKey, id string) bool {
	return slices.ContainsFunc(keys, func(k accessKey) bool { return k.id == id && k.active })
}

// nextConfirmed waits until IAM lists the current key as the only one, takes back the
// denial of sessions when none of them can live any more, and revokes nothing else.
func nextConfirmed(d desired, o observed, now time.Time) (decision, bool) {
	if d.kind != alias.OperationRotate || d.undo {
		return decision{}, false
	}
	if !d.emergency && !d.RevokedAt.IsZero() && now.Sub(d.RevokedAt) > longestSession {
		return decision{act: actUnrevoke, step: stepConfirm}, true
	}
	rest := slices.DeleteFunc(slices.Clone(o.keys), func(k accessKey) bool {
		return d.isSuspect(k.id) || d.Adopted != nil && k.id == d.Adopted.AccessKeyID
	})
	if !o.listed || len(rest) != 1 || rest[0].id != d.AccessKeyID {
		budget := d.timing.Visible + clockSkew
		return decision{act: actLookKeys, step: stepConfirm, again: budget, stop: notSeen(budget)}, true
	}
	return decision{}, false
}

// longestSession is the longest life of a session that a user's key can make.
// https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html
const longestSession = 36 * time.Hour

// nextAbsent removes the user with all that is ours on it. What can be undone comes
// first: inactive keys, and the search for what others gave the user.
func nextAbsent(d desired, o observed) decision {
	if o.vanished && o.user.state != userAbsent {
		budget := d.timing.Visible + clockSkew
		return decision{act: actLookUser, step: removeStep(d, stepConfirmGone), again: budget, stop: notSeen(budget)}
	}
	switch o.user.state {
	case userCopied:
		return decision{stop: copiedError(d, o)}
	case userForeign:
		if d.User.ID == "" || d.creates {
			return decision{} // this server made none
		}
		return decision{stop: failf(codeChanged, "the IAM user %s is not the one that this server made; it was not changed",
			d.User.Name)}
	case userAbsent:
		if d.creates || o.gone >= 2 {
			return decision{}
		}
		return decision{act: actLookUser, step: stepConfirmGone, after: d.timing.ConfirmGap}
	case userRaising:
		if d.kind == alias.OperationRemove && !o.untagged {
			return decision{act: actTag, step: stepDeactivateKeys}
		}
	case userOurs:
		if d.kind == alias.OperationRemove && !d.raised && !o.untagged {
			return decision{act: actRaise, step: stepDeactivateKeys}
		}
	case userUnknown:
	}
	if !o.listed {
		return decision{act: actLookKeys, step: removeStep(d, stepDeactivateKeys)}
	}
	return nextStripped(d, o)
}

// removeStep is a step of a removal. The undo of a provisioning has no steps.
func removeStep(d desired, step string) string {
	if d.kind == alias.OperationRemove {
		return step
	}
	return ""
}

// nextStripped removes a user that exists and is ours.
func nextStripped(d desired, o observed) decision {
	var foreign []string
	for _, k := range o.keys {
		switch {
		case d.creates && k.use == useSome:
			// A registry that was restored from a backup may undo an operation that the
			// live registry has finished since.
			return decision{stop: failf(codeChanged, "the IAM user %s was not removed, because its key %s is in use",
				d.User.Name, k.id)}
		case !d.ours(k) && !slices.Contains(o.deleted, k.id):
			foreign = append(foreign, k.id)
		}
	}
	if len(foreign) > 0 {
		return decision{stop: unknownKeys(d, o, foreign)}
	}
	for _, k := range o.keys {
		if k.active && !d.keepsKey(k.id) {
			return decision{act: actDeactivate, step: removeStep(d, stepDeactivateKeys), key: k.id}
		}
	}
	if key := d.AccessKeyID; key != "" && len(o.keys) > 0 && !o.refused[key] && d.kind == alias.OperationRemove {
		return decision{act: actRefused, step: stepProbeRefused, key: key}
	}
	if !o.searched {
		search := decision{act: actSearch, step: removeStep(d, stepInspectUser)}
		if o.missing {
			search.again, search.stop = d.timing.Visible, notSeen(d.timing.Visible)
		}
		return search
	}
	return decision{act: actStrip, step: removeStep(d, stepDeleteUser)}
}

// ours reports whether a key may be deleted with its user. One that is only probably ours may
// not be if somebody made it active again or used it.
func (d desired) ours(k accessKey) bool {
	return d.knows(k.id) || slices.Contains(d.PendingDeletion, k.id) || d.isSuspect(k.id) && !k.active && k.use != useSome
}

// keepsKey reports whether a key outlives the credential: that of an adopted user.
func (d desired) keepsKey(id string) bool { return d.Adopted != nil && d.Adopted.AccessKeyID == id }

func stopf(code, format string, args ...any) (decision, bool) {
	return decision{stop: failf(code, format, args...)}, true
}

func notSeen(budget time.Duration) error {
	detail := fmt.Sprintf("IAM did not show the change within %s; repeat the request later", budget)
	return &stepError{code: codeNotSeen, detail: detail, err: errNotSeen}
}
