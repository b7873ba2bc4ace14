package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestColdCrowd has 5,000 clients request one cold object while S3 is silent. All get
// it, S3 gets one request, and the first client, which began the fetch, has left by
// then.
func TestColdCrowd(t *testing.T) { //nolint:paralleltest // it measures, or fills the machine
	const crowd = 5000
	needFiles(t, 2*crowd)
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("crowd", "")
	body := bytesOf(200<<10, "crowd")
	fakeS3.Put("crowd", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	release := make(chan struct{})
	fakeS3.Next("crowd", "a.png", &s3.Fault{Stall: &s3.Stall{After: 100, Release: release}})
	s := startPlain(t)
	s.createOn("shop", fakeS3.URL, "crowd")

	first := sendGet(t, s.public, "/shop/a.png")
	eventually(t, "the first request is at S3", func() bool { return fakeS3.Count("crowd", "a.png") == 1 })
	conns := make([]net.Conn, crowd)
	for i := range conns {
		conns[i] = sendGet(t, s.public, "/shop/a.png")
	}
	s.waitBlocked(crowd + 1)
	// Unread bytes make this a reset, which the server sees with its next write.
	first.(*net.TCPConn).SetLinger(0)
	first.Close()
	close(release)

	var wg sync.WaitGroup
	var wrong atomic.Int64
	for _, c := range conns {
		wg.Go(func() {
			defer c.Close()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				wrong.Add(1)
				return
			}
			got, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(got, body) {
				wrong.Add(1)
			}
		})
	}
	wg.Wait()
	if n := wrong.Load(); n > 0 {
		t.Errorf("%d of %d clients did not get the picture", n, crowd)
	}
	if n := fakeS3.Total(); n != 1 {
		t.Errorf("S3 was asked %d times, want once", n)
	}
	eventually(t, "the first client is seen to have left", func() bool {
		return s.metric("ixmage_http_requests_in_flight") == 0
	})
	if n := s.metric(abortsOf("shop")); n != 1 {
		t.Errorf("%v departed clients are counted, want the first", n)
	}
	if got := s.metric(`ixmage_cache_requests_total{alias="shop",cache="collapsed"}`); got != crowd {
		t.Errorf("%v requests count as collapsed, want %d", got, crowd)
	}
}

// TestSlowReaders has 2,000 clients read 1 MiB objects, all different, at 20 KiB/s
// each: eight times the memory budget. Each client gets the right object or a 503 with
// Retry-After, or is cut because others need the memory; no byte is wrong, and resident
// memory stays within its limit.
func TestSlowReaders(t *testing.T) {
	t.Parallel() // it takes a minute and little of the machine
	skipShort(t)
	const (
		readers = 2000
		size    = 1 << 20
		step    = 2 << 10                        // per 100 ms
		fit     = 150                            // objects in two thirds of the budget, with room for what they cost beside
		allowed = (256+128)<<20 + readers*30<<10 // as docs/operations.md says, "Memory"
	)
	needFiles(t, 2*readers)
	filler := bytesOf(size, "filler")
	// An object begins with its number; the rest is the same in all.
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		front := fmt.Sprintf("%-64s", r.URL.Path)
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		io.WriteString(w, front)
		w.Write(filler[len(front):])
	}))
	defer origin.Close()
	// The origin shares the machine with 2,000 clients, and may be slow.
	s := startPlain(
		t, "--cache-memory", "256MiB",
		"--origin-first-byte-timeout", "1h", "--origin-call-timeout", "1h", "--origin-idle-timeout", "1h",
	)
	s.createOn("shop", origin.URL, "slow-readers")

	var ok, refused, cut, wrong atomic.Int64
	var wg sync.WaitGroup
	for i := range readers {
		conn := sendGet(t, s.public, fmt.Sprintf("/shop/%04d.png", i))
		conn.(*net.TCPConn).SetReadBuffer(16 << 10)
		wg.Go(func() {
			defer conn.Close()
			status, err := readSlowly(conn, fmt.Sprintf("%-64s", fmt.Sprintf("/slow-readers/%04d.png", i)), filler, step)
			switch {
			case errors.Is(err, syscall.ECONNRESET):
				cut.Add(1)
			case err != nil:
				wrong.Add(1)
				t.Logf("reader %d: %v", i, err)
			case status == http.StatusOK:
				ok.Add(1)
			default:
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	peak := peakRSS(t, s)
	t.Logf("%d got the object, %d a 503, %d were cut; peak resident %d MiB", ok.Load(), refused.Load(), cut.Load(), peak>>20)
	memory, slots := s.metric(cutsForMemory), s.metric(cutsForSlots)
	t.Logf("%v are counted as cut for memory, %v for slots, %v as stalled; %v left", memory, slots,
		s.metric(`ixmage_http_clients_cut_total{reason="stalled"}`), s.metric(abortsOf("shop")))
	if memory == 0 || memory+slots > float64(cut.Load()) {
		t.Errorf("%d readers were cut, %v are counted for memory and %v for slots", cut.Load(), memory, slots)
	}
	if wrong.Load() > 0 {
		t.Errorf("%d readers got neither the right object nor a 503 with Retry-After", wrong.Load())
	}
	if ok.Load() < fit {
		t.Errorf("%d readers got an object, and %d fit into the budget", ok.Load(), fit)
	}
	if peak > allowed {
		t.Errorf("peak resident memory is %d MiB, must stay under %d", peak>>20, allowed>>20)
	}
}

// readSlowly reads an answer step bytes at a time, ten times a second, and checks
// it.
func readSlowly(conn net.Conn, front string, filler []byte, step int) (int, error) {
	pace := &pacedReader{r: conn, step: step, tick: time.NewTicker(100 * time.Millisecond)}
	defer pace.tick.Stop()
	resp, err := http.ReadResponse(bufio.NewReaderSize(pace, step), nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode == http.StatusServiceUnavailable {
		if resp.Header.Get("Retry-After") == "" {
			return 0, errors.New("a 503 without Retry-After")
		}
		return resp.StatusCode, nil
	}
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	buf := make([]byte, step)
	at := 0
	for {
		n, err := resp.Body.Read(buf)
		for i, c := range buf[:n] {
			want := filler[at+i]
			if at+i < len(front) {
				want = front[at+i]
			}
			if c != want {
				return 0, fmt.Errorf("byte %d is wrong", at+i)
			}
		}
		at += n
		if err == io.EOF && at == len(filler) {
			return resp.StatusCode, nil
		}
		if err != nil {
			return 0, fmt.Errorf("after %d bytes: %w", at, err)
		}
	}
}

type pacedReader struct {
	r    io.Reader
	step int
	tick *time.Ticker
}

func (p *pacedReader) Read(b []byte) (int, error) {
	<-p.tick.C
	return p.r.Read(b[:min(len(b), p.step)])
}
