package provision

import (
	"fmt"
	"slices"
	"time"

	"ixmage/alias"
)

// desired is what shall become of a user: what the registry says of its credential, and
// the operation that runs on it.
type desired struct {
	*alias.Provisioned
	name      alias.Name          // of the credential
	kind      alias.OperationKind // empty if no operation runs
	began     time.Time           // when the operation was asked for
	emergency bool
	creates   bool          // the operation makes the user
	adopts    bool          // the operation takes over a user
	released  bool          // all of ixmage but the tags was taken off an adopted user
	abandoned bool          // a failed operation left something on a user that it was to adopt
	keptInUse bool          // an alias of this registry uses the key that an adopted user had
	raised    bool          // the operation gave the user a new generation
	undo      bool          // the operation failed, and what it changed is being set back
	scope     alias.Verdict // of the verification in this operation; empty before it
	timing    Timing
	// fellBack is when a request last used the previous key.
	fellBack time.Time
	fleet    bool  // other nodes sign with the keys too
	taken    int64 // see progress.Taken
}

// absent reports whether the user shall not exist, or, if it was adopted, shall have
// nothing of ours.
func (d desired) absent() bool {
	return d.kind == alias.OperationRemove && !d.undo || (d.creates || d.adopts) && d.undo || d.abandoned
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
	// tagged, bounded and released mean that this was done to a user that is adopted, and
	// that IAM may not show it yet.
	tagged, bounded, released bool
	// untagged means that the server cannot tag users, so the generation stays.
	untagged bool
	// unmade means that a CreateAccessKey got no answer, or that IAM says that the user has
	// too many keys.
	unmade bool
	// limited is the refusal of the last CreateAccessKey for a quota; nil for any other.
	limited error
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
	// nodesAt is when the nodes were last asked which revision they have.
	nodesAt time.Time
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
	lacks    string // a tag that the server did not keep, or that is not written yet
	bare     bool   // it has none of our tags
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
	actAdopt      actionKind = "read the user to adopt"
	actBound      actionKind = "set the boundary of the user"
	actTag        actionKind = "tag the user"
	actPut        actionKind = "put the policy"
	actLimit      actionKind = "revoke extra grants"
	actRevoke     actionKind = "deny sessions"
	actUnrevoke   actionKind = "allow sessions"
	actCreateKey  actionKind = "create a key"
	actProve      actionKind = "verify a key"
	actLookNodes  actionKind = "ask which nodes use the previous key"
	actSwap       actionKind = "make the pending key the current one"
	actRevert     actionKind = "make the previous key the current one"
	actTry        actionKind = "try the current key"
	actSuspect    actionKind = "make a key inactive that is probably ours"
	actDeactivate actionKind = "make a key inactive"
	actRefused    actionKind = "wait until a key is refused"
	actDeleteKey  actionKind = "delete a key"
	actStrip      actionKind = "delete the user"
	actRelease    actionKind = "give the user back"
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

// A rule decides about one thing. It returns nil if it has nothing to say.
type rule func(d desired, o observed, now time.Time) *decision

// The rules, in their order: the first that decides is followed.
var (
	presentRules = []rule{
		settled, bucketLooked, userTaken, userLooked, userOwned, userMade, userAsAsked, userMarked, generationRaised,
		rightsGranted, keysKnown, keyRetired, nodesAsked, previousSoaked, nodesFollowed, previousInactive,
		sessionsDenied, inactiveSoaked, previousDeleted, deletedAgain, slotFreed, keyMade, userOpened, keySwapped,
		keysConfirmed,
	}
	absentRules = []rule{
		userTaken, userLooked, userGivenBack, userVanished, userGone, generationRaised, userReleased, keysListed,
		keysInactive, userStripped,
	}
)

// next decides what is to be done for a user. It is pure: it depends on its arguments
// only, so that every state can be tested.
func next(d desired, o observed, now time.Time) decision {
	rules := presentRules
	if d.absent() {
		rules = absentRules
	}
	for _, decide := range rules {
		if chosen := decide(d, o, now); chosen != nil {
			return *chosen
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
	case d.adopts:
		return stepAdoptUser
	case d.kind == alias.OperationProvision:
		return stepPutPolicy
	}
	return ""
}

// settled ends an undo for which nothing is to be set back: nothing was changed, or both keys
// of a swap stay.
func settled(d desired, _ observed, _ time.Time) *decision {
	if d.undo && len(d.ExtraGrants)+len(d.PendingDeletion) == 0 {
		return &decision{}
	}
	return nil
}

// bucketLooked looks at the bucket before anything is made.
func bucketLooked(d desired, o observed, _ time.Time) *decision {
	if d.kind == alias.OperationProvision && !d.undo && !o.bucket && (d.Pending == nil || d.Pending.AccessKeyID == "") {
		return &decision{act: actLookBucket, step: lookStep(d)}
	}
	return nil
}

func userLooked(d desired, o observed, _ time.Time) *decision {
	if o.user.state == userUnknown {
		return &decision{act: actLookUser, step: lookStep(d)}
	}
	return nil
}

// userOwned stops at a user that this server did not make, or that another copy of its
// registry changed.
func userOwned(d desired, o observed, _ time.Time) *decision {
	switch o.user.state {
	case userForeign:
		if d.creates && d.User.ID == "" {
			return &decision{stop: nameTaken(d.User.Name)}
		}
		return stopf(codeChanged, "the IAM user %s is not the one that this server made; it was not changed", d.User.Name)
	case userCopied:
		return &decision{stop: copiedError(d, o)}
	case userUnknown, userAbsent, userOurs, userRaising:
	}
	return nil
}

// userMade makes the user of a new credential. Any other must exist.
func userMade(d desired, o observed, _ time.Time) *decision {
	switch unmade := d.creates && d.User.ID == ""; {
	case o.user.state != userAbsent && !o.vanished:
		return nil
	case unmade && o.hidden:
		return &decision{stop: hiddenUser(d.User.Name)}
	case unmade && o.taken:
		return &decision{act: actLookUser, step: stepCreateUser, again: d.timing.Visible, stop: hiddenUser(d.User.Name)}
	case unmade:
		return &decision{act: actCreateUser, step: stepCreateUser}
	case d.creates && d.AccessKeyID == "" && !o.vanished:
		return &decision{act: actLookUser, step: stepWaitUser, again: d.timing.Visible, stop: notSeen(d.timing.Visible)}
	}
	return stopf(codeUserMissing, "the IAM user %s does not exist any more: provision the alias again", d.User.Name)
}

// userAsAsked stops at a server that did not keep the tags or the boundary of a new user.
func userAsAsked(d desired, o observed, _ time.Time) *decision {
	switch {
	case !d.creates:
	case o.user.lacks != "":
		return stopf(codeIAM, "the IAM server did not store the tag %s of %s: ixmage needs a server that keeps tags",
			o.user.lacks, d.User.Name)
	case o.user.boundary != d.User.Boundary:
		return stopf(codeBoundary, "the permissions boundary of %s is %s, not %s: the IAM server ignored it, "+
			"or another client changed it", d.User.Name, orNone(o.user.boundary), d.User.Boundary)
	}
	return nil
}

// generationRaised writes a new generation to the user before the first change of an
// operation. The undo of a provisioning needs none.
func generationRaised(d desired, o observed, _ time.Time) *decision {
	switch {
	case o.untagged, d.absent() && d.undo:
	case o.user.state == userRaising:
		return &decision{act: actTag, step: lookStep(d)}
	case d.kind != "" && !d.raised:
		return &decision{act: actRaise, step: lookStep(d)}
	}
	return nil
}

// copiedError says that another registry has the user, or that nothing proves whose it is.
func copiedError(d desired, o observed) error {
	found := fmt.Sprintf("has the generation tag %s, and this registry wrote %s: another copy of the registry changed "+
		"the user, or somebody changed the tag", orNone(o.user.tag), orNone(d.Generation))
	if o.user.lacks != "" && (o.user.tag == d.Generation || slices.Contains(d.GenerationsBefore, o.user.tag)) {
		found = "does not have the tag " + o.user.lacks + " any more, or with another value: somebody changed it"
	}
	return failf(codeCopied, "the IAM user %s %s. Nothing was changed. If this registry is the one to go on, "+
		"send POST /api/v1/credentials/%s/reclaim", d.User.Name, found, d.name)
}

// rightsGranted gives the user the policy of its grants. Outside of an operation that
// changes the grants the policy is compared and reported, and only extra grants are
// revoked.
func rightsGranted(d desired, o observed, _ time.Time) *decision {
	if d.kind == alias.OperationProvision && !d.undo {
		return rightsPut(d, o)
	}
	switch {
	case len(d.ExtraGrants) > 0 && (d.kind == "" || d.undo):
		return &decision{act: actLimit}
	case d.kind == "" && o.rights == viewUnknown:
		return &decision{act: actLookRights}
	}
	return nil
}

// rightsPut puts the policy and reads it back, before the verification. It is put also if IAM shows
// it already, because that may be the state before a revocation, which IAM shows late. What an
// adopted user had is not put again.
func rightsPut(d desired, o observed) *decision {
	step := stepPutPolicy
	proven := d.scope != "" || d.Adopted != nil && len(d.Adopted.Policies) > 0
	if o.put {
		step = stepCheckPolicy
	}
	switch {
	case o.rights == viewUnknown:
		return &decision{act: actLookRights, step: step}
	case o.rights == viewDiffers && o.put:
		return &decision{act: actLookRights, step: step, again: d.timing.Visible, stop: notSeen(d.timing.Visible)}
	case o.rights == viewDiffers || !o.put && !proven:
		return &decision{act: actPut, step: step}
	}
	return nil
}

func stopf(code, format string, args ...any) *decision {
	return &decision{stop: failf(code, format, args...)}
}

func notSeen(budget time.Duration) error {
	detail := fmt.Sprintf("IAM did not show the change within %s; repeat the request later", budget)
	return &stepError{code: codeNotSeen, detail: detail, err: errNotSeen}
}
