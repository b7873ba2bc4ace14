package transform

import (
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"time"
)

// statusInternal is the status of a worker that reports an error of its own. 0 is success,
// and those between are a Refusal.
const statusInternal = uint32(ResultTooLarge) + 1

// answer is the frame with which a worker ends a job. A picture may have taken the worker
// over: nothing in it is believed.
type answer struct {
	status, number        uint32
	bodyLen               int
	width, height, frames int
	source                SourceInfo
	decode, encode        time.Duration
}

// answerError is what cannot be true in an answer. It has no bytes of the worker's.
type answerError struct{ what string }

func (e *answerError) Error() string { return e.what }

func untrue(format string, args ...any) error { return &answerError{fmt.Sprintf(format, args...)} }

// parseAnswer reads a frame of responseLen bytes, and checks what is wrong for every job.
func parseAnswer(b []byte) (a answer, err error) {
	le := binary.LittleEndian
	at := func(i int) uint32 { return le.Uint32(b[4*i:]) }
	if len(b) != responseLen || at(0) != responseMagic {
		return a, untrue("the frame does not begin with its magic number")
	}
	a.status, a.number = at(1), at(13)
	if a.status > statusInternal {
		return a, untrue("status %d is not defined", a.status)
	}
	if length := at(2); length > maxBody || a.status != 0 && length > 0 {
		return a, untrue("status %d has a body of %d bytes", a.status, length)
	}
	a.decode, a.encode = time.Duration(at(11))*time.Microsecond, time.Duration(at(12))*time.Microsecond
	if a.status != 0 { // the numbers of a refused picture may be any
		return a, nil
	}
	if at(8) > 8 || at(9) > math.MaxInt32 || at(10) > 1 {
		return a, untrue("orientation %d, %d frames, alpha %d of the source", at(8), at(9), at(10))
	}
	a.bodyLen = int(at(2))
	a.width, a.height, a.frames = int(at(3)), int(at(4)), int(at(5))
	a.source = SourceInfo{
		Width: int(at(6)), Height: int(at(7)), Orientation: max(1, int(at(8))), Frames: int(at(9)), Alpha: at(10) == 1,
	}
	return a, nil
}

// readAnswer reads the answer to a job and its body. Bytes of the body are allocated
// only after its length has been checked. number is that of the request: errOtherJob is an answer to
// an earlier job, which may have come after the worker was looked at.
func readAnswer(r io.Reader, j *Job, number uint32) (a answer, body []byte, err error) {
	var frame [responseLen]byte
	if _, err = io.ReadFull(r, frame[:]); err != nil {
		return a, nil, err
	}
	if a, err = parseAnswer(frame[:]); err == nil && a.number != number {
		err = errOtherJob
	}
	if err != nil || a.status != 0 {
		return a, nil, err
	}
	if err := a.check(j); err != nil {
		return a, nil, err
	}
	body = make([]byte, a.bodyLen)
	if _, err = io.ReadFull(r, body); err == nil {
		err = a.checkBody(j, body)
	}
	return a, body, err
}

// check compares the numbers of a successful answer with its job.
func (a *answer) check(j *Job) error {
	if err := a.checkResult(&j.Task); err != nil {
		return err
	}
	src := &a.source
	switch {
	case src.Width < 1 || src.Height < 1 || src.Width > maxSourceSide || src.Height > maxSourceSide:
		return untrue("a source of %dx%d", src.Width, src.Height)
	case j.Source.exact() && (src.Width != j.Source.Width || src.Height != j.Source.Height):
		return untrue("a source of %dx%d instead of %dx%d", src.Width, src.Height, j.Source.Width, j.Source.Height)
	case !j.Task.mayBecome(src.Width, src.Height, a.width, a.height):
		return untrue("%dx%d from a source of %dx%d", a.width, a.height, src.Width, src.Height)
	default:
		return nil
	}
}

func (a *answer) checkResult(t *Task) error {
	// The numbers are those of 32 bits: the first test keeps the product from an overflow.
	if a.width < 1 || a.height < 1 || a.width > MaxSide || a.height > MaxSide {
		return untrue("a result of %dx%d pixels", a.width, a.height)
	}
	pixels := int64(a.width) * int64(a.height) * int64(a.frames)
	switch {
	case a.frames < 1 || a.frames > t.maxFrames():
		return untrue("%d frames of %s", a.frames, t.Output)
	case pixels > maxResult:
		return untrue("%d frames of %dx%d pixels", a.frames, a.width, a.height)
	case a.bodyLen == 0 || t.Output == Raw && int64(a.bodyLen) != 3*pixels:
		return untrue("%d bytes of %s with %d pixels", a.bodyLen, t.Output, pixels)
	default:
		return nil
	}
}

// exact reports whether a decoder gives the size that the header has. An AVIF may be cropped by
// its properties, and the first frame of a GIF may be larger than its screen.
func (h *Header) exact() bool {
	return h.Width > 0 && h.Height > 0 && (h.Type == JPEG || h.Type == PNG || h.Type == WebP)
}

// checkBody compares the first bytes of a body with its job and its answer.
func (a *answer) checkBody(j *Job, body []byte) error {
	if j.Task.Output == Raw {
		return nil
	}
	h := Sniff(body)
	switch {
	case h.Type != j.Task.Output:
		return untrue("the body is %q instead of %q", h.Type, j.Task.Output)
	case h.Width > 0 && h.Width != a.width || h.Height > 0 && h.Height != a.height:
		return untrue("the body has %dx%d pixels, and the answer %dx%d", h.Width, h.Height, a.width, a.height)
	default:
		return nil
	}
}
