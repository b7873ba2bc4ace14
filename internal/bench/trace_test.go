package main

import (
	"bytes"
	"encoding/gob"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTraceRepeats checks that a trace is the same in every run: the load of two servers
// is compared.
func TestTraceRepeats(t *testing.T) {
	t.Parallel()
	spec := traceSpec{Keys: 100, Requests: 1000, Rate: 50, Aborts: 0.1}
	first := spec.requests()
	if !slices.Equal(first, spec.requests()) {
		t.Error("a second call gives other requests")
	}
	spec.Seed++
	if slices.Equal(first, spec.requests()) {
		t.Error("another seed gives the same requests")
	}
}

func TestTraceShape(t *testing.T) {
	t.Parallel()
	spec := traceSpec{Keys: 1000, Requests: 50_000, Rate: 500, Aborts: 0.1}
	requests, sizes, shares := spec.requests(), traceSizes(spec.Keys), zipfShares(spec.Keys)
	popular, aborts := 0, 0
	for i, r := range requests {
		if r.key < 10 {
			popular++
		}
		if r.abortAt >= 0 {
			aborts++
		}
		if r.abortAt >= sizes[r.key] {
			t.Fatalf("request %d ends after %d of %d bytes", i, r.abortAt, sizes[r.key])
		}
		if i > 0 && r.at < requests[i-1].at {
			t.Fatalf("request %d arrives before its predecessor", i)
		}
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.05*want {
			t.Errorf("%s is %.4f, want %.4f", what, got, want)
		}
	}
	near("share of the ten most popular", float64(popular)/50_000, shares[9])
	near("share of aborts", float64(aborts)/50_000, 0.1)
	near("length in seconds", requests[len(requests)-1].at.Seconds(), 100)
	near("share of the second key", (shares[1]-shares[0])/shares[0], math.Pow(2, -0.9))
	slices.Sort(sizes)
	if got := math.Log(float64(sizes[500])); math.Abs(got-sizeMu) > 0.2 {
		t.Errorf("the logarithm of the median size is %.2f, want %.1f", got, sizeMu)
	}
	if got := spec.hotBytes(1); got < spec.hotBytes(0.9) || spec.hotBytes(0.9) < spec.hotBytes(0.1) {
		t.Error("a larger share of the requests takes fewer bytes")
	}
}

func TestParseTraceKey(t *testing.T) {
	t.Parallel()
	tests := []struct {
		key      string
		id, size int
		ok       bool
	}{
		{key: "t3-500.png", id: 3, size: 500, ok: true},
		{key: "t0-0.png", ok: true},
		{key: "t3-500.jpg"},
		{key: "t3-500.pngx"},
		{key: "3-500.png"},
		{key: "t-1-500.png"},
		{key: "t1--500.png"},
		{key: "t1-20000001.png"},
		{key: ""},
	}
	for _, tt := range tests {
		if id, size, ok := parseTraceKey(tt.key); ok != tt.ok || ok && (id != tt.id || size != tt.size) {
			t.Errorf("%q gives %d, %d, %v, want %d, %d, %v", tt.key, id, size, ok, tt.id, tt.size, tt.ok)
		}
	}
}

func TestTraceBody(t *testing.T) {
	t.Parallel()
	for _, id := range []int{0, 1, 7, 1 << 20} {
		body := traceBody(id, sizeMost)
		if !bytes.HasPrefix(body, []byte("\x89PNG\r\n\x1a\n")) || len(body) != sizeMost {
			t.Errorf("body %d is no picture of its size", id)
		}
	}
	if bytes.Equal(traceBody(1, 1000), traceBody(2, 1000)) {
		t.Error("two objects have one body")
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h, other histogram
	if !math.IsNaN(h.quantile(0.5)) {
		t.Error("a quantile of no values is a number")
	}
	for i := range 100 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	other.add(0)
	other.add(time.Hour)
	h.merge(other)
	for q, want := range map[float64]float64{0.5: 51, 0.98: 99} {
		if got := h.quantile(q); math.Abs(got-want) > 0.02*want {
			t.Errorf("quantile %v is %.2f ms, want about %v", q, got, want)
		}
	}
	if got := h.quantile(1); !math.IsNaN(got) && got < 3_500_000 {
		t.Errorf("the largest is %.0f ms, want an hour", got)
	}
}

// TestTraceClient checks which answers count as complete: those with every byte.
func TestTraceClient(t *testing.T) {
	t.Parallel()
	const requests = 40
	tests := []struct {
		name    string
		answer  func(w http.ResponseWriter, id int, body []byte)
		wantErr string
	}{
		{name: "every byte", answer: func(w http.ResponseWriter, _ int, body []byte) { _, _ = w.Write(body) }},
		{
			name:    "a wrong byte",
			answer:  func(w http.ResponseWriter, _ int, body []byte) { _, _ = w.Write(append([]byte{1}, body[1:]...)) },
			wantErr: "is wrong",
		},
		{
			name: "an error", wantErr: "502",
			answer: func(w http.ResponseWriter, _ int, _ []byte) { w.WriteHeader(http.StatusBadGateway) },
		},
		{
			name: "a cut", wantErr: "bytes came",
			answer: func(w http.ResponseWriter, _ int, body []byte) {
				_, _ = w.Write(body[:len(body)-1])
				panic(http.ErrAbortHandler)
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			web := newWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				id, size, ok := parseTraceKey(strings.TrimPrefix(r.URL.Path, "/"+bucket+"/"))
				if !ok {
					t.Errorf("the path is %q", r.URL.Path)
				}
				w.Header().Set("Content-Length", fmt.Sprint(size))
				tt.answer(w, id, traceBody(id, size))
			}))
			job := traceJob{Trace: traceSpec{Keys: 10, Requests: requests}, Addr: web, Connections: 3}
			got := job.run(t.Context())
			if tt.wantErr != "" {
				if got.Failed != requests || !strings.Contains(got.Error, tt.wantErr) {
					t.Errorf("%d failed with %q, want %d with %q", got.Failed, got.Error, requests, tt.wantErr)
				}
				return
			}
			if got.Complete != requests || got.Failed != 0 || got.Error != "" || math.IsNaN(got.Total.quantile(0.5)) {
				t.Errorf("got %d complete and %d failed (%s), want %d complete", got.Complete, got.Failed, got.Error, requests)
			}
		})
	}
}

// TestTraceClientAborts: an aborting client counts apart and does not spoil the next
// request.
func TestTraceClientAborts(t *testing.T) {
	t.Parallel()
	web := newWeb(t, &traceOrigin{})
	job := traceJob{Trace: traceSpec{Keys: 10, Requests: 200, Aborts: 0.5}, Addr: web, Connections: 2}
	got := job.run(t.Context())
	if got.Failed > 0 || got.Complete+got.Aborted != 200 || got.Aborted < 50 || got.Complete < 50 {
		t.Errorf("got %d complete, %d aborted and %d failed (%s)", got.Complete, got.Aborted, got.Failed, got.Error)
	}
}

// TestTraceOriginCounts: the counts are those of the requests and bytes that were sent.
func TestTraceOriginCounts(t *testing.T) {
	t.Parallel()
	o := &traceOrigin{}
	ask := func(path string) *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		o.ServeHTTP(rec, httptest.NewRequest(http.MethodGet, path, nil))
		return rec
	}
	if rec := ask("/bench/" + traceKey(5, 1234)); !bytes.Equal(rec.Body.Bytes(), traceBody(5, 1234)) {
		t.Errorf("%d bytes came that are not the object", rec.Body.Len())
	}
	if rec := ask("/bench/none.png"); rec.Code != http.StatusNotFound {
		t.Errorf("an unknown object is %d", rec.Code)
	}
	if o.requests.Load() != 2 || o.bytes.Load() != 1234 {
		t.Errorf("counted %d requests and %d bytes, want 2 and 1234", o.requests.Load(), o.bytes.Load())
	}
}

// TestPeers speaks with the processes of the mixed part as their parent does.
func TestPeers(t *testing.T) {
	t.Parallel()
	in, toOrigin := io.Pipe()
	fromOrigin, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- runTraceOrigin(in, out) }()
	p := &peer{in: toOrigin, enc: gob.NewEncoder(toOrigin), dec: gob.NewDecoder(fromOrigin)}
	var addr string
	if err := p.call(originSpec{Delay: time.Millisecond}, &addr); err != nil {
		t.Fatal(err)
	}
	var jobs, results bytes.Buffer
	if err := gob.NewEncoder(&jobs).Encode(traceJob{
		Trace: traceSpec{Keys: 5, Requests: 20, Rate: 10_000}, Addr: addr, Connections: 2,
	}); err != nil {
		t.Fatal(err)
	}
	if err := runTraceClient(&jobs, &results); err != nil {
		t.Fatal(err)
	}
	var result traceResult
	if err := gob.NewDecoder(&results).Decode(&result); err != nil {
		t.Fatal(err)
	}
	counts, err := (&originProcess{peer: p}).counts()
	if err != nil || result.Complete != 20 || counts != (originCounts{20, result.Bytes}) {
		t.Errorf("got %+v at the client, %+v at the origin and error %v", result, counts, err)
	}
	_ = toOrigin.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
