// Package workertest tries the built worker: its frames, its pictures, and its sandbox from inside.
package workertest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is where make puts programs.
const bin = "../../../../bin/"

const (
	jpegType = 1 + iota
	pngType
	webpType
	gifType
	avifType
	rawType
)

const (
	contain = 1 + iota
	cover
	fill
	inside
	outside
)

const (
	flagGray = 1 << iota
	flagFrames
	flagCopyright
	flagBackground
	flagTile
)

const (
	statusOK = iota
	statusTooLarge
	statusBroken
	statusUnsupported
	statusCropOutside
	statusResultTooLarge
	statusInternal
)

// ready, request and response are the frames of worker.h.
type ready struct {
	Magic, ABI, Landlock, Flags uint32
	Version                     [32]byte
}

type request struct {
	Magic, SourceLen, MarkLen         uint32
	SourceType, MarkType, Output, Fit uint8
	Gravity, Rotate, Flip, Flags      uint8
	Width, Height                     uint32
	CropX, CropY, CropW, CropH        uint32
	FocalX, FocalY                    float32
	Background                        [4]byte
	Quality                           uint32
	Blur, Sharpen                     float32
	MarkGravity, MarkOpacity          uint8
	MarkScale, Effort                 uint8
	MaxPixels, MaxFrames, MaxOutput   uint32
	MaxSide, MaxResult                uint32
	SourceColours, MarkColours        [2]uint8
	Number                            uint32
	Reserved                          [3]uint32
}

type response struct {
	Magic, Status, BodyLen           uint32
	Width, Height, Frames            uint32
	SourceWidth, SourceHeight        uint32
	Orientation, SourceFrames, Alpha uint32
	DecodeUS, EncodeUS               uint32
	Number                           uint32
	Reserved                         [2]uint32
}

// built is the path of a program that make has built; the test is skipped without it.
func built(tb testing.TB, name string) string {
	tb.Helper()
	path, err := filepath.Abs(bin + name)
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		tb.Skipf("!!!!! ABSENT: bin/%s; build it with make try-worker !!!!!", name)
	}
	return path
}

// client is a running worker.
type client struct {
	tb     testing.TB
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    io.Reader
	stderr bytes.Buffer
	ready  ready
	number uint32 // of the last request
}

func start(tb testing.TB) *client {
	tb.Helper()
	return startProgram(tb, built(tb, "ixmage-worker"))
}

func startProgram(tb testing.TB, path string) *client {
	tb.Helper()
	return startCommand(tb, exec.CommandContext(tb.Context(), path))
}

func startCommand(tb testing.TB, cmd *exec.Cmd) *client {
	tb.Helper()
	c := &client{tb: tb, cmd: cmd}
	if cmd.Env == nil {
		cmd.Env = []string{}
	}
	c.cmd.Stderr = &c.stderr
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if c.out, err = c.cmd.StdoutPipe(); err != nil {
		tb.Fatal(err)
	}
	if err = c.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = c.in.Close(); _ = c.cmd.Wait() })
	if err := binary.Read(c.out, binary.LittleEndian, &c.ready); err != nil {
		tb.Fatalf("the ready frame: %v; stderr: %s", err, &c.stderr)
	}
	return c
}

// plain is a request without options.
func plain(source []byte, output uint8) request {
	return request{
		Magic: 0x51525849, SourceType: sniff(source), Output: output,
		MarkOpacity: 100, MarkGravity: 4, Effort: 1,
		MaxPixels: 50_000_000, MaxFrames: 100, MaxOutput: 32 << 20, MaxSide: 8192, MaxResult: 25_000_000,
	}
}

func sniff(b []byte) uint8 {
	switch {
	case bytes.HasPrefix(b, []byte("\x89PNG")):
		return pngType
	case bytes.HasPrefix(b, []byte("GIF8")):
		return gifType
	case len(b) > 12 && string(b[8:12]) == "WEBP":
		return webpType
	case len(b) > 12 && string(b[4:8]) == "ftyp":
		return avifType
	}
	return jpegType
}

var errDied = errors.New("the worker ended")

// send writes the request with source and mark, and reads the answer.
func (c *client) send(r request, source, mark []byte) (response, []byte, error) {
	c.number++
	r.Number, r.SourceLen, r.MarkLen = c.number, uint32(len(source)), uint32(len(mark))
	if len(mark) > 0 && r.MarkType == 0 {
		r.MarkType = sniff(mark)
	}
	var frame bytes.Buffer
	if err := binary.Write(&frame, binary.LittleEndian, r); err != nil {
		c.tb.Fatal(err)
	}
	frame.Write(source)
	frame.Write(mark)
	if _, err := c.in.Write(frame.Bytes()); err != nil {
		return response{}, nil, errDied
	}
	var answer response
	if err := binary.Read(c.out, binary.LittleEndian, &answer); err != nil {
		return response{}, nil, errDied
	}
	if answer.Magic != 0x53525849 || answer.Number != r.Number || answer.Reserved != [2]uint32{} || answer.BodyLen > r.MaxOutput {
		c.tb.Fatalf("a response of the wrong form: %+v", answer)
	}
	body := make([]byte, answer.BodyLen)
	if _, err := io.ReadFull(c.out, body); err != nil {
		return response{}, nil, errDied
	}
	return answer, body, nil
}

// do is send for requests that must succeed.
func (c *client) do(r request, source, mark []byte) (response, []byte) {
	c.tb.Helper()
	answer, body, err := c.send(r, source, mark)
	if err != nil {
		_ = c.in.Close()
		c.tb.Fatalf("%v: %v; stderr: %s", err, c.cmd.Wait(), &c.stderr)
	}
	if answer.Status != statusOK {
		c.tb.Fatalf("status %d, want 0: %+v", answer.Status, answer)
	}
	return answer, body
}

// end closes stdin and returns the exit code, -1 after a signal.
func (c *client) end() int {
	_ = c.in.Close()
	_ = c.cmd.Wait()
	return c.cmd.ProcessState.ExitCode()
}
