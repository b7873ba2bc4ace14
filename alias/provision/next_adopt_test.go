package provision

import (
	"testing"
	"time"

	"ixmage/alias"
)

// adoption is the provisioning with a user that an operator made, with the key THEIRS.
func adoption(edits ...edit) state {
	return newUser(append([]edit{func(s *state) {
		s.d.creates, s.d.adopts, s.d.Adopted = false, true, &alias.Adopted{AccessKeyID: "THEIRS"}
		s.o.keys = []accessKey{{id: "THEIRS", active: true}}
	}}, edits...)...)
}

// released is the removal of an adopted user whose key of ours is inactive and refused.
func released(edits ...edit) state {
	return removed(append([]edit{func(s *state) {
		s.d.Adopted = &alias.Adopted{AccessKeyID: "THEIRS"}
		s.o.keys = append(s.o.keys, accessKey{id: "THEIRS", active: true})
	}}, edits...)...)
}

func adoptedRows() ruleRows {
	unbounded := func(s *state) { s.d.User.Boundary, s.d.Adopted.Boundary = "arn:b", true }
	lacking := func(s *state) { s.o.user.lacks = "managed-by" }
	retiring := stateOf("", func(s *state) {
		s.d.Adopted = &alias.Adopted{AccessKeyID: "THEIRS", Retire: true, Since: testNow.Add(-25 * time.Hour)}
		s.o.keys = append(s.o.keys, accessKey{id: "THEIRS", active: true, use: useSome, last: testNow.Add(-26 * time.Hour)})
	})
	return ruleRows{
		"read":     {adoption(noUser), "read the user to adopt", []neighbour{{undo, "done"}, {func(s *state) { s.d.User.ID = "AIDA" }, "create a key"}}},
		"mark":     {adoption(lacking), "tag the user", []neighbour{{func(s *state) { s.o.tagged = true }, "look at the user again"}, {func(s *state) { s.o.user.lacks = "" }, "create a key"}}},
		"bound":    {adoption(unbounded), "set the boundary of the user", []neighbour{{func(s *state) { s.o.bounded = true }, "look at the user again"}, {func(s *state) { s.o.user.boundary = "arn:b" }, "create a key"}}},
		"verified": {adoption(proven), "raise the generation", []neighbour{{func(s *state) { s.d.Generation = "2-b" }, "done"}, {undo, "give the user back"}}},
		"no place": {stateOf(alias.OperationRotate, pending, func(s *state) {
			s.d.Adopted = &alias.Adopted{AccessKeyID: "THEIRS"}
			s.o.keys = append(s.o.keys, accessKey{id: "THEIRS", active: true})
		}), "stop unknown-keys", []neighbour{{func(s *state) { s.o.keys = s.o.keys[:1] }, "create a key"}}},
		"retire": {retiring, "make a key inactive THEIRS", []neighbour{
			{func(s *state) { s.d.Adopted.Retire = false }, "done"},
			{func(s *state) { s.o.keys[1].last = testNow.Add(-24 * time.Hour) }, "done"},
			{func(s *state) { s.o.keys[1].use = useUnknown }, "done"},
			{func(s *state) { s.o.keys[1].active = false }, "done"},
			{func(s *state) { s.d.Adopted.Since = testNow.Add(-23 * time.Hour) }, "done"},
			{func(s *state) { s.d.keptInUse = true }, "done"},
			{func(s *state) { s.d.kind = alias.OperationRotate }, "done"},
		}},
		"give back": {released(), "give the user back", []neighbour{
			{func(s *state) { s.d.Adopted = nil }, "stop unknown-keys"},
			{func(s *state) { s.o.keys[0].active = true }, "make a key inactive CURRENT"},
			{func(s *state) { s.o.refused = nil }, "wait until a key is refused CURRENT"},
			{func(s *state) { s.o.released = true }, "done"},
			{func(s *state) { s.o.listed = false }, "list the keys"},
		}},
		"given back": {released(is(userCopied), func(s *state) { s.d.released, s.o.user.bare = true, true }), "done", []neighbour{
			{func(s *state) { s.d.released = false }, "stop generation"},
			{func(s *state) { s.o.user.bare = false }, "stop generation"},
		}},
	}
}

// TestKeptKeyStays: in no state of an adopted user is the key that it had deleted, and it is
// made inactive in one only.
func TestKeptKeyStays(t *testing.T) {
	t.Parallel()
	for _, kind := range []alias.OperationKind{"", alias.OperationProvision, alias.OperationRotate, alias.OperationRemove} {
		for _, change := range []edit{undo, emergency, func(s *state) { s.d.abandoned = true }, made, pending, func(*state) {}, lost} {
			s := released(change)
			if s.d.kind = kind; kind == alias.OperationProvision {
				s.d.adopts = true
			}
			if d := next(s.d, s.o, s.now); d.key == "THEIRS" {
				t.Errorf("kind %q: chose to %s THEIRS", kind, d.act)
			}
		}
	}
}
