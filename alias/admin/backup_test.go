package admin

import (
	"bytes"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"

	"ixmage/alias"
)

// backupFunc is a Backuper made of a function.
type backupFunc func() (*Backup, error)

func (f backupFunc) Backup(context.Context) (*Backup, error) { return f() }

// closed notes that it was closed.
type closed struct {
	io.Reader

	n *int
}

func (c closed) Close() error { *c.n++; return nil }

func withBackups(f backupFunc) func(*Config) { return func(c *Config) { c.Backups = f } }

func TestBackup(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 128 << 10, 300<<10 + 7} {
		var ended int
		text := bytes.Repeat([]byte("r"), size)
		a := newAPI(t, withBackups(func() (*Backup, error) {
			return &Backup{closed{bytes.NewReader(text), &ended}, int64(size), "0123abcd", "/keys/master.keyset"}, nil
		}))
		r := a.do("GET", "/api/v1/backup", "").want(200, "")
		if r.body != string(text) {
			t.Errorf("got %d bytes, want %d", len(r.body), size)
		}
		for name, want := range map[string]string{
			"X-Ixmage-Keyset": "0123abcd", "X-Ixmage-Keyset-Place": "/keys/master.keyset",
			"Content-Type": "application/vnd.sqlite3", "Cache-Control": "no-store",
		} {
			if got := r.header.Get(name); got != want {
				t.Errorf("%s: got %q, want %q", name, got, want)
			}
		}
		a.do("HEAD", "/api/v1/backup", "").want(200, "")
		a.do("GET", "/api/v1/backup", "").want(200, "")        // one after the other is no two at a time
		if err := a.server.Shutdown(t.Context()); err != nil { // the last copy is closed after its answer
			t.Fatal(err)
		}
		if ended != 3 {
			t.Errorf("%d of 3 copies were closed", ended)
		}
	}
}

// TestBackupBreaks: a copy that cannot be read to its end is no answer that a client could
// take for the whole.
func TestBackupBreaks(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]io.Reader{
		"an error": io.MultiReader(strings.NewReader("half"), iotest.ErrReader(io.ErrClosedPipe)),
		"too few":  strings.NewReader("half"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ended int
			a := newAPI(t, withBackups(func() (*Backup, error) { return &Backup{closed{text, &ended}, 8, "f", "p"}, nil }))
			conn, err := net.Dial("tcp", a.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			io.WriteString(conn, "GET /api/v1/backup HTTP/1.1\r\nHost: "+a.addr+"\r\nAuthorization: Bearer "+testToken+"\r\n\r\n")
			all, _ := io.ReadAll(conn) // the server cuts it
			head, body, _ := strings.Cut(string(all), "\r\n\r\n")
			if !strings.Contains(head, "Content-Length: 8") || len(body) >= 8 {
				t.Errorf("got %q and %q", head, body)
			}
			if err := a.server.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			if ended != 1 {
				t.Errorf("closed %d times", ended)
			}
		})
	}
}

func TestBackupRefused(t *testing.T) {
	t.Parallel()
	failure := alias.ErrUnavailable
	release, begun := make(chan struct{}), make(chan struct{})
	a := newAPI(t, withBackups(func() (*Backup, error) {
		if failure != nil {
			return nil, failure
		}
		close(begun)
		<-release
		var n int
		return &Backup{closed{strings.NewReader("db"), &n}, 2, "f", "p"}, nil
	}))
	a.do("GET", "/api/v1/backup", "", "Authorization", "").want(401, "unauthorized")
	a.do("GET", "/api/v1/backup?x=1", "").want(400, "invalid")
	a.do("POST", "/api/v1/backup", "").want(405, "method")
	a.do("GET", "/api/v1/backup", "").want(503, "unavailable")
	newAPI(t).do("GET", "/api/v1/backup", "").want(501, "not-implemented")
	failure = nil
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.do("GET", "/api/v1/backup", "").want(200, "")
	}()
	<-begun
	a.do("GET", "/api/v1/backup", "").want(409, "operation-running")
	close(release)
	<-done
}
