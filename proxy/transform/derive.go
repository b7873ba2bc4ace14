package transform

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// ErrAsStored means that the source itself is the best answer: it is of a type that is never
// decoded, an animation beyond the limits, or smaller than the result without being another picture.
var ErrAsStored = errors.New("the picture is served as it is stored")

// ErrUndecoded is an ErrAsStored because of the type, so that no option and no client gets anything else.
var ErrUndecoded = fmt.Errorf("%w: its type is never decoded", ErrAsStored)

// Generation is a part of the names of variants, beside the version of libvips. Raise it with every change
// of the server or of the worker after which the same options make other bytes: caches, and nodes of
// another version, have those from before under the old names.
const Generation = 1

// sniffed is how much of a source Sniff gets.
const sniffed = 64 << 10

// Request is what a client wants of a picture.
type Request struct {
	Owner   int64  // as in Job
	Client  string // as in Job
	Options Options
	Accepts Accepts // if the options leave the format to the client
	Source  Blob    // without Header
	Mark    *Blob   // the watermark, without Header; nil if the options have none
}

// Derived is what a client gets.
type Derived struct {
	Body        []byte // the caller's
	ContentType string
}

// Derive makes what r wants with one job of do, which is Pool.Do. Beside its errors there is
// ErrAsStored.
func Derive(ctx context.Context, do func(context.Context, Job) (*Result, error), r Request) (*Derived, error) {
	if err := r.Source.sniff(); err != nil {
		return nil, err
	}
	if r.Source.Type == 0 {
		return nil, r.asStored(&RefusedError{Why: Unsupported}, ErrUndecoded)
	}
	if r.Mark != nil {
		if err := r.Mark.sniff(); err != nil {
			return nil, err
		}
		if r.Mark.Type == 0 {
			return nil, &RefusedError{Why: Unsupported, Mark: true}
		}
	}
	format := r.Options.Format(r.Accepts, r.Source.Header, false)
	task := r.Options.Task(format)
	result, err := do(ctx, Job{Owner: r.Owner, Client: r.Client, Task: task, Source: r.Source, Mark: r.Mark})
	switch refused, ok := errors.AsType[*RefusedError](err); {
	case ok && refused.Why == TooLarge && r.Source.animated():
		return nil, r.asStored(err, ErrAsStored)
	case err != nil:
		return nil, err
	}
	return r.answer(format, result)
}

// asStored returns stored, unless r wants something that the source is not: then err.
func (r *Request) asStored(err, stored error) error {
	if r.Options.Info() || r.Options.BlurHash() {
		return err
	}
	return stored
}

// answer makes of the worker's result what the client gets.
func (r *Request) answer(f Format, result *Result) (*Derived, error) {
	d := &Derived{Body: result.Body, ContentType: f.MIME()}
	switch {
	case r.Options.Info():
		d.Body, d.ContentType = describe(&r.Source, result), TypeJSON
	case r.Options.BlurHash():
		d.Body, d.ContentType = []byte(BlurHash(result.Body, result.Width, result.Height)), TypeText
	case int64(len(result.Body)) >= r.Source.Size && r.Options.MayKeep(f, upright(r.Source.Header, result.Source)):
		return nil, ErrAsStored
	}
	return d, nil
}

// Media types of answers that are no pictures.
const (
	TypeJSON = "application/json"
	TypeText = "text/plain; charset=utf-8"
)

// IsText reports whether a media type is one of those of answers that are no pictures.
func IsText(mediaType string) bool { return mediaType == TypeJSON || mediaType == TypeText }

// description is the answer to info=1. Width and height are those of the upright picture.
type description struct {
	Width       int    `json:"width"`
	Height      int    `json:"height"`
	Type        string `json:"type"`
	Bytes       int64  `json:"bytes"`
	Orientation int    `json:"orientation"`
	Frames      int    `json:"frames"`
	Alpha       bool   `json:"alpha"`
	Color       string `json:"color"`
}

func describe(source *Blob, r *Result) []byte {
	h := upright(source.Header, r.Source)
	body, _ := json.Marshal(description{ //nolint:errchkjson // it has neither channels nor functions
		Width: h.Width, Height: h.Height, Type: h.Type.MIME(), Bytes: source.Size,
		Orientation: r.Source.Orientation, Frames: h.Frames, Alpha: h.Alpha, Color: DominantColor(r.Body),
	})
	return append(body, '\n')
}

// upright returns the header of a source as the worker has read it, with the size of the upright picture.
func upright(h Header, s SourceInfo) Header {
	h.Width, h.Height, h.Frames, h.Alpha = s.Width, s.Height, s.Frames, s.Alpha
	if s.Orientation >= 5 { // it lies on its side
		h.Width, h.Height = h.Height, h.Width
	}
	return h
}

// sniff sets the header from the first bytes, and leaves all bytes to be read.
func (b *Blob) sniff() error {
	if b.Size > SourceMax {
		return &RefusedError{Why: TooLarge}
	}
	front := bufio.NewReaderSize(b.Reader, int(min(b.Size, sniffed)))
	first, err := front.Peek(int(min(b.Size, sniffed)))
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	b.Header, b.Reader = Sniff(first), front
	return nil
}

func (b *Blob) animated() bool { return b.Frames != 1 && (b.Type == GIF || b.Type == WebP) }
