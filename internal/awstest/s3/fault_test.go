package s3_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

func TestFaults(t *testing.T) {
	t.Parallel()
	body := picture()
	released := make(chan struct{})
	close(released)
	whole := outcome{read: pictureSize}
	cut := func(n int) outcome { return outcome{read: n, err: io.ErrUnexpectedEOF} }
	for _, tt := range []struct {
		name  string
		fault *s3.Fault
		want  outcome
		text  string // part of the error, where err cannot be told by errors.Is
	}{
		{name: "none", fault: nil, want: whole},
		{name: "zero", fault: &s3.Fault{}, want: whole},
		{name: "delay", fault: s3.DelayHeaders(time.Millisecond), want: whole},
		{name: "trickle", fault: s3.Trickle(30_000, time.Millisecond), want: whole},
		{name: "stall before headers, released", fault: s3.StallAfter(s3.BeforeHeaders, released), want: whole},
		{name: "stall at 0, released", fault: s3.StallAfter(0, released), want: whole},
		{name: "stall at 4095, released", fault: s3.StallAfter(4095, released), want: whole},
		{name: "close before headers", fault: s3.CloseAfter(s3.BeforeHeaders), want: outcome{err: io.EOF}},
		{name: "close after 0", fault: s3.CloseAfter(0), want: cut(0)},
		{name: "close after 4096", fault: s3.CloseAfter(4096), want: cut(4096)},
		{name: "close after all but one", fault: s3.CloseAfter(pictureSize - 1), want: cut(pictureSize - 1)},
		{name: "no HTTP", fault: s3.NoHTTP(), text: "malformed HTTP"},
		{name: "declares more", fault: s3.DeclareMore(10), want: cut(pictureSize)},
		{name: "declares less", fault: s3.DeclareLess(10), want: outcome{read: pictureSize - 10}, text: "checksum did not match"},
		{name: "chunked", fault: s3.Chunked(), want: whole},
		{name: "chunked, with trailers", fault: &s3.Fault{Chunked: true, Trailer: []string{"X-Checked: yes"}}, want: whole},
		{name: "until the connection ends", fault: s3.UntilClose(), want: whole},
		{name: "chunked and cut", fault: s3.ChunkedCut(50_000), want: cut(50_000)},
		{name: "chunked and cut before the last chunk", fault: s3.ChunkedCut(pictureSize), want: cut(pictureSize)},
		{name: "wrong checksum", fault: s3.WrongChecksum(), want: whole, text: "checksum did not match"},
		{name: "composite checksum", fault: s3.CompositeChecksum(), want: whole},
		{name: "slow down", fault: s3.Fail("SlowDown"), want: outcome{status: 503, code: "SlowDown"}},
		{name: "any status", fault: s3.FailStatus(418, "Teapot"), want: outcome{status: 418, code: "Teapot"}},
		{name: "unknown code", fault: s3.Fail("NeverHeardOf"), want: outcome{status: 500, code: "NeverHeardOf"}},
		{name: "html 404", fault: s3.HTML404(), want: outcome{status: 404, code: "NotFound"}},
		{name: "NUL in a header", fault: s3.RawHeader("X-Evil: a\x00b"), text: "malformed MIME header"},
		{name: "header without colon", fault: s3.RawHeader("no colon"), text: "malformed MIME header"},
		{name: "split", fault: s3.RawHeader("X-Evil: a\r\nContent-Length: 7"), text: "Content-Length"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := s3.New(t)
			s.Put("media", "a.png", s3.Object{Body: body})
			s.Next("media", "a.png", tt.fault)
			client := sdk.Client(t, s.URL, testKeys)
			got, _ := fetch(t, client, object("media", "a.png"), body)
			sameOutcome(t, got, tt.want, tt.text)
			// The fault was for one request.
			again, _ := fetch(t, client, object("media", "a.png"), body)
			sameOutcome(t, again, whole, "")
			settled(t, s)
		})
	}
}

// sameOutcome compares; a text that the error must have stands for its
// identity.
func sameOutcome(t *testing.T, got, want outcome, text string) {
	t.Helper()
	sameErr := errors.Is(got.err, want.err)
	if text != "" {
		sameErr = got.err != nil && strings.Contains(got.err.Error(), text)
	}
	if got.status != want.status || got.code != want.code || got.read != want.read || !sameErr {
		t.Errorf("got %+v, want %+v %s", got, want, text)
	}
}

// settled waits until no answer is under way.
func settled(t *testing.T, s *s3.Server) {
	t.Helper()
	must(t, s.Wait(t.Context(), func() bool { return s.InFlight() == 0 && s.OpenBodies() == 0 }))
}

func TestReset(t *testing.T) {
	t.Parallel()
	body := picture()
	for _, n := range []int64{s3.BeforeHeaders, 0, 1, 4095, 4096, 64 << 10, pictureSize - 1, pictureSize} {
		s := s3.New(t)
		s.Put("media", "a.png", s3.Object{Body: body})
		s.Next("media", "a.png", s3.ResetAfter(n))
		got, _ := fetch(t, sdk.Client(t, s.URL, testKeys), object("media", "a.png"), body)
		// With the last byte received before the reset, the body is complete.
		complete := n == pictureSize && got.read == pictureSize
		if int64(got.read) > max(0, n) || (got.err == nil && !complete) {
			t.Errorf("reset after %d: got %+v", n, got)
		}
		if records := s.Requests(); len(records) != 1 {
			t.Errorf("reset after %d: %d requests, want 1", n, len(records))
		}
	}
}

// TestCodes: an error ends no connection. A plain one shows that: net/http closes its own if
// the machine is busy.
func TestCodes(t *testing.T) {
	t.Parallel()
	s := s3.New(t)
	s.Put("media", "a", s3.Object{Body: []byte("A")})
	client := sdk.Client(t, s.URL, testKeys)
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	must(t, err)
	defer nc.Close()
	plain := bufio.NewReader(nc)
	for code, status := range s3.Codes() {
		s.Next("media", "a", s3.Fail(code), s3.Fail(code))
		got, _ := fetch(t, client, object("media", "a"), nil)
		sameOutcome(t, got, outcome{status: status, code: code}, "")
		_, err := io.WriteString(nc, "GET /media/a HTTP/1.1\r\nHost: s3\r\n\r\n")
		must(t, err)
		resp, err := http.ReadResponse(plain, nil)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, errors.Join(err, resp.Body.Close()))
		if resp.StatusCode != status {
			t.Errorf("%s: got status %d, want %d", code, resp.StatusCode, status)
		}
	}
	if got := s.Count("media", "a"); got != 2*len(s3.Codes()) {
		t.Errorf("%d requests, want %d: none may be sent twice or lead elsewhere", got, 2*len(s3.Codes()))
	}
}

func TestXML200(t *testing.T) {
	t.Parallel()
	s := s3.New(t)
	s.Put("media", "a", s3.Object{Body: []byte("A"), ContentType: "image/png"})
	s.Next("media", "a", s3.XML200())
	out, err := sdk.Client(t, s.URL, testKeys).GetObject(t.Context(), object("media", "a"))
	must(t, err)
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	must(t, err)
	if !strings.Contains(string(body), "<Code>InternalError</Code>") || aws.ToString(out.ContentType) != "application/xml" {
		t.Errorf("got type %s, body %s", aws.ToString(out.ContentType), body)
	}
}

// TestStallEndsWithClient lets the client give up in each kind of silence:
// nothing may stay behind.
func TestStallEndsWithClient(t *testing.T) {
	t.Parallel()
	body := picture()
	for _, at := range []int64{s3.BeforeHeaders, 0, 50_000} {
		s := s3.New(t)
		s.Put("media", "a", s3.Object{Body: body})
		s.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(at, nil) })
		ctx, cancel := context.WithCancel(t.Context())
		client, done := sdk.Client(t, s.URL, testKeys), make(chan error, 1)
		go func() {
			out, err := client.GetObject(ctx, object("media", "a"))
			if err == nil {
				_, err = io.Copy(io.Discard, out.Body)
				out.Body.Close()
			}
			done <- err
		}()
		wantOpen := 1
		if at == s3.BeforeHeaders {
			wantOpen = 0
		}
		must(t, s.Wait(ctx, func() bool { return s.InFlight() == 1 && s.OpenBodies() == wantOpen }))
		cancel()
		if err := <-done; err == nil {
			t.Errorf("stall at %d: no error", at)
		}
		must(t, s.Wait(t.Context(), func() bool { return s.InFlight() == 0 && s.OpenBodies() == 0 && s.Conns() == 0 }))
	}
}

func TestCloseEndsStalls(t *testing.T) {
	t.Parallel()
	s := s3.New(t)
	s.Put("media", "a", s3.Object{Body: picture()})
	s.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(1, nil) })
	out, err := sdk.Client(t, s.URL, testKeys).GetObject(t.Context(), object("media", "a"))
	must(t, err)
	defer out.Body.Close()
	s.Close()
	s.Close() // again: nothing happens
	if _, err := io.Copy(io.Discard, out.Body); err == nil {
		t.Error("the body ended well")
	}
	if s.InFlight() != 0 || s.OpenBodies() != 0 || s.Conns() != 0 {
		t.Errorf("left: %d requests, %d bodies, %d connections", s.InFlight(), s.OpenBodies(), s.Conns())
	}
	if err := s.Wait(t.Context(), func() bool { return false }); err == nil {
		t.Error("Wait on a closed server: no error")
	}
}
