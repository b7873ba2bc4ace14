package iam

import (
	"maps"
	"slices"
	"time"
)

// table has the histories of the entities of one kind by name. Values are never
// changed in place.
type table[T any] map[string]*history[T]

// history has the versions of one entity, oldest first.
type history[T any] []version[T]

// version is the value of an entity from a moment on.
type version[T any] struct {
	from  time.Time // zero: always
	value T
	gone  bool
}

// visibleAt is the entity as it is visible at a moment: the last change that is
// visible counts, even if an earlier change is not visible yet.
func (t table[T]) visibleAt(name string, now time.Time) (T, bool) {
	if h, ok := t[name]; ok {
		for _, v := range slices.Backward(*h) {
			if !v.from.After(now) {
				return v.value, !v.gone
			}
		}
	}
	var none T
	return none, false
}

// latest is the current entity, visible or not.
func (t table[T]) latest(name string) (T, bool) {
	if h, ok := t[name]; ok {
		last := (*h)[len(*h)-1]
		return last.value, !last.gone
	}
	var none T
	return none, false
}

// lastKnown is the current entity, or its last value if it was removed.
func (t table[T]) lastKnown(name string) (T, bool) {
	value, _ := t.latest(name)
	_, known := t[name]
	return value, known
}

// set gives an entity a new value from a moment on.
func (t table[T]) set(name string, value T, from time.Time) {
	t.add(name, version[T]{from: from, value: value})
}

// remove removes an entity from a moment on and keeps its last value.
func (t table[T]) remove(name string, from time.Time) {
	value, _ := t.latest(name)
	t.add(name, version[T]{from: from, value: value, gone: true})
}

func (t table[T]) add(name string, v version[T]) {
	if _, ok := t[name]; !ok {
		t[name] = &history[T]{}
	}
	*t[name] = append(*t[name], v)
}

// allVisibleAt are the entities that are visible at a moment, by name.
func (t table[T]) allVisibleAt(now time.Time) []T {
	var out []T
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if value, ok := t.visibleAt(name, now); ok {
			out = append(out, value)
		}
	}
	return out
}

// allLatest are the current entities, visible or not, by name.
func (t table[T]) allLatest() []T {
	var out []T
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if value, ok := t.latest(name); ok {
			out = append(out, value)
		}
	}
	return out
}
