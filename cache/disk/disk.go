// Package disk keeps cached objects in files, one file for each object, so that a
// restart finds them again. It knows files, sizes and the marks of purges; package cache
// decides what is stored and what may be served.
//
// The store may lose an object at any time. It never returns a wrong byte, and never an
// object that a hard purge covers, also after a crash or a power cut.
package disk

import (
	"errors"
	"log/slog"
	"time"
)

// Errors of the store. Every one of them means for the caller: go on without the disk.
var (
	// ErrInUse means that another process has the folder.
	ErrInUse = errors.New("the folder of the disk cache is in use by another process")
	// ErrNotFound means that the store has no usable object of this key.
	ErrNotFound = errors.New("not in the disk cache")
	// ErrOff means that the store is off: its folder cannot be used, or it is closed.
	ErrOff = errors.New("the disk cache is off")
	// ErrNoRoom means that the object cannot be stored: it is larger than Config.ObjectMax, or other objects that
	// are being written have reserved what is left of the budget.
	ErrNoRoom = errors.New("no room in the disk cache")
	// ErrPurged means that a purge covers the object that is being written.
	ErrPurged = errors.New("purged while it was written to the disk cache")
	// ErrCorrupt means that an object's bytes are not those that were written.
	ErrCorrupt = errors.New("corrupt file in the disk cache")
)

// Key names one object. It has the fields of cache.Key.
type Key struct {
	Space, Epoch int64
	Object       string
}

// Header is what the store knows about an object.
type Header struct {
	Key Key
	// Generation is the generation of the cache when the object's fetch started. A purge
	// covers the object if its own generation is greater.
	Generation uint64
	// Origin identifies the source of the object. The store does not compare it.
	Origin [16]byte
	// Stored is when the metadata came, minus its age at that time. Expires is the end of freshness.
	Stored, Expires time.Time

	Meta []byte
	Size int64 // of the body, in bytes
	// Body identifies the bytes. The store sets it when an object is written; Update compares it.
	Body uint64
}

// Mark is one purge: it covers objects whose generation is less than its own.
type Mark struct {
	Space, Epoch int64
	// Object is the key of one object or, with Prefix, the beginning of keys; a Prefix with no
	// Object is the whole epoch.
	Object string
	Prefix bool
	// Hard drops the objects. Otherwise they stay, stale from At on.
	Hard       bool
	Generation uint64
	At         time.Time
}

// Recorder counts events. Its methods must be quick and safe for concurrent use.
type Recorder interface {
	// Evicted counts objects that left the tier "disk". reason is capacity, replaced, purged,
	// gone, corrupt, or what was given to Remove.
	Evicted(tier, reason string, n int)
	// DiskError counts failed operations on files. op is open, read, write, sync, rename,
	// remove, list, stat or lock.
	DiskError(op string, n int)
}

// Config describes a Store.
type Config struct {
	// Dir is the folder of the store. It belongs to the store alone: unknown files are
	// removed. It is made if it does not exist.
	Dir string
	// Limit is the budget in bytes, counted in blocks of the file system. ObjectMax is the
	// largest body.
	Limit, ObjectMax int64
	// Empty drops all objects of earlier starts: they may have been purged while the folder was not in use.
	Empty    bool
	Recorder Recorder
	Log      *slog.Logger // nil discards
	FS       FS           // nil is the real one
}

// Stats are the numbers of a store.
type Stats struct {
	Bytes, Capacity int64 // blocks taken and allowed
	Entries         int
	Available       bool // the folder can be used
}
