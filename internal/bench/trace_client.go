package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// traceJob replays a trace against a server.
type traceJob struct {
	Trace       traceSpec
	Addr        string
	Connections int
	// Limit ends the job early; 0 replays the whole trace.
	Limit time.Duration
}

// traceResult is the result of a job. Times are those of complete answers and begin when
// the request was due, so that a server cannot hide a stall by holding requests back.
type traceResult struct {
	Total, FirstByte histogram
	Complete         int
	Aborted          int
	Failed           int
	Bytes            int64
	Elapsed          time.Duration
	Error            string // of the first failure
}

// histogram counts durations in steps of one percent from a microsecond on.
type histogram struct{ Counts []int64 }

const histogramStep = 0.01

func (h *histogram) add(d time.Duration) {
	at := 0
	if d > time.Microsecond {
		at = int(math.Log(float64(d)/float64(time.Microsecond)) / histogramStep)
	}
	for len(h.Counts) <= at {
		h.Counts = append(h.Counts, 0)
	}
	h.Counts[at]++
}

func (h *histogram) merge(other histogram) {
	for at, n := range other.Counts {
		for len(h.Counts) <= at {
			h.Counts = append(h.Counts, 0)
		}
		h.Counts[at] += n
	}
}

// quantile is in milliseconds, NaN without values.
func (h *histogram) quantile(q float64) float64 {
	var sum int64
	for _, n := range h.Counts {
		sum += n
	}
	rank := int64(q * float64(sum))
	for at, n := range h.Counts {
		if rank < n {
			return math.Exp((float64(at)+0.5)*histogramStep) / 1000
		}
		rank -= n
	}
	return math.NaN()
}

// runTraceClient runs the jobs that it reads as gob from in, until in ends.
func runTraceClient(in io.Reader, out io.Writer) error {
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	for {
		var job traceJob
		if err := dec.Decode(&job); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a job: %w", err)
		}
		if err := enc.Encode(job.run(context.Background())); err != nil {
			return err
		}
	}
}

// run replays the trace over the connections, in the order of arrival.
func (j traceJob) run(ctx context.Context) traceResult {
	traceBlocks() // before the clock runs
	requests, sizes := j.Trace.requests(), traceSizes(j.Trace.Keys)
	if j.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, j.Limit)
		defer cancel()
	}
	var next atomic.Int64
	start := time.Now()
	results := make([]traceResult, j.Connections)
	var workers sync.WaitGroup
	for w := range results {
		workers.Go(func() {
			c := traceConn{addr: j.Addr, buf: make([]byte, 64<<10)}
			defer c.close()
			for i := next.Add(1) - 1; i < int64(len(requests)); i = next.Add(1) - 1 {
				r := requests[i]
				due := start.Add(r.at)
				if j.Trace.Rate == 0 {
					due = time.Now()
				}
				if !waitUntil(ctx, due) {
					return
				}
				results[w].count(&c, r, sizes[r.key], due)
			}
		})
	}
	workers.Wait()
	var sum traceResult
	for _, r := range results {
		sum.merge(r)
	}
	sum.Elapsed = time.Since(start)
	return sum
}

// waitUntil is false if ctx ends first.
func waitUntil(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *traceResult) count(c *traceConn, r traceRequest, size int, due time.Time) {
	first, n, err := c.get(r, size)
	t.Bytes += int64(n)
	switch {
	case err != nil:
		t.Failed++
		if t.Error == "" {
			t.Error = err.Error()
		}
		c.close()
	case r.abortAt >= 0:
		t.Aborted++
		c.close()
	default:
		t.Complete++
		t.Total.add(time.Since(due))
		t.FirstByte.add(first.Sub(due))
	}
}

func (t *traceResult) merge(r traceResult) {
	t.Total.merge(r.Total)
	t.FirstByte.merge(r.FirstByte)
	t.Complete += r.Complete
	t.Aborted += r.Aborted
	t.Failed += r.Failed
	t.Bytes += r.Bytes
	if t.Error == "" {
		t.Error = r.Error
	}
}

// traceConn is a keep-alive connection, opened when it is needed.
type traceConn struct {
	addr  string
	alias string // bucket, if it is empty
	conn  net.Conn
	in    *bufio.Reader
	buf   []byte
}

func (c *traceConn) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

// get requests an object and compares every byte that it reads. n is the number of body
// bytes that came.
func (c *traceConn) get(r traceRequest, size int) (first time.Time, n int, err error) {
	key := traceKey(r.key, size)
	reused := c.conn != nil
	status, length, err := c.ask(key)
	if err != nil && reused { // the server closed an idle connection
		c.close()
		status, length, err = c.ask(key)
	}
	first = time.Now()
	switch {
	case err != nil:
	case status != http.StatusOK || length != int64(size):
		err = fmt.Errorf("status %d with %d bytes, want 200 with %d", status, length, size)
	default:
		want := traceBody(r.key, size)
		if r.abortAt >= 0 {
			want = want[:r.abortAt]
		}
		n, err = c.compare(want)
	}
	if err != nil {
		err = fmt.Errorf("get %s: %w", key, err)
	}
	return first, n, err
}

// compare reads as much of the body as it wants.
func (c *traceConn) compare(want []byte) (n int, err error) {
	for n < len(want) {
		k, err := c.in.Read(c.buf[:min(len(c.buf), len(want)-n)])
		if !bytes.Equal(c.buf[:k], want[n:n+k]) {
			return n, fmt.Errorf("a byte between %d and %d is wrong", n, n+k)
		}
		n += k
		if err != nil {
			return n, fmt.Errorf("%d of %d bytes came: %w", n, len(want), err)
		}
	}
	return n, nil
}

// ask sends a request and reads the head of the answer.
func (c *traceConn) ask(key string) (status int, length int64, err error) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp4", c.addr, time.Minute)
		if err != nil {
			return 0, 0, err
		}
		c.conn, c.in = conn, bufio.NewReaderSize(conn, 4<<10)
	}
	if err := c.conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, 0, err
	}
	target := "/" + cmp.Or(c.alias, bucket) + "/" + key
	if _, err := io.WriteString(c.conn, "GET "+target+" HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return 0, 0, err
	}
	resp, err := http.ReadResponse(c.in, nil) //nolint:bodyclose // compare reads the body from the connection
	if err != nil {
		return 0, 0, err
	}
	return resp.StatusCode, resp.ContentLength, nil
}
