package cache

import (
	"log/slog"

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

	cfg DiskConfig
}

// OpenDisk opens the folder. Its only error is ErrDiskInUse: with any other trouble, the
// tier is off and tries again by itself.
func OpenDisk(cfg DiskConfig) (*Disk, error) {
	store, err := disk.Open(disk.Config{
		Dir: cfg.Dir, Limit: cfg.Limit, ObjectMax: cfg.ObjectMax, Recorder: cfg.Recorder, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &Disk{store, cfg}, nil
}
