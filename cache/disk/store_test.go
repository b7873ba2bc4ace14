package disk

import (
	"testing"
)

func TestPutGet(t *testing.T) {
	t.Parallel()
	e := open(t)
	sizes := []int{0, 1, 4095, 4096, 65535, 65536, 65537, 3 << 20}
	for i, size := range sizes {
		e.put(numbered(i), body(uint64(i), size))
	}
	for range 2 {
		for i, size := range sizes {
			h := e.want(numbered(i), body(uint64(i), size))
			if string(h.Meta) != "meta of "+numbered(i).Object || h.Key != numbered(i) {
				t.Errorf("got %+v", h)
			}
		}
		e.wantNone(key("none"))
		if got := e.Stats(); got.Entries != len(sizes) || !got.Available {
			t.Errorf("got %+v", got)
		}
		e.reopen()
	}
}
