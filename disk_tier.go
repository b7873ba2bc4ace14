package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"ixmage/alias"
	"ixmage/cache"
	"ixmage/proxy"
)

// diskPath is the folder that the operator chose.
func (s *serveCmd) diskPath() string {
	if s.CacheDiskPath == "" {
		return filepath.Join(s.Data, "cache")
	}
	return s.CacheDiskPath
}

// checkDisk refuses the data folder as that of the tier, which must be a folder of its own.
func (s *serveCmd) checkDisk(errs *configErrors) {
	path, err := filepath.Abs(s.diskPath())
	data, err2 := filepath.Abs(s.Data)
	if err == nil && err2 == nil && path == data {
		errs.addf("cache-disk-path", "%s is the data folder: name a folder that holds nothing else", s.CacheDiskPath)
	}
}

// openDisk opens the disk tier, and drops what no alias can serve any more. It returns nil
// without --cache-disk. The only trouble that keeps the server from starting is another one
// that uses the folder: with any other, the tier is off, logs why and tries again.
func (s *serveCmd) openDisk(ctx context.Context, log *slog.Logger, d cacheDeps) (*cache.Disk, error) {
	if s.CacheDisk == (amount{}) {
		return nil, d.purges.put(ctx, "")
	}
	path, err := filepath.Abs(s.diskPath())
	if err != nil {
		return nil, fmt.Errorf("--cache-disk-path: %w", err)
	}
	budget, err := s.diskBudget(path)
	if err != nil {
		return nil, err
	}
	complete, err := d.purges.begin(ctx, path)
	if err != nil {
		return nil, err
	}
	d.metrics.DiskTier()
	disk, err := cache.OpenDisk(cache.DiskConfig{
		Dir: path, Limit: budget, ObjectMax: int64(s.CacheDiskObjectMax), Empty: !complete,
		OpenFiles: s.descriptors().files, Codec: proxy.NewObjectCodec(d.registry), Origin: originOf(d.registry),
		Recorder: d.metrics, Log: log,
	})
	if errors.Is(err, cache.ErrDiskInUse) {
		return nil, fmt.Errorf("the cache folder %s is in use by another ixmage: "+
			"stop it, or name another folder with --cache-disk-path", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open the cache folder %s (--cache-disk-path): %w", path, err)
	}
	if fits := disk.EffectiveLimit(); fits < budget {
		log.Warn("--cache-disk is more than its file system has; a smaller budget is used",
			"cache_disk", budget, "used", fits, "folder", path)
	}
	if disk.Stats().Available {
		if err := d.purges.put(ctx, path); err != nil {
			disk.Close()
			return nil, err
		}
	}
	exists := originOf(d.registry)
	disk.Keep(func(space, epoch int64) bool { _, ok := exists(space, epoch); return ok })
	return disk, nil
}

// diskPurges is a setting in the registry, or in its replica on this node: the path of the
// folder that has the mark of every purge. Another folder may have objects that were purged while it was not in use:
//
//  1. The disk tier of the folder F has an object.
//  2. The server runs without F, and the object is purged.
//  3. The server is started with F again.
//
// So a folder that is not the one in the registry is emptied at the start.
type diskPurges struct {
	store settings
	log   *slog.Logger
}

// settings are those of this process alone.
type settings interface {
	Meta(ctx context.Context, key string) ([]byte, error)
	Update(ctx context.Context, fn func(alias.Tx) error) error
}

// complete reports whether the folder has the mark of every purge.
func (p diskPurges) complete(ctx context.Context, folder string) (bool, error) {
	value, err := p.store.Meta(ctx, alias.MetaDiskPurges)
	if errors.Is(err, alias.ErrNotFound) {
		return false, nil
	}
	return string(value) == folder, err
}

// begin is complete, and from then on no other folder is.
func (p diskPurges) begin(ctx context.Context, folder string) (bool, error) {
	complete, err := p.complete(ctx, folder)
	if complete || err != nil {
		return complete, err
	}
	return false, p.put(ctx, "")
}

// put is durable when it returns nil. The folder "" is none.
func (p diskPurges) put(ctx context.Context, folder string) error {
	if is, err := p.complete(ctx, folder); is || err != nil {
		return err
	}
	return p.store.Update(ctx, func(tx alias.Tx) error { return tx.SetMeta(alias.MetaDiskPurges, []byte(folder)) })
}

// missed notes that a purge could not be written to the folder.
func (p diskPurges) missed(ctx context.Context) error {
	if none, err := p.complete(ctx, ""); none || err != nil {
		return err
	}
	p.log.Warn("a purge could not be written to the disk cache; the next start empties it")
	return p.put(ctx, "")
}

// diskBudget returns the bytes of the disk tier.
func (s *serveCmd) diskBudget(path string) (int64, error) {
	if s.CacheDisk.percent == 0 {
		return int64(s.CacheDisk.bytes), nil
	}
	var fs unix.Statfs_t
	for dir := path; ; dir = filepath.Dir(dir) {
		err := unix.Statfs(dir, &fs)
		switch {
		case err == nil:
			return s.CacheDisk.of(int64(fs.Blocks) * int64(fs.Bsize)), nil //nolint:unconvert // other systems have other types
		case filepath.Dir(dir) == dir:
			return 0, fmt.Errorf("the file system of %s cannot be measured: %w; give --cache-disk in bytes", path, err)
		}
	}
}

// originOf returns a function that identifies the place which the objects of an alias come
// from, for the alias and epoch that exist now.
func originOf(registry *alias.Registry) func(space, epoch int64) ([16]byte, bool) {
	return func(space, epoch int64) (origin [16]byte, ok bool) {
		route, ok := registry.ByID(space)
		if !ok || route.Alias.Epoch != epoch {
			return origin, false
		}
		return route.Alias.OriginHash(), true
	}
}
