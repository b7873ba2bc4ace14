package canary

import "hash/fnv"

// share says which aliases a node has to read. Each node comes to the same result by itself, and
// only the aliases of a node that died or joined move (rendezvous hashing).
type share struct {
	own  uint64
	live []uint64 // hashes of names; empty: all aliases are ours
}

func (c *Canary) share() share {
	if c.cfg.Nodes == nil {
		return share{}
	}
	own, names := c.cfg.Nodes()
	s := share{own: hash(own)}
	for _, name := range names {
		s.live = append(s.live, hash(name))
	}
	return s
}

// has reports whether no other node is before this one in the order of an alias.
func (s share) has(aliasID int64) bool {
	ours := spread(s.own ^ spread(uint64(aliasID)))
	for _, node := range s.live {
		if spread(node^spread(uint64(aliasID))) > ours {
			return false
		}
	}
	return true
}

func hash(name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // it cannot fail
	return h.Sum64()
}
