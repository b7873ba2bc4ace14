package transform

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// The frames between the server and a worker: little-endian, without padding. worker/worker.h
// has the same in C.
const (
	readyMagic    = 0x31575849 // "IXW1"
	requestMagic  = 0x51525849 // "IXRQ"
	responseMagic = 0x53525849 // "IXRS"

	readyLen    = 48
	requestLen  = 112
	responseLen = 64

	frameABI = 2
)

// ready is what a worker sends once, when its sandbox is complete.
type ready struct {
	landlock uint32 // the ABI of the kernel
	version  string // of libvips
}

// parseReady reads the frame of a worker that has started.
func parseReady(b []byte) (ready, error) {
	le := binary.LittleEndian
	if len(b) != readyLen || le.Uint32(b) != readyMagic {
		return ready{}, errors.New("it is not an ixmage worker: its first bytes are wrong")
	}
	if abi := le.Uint32(b[4:]); abi != frameABI {
		return ready{}, fmt.Errorf("it speaks version %d of the frames, and this server version %d: "+
			"build both from one source", abi, frameABI)
	}
	name, _, _ := bytes.Cut(b[16:48], []byte{0})
	version := strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return -1
		}
		return r
	}, string(name))
	if version == "" {
		return ready{}, errors.New("it does not tell its version of libvips")
	}
	return ready{landlock: le.Uint32(b[8:]), version: version}, nil
}

// appendRequest appends the frame that begins a job, without the pictures that follow it. The answer has
// its number.
func appendRequest(b []byte, j *Job, number uint32) []byte {
	le, t := binary.LittleEndian, &j.Task
	f32 := func(b []byte, f float32) []byte { return le.AppendUint32(b, math.Float32bits(f)) }
	u32 := func(b []byte, numbers ...int) []byte {
		for _, n := range numbers {
			b = le.AppendUint32(b, uint32(n))
		}
		return b
	}
	mark := Blob{}
	if j.Mark != nil {
		mark = *j.Mark
	}
	b = u32(b, requestMagic, int(j.Source.Size), int(mark.Size))
	b = append(b, byte(j.Source.Type), byte(mark.Type), byte(t.Output), byte(t.Fit),
		byte(t.Gravity), byte(t.Rotate&3), packBits(t.FlipH, t.FlipV), t.flags())
	b = u32(b, t.Width, t.Height, t.Crop.X, t.Crop.Y, t.Crop.W, t.Crop.H)
	b = f32(f32(b, t.FocalX), t.FocalY)
	b = append(b, t.Background[:]...)
	b = u32(b, t.Quality)
	b = f32(f32(b, t.Blur), t.Sharpen)
	b = append(b, byte(t.MarkGravity), byte(t.MarkOpacity), byte(t.MarkScale), effortOf(t.Output))
	b = u32(b, int(pixelsOf(j.Source.Type)), maxFrames, maxBody, MaxSide, maxResult)
	b = append(b, j.Source.Colours.Primaries, j.Source.Colours.Transfer, mark.Colours.Primaries, mark.Colours.Transfer)
	return append(le.AppendUint32(b, number), make([]byte, 12)...)
}

// flags returns the bits of a request: 1 gray, 2 keep frames, 4 keep copyright, 8 background given, 16 tile
// the watermark.
func (t *Task) flags() byte {
	return packBits(t.Gray, t.keepsFrames(), t.KeepCopyright, t.HasBackground, t.MarkTile)
}

// packBits returns a byte whose lowest bit is the first of set.
func packBits(set ...bool) (b byte) {
	for i, on := range set {
		if on {
			b |= 1 << i
		}
	}
	return b
}

// effortOf returns how much work an encoder does for fewer bytes. AVIF needs five times the
// time of effort 1 for effort 4, without a smaller result. 0 is the encoder's default.
func effortOf(f Format) byte {
	if f == AVIF {
		return 1
	}
	return 0
}
