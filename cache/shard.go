package cache

import (
	"math"
	"sync"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// shard is a part of the memory tier, under one lock.
type shard struct {
	mu  sync.Mutex
	lru *simplelru.LRU[Key, *Entry] // in the order of Entry.used
	// all has every entry, at Entry.at: a purge walks it in steps, which a list
	// whose elements move with every hit does not allow.
	all []*Entry
}

func (s *shard) init() {
	// The size is required above zero and bounds entries; bytes bound us.
	s.lru, _ = simplelru.NewLRU[Key, *Entry](math.MaxInt, nil)
	s.all = nil
}

func (s *shard) hasLocked(e *Entry) bool {
	found, ok := s.lru.Peek(e.key)
	return ok && found == e
}

// addLocked puts in e, whose key must not be there: simplelru overwrites without
// telling anybody.
func (s *shard) addLocked(e *Entry) {
	e.at = int32(len(s.all)) // there is not memory for more
	s.all = append(s.all, e)
	s.lru.Add(e.key, e)
}

// replaceLocked puts e in the place of old, which has the same key.
func (s *shard) replaceLocked(old, e *Entry) {
	e.at = old.at
	s.all[e.at] = e
	s.lru.Add(e.key, e)
}

// removeLocked takes e out. The last entry of all takes its place.
func (s *shard) removeLocked(e *Entry) {
	s.lru.Remove(e.key)
	end := len(s.all) - 1
	last := s.all[end]
	last.at = e.at
	s.all[last.at] = last
	s.all[end] = nil
	s.all = s.all[:end]
}

// stepSize is how many entries are looked at while a shard is locked.
const stepSize = 256

// step copies entries from just before the place end, and returns them and the end
// for the next step; nothing is left at 0. Whoever begins with math.MaxInt and goes
// on gets every entry that is there all the time, and perhaps others: what has not
// been visited is before end, and a removal moves an entry only to a lower place.
func (s *shard) step(buf []*Entry, end int) ([]*Entry, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	end = min(end, len(s.all))
	from := max(0, end-stepSize)
	return append(buf[:0], s.all[from:end]...), from
}
