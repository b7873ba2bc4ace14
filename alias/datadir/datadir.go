// Package datadir works on the data folder of a server that is stopped: it locks it,
// restores its registry, and seals the secrets in it with another key.
package datadir

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
)

// Files are the names of the files of a data folder. A crash, or a kill, may leave a tmp file
// or a copy for a backup; a separate volume has lost+found.
var Files = regexp.MustCompile(`^(lock|cache|lost\+found|` +
	`registry\.db(-\w+)?(\.before-\d+|\.before-restore(-\w+)*)?(\.tmp-\d+)?|registry\.db\.backup-\d+(-\w+)?|` +
	`replica\.db(-\w+)?(\.before-\d+)?(\.tmp-\d+)?|node-id(\.tmp-\d+)?|` +
	`(master\.keyset(\.kms)?(\.before-rekey(-\d+)?)?|admin-token)(\.tmp-\d+)?)$`)

// RegistryPath returns the path of the registry of a data folder.
func RegistryPath(dir string) string { return filepath.Join(dir, "registry.db") }

// BackupPattern is that of the names of copies of the registry that are being sent.
const BackupPattern = "registry.db.backup-*"

// Lock locks an existing data folder for this process. It fails while another process has it.
func Lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data folder (--data) is not writable: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data folder %s is in use by another ixmage: "+
				"stop it, or name another folder with --data", dir)
		}
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return func() {
		// Close alone would leave the lock to a process that is being started: until it executes its
		// program, it has a copy of every descriptor.
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		f.Close()
	}, nil
}

// RemoveBackups removes copies of the registry that a killed server has left.
func RemoveBackups(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, BackupPattern)) // the pattern is valid
	for _, path := range left {
		os.Remove(path)
	}
}
