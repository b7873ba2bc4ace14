package datadir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ixmage/alias"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/internal/durable"
)

// RestoreSpec says what to restore, and where.
type RestoreSpec struct {
	File   string
	Dir    string
	Master string // as in seal.Spec

	// step is called before each change of a file, with its name. Tests kill the process there.
	step func(name string)
}

// Restored describes a restored registry.
type Restored struct {
	*sqlstore.Copied

	// Before is the path of the registry that was replaced, empty if there was none.
	Before string
}

// beforeRestore is the suffix of a replaced registry.
const beforeRestore = ".before-restore"

// besideRegistry has the suffixes of SQLite's files beside a registry.
var besideRegistry = []string{"-wal", "-shm", "-journal"}

// Restore puts a copy of a registry into the data folder of a server that is stopped, and keeps
// the registry that it replaces. It changes nothing if the file is no registry, is damaged, of
// a newer version, or sealed with a key set that is not in place. If it is killed, the folder
// has the old registry or the new one; only a damaged registry may be without its log.
func Restore(ctx context.Context, spec RestoreSpec) (*Restored, error) {
	if spec.step == nil {
		spec.step = func(string) {}
	}
	if err := spec.prepare(ctx); err != nil {
		return nil, err
	}
	unlock, err := Lock(spec.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	removeTemporary(spec.Dir)
	spec.step("copy")
	temp, err := spec.copy()
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp) // unless it is in place
	copied, err := spec.check(ctx, temp)
	if err != nil {
		return nil, err
	}
	spec.step("empty disk cache")
	if err := sqlstore.EmptyDiskCache(ctx, temp); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", temp, err)
	}
	if err := syncFile(temp); err != nil {
		return nil, err
	}
	before, err := spec.setAside(ctx)
	if err != nil {
		return nil, fmt.Errorf("keep the registry that is in place: %w", err)
	}
	spec.step("put in place")
	if err := os.Rename(temp, RegistryPath(spec.Dir)); err != nil {
		return nil, err
	}
	return &Restored{copied, before}, durable.SyncDir(spec.Dir)
}

// prepare makes the folder, if there is none. It does so only for a file that can be restored:
// with the key set elsewhere.
func (spec *RestoreSpec) prepare(ctx context.Context) error {
	if _, err := os.Stat(spec.Dir); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := spec.check(ctx, spec.File); err != nil {
		return err
	}
	return os.MkdirAll(spec.Dir, 0o700)
}

// copy copies the file beside the registry: it may change meanwhile, and SQLite writes to what
// it opens.
func (spec *RestoreSpec) copy() (string, error) {
	if info, err := os.Stat(spec.File + "-wal"); err == nil && info.Size() > 0 {
		return "", fmt.Errorf("%s has a write-ahead log beside it (-wal), so it is not the complete registry: "+
			"make a copy with ixmage backup, or start and stop the server whose registry it is", spec.File)
	}
	from, err := os.Open(spec.File)
	if err != nil {
		return "", err
	}
	defer from.Close()
	to, err := os.CreateTemp(spec.Dir, "registry.db.tmp-*") // of mode 0600
	if err != nil {
		return "", err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err != nil {
		os.Remove(to.Name())
		return "", fmt.Errorf("copy %s to %s: %w", spec.File, spec.Dir, err)
	}
	return to.Name(), nil
}

// check refuses a file that the server could not use.
func (spec *RestoreSpec) check(ctx context.Context, path string) (*sqlstore.Copied, error) {
	c, err := sqlstore.Inspect(ctx, path)
	switch {
	case errors.Is(err, sqlstore.ErrNoRegistry):
		return nil, fmt.Errorf("%s is not a registry of ixmage: give a file that ixmage backup has made", spec.File)
	case errors.Is(err, alias.ErrDamaged):
		return nil, fmt.Errorf("%s is damaged: use another backup: %w", spec.File, err)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", spec.File, err)
	}
	keys, err := seal.Open(ctx, seal.Spec{Master: spec.Master, Dir: spec.Dir, Sealed: c.Sealed})
	switch {
	case errors.Is(err, seal.ErrMissing) && c.Sealed == 0: // the server makes one
		return c, nil
	case err != nil:
		return nil, fmt.Errorf("%s needs its key set%s: %w", spec.File, named(c.Keyset), err)
	case c.Keyset != "" && !keys.Has(c.Keyset) || c.KeyCheck != nil && !alias.OpensKeyCheck(keys, c.KeyCheck):
		return nil, fmt.Errorf("%s was sealed with another key set%s than %s, which has the fingerprint %s: "+
			"put the key set of the backup in its place, or name it with --master-key",
			spec.File, named(c.Keyset), keys.Place(), keys.Fingerprint())
	}
	return c, nil
}

func named(fingerprint string) string {
	if fingerprint == "" {
		return ""
	}
	return " (fingerprint " + fingerprint + ")"
}

// setAside gives the registry in place a second name, and leaves nothing beside it that SQLite
// would read into the next registry: a write-ahead log does not say which database it is of.
func (spec *RestoreSpec) setAside(ctx context.Context) (string, error) {
	path := RegistryPath(spec.Dir)
	_, err := os.Lstat(path)
	there := err == nil
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if there {
		spec.step("flatten")
		if err := sqlstore.Flatten(ctx, path); err != nil && !errors.Is(err, alias.ErrDamaged) {
			return "", err
		}
	}
	kept := ""
	if there {
		spec.step("keep")
		if kept, err = durable.Keep(path, beforeRestore); err != nil {
			return "", err
		}
	}
	for _, suffix := range besideRegistry {
		spec.step("move " + suffix)
		if err := moveBeside(path, suffix, kept); err != nil {
			return "", err
		}
	}
	return kept, durable.SyncDir(spec.Dir)
}

// moveBeside moves a file beside the registry beside the kept one, where SQLite finds it.
func moveBeside(path, suffix, kept string) error {
	if _, err := os.Lstat(path + suffix); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	switch {
	case suffix == "-shm": // SQLite makes a new one
	case kept != "":
		return os.Rename(path+suffix, kept+suffix)
	default:
		if _, err := durable.Keep(path+suffix, beforeRestore); err != nil {
			return err
		}
	}
	return os.Remove(path + suffix)
}

// removeTemporary removes files that a killed call has left.
func removeTemporary(dir string) {
	left, _ := filepath.Glob(filepath.Join(dir, "registry.db.tmp-*")) // the pattern is valid
	for _, path := range left {
		os.Remove(path)
	}
}

func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
