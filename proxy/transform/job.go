package transform

import (
	"io"
	"time"
)

// Job is one picture to transform.
type Job struct {
	Owner  int64  // the id of the alias: a worker never works for two owners
	Client string // whose time is used; "": nobody's
	Task   Task
	Source Blob
	Mark   *Blob // the watermark, or nil
}

// Blob is a picture.
type Blob struct {
	Header // by Sniff
	// ID names the picture and its version, as in an ETag. A picture that kills its worker is
	// not tried again for some minutes. "": not remembered.
	ID     string
	Size   int64     // bytes
	Reader io.Reader // gives Size bytes and does not wait for others; read until Do returns
}

// Result is a transformed picture.
type Result struct {
	Body                  []byte // the caller's
	Width, Height, Frames int
	Source                SourceInfo
	// Queue is the time before a worker began, Wall the time that it was busy. Decode and
	// Encode are parts of Wall as the worker tells them.
	Queue, Wall, Decode, Encode time.Duration
}

// SourceInfo is what the worker tells about the source.
type SourceInfo struct {
	Width, Height int // of one frame as stored
	Orientation   int // 1 to 8, as in EXIF
	Frames        int
	Alpha         bool
}
