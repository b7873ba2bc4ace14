package cache

import (
	"testing"

	"golang.org/x/sys/unix"
)

// inFile is how many bytes lie outside the heap.
func inFile(t *testing.T, c *Cache) int64 {
	t.Helper()
	for i := range c.memory.shard {
		for _, e := range c.memory.shard[i].all {
			fd, _, ok := e.File()
			if !ok {
				continue
			}
			var st unix.Stat_t
			if err := unix.Fstat(fd, &st); err != nil {
				t.Fatal(err)
			}
			return st.Blocks * 512
		}
	}
	return 0
}
