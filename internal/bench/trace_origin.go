package main

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// originSpec configures an origin process.
type originSpec struct {
	// Delay is the time to the first byte, as a distant S3 has one.
	Delay time.Duration
}

// originCounts is what an origin process has sent.
type originCounts struct{ Requests, Bytes int64 }

// traceOrigin answers path-style GetObject calls for the objects of traces, accepts any
// signature, and counts.
type traceOrigin struct {
	delay           time.Duration
	requests, bytes atomic.Int64
}

// runTraceOrigin serves until in ends. For each byte from in, it writes the counts as gob
// to out; the first value is its address.
func runTraceOrigin(in io.Reader, out io.Writer) error {
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	var spec originSpec
	if err := dec.Decode(&spec); err != nil {
		return fmt.Errorf("read the spec: %w", err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	o := &traceOrigin{delay: spec.Delay}
	server := &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- server.Serve(ln) }()
	if err := enc.Encode(ln.Addr().String()); err != nil {
		return err
	}
	for err == nil {
		var ask bool
		if err = dec.Decode(&ask); err == nil {
			err = enc.Encode(originCounts{o.requests.Load(), o.bytes.Load()})
		}
	}
	_ = server.Close()
	<-done //nolint:errcheck // it is ErrServerClosed
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return err
}

func (o *traceOrigin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.requests.Add(1)
	key := strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")
	id, size, ok := parseTraceKey(key)
	if !ok {
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
		return
	}
	if o.delay > 0 {
		timer := time.NewTimer(o.delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
			return
		}
	}
	h := w.Header()
	h.Set("ETag", fmt.Sprintf(`"%08x%08x"`, id, size))
	h.Set("Content-Type", "image/png")
	modified := time.Date(2026, 11, 2, 10, 0, 0, 0, time.UTC)
	http.ServeContent(&countingWriter{w, &o.bytes}, r, key, modified, bytes.NewReader(traceBody(id, size)))
}

// countingWriter counts the bytes of the body that the connection took.
type countingWriter struct {
	http.ResponseWriter
	bytes *atomic.Int64
}

func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes.Add(int64(n))
	return n, err
}

// originProcess is a traceOrigin in a process of its own, which can be pinned.
type originProcess struct {
	*peer
	addr string
}

func startTraceOrigin(ctx context.Context, cpu int, spec originSpec) (*originProcess, error) {
	p, err := startPeer(ctx, cpu, originCommand)
	if err != nil {
		return nil, err
	}
	o := &originProcess{peer: p}
	if err := p.call(spec, &o.addr); err != nil {
		p.stop()
		return nil, fmt.Errorf("start the origin: %w", err)
	}
	return o, nil
}

func (o *originProcess) counts() (c originCounts, err error) {
	err = o.call(true, &c)
	return c, err
}
