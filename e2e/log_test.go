package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/process"
	"ixmage/internal/awstest/s3"
)

// startRedirected starts the server with a redirection of the shell, "2>&3" for
// example, where 3 is file. The test does not see the log, so the listeners have
// addresses that it chooses. file may be nil.
func startRedirected(t testing.TB, redirection string, file *os.File, args ...string) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	s := &server{t: t, data: data, log: &logReader{}, public: freeAddr(t), admin: freeAddr(t)}
	args = serveArgs(data, append([]string{"--listen", s.public, "--admin-listen", s.admin}, args...)...)
	cmd := exec.Command("sh", append([]string{"-c", `exec "$0" "$@" ` + redirection, program()}, args...)...)
	if file != nil {
		cmd.ExtraFiles = []*os.File{file}
	}
	var err error
	if s.process, err = process.Start("ixmage", cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.process.Kill)
	eventually(t, "it is ready", func() bool {
		if r := single(s.public, http.MethodGet, "/-/readyz"); r.Response != nil && r.StatusCode == http.StatusOK {
			return true
		}
		select {
		case <-s.process.Done():
			t.Fatalf("ixmage ended: %s", s.process.Output())
		default:
		}
		return false
	})
	s.token = strings.TrimSpace(string(readFile(t, filepath.Join(data, "admin-token"))))
	return s
}

// shortPipe is a pipe that holds one page.
func shortPipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close(); w.Close() })
	const setPipeSize = 1031 // F_SETPIPE_SZ of Linux
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, w.Fd(), setPipeSize, 4096); errno != 0 {
		t.Fatal(errno)
	}
	return r, w
}

// pipelined sends n requests on one connection and returns how often each status
// came.
func (s *server) pipelined(n int, path func(i int) string) map[int]int {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.public)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		var all bytes.Buffer
		for i := range n {
			fmt.Fprintf(&all, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path(i))
		}
		_, _ = conn.Write(all.Bytes()) // the reader below finds what is missing
	}()
	statuses := map[int]int{}
	in := bufio.NewReader(conn)
	for range n {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			s.t.Fatalf("after %v: %v", statuses, err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		statuses[resp.StatusCode]++
	}
	return statuses
}

func unknownAlias(int) string { return "/unknown/a.png" }

// wantService checks that pictures, refusals and changes are answered.
func wantService(t *testing.T, s *env) {
	t.Helper()
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("a picture is answered %s", r.Status)
	}
	if got := s.pipelined(600, unknownAlias); got[http.StatusNotFound] != 600 {
		t.Errorf("600 requests that are refused got %v", got)
	}
	s.patch("shop", `{"ttl": "7m"}`)
}

// wantEnd checks that SIGTERM ends the process with status 0.
func wantEnd(t *testing.T, s *server) {
	t.Helper()
	if code := s.stop(); code != 0 {
		t.Errorf("after SIGTERM the exit status is %d, want 0", code)
	}
}

// The server works and ends as always with any stderr.
func TestStderr(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, redirection string
		prepare           func(t *testing.T, r, w *os.File) // before the server starts
		during            func(t *testing.T, r, w *os.File) // before the requests
	}{
		{"its reader leaves", "2>&3", nil, func(_ *testing.T, r, w *os.File) { r.Close(); w.Close() }},
		{"its reader left before the start", "2>&3", func(_ *testing.T, r, _ *os.File) { r.Close() }, nil},
		{"stdout too", ">&3 2>&3", func(_ *testing.T, r, _ *os.File) { r.Close() }, nil},
		{"its reader does not read", "2>&3", nil, nil},
		{"the pipe is full at the start", "2>&3", func(t *testing.T, _, w *os.File) {
			t.Helper()
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				t.Fatal(err)
			}
		}, nil},
		{"the disk is full", "2>/dev/full", nil, nil},
		{"closed", "2>&-", nil, nil},
		{"all closed", "<&- >&- 2>&-", nil, nil},
		{"read-only", "2</dev/null", nil, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r, w := shortPipe(t)
			if tc.prepare != nil {
				tc.prepare(t, r, w)
			}
			s := newEnvOn(t, startRedirected(t, tc.redirection, w, "--shutdown-timeout=1m"))
			s.put("a.png", s3.Object{Body: bytesOf(1000, "log")})
			if tc.during != nil {
				tc.during(t, r, w)
			}
			wantService(t, s)
			wantEnd(t, s.server)
			// A file that is opened instead of stderr would get the log.
			noLogIn(t, s.data)
			refuseNothing(t, s.data)
		})
	}
}

// noLogIn checks that no file of the data folder has a line of the log.
func noLogIn(t *testing.T, data string) {
	t.Helper()
	err := filepath.WalkDir(data, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && bytes.Contains(readFile(t, path), []byte("level=INFO")) {
			t.Errorf("%s has lines of the log", path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// refuseNothing checks that the server starts on the data folder.
func refuseNothing(t *testing.T, data string) {
	t.Helper()
	again := startIn(t, data)
	if r := again.api(http.MethodGet, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusOK {
		t.Errorf("after a restart the alias is %s", r.Status)
	}
}

// A pipe that is not read holds up neither a goroutine nor a descriptor per request.
// When it is read again, every line in it is whole, and one says how many are missing.
func TestStderrBlocked(t *testing.T) {
	t.Parallel()
	r, w := shortPipe(t)
	s := newEnvOn(t, startRedirected(t, "2>&3", w))
	w.Close()
	const blocked = `ixmage_log_lines_dropped_total{reason="blocked"}`
	s.pipelined(100, unknownAlias)
	goroutines, files := s.samples()["go_goroutines"], s.openFiles()
	for s.metric(blocked) == 0 {
		s.pipelined(1000, unknownAlias)
	}
	if now := s.samples()["go_goroutines"]; now > goroutines+20 {
		t.Errorf("there are %v goroutines, %v before", now, goroutines)
	}
	if now := s.openFiles(); now > files+20 {
		t.Errorf("there are %d open files, %d before", now, files)
	}
	lines := bufio.NewReader(r)
	var written strings.Builder
	for line := ""; !strings.Contains(line, "log lines dropped"); written.WriteString(line) { // it comes after all that waited
		var err error
		if line, err = lines.ReadString('\n'); err != nil {
			t.Fatalf("after %q the log ends: %v", line, err)
		}
	}
	dropped := s.metric(blocked)
	rest := make(chan string)
	go func() {
		all, _ := io.ReadAll(lines)
		rest <- string(all)
	}()
	wantEnd(t, s.server)
	log := written.String() + <-rest
	for line := range strings.Lines(log) {
		if !regexp.MustCompile(`^time=\S+ level=\w+ msg=[^\n]+\n$`).MatchString(line) {
			t.Errorf("a line is damaged: %q", line)
		}
	}
	var counted float64
	for _, m := range regexp.MustCompile(`level=WARN msg="log lines dropped" count=(\d+)\n`).FindAllStringSubmatch(log, -1) {
		n, _ := strconv.ParseFloat(m[1], 64)
		counted += n
	}
	if counted != dropped {
		t.Errorf("the log says that %v lines are missing, the metric %v", counted, dropped)
	}
	wantAll(t, "the log", log, "msg=listening listener=public", "msg=draining")
}

// Requests that a stranger makes wrong get a few lines a second, and are counted.
func TestRefusedRequestsAreLimited(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--log-level=info")
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if strings.Contains(r.Key, "broken") {
			return &s3.Fault{Status: http.StatusForbidden, Code: "InvalidAccessKeyId"}
		}
		return nil
	})
	const n = 500
	for _, row := range []struct {
		path           string
		status         int
		msg, more, key string
	}{
		{"/unknown/a.png", 404, `msg="request refused"`, `msg="more requests refused"`, "code=not-found"},
		{"/shop/missing.png", 404, `msg="request refused"`, `msg="more requests refused"`, "code=not-found"},
		{"/shop/..%2f", 400, `msg="request refused"`, `msg="more requests refused"`, "code=bad-key"},
		{"/shop/broken.png", 502, `msg="request failed"`, `msg="more requests failed"`, "code=origin-credential"},
	} {
		before, begun := s.output(), time.Now()
		if got := s.pipelined(n, func(int) string { return row.path }); got[row.status] != n {
			t.Fatalf("%s: %v", row.path, got)
		}
		lines, counted := 0, 0
		eventually(t, "each request of "+row.path+" is in the log or counted", func() bool {
			lines, counted = 0, 0
			for line := range strings.Lines(s.output()[len(before):]) {
				switch {
				case !strings.Contains(line, row.key):
				case strings.Contains(line, row.msg):
					lines++
				case strings.Contains(line, row.more):
					counted += int(numberIn(t, line, "count"))
				}
			}
			return lines+counted >= n
		})
		// The first second may have begun before the first request.
		if seconds := 2 + int(time.Since(begun).Seconds()); lines+counted != n || lines > 5*seconds {
			t.Errorf("%s: %d lines in %d seconds, and reports that count %d, for %d requests", row.path, lines, seconds, counted, n)
		}
	}
	samples := s.samples()
	if got := samples[`ixmage_http_requests_total{alias="_unknown",code="404",method="GET"}`]; got != n {
		t.Errorf("metrics count %v refused requests, want %d", got, n)
	}
	if got := samples[`ixmage_log_lines_dropped_total{reason="rate"}`]; got < 3*n || got > 4*n {
		t.Errorf("metrics count %v lines that were left out", got)
	}
}

// numberIn is the number of an attribute of a line.
func numberIn(t *testing.T, line, name string) float64 {
	t.Helper()
	m := regexp.MustCompile(`\b` + name + `=(\d+)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("there is no %s in %q", name, line)
	}
	n, _ := strconv.ParseFloat(m[1], 64)
	return n
}
