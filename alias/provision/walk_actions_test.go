package provision

// after are the states to which a decision can lead.
func (m model) after(d decision) []model {
	switch {
	case d.act != "" && d.again > 0 && again(&m, d.act) > 2:
		return []model{m.failed()}
	case d.act != "":
		return m.outcomes(d)
	case d.stop != nil:
		return []model{m.failed()}
	case !d.until.IsZero():
		m.now += int32(d.until.Sub(m.time()).Minutes())
		return append([]model{m}, m.faulty(model.crashed)...)
	}
	return []model{m.finished()}
}

// again counts the looks in a row that were without the wanted result.
func again(m *model, act actionKind) int8 {
	count := &m.task.looks
	if act == actCreateKey {
		count = &m.task.making
	}
	*count++
	return *count
}

// outcomes are the states after an action: of one that was done, and of one that met a fault.
func (m model) outcomes(d decision) []model {
	if d.again == 0 {
		m.task.looks = 0
	}
	effect := effects[d.act]
	key := none
	if d.key != "" {
		key = keyNumber(d.key)
	}
	if m.end == running && m.op == opNone && d.act == actRaise {
		panic("an operation's action without one")
	}
	done, good := m, true
	if effect != nil {
		good = effect(&done, key)
	}
	if !good {
		done = done.failed()
	}
	list := []model{done}
	list = append(list, m.faulty(model.crashed, model.failed)...) // without an effect
	if good {                                                     // with it, but without an answer that the task got
		list = append(list, m.faulty(func(m model) model { m = m.iamOf(done); return m.crashed() },
			func(m model) model { m = m.iamOf(done); return m.failed() },
			func(model) model { s := done; s.faults--; return s.crashed() })...)
	}
	return append(list, m.special(d.act, done)...)
}

// faulty applies what a fault makes of a state, if the path may have one more.
func (m model) faulty(fns ...func(model) model) []model {
	if m.faults == 0 {
		return nil
	}
	m.faults--
	list := make([]model, len(fns))
	for i, fn := range fns {
		list[i] = fn(m)
	}
	return list
}

// iamOf is the state with IAM as it is in another.
func (m model) iamOf(done model) model {
	m.user, m.tag, m.policy, m.keys = done.user, done.tag, done.policy, done.keys
	if m.previous != none && done.previous == m.previous && m.inactive == 0 { // stored before its effect
		m.inactive = done.inactive
	}
	if m.pending == unborn && done.pending >= 0 { // likewise
		m.since, m.beside = m.now, done.beside
	}
	m.widened = m.widened || done.widened // likewise
	return m
}

// special are outcomes that only one action has.
func (m model) special(act actionKind, done model) []model {
	switch act { //nolint:exhaustive // the others have no outcome of their own
	case actLookUser:
		return m.faulty(func(m model) model { // a view that is late
			if m.user == gone && (m.task.vanished || m.task.gone > 0) {
				m.task.view, m.task.gone = userOurs, 0
			} else if m.task.created {
				m.task.view, m.task.hidden = userAbsent, m.task.taken && !m.task.maybeOurs
				m.task.gone = min(m.task.gone+1, 3)
			}
			return m
		})
	case actCreateUser:
		return m.faulty(func(m model) model { // the answer is lost, and the next attempt is refused
			m = m.iamOf(done)
			m.task.view, m.task.taken, m.task.maybeOurs = userUnknown, true, true
			return m
		})
	case actTag:
		if m.tag == m.generation {
			return nil // it has tagged the user before
		}
		return m.faulty(func(m model) model { // the server cannot tag
			m.generation, m.before, m.seen, m.task.untagged = m.generation-1, m.before-1, true, true
			return m
		})
	case actLookKeys:
		return m.faulty(func(m model) model { // without the use, or without the newest key, or with a deleted one
			m = done
			m.faults--
			for k := range m.task.keys {
				m.task.keys[k].blind = true
			}
			return m
		}, func(m model) model {
			m = done
			m.faults--
			for k := keyCount - 1; k > 2; k-- {
				if m.task.keys[k].there && k > 2 {
					m.task.keys[k] = modelKey{}
					return m
				}
			}
			for k := range int8(keyCount) {
				if m.deleted.has(k) {
					m.task.keys[k] = modelKey{there: true, ours: true, created: epoch}
				}
			}
			return m
		})
	case actLookRights:
		return m.faulty(func(m model) model { m.task.rights = viewDiffers; return m })
	case actCreateKey:
		return m.faulty(
			func(m model) model { m = m.iamOf(done); m.task.listed, m.task.unmade = false, true; return m },
			func(m model) model {
				m.since, m.beside = m.now, done.beside
				m.task.listed, m.task.unmade = false, true
				return m
			})
	case actTry:
		return m.faulty(func(m model) model { revert(&m, none); return m.failed() })
	case actStrip: // its keys are deleted, and the user is not
		return m.faulty(func(m model) model { m.keys = done.keys; return m.crashed() },
			func(m model) model { m.keys = done.keys; return m.failed() })
	}
	return nil
}

// effects are what the actions do. They report whether the action can go on.
var effects = map[actionKind]func(m *model, key int8) bool{
	actLookUser: lookModelUser,
	actLookKeys: func(m *model, _ int8) bool {
		m.task.keys, m.task.listed = m.keys, true
		return true
	},
	actLookRights: func(m *model, _ int8) bool {
		m.task.rights = viewDiffers
		if m.policy {
			m.task.rights = viewSame
		}
		return m.user != gone
	},
	actLookBucket: func(m *model, _ int8) bool { m.task.bucket = true; return true },
	actSearch: func(m *model, _ int8) bool {
		m.task.searched = m.user != gone
		if m.user == gone {
			m.task.view = userUnknown
		}
		return true
	},
	actCreateUser: func(m *model, _ int8) bool {
		m.task.view = userUnknown
		if m.user != gone {
			m.task.taken, m.task.maybeOurs = true, m.task.resumed
			return true
		}
		m.user, m.tag, m.policy, m.known = mine, m.generation, false, true
		m.task.rights, m.task.created = viewDiffers, true
		return true
	},
	actRaise: func(m *model, _ int8) bool {
		raiseModel(m)
		m.raised, m.task.view = true, userRaising
		return true
	},
	actTag: func(m *model, _ int8) bool {
		if m.user == gone {
			m.task.view, m.task.vanished = userUnknown, true
			return true
		}
		m.tag, m.task.view, m.seen = m.generation, userOurs, true
		return true
	},
	actPut: func(m *model, _ int8) bool {
		m.policy, m.extra, m.widened = true, false, true
		m.task.put, m.task.rights = true, viewUnknown
		return m.user != gone
	},
	actLimit:    func(m *model, _ int8) bool { m.extra, m.task.rights = false, viewUnknown; return m.user != gone },
	actRevoke:   func(m *model, _ int8) bool { m.revoked = m.now; return m.user != gone },
	actUnrevoke: func(m *model, _ int8) bool { m.revoked = 0; return true },
	actCreateKey: func(m *model, _ int8) bool {
		m.since, m.beside, m.task.listed = m.now, 0, false
		count, free := 0, none
		for k := range int8(keyCount) {
			if m.task.keys[k].there {
				m.beside = m.beside.with(k)
			}
			if m.keys[k].there {
				count++
			} else if k > 2 && free == none && !m.deleted.has(k) && !m.suspects.has(k) {
				free = k
			}
		}
		if count == maxKeys {
			m.task.unmade = true
			return true
		}
		m.keys[free] = modelKey{there: true, active: true, ours: true, created: m.now}
		m.pending, m.since = free, 0
		return m.user != gone
	},
	actProve: func(m *model, _ int8) bool {
		m.proven = true
		if !m.task.untagged && raiseModel(m) {
			m.task.view = userRaising
		}
		return true
	},
	actSwap:   swapModel,
	actRevert: func(m *model, _ int8) bool { revert(m, none); return false },
	actTry:    func(m *model, _ int8) bool { m.task.works = true; return true },
	actSuspect: func(m *model, key int8) bool {
		m.keys[key].active, m.suspectAt, m.task.listed = false, m.now, false
		m.suspects = m.suspects.with(key)
		return true
	},
	actDeactivate: func(m *model, key int8) bool {
		if key == m.previous && m.inactive == 0 {
			m.inactive = m.now
		}
		m.keys[key].active, m.task.keys[key].active = false, false
		return true
	},
	actRefused: func(m *model, key int8) bool {
		m.task.refused = m.task.refused.with(key)
		return !m.keys[key].there || !m.keys[key].active
	},
	actDeleteKey: func(m *model, key int8) bool {
		m.keys[key], m.task.listed = modelKey{}, false
		m.deleted = m.deleted.with(key)
		m.pendingDeletion = m.pendingDeletion.without(key)
		m.suspects = m.suspects.without(key)
		if m.previous == key {
			m.previous = none
		}
		return true
	},
	actStrip: func(m *model, _ int8) bool {
		for k := range m.keys {
			if m.keys[k].there && !m.task.keys[k].there {
				return false // removeUser stops
			}
		}
		m.keys, m.user = [keyCount]modelKey{}, gone
		m.task = memory{refused: m.task.refused, vanished: true}
		return true
	},
}

// raiseModel is raiseGeneration.
func raiseModel(m *model) bool {
	if !m.seen {
		return false
	}
	m.generation, m.before, m.seen = m.generation+1, m.before+1, false
	return true
}

func swapModel(m *model, _ int8) bool {
	m.previous, m.current, m.pending, m.swapped, m.inactive = m.current, m.pending, none, m.now, 0
	m.task.listed, m.task.works = false, false
	return true
}

func revert(m *model, _ int8) bool {
	if !m.keys[m.previous].there {
		return true // refused, and nothing changes
	}
	m.keys[m.previous].active = true
	m.pendingDeletion = m.pendingDeletion.with(m.current)
	m.current, m.previous = m.previous, none
	return true
}

// lookModelUser is what lookUser and judge do.
func lookModelUser(m *model, _ int8) bool {
	if m.user == gone {
		m.task.view, m.task.hidden = userAbsent, m.task.taken && !m.task.maybeOurs
		m.task.gone = min(m.task.gone+1, 3)
		return true
	}
	m.task.gone, m.task.tag = 0, m.tag
	switch {
	case m.user == hers:
		m.task.view = userForeign
		return true
	case m.tag == m.generation:
		m.task.view, m.seen = userOurs, true
	case m.tagged():
		m.task.view = userRaising
	default:
		m.task.view = userCopied
	}
	if !m.known {
		m.known, m.task.rights = true, viewDiffers
	}
	return true
}

// crashed is the state in which another process starts.
func (m model) crashed() model {
	if m.op == opNone {
		m.end = stopped
	}
	if m.end != running {
		return m
	}
	m.task = memory{created: m.task.created}
	if m.op == opProvision && !m.known && !m.undo {
		m.task.view, m.task.resumed = userAbsent, true
	}
	return m
}

// failed is the state after an action that cannot go on.
func (m model) failed() model {
	switch {
	case m.op == opNone:
		m.end = stopped
		return m
	case m.undo:
		m.end, m.pending = failed, none
		return m
	}
	m.undo, m.task.rights, m.task.listed, m.task.searched = true, viewUnknown, false, false
	if m.op == opReuse && m.widened {
		m.extra, m.policy = true, false
	}
	if m.op == opRotate {
		if m.pending >= 0 {
			m.pendingDeletion = m.pendingDeletion.with(m.pending)
		}
		m.pending = none
	}
	return m
}

// finished is the state after the end.
func (m model) finished() model {
	switch {
	case m.op == opNone:
		m.end = stopped
	case m.undo:
		m.end, m.pending = failed, none
	default:
		m.end = ended
		if m.pending >= 0 {
			m.current, m.pending = m.pending, none
		}
	}
	return m
}
