package alias

import "sync"

// idTable has the name of each alias by its ID. It may be a moment behind the snapshot, so
// the ID of the alias that has the name must be compared.
type idTable struct {
	mu    sync.RWMutex
	names map[int64]Name
}

func (t *idTable) get(id int64) Name {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.names[id]
}

// fill enters all aliases of a snapshot.
func (t *idTable) fill(s *snapshot) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.names = make(map[int64]Name)
	for e := range s.names.all() {
		if e.alias != nil {
			t.names[e.alias.ID] = e.alias.Name
		}
	}
}

// update enters changes, whose AliasWas is set.
func (t *idTable) update(changes []Change) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range changes {
		switch {
		case c.AliasDeleted != nil:
			delete(t.names, c.AliasDeleted.ID)
		case c.AliasPut != nil:
			if c.AliasWas != nil {
				delete(t.names, c.AliasWas.ID) // another one, if a commit's answer was lost
			}
			t.names[c.AliasPut.ID] = c.AliasPut.Name
		}
	}
}
