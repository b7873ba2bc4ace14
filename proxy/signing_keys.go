package proxy

import (
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"ixmage/alias"
	"ixmage/alias/signature"
)

// signingKeys has the keys of aliases in the form that verifies. It is safe for concurrent use.
type signingKeys struct {
	byAlias *lru.Cache[int64, verifiers]
}

// verifiers are the keys of an alias.
type verifiers struct {
	alias *alias.Alias // which the registry never changes: a change makes another one
	keys  []*signature.Key
	used  map[string]*atomic.Int64 // by kid, the second of the last good signature; 0: none since the start
}

// use notes a good signature.
func (v verifiers) use(kid string, now time.Time) {
	if used, second := v.used[kid], now.Unix(); used.Load() < second {
		used.Store(second)
	}
}

// LastUse returns when a request with a good signature of a key came last to this process, to the
// second, or zero.
func (p *Proxy) LastUse(aliasID int64, kid string) time.Time {
	v, _ := p.keys.byAlias.Peek(aliasID)
	if used := v.used[kid]; used != nil && used.Load() != 0 {
		return time.Unix(used.Load(), 0).UTC()
	}
	return time.Time{}
}

// maxSigningKeys is how many aliases have their keys ready.
const maxSigningKeys = 4096

func newSigningKeys() signingKeys {
	byAlias, err := lru.New[int64, verifiers](maxSigningKeys)
	if err != nil { // the size is positive
		panic(err) //nolint:forbidigo // see above
	}
	return signingKeys{byAlias}
}

// ready returns the keys of an alias with their uses, which a change of the alias does not forget.
// A key that cannot be read verifies nothing.
func (s signingKeys) ready(a *alias.Alias) verifiers {
	old, ok := s.byAlias.Get(a.ID)
	if ok && old.alias == a {
		return old
	}
	v := verifiers{alias: a, used: map[string]*atomic.Int64{}}
	for _, k := range a.SigningKeys {
		key, err := signature.NewKey(k.KID, []byte(k.Secret.Reveal()))
		if err != nil {
			continue
		}
		v.keys = append(v.keys, key)
		if v.used[k.KID] = old.used[k.KID]; v.used[k.KID] == nil {
			v.used[k.KID] = new(atomic.Int64)
		}
	}
	s.byAlias.Add(a.ID, v)
	return v
}
