package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestRelease: whatever becomes of a request, what it held is given back when it
// has ended: cached bytes, S3's bodies, its place among the requests in flight.
func TestRelease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	sizes := map[string]int{"small.png": 100, "middle.png": 100_000, "large.png": 4 << 20}
	for key, size := range sizes {
		s.put(key, s3.Object{Body: fakePNG(size)})
		wantPicture(t, s.get("/shop/"+key), fakePNG(size))
	}
	s.put("private.png", s3.Object{Body: fakePNG(1 << 20), CacheControl: "no-store"})
	s.put("page.html", s3.Object{Body: []byte("<html>"), ContentType: "text/html"})
	// Of what is never stored, and of what breaks, nothing may stay either.
	s.put("broken.png", s3.Object{Body: fakePNG(1 << 20)})
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Key == "web/broken.png" {
			return s3.WrongChecksum()
		}
		return nil
	})
	s.wantQuiet(t)
	held, entries := s.metric(memoryBytes), s.metric(memoryEntries)
	if entries != 3 || held < 100+100_000+4<<20 {
		t.Fatalf("%v entries of %v bytes", entries, held)
	}
	targets := []string{"small.png", "middle.png", "large.png", "private.png", "broken.png", "page.html", "none.png", ".."}
	lines := []string{"", "If-None-Match: *\r\n", "If-Match: \"x\"\r\n", "Range: bytes=0-9\r\n", "Range: bytes=99-\r\n", "Range: bytes=99999999-\r\n"}
	for name, use := range map[string]func(*wire, string){
		"read":      func(w *wire, q string) { w.send("GET " + q).answer(http.MethodGet) },
		"HEAD":      func(w *wire, q string) { w.send("HEAD " + q).answer(http.MethodHead) },
		"POST":      func(w *wire, q string) { w.send("POST " + q).all() },
		"pipelined": func(w *wire, q string) { w.send("HEAD " + q + "GET " + q + "GET " + q).answer(http.MethodHead) },
		"left":      func(w *wire, q string) { w.send("GET " + q) },
		"left soon": func(w *wire, q string) { w.send("GET " + q).in.Peek(1) },
		"half sent": func(w *wire, q string) { w.send("GET " + q[:len(q)-3]) },
	} {
		t.Run(name, func(t *testing.T) {
			var all sync.WaitGroup
			for _, key := range targets {
				for _, line := range lines {
					w := s.dial()
					all.Go(func() {
						defer w.Close()
						use(w, "/shop/"+key+" HTTP/1.1\r\nHost: x\r\n"+line+"\r\n")
					})
				}
			}
			all.Wait()
			s.wantQuiet(t)
			if got := s.metric(memoryEntries); got != entries {
				t.Errorf("%v entries, want %v", got, entries)
			}
			if got := s.metric(memoryBytes); got != held {
				t.Errorf("%v bytes are held, want %v", got, held)
			}
		})
	}
}

const (
	memoryBytes   = `ixmage_cache_bytes{tier="memory"}`
	memoryEntries = `ixmage_cache_entries{tier="memory"}`
)

// wantQuiet waits until nothing is under way any more, here and at S3.
func (s *site) wantQuiet(t *testing.T) {
	t.Helper()
	for _, series := range []string{"ixmage_http_requests_in_flight", "ixmage_origin_open_bodies"} {
		eventually(t, series+" is 0", func() bool { return s.metric(series) == 0 })
	}
	eventually(t, "S3 has nothing in flight", func() bool { return s.s3.InFlight() == 0 })
	// An abandoned fetch may give its bytes back a moment after its body is closed.
	last := -1.0
	eventually(t, "the bytes held settle", func() bool {
		now := s.metric(memoryBytes)
		same := now == last
		last = now
		return same
	})
}

// TestReleaseOfWaiting: clients that leave while S3 is silent hold nothing once
// the wait has its end.
func TestReleaseOfWaiting(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--origin-idle-timeout", "500ms", "--origin-call-timeout", "1s", "--breaker-failures", "0")
	const clients = 20
	for i := range clients {
		key := fmt.Sprintf("%d.png", i)
		s.put(key, s3.Object{Body: fakePNG(2 << 20)})
		// What follows a break is asked for alone: its stall must lie within it.
		after, again := int64(1<<20), int64(64<<10)
		if i%2 == 0 {
			after, again = s3.BeforeHeaders, s3.BeforeHeaders
		}
		s.s3.Next("media", "web/"+key, s3.StallAfter(after, nil), s3.StallAfter(again, nil), s3.StallAfter(again, nil))
		w := s.dial()
		w.send("GET /shop/" + key + " HTTP/1.1\r\nHost: x\r\n\r\n")
		if i%2 == 1 {
			w.in.Peek(1)
		}
		w.Close()
	}
	// Not in all: what breaks is asked for again.
	for i := range clients {
		eventually(t, "each was seen", func() bool { return s.calls(fmt.Sprintf("%d.png", i)) > 0 })
	}
	s.wantQuiet(t)
	if got := s.metric(memoryBytes); got != 0 {
		t.Errorf("%v bytes are held", got)
	}
	if got := s.metric(memoryEntries); got != 0 {
		t.Errorf("%v entries", got)
	}
}

// A client that stops reading holds its object until it is cut, and no longer.
func TestReleaseOfStalledClient(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const size = 16 << 20 // more than the sockets take
	s.put("a.png", s3.Object{Body: fakePNG(size)})
	w := s.dial().send("GET /shop/a.png HTTP/1.1\r\nHost: x\r\n\r\n")
	w.SetDeadline(time.Time{})
	if _, err := w.in.Peek(1); err != nil {
		t.Fatal(err)
	}
	// It is given two stretches of 15 s: the first to compare the second with.
	tick, patience := time.NewTicker(time.Second), time.After(3*time.Minute)
	defer tick.Stop()
	for s.metric(`ixmage_http_client_aborts_total{alias="shop"}`) == 0 {
		select {
		case <-tick.C:
		case <-patience:
			t.Fatal("the client is not cut")
		}
	}
	s.wantQuiet(t)
	if !strings.Contains(s.output(), "client_aborted=true") {
		t.Error("the log does not say so")
	}
	wantPicture(t, s.get("/shop/a.png"), fakePNG(size))
}
