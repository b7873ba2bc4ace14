package provision

import "iter"

// starts are the states from which walks begin: everything that the registry may say,
// against everything that IAM may have.
func starts() iter.Seq[model] {
	return func(yield func(model) bool) {
		for _, op := range []struct {
			kind      opKind
			emergency bool
			undo      bool
		}{
			{opNone, false, false}, {opReuse, false, false}, {opReuse, false, true}, {opRotate, false, false},
			{opRotate, false, true}, {opRotate, true, false}, {opRotate, true, true}, {opRemove, false, false}, {opRemove, false, true},
			{opProvision, false, false}, {opProvision, false, true},
		} {
			m := model{
				op: op.kind, emergency: op.emergency, undo: op.undo, now: epoch, current: none, pending: none, previous: none,
				adopted: none, known: true, generation: 2, before: 2, seen: true, user: mine, tag: 2, policy: true,
			}
			if op.kind == opProvision {
				if !newUserStarts(m, yield) {
					return
				}
				continue
			}
			m.current = 0
			m.keys[0] = modelKey{there: true, active: true, ours: true, used: true, created: epoch - 1000}
			if !knownStarts(m, yield) {
				return
			}
		}
	}
}

// vary calls fn for each of the changes, and again without any.
func vary(m model, fn func(model) bool, changes ...func(*model)) bool {
	for _, change := range append(changes, func(*model) {}) {
		changed := m
		change(&changed)
		if !fn(changed) {
			return false
		}
	}
	return true
}

// newUserStarts are those of the provisioning of a new user.
func newUserStarts(m model, yield func(model) bool) bool {
	m.pending, m.generation, m.before, m.raised = unborn, 1, 1, true
	noID := func(m *model) { m.known = false }
	keyed := func(change func(*modelKey), pending int8) func(*model) {
		return func(m *model) {
			m.keys[3] = modelKey{there: true, active: true, ours: true, created: epoch - 1}
			m.since, m.pending = epoch-1, pending
			change(&m.keys[3])
		}
	}
	same := func(*modelKey) {}
	return vary(m, func(m model) bool {
		return vary(m, func(m model) bool {
			return vary(m, func(m model) bool { return vary(m, yield, func(m *model) { m.policy = false }) },
				keyed(same, 3), keyed(same, unborn), keyed(func(k *modelKey) { k.used = true }, 3),
				keyed(func(k *modelKey) { k.ours, k.used = false, true }, unborn))
		}, func(m *model) { m.user = gone }, func(m *model) { m.user = hers }, func(m *model) { m.tag = other })
	}, noID)
}

// knownStarts are those of a user that has a current key.
func knownStarts(m model, yield func(model) bool) bool {
	return vary(m, func(m model) bool {
		return vary(m, func(m model) bool {
			return vary(m, func(m model) bool {
				return vary(m, func(m model) bool {
					return vary(m, func(m model) bool {
						if m.count() > maxKeys || m.adopted != none && m.op == opRemove {
							return true
						}
						return vary(m, yield, func(m *model) { m.keys[0].active = false }, func(m *model) { m.raised = true })
					}, userChanges()...)
				}, rightsChanges()...)
			}, furtherKeys()...)
		}, previousKeys()...)
	}, pendingKeys(m.op)...)
}

func (m model) count() (n int) {
	for _, k := range m.keys {
		if k.there {
			n++
		}
	}
	return n
}

func userChanges() []func(*model) {
	return []func(*model){
		func(m *model) { m.user, m.keys = gone, [keyCount]modelKey{} },
		func(m *model) { m.user = hers },
		func(m *model) { m.tag = other },
		func(m *model) { m.tag = 1 },
		func(m *model) { m.generation, m.before, m.seen = 3, 3, false },
	}
}

func rightsChanges() []func(*model) {
	return []func(*model){
		func(m *model) { m.policy = false },
		func(m *model) { m.policy, m.extra = false, true },
		func(m *model) { m.revoked = m.now - 37*hour },
	}
}

func pendingKeys(op opKind) []func(*model) {
	if op != opRotate {
		return nil
	}
	made := func(m *model) {
		m.pending, m.since, m.beside = 3, epoch-1, 1
		m.keys[3] = modelKey{there: true, active: true, ours: true, created: epoch - 1}
	}
	return []func(*model){
		func(m *model) { m.pending = unborn },
		made,
		func(m *model) { made(m); m.proven = true },
		func(m *model) { made(m); m.pending = unborn }, // its secret was lost
	}
}

func previousKeys() []func(*model) {
	active := func(m *model) {
		m.previous, m.swapped = 1, epoch-10
		m.keys[1] = modelKey{there: true, active: true, ours: true, used: true, created: epoch - 2000}
	}
	inactive := func(m *model) {
		active(m)
		m.inactive, m.keys[1].active = epoch-1, false
	}
	return []func(*model){
		active, inactive,
		func(m *model) { inactive(m); m.inactive = epoch - 600 },
		func(m *model) { inactive(m); m.keys[1].active = true },
		func(m *model) { inactive(m); m.keys[1] = modelKey{} }, // deleted, which was not stored
	}
}

// furtherKeys are keys that are neither current, pending nor previous.
func furtherKeys() []func(*model) {
	key := func(k modelKey) func(*model) {
		return func(m *model) {
			k.there = true
			m.keys[2] = k
		}
	}
	with := func(a, b func(*model)) func(*model) { return func(m *model) { a(m); b(m) } }
	window := func(m *model) { m.since, m.beside = epoch-2, 1 }
	suspect := func(at int32) func(*model) {
		return func(m *model) { m.suspects, m.suspectAt = 1<<2, at }
	}
	return []func(*model){
		key(modelKey{active: true, created: epoch - 500}),                             // of another client
		with(key(modelKey{active: true, created: epoch - 2, ours: true}), window),     // ours, its secret was lost
		with(key(modelKey{active: true, created: epoch - 2}), window),                 // of another client at the same time
		with(key(modelKey{active: true, created: epoch - 2, used: true}), window),     // likewise, in use
		with(key(modelKey{active: true, created: epoch + 30}), window),                // likewise, made later
		with(key(modelKey{created: epoch - 100}), suspect(epoch-100)),                 // a suspect
		with(key(modelKey{created: epoch - 2000}), suspect(epoch-1990)),               // an old one
		with(key(modelKey{created: epoch - 2000, active: true}), suspect(epoch-1990)), // which somebody made active
		with(key(modelKey{created: epoch - 2000, used: true}), suspect(epoch-1990)),   // and used
		with(key(modelKey{created: epoch - 500, active: true, ours: true}), func(m *model) { m.pendingDeletion = 1 << 2 }),
		func(m *model) { m.pendingDeletion = 1 << 2 },
		with(key(modelKey{created: epoch - 5000, active: true, used: true}), func(m *model) { m.adopted = 2 }),
	}
}
