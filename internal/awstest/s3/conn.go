package s3

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/sigv4"
)

const chunkSize = 32 << 10

// errEnded means that a fault, the client or Close ended the connection.
var errEnded = errors.New("connection ended")

// conn answers the requests of one connection in order. It writes HTTP itself,
// because the server of net/http refuses to send malformed answers.
type conn struct {
	s  *Server
	nc net.Conn
	n  int
	br *bufio.Reader
	bw *bufio.Writer
}

func newConn(s *Server, nc net.Conn, n int) *conn {
	return &conn{s: s, nc: nc, n: n, br: bufio.NewReader(nc), bw: bufio.NewWriterSize(nc, chunkSize)}
}

func (c *conn) serve() {
	defer c.s.update(func() { delete(c.s.open, c) })
	defer c.nc.Close()
	for {
		req, err := http.ReadRequest(c.br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if c.exchange(req) != nil || req.Close {
			return
		}
	}
}

// exchange records a request and answers it. An error means that the
// connection cannot go on.
func (c *conn) exchange(req *http.Request) error {
	at := ParseTarget(req.RequestURI)
	r := &Request{
		Conn: c.n, Method: req.Method, Target: req.RequestURI, Host: req.Host, Bucket: at.Bucket, Key: at.Key,
		Header: req.Header.Clone(), AccessKeyID: sigv4.Parse(req.Header.Get("Authorization")).KeyID,
	}
	fault := c.s.record(r)
	if fault == nil {
		fault = &Fault{}
	}
	sent := int64(0)
	defer c.s.update(func() {
		c.s.inFlight--
		r.Sent, r.Done = sent, true
	})
	if err := c.pause(fault.Delay); err != nil {
		return err
	}
	if err := c.applyAt(fault, BeforeHeaders, 0); err != nil {
		return err
	}
	if fault.Instead != "" {
		c.write(fault.Instead)
		_ = c.bw.Flush() // the client may have gone first
		return errEnded
	}
	a := c.s.answer(req, at, fault)
	c.s.update(func() {
		c.s.bodies++
		r.Status = a.Status
	})
	defer c.s.update(func() { c.s.bodies-- })
	var err error
	if sent, err = c.send(a, fault); err != nil {
		return err
	}
	if fault.Excess != 0 || len(fault.Raw) > 0 || fault.UntilClose {
		return errEnded
	}
	return nil
}

// send writes an answer and returns how many bytes of its body it sent.
func (c *conn) send(a *Answer, f *Fault) (int64, error) {
	c.write(f.Before)
	c.writeHead(a)
	size, sent := int64(len(a.Body)), int64(0)
	for {
		// Each place is passed once, because sent only grows.
		if err := c.applyAt(f, sent, size); err != nil {
			return sent, err
		}
		if sent == size {
			break
		}
		if sent > 0 {
			if err := c.pause(f.Pace); err != nil {
				return sent, err
			}
		}
		chunk := a.Body[sent:f.next(sent, size)]
		if err := c.writeChunk(a, chunk); err != nil {
			return sent, err
		}
		sent += int64(len(chunk))
	}
	if a.chunked() {
		c.write("0\r\n")
		for _, line := range f.Trailer {
			c.write(line + "\r\n")
		}
		c.write("\r\n")
	}
	c.write(f.After)
	return sent, c.bw.Flush()
}

func (c *conn) writeHead(a *Answer) {
	c.write(fmt.Sprintf("HTTP/1.1 %d %s\r\n", a.Status, http.StatusText(a.Status)))
	_ = a.Header.Write(c.bw) // Flush returns the error
	for _, line := range a.raw {
		c.write(line + "\r\n")
	}
	c.write("\r\n")
}

// write buffers text for the next Flush, which returns any error.
func (c *conn) write(text string) { _, _ = c.bw.WriteString(text) }

func (c *conn) writeChunk(a *Answer, chunk []byte) error {
	if !a.chunked() {
		_, err := c.bw.Write(chunk)
		return err
	}
	c.write(fmt.Sprintf("%x\r\n", len(chunk)))
	_, err := c.bw.Write(chunk)
	c.write("\r\n")
	return err
}

// next is the end of the chunk that begins at sent: the chunk size, or the place
// of an earlier stall or cut.
func (f *Fault) next(sent, size int64) int64 {
	chunk := int64(f.Chunk)
	switch {
	case chunk > 0:
	case f.Pace > 0:
		chunk = 1
	default:
		chunk = chunkSize
	}
	end := min(sent+chunk, size)
	if f.Stall != nil && f.Stall.After > sent {
		end = min(end, f.Stall.After)
	}
	if f.Cut != nil && f.Cut.After > sent {
		end = min(end, f.Cut.After)
	}
	return end
}

// applyAt stalls or cuts at a place in the body, if the fault says so. A place
// beyond the end of the body counts as the end, so that no fault is ignored.
func (c *conn) applyAt(f *Fault, place, size int64) error {
	if f.Stall != nil && min(f.Stall.After, size) == place {
		if err := c.wait(f.Stall.Release); err != nil {
			return err
		}
	}
	if f.Cut == nil || min(f.Cut.After, size) != place {
		return nil
	}
	_ = c.bw.Flush() // the client may have gone first
	if f.Cut.How == netfault.RST {
		netfault.Reset(c.nc)
	}
	return errEnded
}

// pause waits for d or for the end of the connection.
func (c *conn) pause(d time.Duration) error {
	if d <= 0 {
		return nil
	}
	over := make(chan struct{})
	timer := time.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	return c.wait(over)
}

// wait flushes and returns when release is closed, or with an error if the client
// leaves or the server is closed first.
func (c *conn) wait(release <-chan struct{}) error {
	if err := c.bw.Flush(); err != nil {
		return err
	}
	// Only a read notices that the client has left. The deadline below ends it
	// at the latest; an early next request stays in the buffer.
	var peekErr error
	peeked := make(chan struct{})
	go func() {
		defer close(peeked)
		_, peekErr = c.br.Peek(1)
	}()
	var ended error
	select {
	case <-peeked:
		if peekErr != nil {
			return errEnded
		}
		return c.waitPipelined(release)
	case <-release:
	case <-c.s.closed: // nc is closed a moment later: nothing may be sent in between
		ended = errEnded
	}
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	<-peeked
	return errors.Join(ended, c.nc.SetReadDeadline(time.Time{})) // fails if Close came first
}

// waitPipelined is wait for a client that has already sent the next request.
func (c *conn) waitPipelined(release <-chan struct{}) error {
	select {
	case <-release:
		return nil
	case <-c.s.closed:
		return errEnded
	}
}

// chunked reports whether the answer declares no length.
func (a *Answer) chunked() bool {
	return strings.EqualFold(a.Header.Get("Transfer-Encoding"), "chunked")
}
