package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/sqlstore"
	"ixmage/cache"
	"ixmage/metrics"
)

// brokenStore is a database that cannot be written.
type brokenStore struct{ alias.Store }

func (brokenStore) Update(context.Context, func(alias.Tx) error) error { return alias.ErrUnavailable }

// offCache is a cache whose disk tier is off, because its folder is below a file.
func offCache(t *testing.T) *cache.Cache {
	t.Helper()
	m := metrics.New(metrics.Config{})
	disk, err := cache.OpenDisk(cache.DiskConfig{
		Dir: "/dev/null/cache", Limit: 1 << 20, ObjectMax: 1 << 20, OpenFiles: 4, Recorder: m,
		Origin: func(int64, int64) ([16]byte, bool) { return [16]byte{}, false },
	})
	if err != nil {
		t.Fatal(err)
	}
	c := cache.New(cache.Config{Memory: 1 << 20, ObjectMax: 1 << 20, Disk: disk}, cacheRecorder{m, nil})
	t.Cleanup(c.Close)
	return c
}

// TestPurgeIsDurable: a purge that cannot be written to disk is noted in the registry before
// its answer, once, and it is an error if that fails too.
func TestPurgeIsDurable(t *testing.T) {
	t.Parallel()
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	var log strings.Builder
	purges := diskPurges{store, slog.New(slog.NewTextHandler(&log, nil))}
	p := purger{memory: offCache(t), purges: purges}
	for _, folder := range []string{"/a", "/b", "/a"} {
		complete, err := purges.begin(t.Context(), folder)
		if complete || err != nil {
			t.Errorf("a folder that was not the last one: complete %t, %v", complete, err)
		}
		if err := purges.put(t.Context(), folder); err != nil {
			t.Fatal(err)
		}
		if complete, err := purges.begin(t.Context(), folder); !complete || err != nil {
			t.Errorf("the last one: complete %t, %v", complete, err)
		}
	}
	requests := map[string]admin.PurgeRequest{
		"key": {Alias: &alias.Alias{ID: 1}, Key: "a.jpg", Hard: true}, "prefix": {Alias: &alias.Alias{ID: 1}, Prefix: "a"},
		"alias": {Alias: &alias.Alias{ID: 1}},
	}
	p.purges.store = brokenStore{store}
	for name, r := range requests {
		if _, err := p.Purge(t.Context(), r); !errors.Is(err, admin.ErrNotDurable) || !errors.Is(err, alias.ErrUnavailable) {
			t.Errorf("%s, with a database that cannot be written: %v", name, err)
		}
	}
	log.Reset()
	p.purges.store = store
	for name, r := range requests {
		if _, err := p.Purge(t.Context(), r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if complete, err := purges.complete(t.Context(), "/a"); complete || err != nil {
			t.Errorf("%s: the next start would use the folder: %t, %v", name, complete, err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, &log)
	}
}
