package proxy

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"

	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

// checkedStream gives the bytes of an object in chunks, always in the same memory. As a fetch
// does, it withholds the last byte until the whole object has been checked.
type checkedStream struct {
	data    []byte
	chunk   int64
	invalid error // what the check finds
	buf     [100]byte
}

func (s *checkedStream) Next(off int64) ([]byte, error) {
	last := int64(len(s.data)) - 1
	switch {
	case off > last:
		return nil, io.EOF
	case off == last && s.invalid != nil:
		return nil, s.invalid
	case off == last:
		return s.buf[:copy(s.buf[:], s.data[last:])], nil
	}
	return s.buf[:copy(s.buf[:], s.data[off:min(off+s.chunk, last)])], nil
}

func (*checkedStream) Close() error { return nil }

// The last byte of a range comes only when the whole object has been checked.
func TestRangeWaitsForTheCheck(t *testing.T) {
	t.Parallel()
	corrupt := errors.New("checksum differs")
	data := []byte("0123456789")
	for _, chunk := range []int64{1, 3, 100} {
		for _, part := range []byteRange{{0, 9}, {0, 0}, {2, 5}, {3, 3}, {8, 9}, {0, 8}} {
			for _, invalid := range []error{nil, corrupt} {
				var sent bytes.Buffer
				fc := &fasthttp.RequestCtx{}
				fc.Init2(&writes{texts: &texts{}, sent: &sent}, nil, false)
				x := &exchange{fc: fc, proxy: &Proxy{slow: NewSlowReaders(func(string, int) {}, slog.New(slog.DiscardHandler))}}
				x.route.Alias = &alias.Alias{}
				f := &representation{obj: &object{size: int64(len(data))}, reader: &checkedStream{data: data, chunk: chunk, invalid: invalid}}
				_, err := newBody(x, f, part).WriteTo(nil)
				want := data[part.first : part.last+1]
				if invalid != nil {
					want = want[:len(want)-1]
				}
				if !bytes.Equal(sent.Bytes(), want) || !errors.Is(err, invalid) || x.broken != (invalid != nil) {
					t.Errorf("%v in chunks of %d, the check finds %v: sent %q and %v, want %q", part, chunk, invalid, sent.Bytes(), err, want)
				}
			}
		}
	}
}
