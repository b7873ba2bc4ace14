package cache

import (
	"log/slog"
	"sync/atomic"

	"ixmage/cache/disk"
)

// TierDisk is the name of the disk tier in metrics.
const TierDisk = "disk"

// ErrDiskInUse means that another process has the folder of the disk tier.
var ErrDiskInUse = disk.ErrInUse

// DiskConfig describes the second tier. Sizes are in bytes.
type DiskConfig struct {
	Dir   string
	Limit int64 // in blocks of the file system
	// ObjectMax is the size above which an object is not stored on disk.
	ObjectMax int64
	// Empty drops the objects of earlier starts: they may have been purged without this tier.
	Empty bool
	// OpenFiles is how many files stay open for further hits.
	OpenFiles int
	Codec     Codec
	// Origin identifies the place that the objects of an epoch come from. The numbers of
	// spaces can repeat, when a backup of the registry is restored: an object on disk is
	// used only if its origin is that of its space now. ok is false for an epoch that does
	// not exist.
	Origin   func(space, epoch int64) (origin [16]byte, ok bool)
	Recorder DiskRecorder
	Log      *slog.Logger
}

// Codec turns the Meta of entries into bytes for the disk, and back.
type Codec interface {
	// Encode returns nil for an object that cannot be stored on disk.
	Encode(meta any) []byte
	// Decode returns a Source without a Body: the Meta, and the lifetimes that the object
	// has by the rules of its space as they are now, counted from Entry.Stored. An error
	// drops the object.
	Decode(space, epoch int64, encoded []byte) (*Source, error)
}

// DiskRecorder counts events of the disk tier. Its methods must be quick and safe for
// concurrent use.
type DiskRecorder interface {
	disk.Recorder
	// DiskWrite counts objects that were written, failed to be, or were dropped because too
	// many others waited: result is written, failed or dropped.
	DiskWrite(result string, n int, bytes int64)
	// Promoted counts objects that were copied from disk to memory.
	Promoted(n int)
}

// Disk is the second tier, for Config.Disk. A Cache closes it.
type Disk struct {
	*disk.Store

	cfg  DiskConfig
	hits atomic.Int64
}

// OpenDisk opens the folder. Its only error is ErrDiskInUse: with any other trouble, the
// tier is off and tries again by itself.
func OpenDisk(cfg DiskConfig) (*Disk, error) {
	store, err := disk.Open(disk.Config{
		Dir: cfg.Dir, Limit: cfg.Limit, ObjectMax: cfg.ObjectMax, Empty: cfg.Empty, Recorder: cfg.Recorder, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Disk{Store: store, cfg: cfg}, nil
}

// OnDisk reports whether the bytes of e lie in a file of the disk tier: then Bytes is nil,
// and File or NewReader give access to them.
func (e *Entry) OnDisk() bool { return e.body.file != nil }

// Size is the size of the body in bytes.
func (e *Entry) Size() int64 { return e.body.length() }

// NewReader returns a reader of e, which the caller must Close. It keeps the bytes on its
// own, so that e may be released before.
func (e *Entry) NewReader() *Reader {
	e.body.retain(1)
	return entryReader(e, Hit)
}

// Spoil says that the bytes of e could not be read from its file, so that no other request
// gets e.
func (e *Entry) Spoil() { e.body.spoilt.Store(true) }

// DiskHits is how many calls of Hit have found an entry on disk.
func (c *Cache) DiskHits() int64 { return c.disk.hits.Load() }

// HasDisk reports whether there is a disk tier, also while it is off.
func (c *Cache) HasDisk() bool { return c.disk != nil }

// DiskStats reads the figures of the disk tier, zeros if there is none.
func (c *Cache) DiskStats() disk.Stats {
	if c.disk == nil {
		return disk.Stats{}
	}
	return c.disk.Stats()
}

// dropFile removes the object of key from disk, and stops what would put it there or into a
// table: an entry that is being written, or a file that is being opened. Cache.mu may not be
// held. It does not wait for the disk.
func (c *Cache) dropFile(key Key, reason string) {
	if c.disk == nil {
		return
	}
	c.mu.Lock()
	delete(c.moves, key)
	c.mu.Unlock()
	c.saver.cancel(key)
	if e := c.files.removeKey(key); e != nil {
		e.Release()
	}
	c.disk.Remove(disk.Key(key), reason)
}

// header describes e, whose body has size bytes, to the store. It reports false if e may not be stored on disk.
func (d *Disk) header(e *Entry, size int64) (disk.Header, bool) {
	origin, ok := d.cfg.Origin(e.key.Space, e.key.Epoch)
	meta := d.cfg.Codec.Encode(e.Meta)
	return disk.Header{
		Key: disk.Key(e.key), Generation: e.generation, Origin: origin,
		Stored: e.Stored, Expires: e.Expires,
		Meta: meta, Size: size, Body: e.fileBody,
	}, ok && meta != nil
}
