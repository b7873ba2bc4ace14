package seal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

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
	if perm := info.Mode().Perm(); perm&0o077 != 0 {
		return nil, fmt.Errorf("key set %s may be read or written by others (mode %04o): run chmod 600 %s", path, perm, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile))
	if err != nil {
		return nil, fmt.Errorf("read the key set %s: %w", path, err)
	}
	return text, nil
}

// writeFile makes a new file and returns when it is durable: after a power cut, a secret
// sealed with a lost key set would be lost.
func writeFile(path string, text []byte) error {
	if err := durable.Create(path, text); err != nil {
		return fmt.Errorf("write the key set %s: %w", path, err)
	}
	return nil
}
