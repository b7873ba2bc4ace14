package main

import (
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

// openDisk opens the disk tier, and drops what no alias can serve any more. It returns nil
// without --cache-disk. The only trouble that keeps the server from starting is another one
// that uses the folder: with any other, the tier is off, logs why and tries again.
func (s *serveCmd) openDisk(d cacheDeps, log *slog.Logger) (*cache.Disk, error) {
	if s.CacheDisk == (amount{}) {
		return nil, nil //nolint:nilnil // nil is a cache without this tier
	}
	path := s.diskPath()
	budget, err := s.diskBudget(path)
	if err != nil {
		return nil, err
	}
	d.metrics.DiskTier()
	disk, err := cache.OpenDisk(cache.DiskConfig{
		Dir: path, Limit: budget, ObjectMax: int64(s.CacheDiskObjectMax),
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
	exists := originOf(d.registry)
	disk.Keep(func(space, epoch int64) bool { _, ok := exists(space, epoch); return ok })
	return disk, nil
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
