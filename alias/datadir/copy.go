package datadir

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
)

// CopySpec says which registry to copy, and where to.
type CopySpec struct {
	From, To Place
	// Progress is that of sqlstore.RegistryCopy.
	Progress func(rows, all int64)

	step func(name string) // as in RestoreSpec
}

// CopiedRegistry describes a copy.
type CopiedRegistry struct {
	From, To string // without passwords
	Tables   []sqlstore.CopiedTable
	// Keyset is the fingerprint of the key set that the copy needs, empty if it has no secret
	// and no server was started with it.
	Keyset string
	// Dir is the data folder of the copy. It is empty for PostgreSQL, and for a file that no
	// server uses.
	Dir string
	// Shared is set if many nodes can use the copy.
	Shared bool
}

// CopyRegistry copies a registry that no server uses into an empty one, which it makes if there
// is none. The target is empty after an error, and if the process is killed.
func CopyRegistry(ctx context.Context, spec CopySpec) (*CopiedRegistry, error) {
	if spec.step == nil {
		spec.step = func(string) {}
	}
	from, err := openSource(ctx, spec.From)
	if err != nil {
		return nil, fmt.Errorf("the source (--from): %w", err)
	}
	defer from.close() //nolint:errcheck // it was only read
	to, err := openTarget(ctx, spec.To, from)
	if err != nil {
		return nil, fmt.Errorf("the target (--to): %w", err)
	}
	defer to.close() //nolint:errcheck // the end returns the error
	spec.step("copy")
	done := &CopiedRegistry{From: from.name, To: to.name, Dir: to.dir, Shared: to.nodes != nil}
	done.Tables, err = sqlstore.RegistryCopy{
		From: from.store, To: to.store, Progress: spec.Progress,
		Before: func() error {
			spec.step("commit")
			return errors.Join(from.unused(ctx, "source"), to.unused(ctx, "target"))
		},
	}.Run(ctx)
	if err != nil {
		return nil, fmt.Errorf("copy %s to %s: %w", from.name, to.name, err)
	}
	spec.step("end")
	fingerprint, err := to.store.Meta(ctx, alias.MetaKeyset)
	if err != nil && !errors.Is(err, alias.ErrNotFound) {
		return nil, err
	}
	done.Keyset = string(fingerprint)
	return done, to.close()
}

// copied is one side of a copy.
type copied struct {
	name  string // for people
	id    string // the same for the same registry
	dir   string // data folder, if it is one
	store *sqlstore.Store
	nodes *sqlstore.Postgres // nil for SQLite
	// close closes the store and unlocks the data folder. It may be called again.
	close func() error
}

// nodeTTL is the time after which a node that does not report is not counted as running.
const nodeTTL = 15 * time.Second

// unused returns an error that names the nodes that use the registry.
func (c *copied) unused(ctx context.Context, side string) error {
	if c.nodes == nil {
		return nil // it is locked
	}
	list, err := c.nodes.Nodes(ctx, nodeTTL)
	if err != nil {
		return err
	}
	var live []string
	for _, n := range list {
		if n.Live {
			live = append(live, n.Name)
		}
	}
	if len(live) > 0 {
		return fmt.Errorf("%w: the %s %s is used by the nodes %s, whose changes during the copy would be lost: "+
			"stop them (a node that has crashed counts for %s)", alias.ErrInUse, side, c.name, strings.Join(live, ", "), nodeTTL)
	}
	return nil
}

func openSource(ctx context.Context, p Place) (*copied, error) {
	if p.url != "" {
		return openNodes(ctx, p, "source", func(db *sqlstore.Postgres) error {
			err := db.Use(ctx)
			if errors.Is(err, sqlstore.ErrNoRegistry) {
				return errors.New("the database has no registry of ixmage")
			}
			return err
		})
	}
	path, dir, err := p.file()
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is no registry %s: give %s", path, placeForms)
		}
		return nil, err
	}
	return openFile(path, dir, func() (*sqlstore.Store, error) {
		s, err := sqlstore.ReadSQLite(ctx, path)
		if errors.Is(err, sqlstore.ErrNoRegistry) {
			return nil, fmt.Errorf("%s is not a registry of ixmage", path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return s, nil
	})
}

func openTarget(ctx context.Context, p Place, from *copied) (*copied, error) {
	if p.url != "" {
		return openNodes(ctx, p, "target", func(db *sqlstore.Postgres) error {
			if db.String() == from.id {
				return errSame
			}
			if err := db.RefuseContent(ctx); errors.Is(err, alias.ErrUnavailable) {
				return err
			} else if err != nil {
				return fmt.Errorf("the registry of the target cannot be replaced: %w; give an empty database", err)
			}
			return db.Prepare(ctx)
		})
	}
	path, dir, err := p.file()
	if err != nil {
		return nil, err
	}
	if path == from.id {
		return nil, errSame
	}
	if err := makeFolder(path, dir); err != nil {
		return nil, err
	}
	return openFile(path, dir, func() (*sqlstore.Store, error) {
		if err := sqlstore.RefuseFile(ctx, path); err != nil {
			return nil, fmt.Errorf("%s cannot be replaced: %w; give the path of a new file, or move it away", path, err)
		}
		return sqlstore.OpenSQLite(ctx, path)
	})
}

// makeFolder makes the folder of a file. A data folder without files is made private, as a
// server does it.
func makeFolder(path, dir string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil || dir == "" {
		return err
	}
	list, err := os.ReadDir(dir)
	if err != nil || len(list) > 0 {
		return err
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a folder needs the execute bit
}

var errSame = errors.New("it is the source too")

// openNodes opens a database that no node uses.
func openNodes(ctx context.Context, p Place, side string, prepare func(*sqlstore.Postgres) error) (*copied, error) {
	db, err := sqlstore.NewPostgres(p.url)
	if err != nil {
		return nil, err
	}
	c := &copied{name: p.shown(), id: db.String(), store: &db.Store, nodes: db, close: db.Close}
	if err := prepare(db); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", c.name, err), db.Close())
	}
	if err := c.unused(ctx, side); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return c, nil
}

// openFile opens a registry, and locks its data folder.
func openFile(path, dir string, open func() (*sqlstore.Store, error)) (*copied, error) {
	unlock := func() {}
	if dir != "" {
		var err error
		if unlock, err = Lock(dir); err != nil {
			return nil, err
		}
	}
	store, err := open()
	if err != nil {
		unlock()
		return nil, err
	}
	return &copied{name: path, id: path, dir: dir, store: store, close: func() error {
		defer unlock()
		return store.Close()
	}}, nil
}
