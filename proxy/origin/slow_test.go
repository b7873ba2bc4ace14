package origin

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// The front of a body comes within CallTimeout or not at all; what follows it has
// time.
func TestFront(t *testing.T) {
	t.Parallel()
	const callTimeout = 3 * time.Second
	want := noise(bodySize)
	for name, tc := range map[string]struct {
		fault *s3.Fault
		least int
		late  bool
	}{
		"at once":                {nil, 3072, false},
		"all of it":              {nil, bodySize, false},
		"more than there is":     {nil, bodySize + 1, false},
		"across a break":         {s3.CloseAfter(1000), 3072, false},
		"the first byte is here": {s3.StallAfter(1, nil), 1, false},
		"silent":                 {s3.StallAfter(0, nil), 1, true},
		"silent in it":           {s3.StallAfter(3071, nil), 3072, true},
		"trickling":              {s3.Trickle(1, 100*time.Millisecond), 3072, true},
		"broken, then silent":    {s3.CloseAfter(1000), 3072, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, func(c *Config) { c.CallTimeout = callTimeout })
			r := k.put("shop", "a.png", s3.Object{Body: want})
			k.next(r, tc.fault)
			if tc.late {
				k.next(r, s3.StallAfter(0, nil))
			}
			obj, err := k.Get(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			defer obj.Body.Close()
			buf := make([]byte, bodySize+2)
			n, err := obj.Front(buf, tc.least)
			if !bytes.HasPrefix(want, buf[:n]) {
				t.Errorf("%d wrong bytes", n)
			}
			if tc.late {
				wantOutcome(t, err, OutcomeTimeout)
				k.rec.wantCounts(t, map[string]int{})
				return
			}
			if n < min(tc.least, bodySize) || (err != nil && (!errors.Is(err, io.EOF) || n != bodySize)) {
				t.Fatalf("%d bytes, %v; want %d", n, err, tc.least)
			}
		})
	}
	t.Run("the rest has time", func(t *testing.T) {
		t.Parallel()
		k := newKit(t, func(c *Config) { c.CallTimeout = callTimeout })
		r := k.put("shop", "a.png", s3.Object{Body: want})
		gate := make(chan struct{})
		k.next(r, s3.StallAfter(5000, gate))
		obj, err := k.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 3072)
		n, err := obj.Front(buf, len(buf))
		if err != nil {
			t.Fatal(err)
		}
		time.AfterFunc(callTimeout+500*time.Millisecond, func() { close(gate) })
		rest, err := readAll(t, obj)
		if err != nil || !bytes.Equal(append(buf[:n], rest...), want) {
			t.Errorf("%d bytes behind %d, %v", len(rest), n, err)
		}
	})
}

// A body has to come at some rate; what it comes in does not matter.
func TestBodyRate(t *testing.T) {
	t.Parallel()
	want := noise(bodySize)
	for name, tc := range map[string]struct {
		size  int
		fault *s3.Fault
		late  bool
	}{
		"byte by byte":                 {bodySize, s3.Trickle(1, 50*time.Millisecond), true},
		"too little":                   {bodySize, s3.Trickle(100, 100*time.Millisecond), true},
		"all in all for long":          {bodySize, s3.Trickle(2<<10, 25*time.Millisecond), false},
		"less than a piece":            {100, s3.Trickle(1, time.Millisecond), false},
		"a piece and a little at last": {piece + 1, s3.Trickle(piece, 500*time.Millisecond), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newKit(t, func(c *Config) { c.IdleTimeout = 2 * time.Second })
			r := k.put("shop", "a.png", s3.Object{Body: want[:tc.size]})
			k.next(r, tc.fault, tc.fault)
			got, err := k.read(t, r)
			if !tc.late {
				if err != nil || !bytes.Equal(got, want[:tc.size]) || k.s3.Total() != 1 {
					t.Errorf("%d bytes, %v, %d requests", len(got), err, k.s3.Total())
				}
				return
			}
			if e := wantOutcome(t, err, OutcomeTimeout); !errors.Is(e, ErrTruncated) {
				t.Error(e)
			}
			if !bytes.HasPrefix(want, got) || k.s3.Total() != 2 {
				t.Errorf("%d bytes, %d requests", len(got), k.s3.Total())
			}
		})
	}
}
