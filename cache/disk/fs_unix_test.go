//go:build unix

package disk

import (
	"path/filepath"
	"syscall"
	"testing"
)

// TestUnlock: a process that is being started has copies of the descriptors of this one.
func TestUnlock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "lock")
	held, err := lockFile(name)
	if err != nil {
		t.Fatal(err)
	}
	copied, err := syscall.Dup(int(held.(lock).Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(copied)
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if held, err = lockFile(name); err != nil {
		t.Fatal(err)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
}
