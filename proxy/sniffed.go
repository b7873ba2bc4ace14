package proxy

import (
	"hash/maphash"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/proxy/origin"
)

// sniffedMax bounds the objects whose type is remembered, about 100 bytes each.
const sniffedMax = 8192

// sniffedTypes remembers the types of objects with a generic one, by version, so that not
// every range or HEAD of such an object costs a request for its first bytes.
type sniffedTypes struct {
	seed maphash.Seed
	mu   sync.Mutex // guards lru
	lru  *simplelru.LRU[uint64, string]
}

// sniffedKey is a version of an object with a strong entity tag, and its declared type.
type sniffedKey struct {
	alias, epoch         int64
	key, etag, mediaType string
}

func sniffedKeyOf(req origin.Request, o *origin.Object) sniffedKey {
	a := req.Route.Alias
	return sniffedKey{a.ID, a.Epoch, req.Key, strongTag(validatorsOf(o).etag), o.ContentType}
}

func newSniffedTypes() *sniffedTypes {
	lru, _ := simplelru.NewLRU[uint64, string](sniffedMax, nil)
	return &sniffedTypes{seed: maphash.MakeSeed(), lru: lru}
}

func (s *sniffedTypes) get(k sniffedKey) (picture string, ok bool) {
	h := maphash.Comparable(s.seed, k)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lru.Get(h)
}

func (s *sniffedTypes) put(k sniffedKey, picture string) {
	if k.etag == "" {
		return
	}
	h := maphash.Comparable(s.seed, k)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lru.Add(h, picture)
}
