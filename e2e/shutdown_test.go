package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// hungServer accepts connections and never ends an answer.
type hungServer struct {
	addr   string
	hung   chan struct{} // gets a value for each connection that waits
	answer string        // sent after the first bytes of a request
	drip   bool          // then one byte at a time, for ever
}

// listen serves until the test ends.
func (h *hungServer) listen(t *testing.T) *hungServer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	h.addr, h.hung = ln.Addr().String(), make(chan struct{}, 100)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go h.serve(c)
		}
	}()
	return h
}

func (h *hungServer) serve(c net.Conn) {
	first := make([]byte, 8192)
	if _, err := c.Read(first); err != nil {
		return
	}
	if _, err := io.WriteString(c, h.answer); err != nil {
		return
	}
	h.hung <- struct{}{}
	for h.drip {
		if _, err := io.WriteString(c, "x"); err != nil {
			return
		}
		time.Sleep(200 * time.Millisecond) //nolint:forbidigo // the fault
	}
	_, _ = io.Copy(io.Discard, c)
}

// shutdownEnv is a server in which something hangs.
type shutdownEnv struct {
	*env
	t *testing.T
}

// askHung asks for an object of a new alias at endpoint, and returns when the request
// hangs there.
func (e *shutdownEnv) askHung(scheme string, h *hungServer) {
	e.t.Helper()
	e.createOn("hung", scheme+"://"+h.addr, "hung")
	sendGet(e.t, e.public, "/hung/a.png")
	<-h.hung
}

const s3Head = "HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 100000\r\nETag: \"a\"\r\n" +
	"Last-Modified: Tue, 01 Sep 2026 00:00:00 GMT\r\n\r\n"

// SIGTERM ends the process with status 0, whatever hangs in it: at most two seconds after
// --shutdown-timeout. TestShutdownTimes has the exact times; here a minute tells an
// end that is late on a busy machine from one that never comes.
func TestTermEndsEverything(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		hang func(e *shutdownEnv)
	}{
		{"nothing", nil, func(*shutdownEnv) {}},
		{"S3 does not answer", nil, func(e *shutdownEnv) {
			e.askHung("http", (&hungServer{}).listen(e.t))
		}},
		{"S3 stops after the headers", nil, func(e *shutdownEnv) {
			e.askHung("http", (&hungServer{answer: s3Head}).listen(e.t))
		}},
		{"S3 drips a body", nil, func(e *shutdownEnv) {
			e.askHung("http", (&hungServer{answer: s3Head, drip: true}).listen(e.t))
		}},
		{"S3 drips headers", nil, func(e *shutdownEnv) {
			e.askHung("http", (&hungServer{answer: "HTTP/1.1 200 OK\r\nX-A: ", drip: true}).listen(e.t))
		}},
		{"S3 switches protocols", nil, func(e *shutdownEnv) {
			e.askHung("http", (&hungServer{
				answer: "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n",
			}).listen(e.t))
		}},
		{"TLS does not answer", nil, func(e *shutdownEnv) {
			e.askHung("https", (&hungServer{}).listen(e.t))
		}},
		{"clients send half a request", nil, func(e *shutdownEnv) {
			for _, addr := range []string{e.public, e.admin} {
				for _, text := range []string{"", "GET /sh", "GET /shop/a.png HTTP/1.1\r\nHost: x\r\n", "POST /api/v1/aliases HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"} {
					c, err := net.Dial("tcp", addr)
					if err != nil {
						e.t.Fatal(err)
					}
					e.t.Cleanup(func() { c.Close() })
					if _, err := io.WriteString(c, text); err != nil {
						e.t.Fatal(err)
					}
				}
			}
		}},
		{"clients do not read", nil, func(e *shutdownEnv) {
			e.put("large.png", s3.Object{Body: bytesOf(16<<20, "large")})
			for range 4 {
				sendGet(e.t, e.public, "/shop/large.png")
			}
			eventually(e.t, "they are answered", func() bool { return e.samples()["ixmage_http_requests_in_flight"] == 4 })
		}},
		{"IAM does not answer", nil, nil},
		{"the database is locked", nil, (*shutdownEnv).lockDatabase},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			args := []string{"--shutdown-timeout=1s"}
			if tc.hang == nil {
				h := (&hungServer{}).listen(t)
				args = append(args, "--provision", "--iam-endpoint", "http://"+h.addr, "--provision-buckets", "prov-*")
				tc.hang = func(e *shutdownEnv) { e.provisionHung(h) }
			}
			s := startWith(t, []string{"AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY=not-a-real-secret", "AWS_REGION=us-east-1"}, args...)
			e := &shutdownEnv{newEnvOn(t, s), t}
			tc.hang(e)
			e.wantEndInTime()
			// SQLite waits for a lock for longer than the end of the process may take, unless
			// it began to wait before the signal.
			if strings.Contains(e.output(), "shutdown timed out") && tc.name != "the database is locked" {
				t.Errorf("something was cut:\n%s", tail(e.output(), 1000))
			}
		})
	}
}

// wantEndInTime ends the process.
func (e *shutdownEnv) wantEndInTime() {
	e.t.Helper()
	begin := time.Now()
	e.process.Signal(syscall.SIGTERM)
	select {
	case <-e.process.Done():
	case <-time.After(time.Minute):
		e.t.Fatal("it goes on")
	}
	if code := e.process.State().ExitCode(); code != 0 {
		e.t.Errorf("the exit status is %d, want 0", code)
	}
	e.t.Logf("it took %v", time.Since(begin))
}

// provisionHung starts an operation that waits for IAM, and a call that waits for the
// operation.
func (e *shutdownEnv) provisionHung(h *hungServer) {
	e.t.Helper()
	e.put("in.png", s3.Object{Body: bytesOf(100, "in")})
	r := e.request(http.MethodPost, "/api/v1/provision", map[string]any{
		"alias": "prov", "bucket": "prov-media", "region": "us-east-1", "prefix": "a/", "endpoint": e.s3.URL, "path_style": true,
		"probe": map[string]any{"inside": "a/in.png", "outside": "out.png"},
	})
	r.Header.Set("Prefer", "wait=300")
	go func() {
		if resp, err := client(e.t).Do(r); err == nil { // the process may end first
			resp.Body.Close()
		}
	}()
	<-h.hung
}

// lockDatabase takes SQLite's lock for writing, as a backup or an editor would, while usage
// is to be stored and an alias changed.
func (e *shutdownEnv) lockDatabase() {
	e.t.Helper()
	e.put("a.png", s3.Object{Body: bytesOf(1000, "a")})
	f, err := os.OpenFile(filepath.Join(e.data, "registry.db-shm"), os.O_RDWR, 0)
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { f.Close() })
	const writeLock = 120 // WAL_WRITE_LOCK in https://sqlite.org/walformat.html
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: writeLock, Len: 1}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLKW, &lock); err != nil {
		e.t.Fatal(err)
	}
	if r := e.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		e.t.Fatal(r.Status)
	}
	r := e.request(http.MethodPatch, "/api/v1/aliases/shop", `{"ttl": "7m"}`)
	go func() {
		if resp, err := client(e.t).Do(r); err == nil { // the process may end first
			resp.Body.Close()
		}
	}()
}

// TestTermDuringStart: a signal ends the process also while it waits for the lock of its
// database, or for a name server.
func TestTermDuringStart(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	s := startIn(t, data)
	s.createOn("shop", "http://127.0.0.1:9", "media")
	if code := s.stop(); code != 0 {
		t.Fatal(code)
	}
	f, err := os.OpenFile(filepath.Join(data, "registry.db"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const pending, length = 0x40000000, 512 // all locks of https://sqlite.org/lockingv3.html
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: pending, Len: length}
	if err := syscall.FcntlFlock(f.Fd(), syscall.F_SETLKW, &lock); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program(), serveArgs(data, "--shutdown-timeout=1s")...)
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it waits for the database", func() bool {
		list, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
		for _, fd := range list {
			if name, _ := os.Readlink(fd); strings.HasSuffix(name, "/registry.db") {
				return true
			}
		}
		return false
	})
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v:\n%s", err, &log)
	}
}
