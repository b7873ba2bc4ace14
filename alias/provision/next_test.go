package provision

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"ixmage/alias"
)

// state is an input of next.
type state struct {
	d   desired
	o   observed
	now time.Time
}

// edit is a change of a state.
type edit func(*state)

var testNow = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// stateOf is a credential with the key CURRENT on a user that is ours, on which an
// operation runs; none if kind is empty.
func stateOf(kind alias.OperationKind, edits ...edit) state {
	s := state{
		d: desired{
			Provisioned: &alias.Provisioned{
				AccessKeyID: "CURRENT", User: alias.IAMUser{Name: "u", ID: "AIDA"},
				Generation: "2-b", GenerationsBefore: []string{"", "1-a"},
			},
			kind: kind, raised: true, timing: awsTiming(),
		},
		o: observed{
			user: userView{state: userOurs, tag: "2-b"}, bucket: true, listed: true, rights: viewSame,
			put:  kind == alias.OperationProvision,
			keys: []accessKey{{id: "CURRENT", active: true}},
		},
		now: testNow,
	}
	for _, change := range edits {
		change(&s)
	}
	return s
}

// newUser is the provisioning of a new user with no key yet.
func newUser(edits ...edit) state {
	return stateOf(alias.OperationProvision, append([]edit{func(s *state) {
		s.d.creates, s.d.AccessKeyID, s.d.Pending = true, "", &alias.PendingKey{}
		s.d.Generation, s.d.GenerationsBefore = "1-a", []string{""}
		s.o.keys = nil
	}}, edits...)...)
}

// swapped is a rotation whose previous key is active.
func swapped(edits ...edit) state {
	return stateOf(alias.OperationRotate, append([]edit{func(s *state) {
		s.d.Previous = &alias.PreviousKey{SealedKey: alias.SealedKey{AccessKeyID: "PREVIOUS"}, SwappedAt: testNow.Add(-time.Hour)}
		s.o.keys = append(s.o.keys, accessKey{id: "PREVIOUS", active: true})
	}}, edits...)...)
}

// retired is a rotation whose previous key is inactive for long and refused.
func retired(edits ...edit) state {
	return swapped(append([]edit{func(s *state) {
		s.d.Previous.InactiveAt = testNow.Add(-30 * time.Minute)
		s.o.keys[1].active, s.o.works, s.o.refused = false, true, map[string]bool{"PREVIOUS": true}
	}}, edits...)...)
}

// removed is a removal whose key is inactive and refused.
func removed(edits ...edit) state {
	return stateOf(alias.OperationRemove, append([]edit{func(s *state) {
		s.o.keys[0].active, s.o.refused, s.o.searched = false, map[string]bool{"CURRENT": true}, true
	}}, edits...)...)
}

func undo(s *state)       { s.d.undo = true }
func emergency(s *state)  { s.d.emergency = true }
func untagged(s *state)   { s.o.untagged = true }
func unlisted(s *state)   { s.o.listed = false }
func unraised(s *state)   { s.d.raised = false }
func vanished(s *state)   { s.o.vanished = true }
func put(s *state)        { s.o.put = true }
func differs(s *state)    { s.o.rights = viewDiffers }
func uncompared(s *state) { s.o.rights = viewUnknown }
func extra(s *state)      { s.d.ExtraGrants = []alias.Grant{{Bucket: testBucket}} }
func pending(s *state)    { s.d.Pending = &alias.PendingKey{} }
func unmade(s *state)     { s.o.unmade = true }
func asked(s *state)      { s.o.nodesAt = testNow }

// reverted is the state after a swap that was undone, of whose key NEW a node may not know that.
func reverted(s *state) {
	s.d.fleet, s.d.Reverted, s.d.PendingDeletion = true, &alias.Reverted{}, []string{"NEW"}
}

func made(s *state) {
	s.d.scope, s.d.Pending = "", &alias.PendingKey{SealedKey: alias.SealedKey{AccessKeyID: "PENDING"}}
}
func proven(s *state) { made(s); s.d.scope = alias.VerdictProven }
func reuses(s *state) { s.d.scope = "" }
func noUser(s *state) { s.d.User.ID = "" }

func is(u userState) edit { return func(s *state) { s.o.user.state = u } }

func after(d time.Duration) edit { return func(s *state) { s.now = testNow.Add(d) } }

// has adds a key to the user that no row of the registry knows.
func has(k accessKey) edit { return func(s *state) { s.o.keys = append(s.o.keys, k) } }

// lost is the state after a CreateAccessKey whose answer was lost a minute ago.
func lost(s *state) {
	s.d.KeySince, s.d.KeyBeside = testNow.Add(-time.Minute), []string{"CURRENT"}
}

// begins has the operation asked for at a time.
func begins(at time.Duration) edit { return func(s *state) { s.d.began = testNow.Add(at) } }

func suspected(since time.Duration) edit {
	return func(s *state) {
		s.d.Suspects = append(s.d.Suspects, alias.SuspectKey{AccessKeyID: "LOST", InactiveAt: testNow.Add(-since)})
	}
}

var (
	stranger = has(accessKey{id: "STRANGER", active: true, created: testNow.Add(-time.Hour).Unix()})
	unsealed = has(accessKey{id: "LOST", active: true, created: testNow.Unix(), use: useNever})
	unused   = has(accessKey{id: "LOST", use: useNever})
)

// chosen describes what next chooses.
func chosen(s state) string {
	d := next(s.d, s.o, s.now)
	stopped, _ := errors.AsType[*stepError](d.stop)
	switch {
	case d.act == "" && d.until.IsZero() && d.stop == nil:
		return "done"
	case d.act != "" && d.key != "":
		return string(d.act) + " " + d.key
	case d.act != "" && d.again > 0:
		return string(d.act) + " again"
	case d.act != "":
		return string(d.act)
	case stopped != nil:
		return "stop " + stopped.code
	case d.stop != nil:
		return "stop"
	}
	return "wait " + d.until.Sub(s.now).String()
}

// neighbour is a state that differs in one thing from that of a row.
type neighbour struct {
	edit edit
	want string
}

// TestNext has every rule with a state that chooses it, and neighbours that choose
// something else.
func TestNext(t *testing.T) {
	t.Parallel()
	untested := maps.Clone(actions)
	for name, rows := range map[string]map[string]struct {
		state state
		want  string
		but   []neighbour
	}{
		"adopted": adoptedRows(), "user": userRows(), "rights": rightsRows(), "keys": keysRows(), "pending": pendingRows(),
		"previous": previousRows(), "confirmed": confirmedRows(), "absent": absentRows(),
	} {
		for rule, row := range rows {
			delete(untested, next(row.state.d, row.state.o, row.state.now).act)
			t.Run(name+"/"+rule, func(t *testing.T) {
				t.Parallel()
				if got := chosen(row.state); got != row.want {
					t.Errorf("chose %q, want %q", got, row.want)
				}
				if len(row.but) == 0 {
					t.Error("no neighbour")
				}
				for i, n := range row.but {
					near := row.state.clone()
					n.edit(&near)
					if got := chosen(near); got != n.want || got == row.want {
						t.Errorf("neighbour %d chose %q, want %q and not %q", i, got, n.want, row.want)
					}
				}
			})
		}
	}
	for action := range untested {
		t.Errorf("no row chooses to %s", action)
	}
}

// clone returns a state whose edit leaves s as it is.
func (s state) clone() state {
	s.d.Provisioned = s.d.Clone()
	s.o.keys = slices.Clone(s.o.keys)
	return s
}

type ruleRows = map[string]struct {
	state state
	want  string
	but   []neighbour
}

func userRows() ruleRows {
	return ruleRows{
		"nothing was changed": {stateOf(alias.OperationRotate, undo), "done", []neighbour{
			{extra, "revoke extra grants"},
			{func(s *state) { s.d.PendingDeletion = []string{"NEW"} }, "delete a key NEW"},
		}},
		"bucket first": {newUser(is(userAbsent), noUser, func(s *state) { s.o.bucket = false }), "look at the bucket", []neighbour{
			{made, "create the user"}, {undo, "done"},
			{func(s *state) { s.o.bucket = true }, "create the user"},
			{func(s *state) { s.d.kind = alias.OperationRotate }, "create the user"},
		}},
		"unknown": {stateOf("", is(userUnknown)), "look at the user", []neighbour{{is(userOurs), "done"}}},
		"foreign": {stateOf("", is(userForeign)), "stop user-changed", []neighbour{{is(userOurs), "done"}}},
		"taken":   {newUser(noUser, is(userForeign)), "stop name-taken", []neighbour{{func(s *state) { s.d.User.ID = "AIDA" }, "stop user-changed"}}},
		"copied":  {stateOf("", is(userCopied)), "stop generation", []neighbour{{is(userRaising), "tag the user"}, {is(userOurs), "done"}}},
		"create": {newUser(noUser, is(userAbsent)), "create the user", []neighbour{
			{func(s *state) { s.d.User.ID = "AIDA" }, "look at the user again"},
			{func(s *state) { s.d.creates = false }, "stop user-missing"},
			{func(s *state) { s.o.taken = true }, "look at the user again"},
		}},
		"hidden": {newUser(noUser, is(userAbsent), func(s *state) { s.o.hidden = true }), "stop name-taken", []neighbour{
			{func(s *state) { s.o.hidden = false }, "create the user"},
		}},
		"not seen yet": {newUser(is(userAbsent)), "look at the user again", []neighbour{
			{func(s *state) { s.d.AccessKeyID = "CURRENT" }, "stop user-missing"},
			{func(s *state) { s.d.creates = false }, "stop user-missing"},
		}},
		"missing":  {stateOf(alias.OperationRotate, pending, is(userAbsent)), "stop user-missing", []neighbour{{is(userOurs), "create a key"}}},
		"vanished": {stateOf(alias.OperationRotate, pending, vanished), "stop user-missing", []neighbour{{func(s *state) { s.o.vanished = false }, "create a key"}}},
		"tag dropped": {newUser(func(s *state) { s.o.user.lacks = "managed-by" }), "stop iam-error", []neighbour{
			{func(s *state) { s.o.user.lacks = "" }, "create a key"},
			{func(s *state) { s.d.creates, s.d.scope = false, "" }, "create a key"},
		}},
		"boundary dropped": {newUser(func(s *state) { s.d.User.Boundary = "arn:b" }), "stop boundary-missing", []neighbour{
			{func(s *state) { s.o.user.boundary = "arn:b" }, "create a key"},
			{func(s *state) { s.d.creates = false }, "create a key"},
		}},
		"tag": {stateOf(alias.OperationRotate, pending, is(userRaising)), "tag the user", []neighbour{{untagged, "create a key"}, {is(userOurs), "create a key"}}},
		"raise": {stateOf(alias.OperationRotate, pending, unraised), "raise the generation", []neighbour{
			{untagged, "create a key"},
			{func(s *state) { s.d.raised = true }, "create a key"},
			{func(s *state) { s.d.kind, s.d.Pending = "", nil }, "done"},
		}},
	}
}

func rightsRows() ruleRows {
	reuse := alias.OperationProvision
	unput := func(s *state) { s.o.put = false }
	return ruleRows{
		"limit":        {stateOf("", extra), "revoke extra grants", []neighbour{{func(s *state) { s.d.ExtraGrants = nil }, "done"}}},
		"limit undone": {stateOf(reuse, extra, undo), "revoke extra grants", []neighbour{{func(s *state) { s.d.undo = false }, "verify a key"}}},
		"compare":      {stateOf("", uncompared), "compare the policy", []neighbour{{differs, "done"}, {func(s *state) { s.d.kind = alias.OperationRotate }, "done"}}},
		"compare first": {stateOf(reuse, uncompared, unput), "compare the policy", []neighbour{{differs, "put the policy"}, {undo, "done"},
			{func(s *state) { s.o.rights = viewSame }, "put the policy"}}},
		"put again": {stateOf(reuse, unput), "put the policy", []neighbour{{put, "verify a key"}, {undo, "done"},
			{func(s *state) { s.d.scope = alias.VerdictProven }, "done"},
			{func(s *state) { s.d.Adopted = &alias.Adopted{Policies: []string{"reads"}} }, "verify a key"}}},
		"put":   {stateOf(reuse, differs, unput), "put the policy", []neighbour{{put, "compare the policy again"}, {undo, "done"}, {func(s *state) { s.d.kind = "" }, "done"}}},
		"check": {stateOf(reuse, differs, put), "compare the policy again", []neighbour{{func(s *state) { s.o.rights = viewSame }, "verify a key"}}},
	}
}

func keysRows() ruleRows {
	rotate := alias.OperationRotate
	long := suspected(25 * time.Hour)
	return ruleRows{
		"list":      {stateOf(rotate, pending, unlisted), "list the keys", []neighbour{{func(s *state) { s.o.listed = true }, "create a key"}, {made, "verify a key"}}},
		"list idle": {stateOf("", unlisted), "list the keys", []neighbour{{func(s *state) { s.o.listed = true }, "done"}}},
		"list undone": {stateOf(rotate, undo, unlisted, func(s *state) { s.d.PendingDeletion = []string{"NEW"} }), "list the keys", []neighbour{
			{func(s *state) { s.d.PendingDeletion = nil }, "done"},
		}},
		"suspect": {stateOf(rotate, pending, lost, unsealed), "make a key inactive that is probably ours LOST", []neighbour{
			{func(s *state) { s.d.KeySince = time.Time{} }, "stop unknown-keys"},
			{func(s *state) { s.d.KeyBeside = append(s.d.KeyBeside, "LOST") }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].use = useSome }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].use = useDenied }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].created -= int64((clockSkew + 2*time.Minute).Seconds()) }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].created += int64((clockSkew + 2*time.Minute).Seconds()) }, "stop unknown-keys"},
			{made, "verify a key"},
		}},
		"delete suspect": {stateOf("", long, unused), "delete a key LOST", []neighbour{
			{func(s *state) { s.d.Suspects[0].InactiveAt = testNow.Add(-23 * time.Hour) }, "done"},
			{func(s *state) { s.o.keys[1].active = true }, "done"},
			{func(s *state) { s.o.keys[1].use = useSome }, "done"},
			{func(s *state) { s.o.keys[1].use = useUnknown }, "done"},
			{func(s *state) { s.d.kind, s.d.Pending = rotate, &alias.PendingKey{} }, "stop unknown-keys"},
		}},
		"free its place": {stateOf(rotate, long, unused, pending, emergency), "delete a key LOST", []neighbour{
			{func(s *state) { s.d.emergency = false }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].active = true }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].use = useSome }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].use = useUnknown }, "stop unknown-keys"},
			{func(s *state) { s.o.keys = s.o.keys[1:] }, "create a key"},
		}},
		"free a place that was named": {stateOf(rotate, long, unused, pending, begins(0)), "delete a key LOST", []neighbour{
			{begins(-48 * time.Hour), "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].active = true }, "stop unknown-keys"},
		}},
		"delete what signed": {stateOf(rotate, undo, reverted), "ask which nodes use the previous key NEW", []neighbour{
			{asked, "wait 5s"},
			{emergency, "delete a key NEW"},
			{func(s *state) { s.d.Reverted = nil }, "delete a key NEW"},
			{func(s *state) { s.d.fleet = false }, "delete a key NEW"},
		}},
		"delete what signed, asked": {stateOf(rotate, undo, reverted, asked), "wait 5s", []neighbour{
			{after(5 * time.Second), "ask which nodes use the previous key NEW"},
		}},
		"delete what signed, reconcile": {stateOf("", reverted), "ask which nodes use the previous key NEW", []neighbour{
			{asked, "done"}, // a later one does
		}},
		"delete what signed, rotation": {stateOf(rotate, pending, reverted), "ask which nodes use the previous key NEW", []neighbour{
			{asked, "wait 5s"}, {emergency, "delete a key NEW"},
		}},
		"delete retired": {stateOf("", func(s *state) { s.d.PendingDeletion = []string{"NEW"} }), "delete a key NEW", []neighbour{
			{func(s *state) { s.d.PendingDeletion = nil }, "done"},
		}},
		"unknown": {stateOf(rotate, pending, stranger), "stop unknown-keys", []neighbour{
			{func(s *state) { s.d.kind, s.d.Pending = "", nil }, "done"},
			{func(s *state) { s.o.deleted = []string{"STRANGER"} }, "create a key"},
			{func(s *state) { s.o.keys = s.o.keys[:1] }, "create a key"},
		}},
		"full": {stateOf(rotate, pending, func(s *state) {
			s.d.Adopted = &alias.Adopted{AccessKeyID: "THEIRS"}
			s.o.keys = append(s.o.keys, accessKey{id: "THEIRS", active: true})
		}), "stop unknown-keys", []neighbour{
			{func(s *state) { s.o.keys = s.o.keys[:1] }, "create a key"},
			{func(s *state) { s.d.Adopted = nil; s.d.PendingDeletion = []string{"THEIRS"} }, "delete a key THEIRS"},
			{func(s *state) { s.o.deleted = []string{"THEIRS"} }, "create a key"},
		}},
	}
}

func pendingRows() ruleRows {
	rotate := alias.OperationRotate
	return ruleRows{
		"create a key":   {stateOf(rotate, pending), "create a key", []neighbour{{made, "verify a key"}, {unmade, "create a key again"}, {undo, "done"}}},
		"try again":      {stateOf(rotate, pending, unmade), "create a key again", []neighbour{{func(s *state) { s.o.unmade = false }, "create a key"}}},
		"verify":         {stateOf(rotate, made), "verify a key", []neighbour{{proven, "make the pending key the current one"}, {undo, "done"}}},
		"verify a reuse": {stateOf(alias.OperationProvision, reuses), "verify a key", []neighbour{{func(s *state) { s.d.scope = alias.VerdictProven }, "done"}}},
		"swap": {stateOf(rotate, proven), "make the pending key the current one", []neighbour{
			{func(s *state) { s.d.scope = "" }, "verify a key"},
			{func(s *state) { s.d.Pending = nil }, "done"},
		}},
		"tag before the swap": {stateOf(rotate, proven, is(userRaising)), "tag the user", []neighbour{
			{is(userOurs), "make the pending key the current one"}, {untagged, "make the pending key the current one"},
		}},
		"open": {newUser(proven), "done", []neighbour{{made, "verify a key"}, {is(userRaising), "tag the user"}}},
		"no place": {swapped(pending), "make a key inactive PREVIOUS", []neighbour{
			{func(s *state) { s.d.Previous, s.o.keys = nil, s.o.keys[:1] }, "create a key"},
		}},
	}
}

func previousRows() ruleRows {
	fresh := func(s *state) { s.d.Previous.SwappedAt = testNow.Add(-5 * time.Minute) }
	fleet, asked := func(s *state) { s.d.fleet = true }, func(s *state) { s.o.nodesAt = testNow }
	return ruleRows{
		"soak": {swapped(fresh), "wait 5m0s", []neighbour{
			{emergency, "make a key inactive PREVIOUS"}, {after(10 * time.Minute), "make a key inactive PREVIOUS"}, {undo, "done"},
		}},
		"fallen back": {swapped(func(s *state) {
			s.d.Previous.SwappedAt, s.d.fellBack = testNow.Add(-20*time.Minute), testNow.Add(-time.Minute)
		}),
			"wait 4m0s", []neighbour{{after(5 * time.Minute), "make a key inactive PREVIOUS"}}},
		"revert": {swapped(func(s *state) { s.d.fellBack = testNow }), "make the previous key the current one", []neighbour{
			{emergency, "make a key inactive PREVIOUS"},
			{func(s *state) { s.d.fellBack = time.Time{} }, "make a key inactive PREVIOUS"},
			{func(s *state) { s.d.Previous.SwappedAt = testNow.Add(-59 * time.Minute) }, "wait 5m0s"},
		}},
		"nodes": {swapped(fleet), "ask which nodes use the previous key", []neighbour{
			{emergency, "make a key inactive PREVIOUS"},
			{asked, "wait 5s"},
			{func(s *state) { s.d.fleet = false }, "make a key inactive PREVIOUS"},
			{func(s *state) { s.d.Previous.FollowedAt = testNow.Add(-10 * time.Minute) }, "make a key inactive PREVIOUS"},
			{func(s *state) { s.d.Previous.InactiveAt = testNow }, "make a key inactive PREVIOUS"},
		}},
		"nodes wait": {swapped(fleet, asked), "wait 5s", []neighbour{
			{after(4 * time.Second), "wait 1s"},
			{after(5 * time.Second), "ask which nodes use the previous key"},
			{after(100 * time.Hour), "ask which nodes use the previous key"}, // and no revert
			{emergency, "make a key inactive PREVIOUS"},
			{func(s *state) { s.d.fellBack = testNow }, "make the previous key the current one"},
		}},
		"nodes in the soak": {swapped(fleet, asked, fresh), "wait 5m0s", []neighbour{
			{after(5 * time.Second), "ask which nodes use the previous key"},
		}},
		"nodes have just followed": {swapped(fleet, func(s *state) { s.d.Previous.FollowedAt = testNow.Add(-time.Minute) }), "wait 4m0s", []neighbour{
			{after(4 * time.Minute), "make a key inactive PREVIOUS"},
		}},
		"nodes, earlier rotation": {swapped(pending, fleet), "ask which nodes use the previous key", []neighbour{
			{asked, "wait 5s"}, {emergency, "make a key inactive PREVIOUS"},
		}},
		"list": {swapped(unlisted), "list the keys", []neighbour{{func(s *state) { s.o.listed = true }, "make a key inactive PREVIOUS"}}},
		"deactivate": {swapped(), "make a key inactive PREVIOUS", []neighbour{
			{func(s *state) { s.d.Previous.InactiveAt, s.o.keys[1].active = testNow, false }, "wait 10m0s"},
		}},
		"deactivate again": {retired(func(s *state) { s.o.keys[1].active = true }), "make a key inactive PREVIOUS", []neighbour{
			{func(s *state) { s.o.keys[1].active = false }, "delete a key PREVIOUS"},
		}},
		"revoke": {retired(emergency), "deny sessions", []neighbour{
			{func(s *state) { s.d.RevokedAt = testNow }, "delete a key PREVIOUS"},
			{func(s *state) { s.d.emergency = false }, "delete a key PREVIOUS"},
		}},
		"soak inactive": {retired(func(s *state) { s.d.Previous.InactiveAt = testNow.Add(-time.Minute) }), "wait 9m0s", []neighbour{
			{after(9 * time.Minute), "delete a key PREVIOUS"},
			{func(s *state) { s.d.emergency, s.d.RevokedAt = true, testNow }, "delete a key PREVIOUS"},
		}},
		"try": {retired(func(s *state) { s.o.works = false }), "try the current key", []neighbour{{func(s *state) { s.o.works = true }, "delete a key PREVIOUS"}}},
		"refused": {retired(func(s *state) { s.o.refused = nil }), "wait until a key is refused PREVIOUS", []neighbour{
			{func(s *state) { s.o.refused = map[string]bool{"PREVIOUS": true} }, "delete a key PREVIOUS"},
		}},
		"delete": {retired(), "delete a key PREVIOUS", []neighbour{
			{func(s *state) { s.o.refused = map[string]bool{"CURRENT": true} }, "wait until a key is refused PREVIOUS"},
			{undo, "done"},
			{func(s *state) { s.d.kind = "" }, "done"},
		}},
		"earlier rotation": {retired(pending, func(s *state) { s.o.works, s.o.refused = false, nil }), "delete a key PREVIOUS", []neighbour{
			{func(s *state) { s.o.keys[1].active = true }, "make a key inactive PREVIOUS"},
			{func(s *state) { s.d.Pending = nil }, "try the current key"},
			{emergency, "deny sessions"},
		}},
	}
}

func confirmedRows() ruleRows {
	rotate := alias.OperationRotate
	return ruleRows{
		"only one": {stateOf(rotate, has(accessKey{id: "PREVIOUS"}), func(s *state) { s.o.deleted = []string{"PREVIOUS"} }), "list the keys again", []neighbour{
			{func(s *state) { s.o.keys = s.o.keys[:1] }, "done"},
			{func(s *state) { s.d.Suspects = []alias.SuspectKey{{AccessKeyID: "PREVIOUS", InactiveAt: testNow}} }, "done"},
			{func(s *state) { s.d.Adopted = &alias.Adopted{AccessKeyID: "PREVIOUS"} }, "done"},
		}},
		"unrevoke": {stateOf(rotate, func(s *state) { s.d.RevokedAt = testNow.Add(-37 * time.Hour) }), "allow sessions", []neighbour{
			{func(s *state) { s.d.RevokedAt = testNow.Add(-35 * time.Hour) }, "done"},
			{emergency, "done"}, {undo, "done"},
			{func(s *state) { s.d.RevokedAt = time.Time{} }, "done"},
		}},
	}
}

func absentRows() ruleRows {
	gone := func(n int) edit { return func(s *state) { s.o.user.state, s.o.gone = userAbsent, n } }
	undone := newUser(undo, func(s *state) { s.o.searched = true })
	return ruleRows{
		"copied":         {removed(is(userCopied)), "stop generation", []neighbour{{is(userOurs), "delete the user"}}},
		"foreign":        {removed(is(userForeign)), "stop user-changed", []neighbour{{is(userOurs), "delete the user"}, {noUser, "done"}}},
		"foreign undone": {newUser(undo, is(userForeign)), "done", []neighbour{{is(userOurs), "search for what others gave the user"}}},
		"vanished":       {removed(vanished), "look at the user again", []neighbour{{gone(2), "done"}}},
		"gone once":      {removed(gone(1)), "look at the user", []neighbour{{gone(2), "done"}, {is(userOurs), "delete the user"}}},
		"gone undone":    {newUser(undo, gone(1)), "done", []neighbour{{is(userOurs), "search for what others gave the user"}}},
		"tag":            {removed(is(userRaising)), "tag the user", []neighbour{{untagged, "delete the user"}, {is(userOurs), "delete the user"}}},
		"raise":          {removed(unraised), "raise the generation", []neighbour{{untagged, "delete the user"}, {func(s *state) { s.d.raised = true }, "delete the user"}}},
		"list":           {removed(unlisted), "list the keys", []neighbour{{func(s *state) { s.o.listed = true }, "delete the user"}}},
		"unknown":        {removed(stranger), "stop unknown-keys", []neighbour{{func(s *state) { s.o.keys = s.o.keys[:1] }, "delete the user"}}},
		"suspect": {removed(suspected(time.Hour), unused), "delete the user", []neighbour{
			{func(s *state) { s.o.keys[1].active = true }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].use = useSome }, "stop unknown-keys"},
			{func(s *state) { s.d.Suspects = nil }, "stop unknown-keys"},
		}},
		"suspect late": {removed(suspected(time.Minute), has(accessKey{id: "LOST", active: true, use: useNever})), "make a key inactive LOST", []neighbour{
			{after(time.Minute), "stop unknown-keys"},
			{func(s *state) { s.o.keys[1].use = useSome }, "stop unknown-keys"},
		}},
		"lost": {removed(lost, unsealed), "make a key inactive that is probably ours LOST", []neighbour{
			{stranger, "stop unknown-keys"},
			{func(s *state) { s.d.KeySince = time.Time{} }, "stop unknown-keys"},
			{func(s *state) { s.d.creates, s.d.undo, s.d.kind = true, true, alias.OperationProvision }, "stop unknown-keys"},
		}},
		"deactivate": {removed(func(s *state) { s.o.keys[0].active = true }), "make a key inactive CURRENT", []neighbour{{func(s *state) { s.o.keys[0].active = false }, "delete the user"}}},
		"refused": {removed(func(s *state) { s.o.refused = nil }), "wait until a key is refused CURRENT", []neighbour{
			{func(s *state) { s.o.refused = map[string]bool{"CURRENT": true} }, "delete the user"},
			{func(s *state) { s.o.keys = nil }, "delete the user"},
		}},
		"search": {removed(func(s *state) { s.o.searched = false }), "search for what others gave the user", []neighbour{{func(s *state) { s.o.searched = true }, "delete the user"}}},
		"delete": {removed(), "delete the user", []neighbour{{undo, "done"}, {is(userAbsent), "look at the user"}}},
		"in use": {undone.with(made, has(accessKey{id: "PENDING", use: useSome})), "stop user-changed", []neighbour{
			{func(s *state) { s.o.keys[0].use = useNever }, "delete the user"},
			{func(s *state) { s.o.keys[0].use = useUnknown }, "delete the user"},
		}},
	}
}

func (s state) with(edits ...edit) state {
	s = s.clone()
	for _, change := range edits {
		change(&s)
	}
	return s
}
