package proxy

import (
	"math/rand/v2"
	"sync"
	"testing"

	"ixmage/cache"
)

func TestCrowd(t *testing.T) {
	t.Parallel()
	key := crowdKey{cache.Key{Object: "a"}, `"1"`}
	for _, tc := range []struct {
		name  string
		there []byteRange
		asked byteRange
		meets bool
	}{
		{"nobody", nil, byteRange{0, 9}, false},
		{"the same", []byteRange{{0, 9}}, byteRange{0, 9}, true},
		{"its last byte", []byteRange{{0, 9}}, byteRange{9, 20}, true},
		{"its first byte", []byteRange{{9, 20}}, byteRange{0, 9}, true},
		{"within", []byteRange{{0, 100}}, byteRange{5, 5}, true},
		{"around", []byteRange{{5, 5}}, byteRange{0, 100}, true},
		{"before", []byteRange{{10, 20}}, byteRange{0, 9}, false},
		{"behind", []byteRange{{0, 9}}, byteRange{10, 20}, false},
		{"the second", []byteRange{{0, 9}, {50, 60}}, byteRange{55, 70}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var c crowd
			c.enter(crowdKey{cache.Key{Object: "b"}, `"1"`}, tc.asked)
			c.enter(crowdKey{cache.Key{Object: "a"}, `"2"`}, tc.asked)
			for _, r := range tc.there {
				c.enter(key, r)
			}
			if meets, _ := c.enter(key, tc.asked); meets != tc.meets {
				t.Errorf("meets others: %t, want %t", meets, tc.meets)
			}
		})
	}
}

// Who has left, once or twice, is met by nobody, and leaves nothing.
func TestCrowdLeaves(t *testing.T) {
	t.Parallel()
	var c crowd
	key := crowdKey{cache.Key{Object: "a"}, `"1"`}
	_, one := c.enter(key, byteRange{0, 9})
	_, two := c.enter(key, byteRange{0, 9})
	one()
	one()
	if meets, leave := c.enter(key, byteRange{0, 0}); !meets {
		t.Error("the second is there yet")
	} else {
		leave()
	}
	two()
	if meets, leave := c.enter(key, byteRange{0, 0}); meets {
		t.Error("all had left")
	} else {
		leave()
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for range 1000 {
				first := rnd.Int64N(100)
				_, leave := c.enter(key, byteRange{first, first + rnd.Int64N(20)})
				leave()
			}
		})
	}
	wg.Wait()
	if len(c.parts) != 0 {
		t.Errorf("left with %v", c.parts)
	}
}
