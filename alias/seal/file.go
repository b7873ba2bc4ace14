package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	"ixmage/internal/durable"
)

// maxFile is far above the size of any key set; it bounds the memory that a wrong path
// costs.
const maxFile = 1 << 20

func isMissing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

// readFile reads a file that only its owner may read and write.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	defer f.Close()
	// This checks the open file: the path could be replaced in between.
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read the key set: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("key set %s is not a file", path)
	}
	if perm := info.Mode().Perm(); exposed(perm, ownerOf(info), os.Geteuid()) {
		return nil, fmt.Errorf("key set %s may be read or written by others (mode %04o): run chmod 600 %s", path, perm, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the key set %s: %w", path, err)
	}
	return text, nil
}

// exposed reports whether others than this process and root may read or write a file with the
// permission bits. The group may read a file of root, as for the keys of PostgreSQL: so systemd
// (LoadCredential=, whose access list shows as bits of the group) and Kubernetes (fsGroup) pass
// secrets to a process that is not root.
func exposed(perm fs.FileMode, owner, self int) bool {
	if owner == 0 && self != 0 {
		perm &^= 0o040
	}
	return perm&0o077 != 0
}

// ownerOf returns the user id of a file's owner, or -1 where the system has none.
func ownerOf(info fs.FileInfo) int {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(stat.Uid)
	}
	return -1
}

// writeFile makes a new file and returns when it is durable: after a power cut, a secret
// sealed with a lost key set would be lost.
func writeFile(path string, text []byte) error {
	if err := durable.Create(path, text); err != nil {
		return fmt.Errorf("write the key set %s: %w", path, err)
	}
	return nil
}
