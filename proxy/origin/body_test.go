package origin

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/internal/awstest/s3"
)

const bodySize = 200 << 10

func TestBodyResumes(t *testing.T) {
	t.Parallel()
	want := noise(bodySize)
	for _, at := range []int64{0, 1, 4095, 4096, 64 << 10, bodySize - 1} {
		for name, fault := range map[string]*s3.Fault{
			"reset": s3.ResetAfter(at), "closed": s3.CloseAfter(at), "chunks cut": s3.ChunkedCut(at),
		} {
			t.Run(fmt.Sprintf("%s at %d", name, at), func(t *testing.T) {
				t.Parallel()
				k := newEnv(t, nil)
				r := k.put("shop", "a.png", s3.Object{Body: want})
				k.next(r, fault)
				got, err := k.read(t, r)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, want) {
					t.Error("body differs")
				}
				k.rec.wantCounts(t, map[string]int{"ok": 1})
				wantResume(t, k, r)
			})
		}
	}
}

// wantResume checks the one further request of a resumed body. Where it starts
// depends on how much of what was sent got through a reset.
func wantResume(t *testing.T, k *env, r Request) {
	t.Helper()
	requests := k.s3.Requests()
	if len(requests) != 2 || k.rec.retried() != 1 {
		t.Fatalf("%d requests, %d retries recorded, want 2 and 1", len(requests), k.rec.retried())
	}
	second := requests[1].Header
	if second.Get("If-Match") == "" || !strings.HasPrefix(second.Get("Range"), "bytes=") {
		t.Errorf("rest was asked for with If-Match %q and Range %q", second.Get("If-Match"), second.Get("Range"))
	}
	if r.Range == nil && requests[0].Header.Get("Range") != "" {
		t.Errorf("first request has Range %q", requests[0].Header.Get("Range"))
	}
}

func TestBodyResumesRange(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(bodySize)
	r := k.put("shop", "a.png", s3.Object{Body: want})
	r.Range = &Range{First: 1000, Last: 150_000}
	k.next(r, s3.CloseAfter(50_000))
	got, err := k.read(t, r)
	if err != nil || !bytes.Equal(got, want[1000:150_001]) {
		t.Fatalf("got %d bytes and %v", len(got), err)
	}
	if got := k.s3.Requests()[1].Header.Get("Range"); got != "bytes=51000-150000" {
		t.Errorf("rest was asked for as %q", got)
	}
	wantResume(t, k, r)
}

func TestBodyFails(t *testing.T) {
	t.Parallel()
	content := noise(bodySize)
	other := s3.Object{Body: noise(bodySize + 1)}
	header := func(name, value string) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set(name, value) }}
	}
	for _, tc := range []struct {
		name   string
		object s3.Object
		faults []*s3.Fault
		want   Outcome
		is     error
		sent   int // requests
	}{
		{name: "second break", faults: []*s3.Fault{s3.CloseAfter(5000), s3.CloseAfter(5000)}, want: OutcomeNetwork, is: ErrTruncated, sent: 2},
		{name: "second break is a reset", faults: []*s3.Fault{s3.ResetAfter(5000), s3.ResetAfter(5000)}, want: OutcomeNetwork, is: ErrTruncated, sent: 2},
		{name: "object replaced", faults: []*s3.Fault{s3.CloseAfter(5000), s3.Replace(other)}, want: OutcomeError, is: ErrChanged, sent: 2},
		{name: "object gone", faults: []*s3.Fault{s3.CloseAfter(5000), s3.Fail("NoSuchKey")}, want: OutcomeError, is: ErrChanged, sent: 2},
		{name: "key revoked", faults: []*s3.Fault{s3.CloseAfter(5000), s3.Fail("InvalidAccessKeyId")}, want: OutcomeBadCredential, is: ErrTruncated, sent: 2},
		{name: "another ETag in the rest", faults: []*s3.Fault{s3.CloseAfter(5000), header("ETag", `"other"`)}, want: OutcomeError, is: ErrChanged, sent: 2},
		{name: "whole object as the rest", faults: []*s3.Fault{s3.CloseAfter(5000), {Status: 200}}, want: OutcomeError, is: ErrBadRange, sent: 2},
		{name: "rest from elsewhere", faults: []*s3.Fault{s3.CloseAfter(5000), header("Content-Range", "bytes 5001-204799/204800")}, want: OutcomeError, is: ErrBadRange, sent: 2},
		{name: "rest of another size", faults: []*s3.Fault{s3.CloseAfter(5000), header("Content-Range", "bytes 5000-204799/204801")}, want: OutcomeError, is: ErrChanged, sent: 2},
		{name: "no ETag", object: s3.Object{}, faults: []*s3.Fault{{Cut: &s3.Cut{After: 5000}, Header: func(h http.Header) { h.Del("ETag") }}}, want: OutcomeNetwork, is: ErrTruncated, sent: 1},
		{name: "weak ETag", object: s3.Object{ETag: `W/"1"`}, faults: []*s3.Fault{s3.CloseAfter(5000)}, want: OutcomeNetwork, is: ErrTruncated, sent: 1},
		{name: "wrong checksum", faults: []*s3.Fault{s3.WrongChecksum()}, want: OutcomeError, is: ErrCorrupt, sent: 1},
		{name: "wrong checksum in chunks", faults: []*s3.Fault{{BadSum: true, Chunked: true}}, want: OutcomeError, is: ErrCorrupt, sent: 1},
		{name: "wrong checksum across the joint", faults: []*s3.Fault{{BadSum: true, Cut: &s3.Cut{After: 5000}}}, want: OutcomeError, is: ErrCorrupt, sent: 2},
		{name: "shorter than declared", faults: []*s3.Fault{s3.DeclareMore(10), s3.DeclareMore(10)}, want: OutcomeError, sent: 2},
		{name: "longer than declared", faults: []*s3.Fault{s3.DeclareLess(10)}, want: OutcomeError, is: ErrCorrupt, sent: 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			tc.object.Body = content
			r := k.put("shop", "a.png", tc.object)
			k.next(r, tc.faults...)
			got, err := k.read(t, r)
			e := wantOutcome(t, err, tc.want)
			if tc.is != nil && !errors.Is(e, tc.is) {
				t.Errorf("error is %v, want %v in it", e, tc.is)
			}
			if tc.is != nil && !strings.Contains(e.Error(), tc.is.Error()) {
				t.Errorf("text does not say why: %s", e)
			}
			if !bytes.HasPrefix(content, got) {
				t.Error("bytes before the end differ")
			}
			if n := k.s3.Total(); n != tc.sent {
				t.Errorf("%d requests, want %d", n, tc.sent)
			}
			k.rec.wantCounts(t, map[string]int{string(tc.want): 1})
		})
	}
}

// Every algorithm is checked at the end, a right one passes, and a composite
// one is not mistaken for the object's.
func TestBodyChecksum(t *testing.T) {
	t.Parallel()
	for _, sum := range append(s3.Checksums(), s3.NoChecksum) {
		for _, size := range []int{0, 1, 7, 100_000} {
			t.Run(fmt.Sprintf("%s of %d bytes", sum, size), func(t *testing.T) {
				t.Parallel()
				k := newEnv(t, nil)
				want := noise(size)
				r := k.put("shop", "a.png", s3.Object{Body: want, Checksum: sum})
				k.next(r, nil, s3.CompositeChecksum(), s3.Chunked(), s3.WrongChecksum())
				for _, right := range []string{"right", "composite", "chunked"} {
					if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) {
						t.Errorf("%s: %d bytes, %v", right, len(got), err)
					}
				}
				_, err := k.read(t, r)
				if sum == s3.NoChecksum {
					if err != nil {
						t.Error(err)
					}
					return
				}
				if e := wantOutcome(t, err, OutcomeError); !errors.Is(e, ErrCorrupt) {
					t.Error(e)
				}
			})
		}
	}
}

// With a known length the end comes together with the last bytes, and it comes
// again for who asks again.
func TestBodyReadAtEnd(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer obj.Body.Close()
	if n, err := obj.Body.Read(nil); n != 0 || err != nil {
		t.Errorf("empty Read: %d, %v", n, err)
	}
	buf := make([]byte, 100)
	if _, err := io.ReadFull(obj.Body, buf); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if n, err := obj.Body.Read(buf); n != 0 || err != io.EOF {
			t.Errorf("Read after the end: %d, %v", n, err)
		}
	}
}

func TestBodyIdleTimeout(t *testing.T) {
	t.Parallel()
	short := func(c *Config) { c.IdleTimeout = time.Second }
	want := noise(bodySize)
	t.Run("resumed once", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			k := newBubbleEnv(t, short)
			r := k.put("shop", "a.png", s3.Object{Body: want})
			k.next(r, s3.StallAfter(70_000, nil))
			if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes and %v", len(got), err)
			}
			wantResume(t, k, r)
		})
	})
	t.Run("then final", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			k := newBubbleEnv(t, short)
			r := k.put("shop", "a.png", s3.Object{Body: want})
			k.next(r, s3.StallAfter(70_000, nil), s3.StallAfter(1, nil))
			_, err := k.read(t, r)
			if e := wantOutcome(t, err, OutcomeTimeout); !errors.Is(e, ErrTruncated) {
				t.Error(e)
			}
			k.rec.wantCounts(t, map[string]int{"timeout": 1})
		})
	})
	t.Run("a slow reader is not S3's fault", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			k := newBubbleEnv(t, short)
			r := k.put("shop", "a.png", s3.Object{Body: want})
			obj, err := k.Get(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = obj.Body.Read(make([]byte, 10))
			pass(2 * time.Second) // twice what S3 may take
			if got, err := readAll(t, obj); err != nil || !bytes.Equal(got, want[10:]) {
				t.Fatalf("got %d bytes and %v", len(got), err)
			}
			if n := k.s3.Total(); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	})
}

func TestBodyCancel(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	k.next(r, s3.StallAfter(1000, nil))
	ctx, cancel := context.WithCancel(t.Context())
	obj, err := k.Get(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(obj.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	cancel()
	_, err = readAll(t, obj)
	if e := wantOutcome(t, err, OutcomeAborted); !errors.Is(e, context.Canceled) {
		t.Errorf("%v does not say that it was cancelled", e)
	}
	if n := k.s3.Total(); n != 1 {
		t.Errorf("%d requests: a cancelled body was resumed", n)
	}
	k.rec.wantCounts(t, map[string]int{"aborted": 1})
}

func TestBodyDeadline(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	k.next(r, s3.StallAfter(1000, nil))
	ctx := &deadline{Context: t.Context(), passed: make(chan struct{})}
	obj, err := k.Get(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(obj.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	close(ctx.passed)
	_, err = readAll(t, obj)
	wantOutcome(t, err, OutcomeTimeout)
}

// Close while a Read waits: the Read returns, and the call counts once.
func TestBodyCloseDuringRead(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	k.next(r, s3.StallAfter(1000, nil))
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(obj.Body, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	reading := make(chan error)
	go func() {
		_, err := obj.Body.Read(make([]byte, 1))
		reading <- err
	}()
	// The reader holds the lock from the moment it waits for S3.
	b := obj.Body.(*body)
	for b.mu.TryLock() {
		b.mu.Unlock()
		runtime.Gosched()
	}
	for range 3 {
		if err := obj.Body.Close(); err != nil {
			t.Error(err)
		}
	}
	wantOutcome(t, <-reading, OutcomeAborted)
	_, err = obj.Body.Read(make([]byte, 1))
	wantOutcome(t, err, OutcomeAborted)
	k.rec.wantCounts(t, map[string]int{"aborted": 1})
}

// A small rest is read so that the connection can be used again; a large one
// is not worth it.
func TestBodyCloseEarly(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		size  int
		conns int
	}{
		{"small rest", 8 << 10, 1},
		{"large rest", 4 << 20, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newBubbleEnv(t, nil)
				r := k.put("shop", "a.png", s3.Object{Body: noise(tc.size)})
				for range 2 {
					obj, err := k.Get(t.Context(), r)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(obj.Body, make([]byte, 512)); err != nil {
						t.Fatal(err)
					}
					if err := obj.Body.Close(); err != nil {
						t.Fatal(err)
					}
					// The connection goes back, or away, beside Close.
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
					if err := k.s3.Wait(ctx, func() bool { return k.s3.InFlight() == 0 }); err != nil {
						t.Fatal(err)
					}
					cancel()
				}
				if n := k.s3.Accepted(); n != tc.conns {
					t.Errorf("%d connections, want %d", n, tc.conns)
				}
				k.rec.wantCounts(t, map[string]int{"aborted": 2})
			})
		})
	}
}

func TestBodyUnknownLength(t *testing.T) {
	t.Parallel()
	want := noise(bodySize)
	closeDelimited := func(h http.Header) {
		h.Del("Content-Length")
		h.Set("Connection", "close")
	}
	trailer := func(name, sum string) []*s3.Fault {
		return []*s3.Fault{{
			Chunked: true, Trailer: []string{name + ": " + sum},
			Header: func(h http.Header) { h.Set("Trailer", "x-amz-checksum-crc32") },
		}}
	}
	sum := crc32.ChecksumIEEE(want)
	right := base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
	etag := func(etag string) []*s3.Fault {
		return []*s3.Fault{{UntilClose: true, Header: func(h http.Header) { h.Set("ETag", etag) }}}
	}
	for _, tc := range []struct {
		name   string
		sum    s3.Checksum
		faults []*s3.Fault
		want   Outcome
	}{
		{"a right checksum at the end", s3.NoChecksum, trailer("x-amz-checksum-crc32", right), OutcomeOK},
		{"a wrong checksum at the end", s3.NoChecksum, trailer("x-amz-checksum-crc32", "AAAAAA=="), OutcomeError},
		{"no checksum at the end", s3.NoChecksum, trailer("X-Other", "AAAAAA=="), OutcomeOK},
		{"ends with the connection, MD5", s3.NoChecksum, []*s3.Fault{s3.UntilClose()}, OutcomeOK},
		{"ends with the connection, another MD5", s3.NoChecksum, etag(`"d41d8cd98f00b204e9800998ecf8427e"`), OutcomeError},
		{"ends with the connection, no MD5", s3.NoChecksum, etag(`"v1"`), OutcomeError},
		{"ends with the connection, MD5 of parts", s3.NoChecksum, etag(`"d41d8cd98f00b204e9800998ecf8427e-2"`), OutcomeError},
		{"ends with the connection, weak", s3.NoChecksum, etag(`W/"d41d8cd98f00b204e9800998ecf8427e"`), OutcomeError},
		{"cut before its end, MD5", s3.NoChecksum, []*s3.Fault{{Header: closeDelimited, Cut: &s3.Cut{After: 5000}}}, OutcomeError},
		{"chunked", s3.NoChecksum, []*s3.Fault{s3.Chunked()}, OutcomeOK},
		{"chunked and cut twice", s3.NoChecksum, []*s3.Fault{s3.ChunkedCut(100), s3.ChunkedCut(100)}, OutcomeNetwork},
		{"ends with the connection, checksum", s3.CRC32, []*s3.Fault{{Header: closeDelimited, Cut: &s3.Cut{After: bodySize}}}, OutcomeOK},
		{"cut before its end, checksum", s3.CRC32, []*s3.Fault{{Header: closeDelimited, Cut: &s3.Cut{After: 5000}}}, OutcomeError},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: want, Checksum: tc.sum})
			k.next(r, tc.faults...)
			got, err := k.read(t, r)
			if tc.want != OutcomeOK {
				wantOutcome(t, err, tc.want)
				return
			}
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("got %d bytes and %v", len(got), err)
			}
		})
	}
}

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
			synctest.Test(t, func(t *testing.T) {
				k := newBubbleEnv(t, func(c *Config) { c.CallTimeout = callTimeout })
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
		})
	}
	t.Run("the rest has time", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			k := newBubbleEnv(t, func(c *Config) { c.CallTimeout = callTimeout })
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
		"a piece and a little at last": {minProgress + 1, s3.Trickle(minProgress, 500*time.Millisecond), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newBubbleEnv(t, func(c *Config) { c.IdleTimeout = 2 * time.Second })
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
		})
	}
}
