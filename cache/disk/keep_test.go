package disk

import "testing"

// TestKeepTwice: a second Keep does not replace one that has not been done yet. Two aliases
// are deleted while the disk is slow, and the objects of both must go.
func TestKeepTwice(t *testing.T) {
	t.Parallel()
	s := &Store{kick: make(chan struct{}, 1)} // without the goroutine that does the work
	for _, gone := range []int64{1, 2, 3} {
		s.Keep(func(space, _ int64) bool { return space != gone })
	}
	for space, want := range []bool{true, false, false, false, true} {
		if got := s.live(int64(space), 1); got != want {
			t.Errorf("space %d is kept: %t", space, got)
		}
	}
}
