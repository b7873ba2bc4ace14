package e2e

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/gateway"
)

// program is the built binary; TestMain makes it. With -race in force for the
// tests it is built with -race too, so that the whole program is watched; plain
// is what ships, for tests that measure.
var program, plain string

// gateway is the real S3 + IAM server, one for all tests; nil where versitygw
// was not built. Ask for it with realS3.
var sharedGateway *gateway.Server

func TestMain(m *testing.M) {
	flag.Parse()
	if !flagGiven("test.parallel") {
		flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	}
	os.Exit(testMain(m)) //nolint:forbidigo // as main does
}

// flagGiven reports whether a flag was. Most tests wait, for processes and for
// deadlines, and must not wait for one another too: unless somebody says
// otherwise more of them run at once than there are processors.
func flagGiven(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ixmage-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	plain = filepath.Join(dir, "ixmage")
	program = plain
	if err := build(plain, "CGO_ENABLED=0"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if raceEnabled {
		program = filepath.Join(dir, "ixmage-race")
		if err := build(program, "CGO_ENABLED=1", "-race"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	sharedGateway, err = gateway.Start(context.Background(), filepath.Join(dir, "gateway"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "SKIPPING all tests against the real S3 server:", err)
	} else {
		defer sharedGateway.Stop()
	}
	return m.Run()
}

func build(out, env string, flags ...string) error {
	args := append([]string{"build", "-o", out}, flags...)
	cmd := exec.Command("go", append(args, "..")...)
	cmd.Env = append(os.Environ(), env)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, text)
	}
	return nil
}

// realS3 is the shared gateway; the test is skipped where there is none.
func realS3(t testing.TB) *gateway.Server {
	t.Helper()
	if sharedGateway == nil {
		t.Skip("SKIPPED: versitygw is not there; run make tools")
	}
	return sharedGateway
}

// server is a running ixmage.
type server struct {
	t       testing.TB
	cmd     *exec.Cmd
	data    string
	public  string // host:port
	admin   string
	metrics string // host:port of --metrics-listen, if it was given
	token   string
	exited  chan struct{}

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

// start runs `ixmage serve` in a data folder of its own, on free ports, and waits
// until it is ready. The test ends it.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	return startIn(t, program, filepath.Join(t.TempDir(), "data"), args...)
}

// startPlain is start with the binary as it ships, whatever -race says.
func startPlain(t testing.TB, args ...string) *server {
	t.Helper()
	return startIn(t, plain, filepath.Join(t.TempDir(), "data"), args...)
}

var listening = regexp.MustCompile(`msg=listening listener=(\w+) addr=(\S+)`)

// startIn is start with a binary and a data folder, which may have a past.
func startIn(t testing.TB, binary, data string, args ...string) *server {
	t.Helper()
	return startCommand(t, data, exec.Command(binary, serveArgs(data, args...)...))
}

// startLimited is startPlain with at most n file descriptors.
func startLimited(t testing.TB, n int) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	shell := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n)
	return startCommand(t, data, exec.Command("sh", append([]string{"-c", shell, plain}, serveArgs(data)...)...))
}

func serveArgs(data string, more ...string) []string {
	return append([]string{
		"serve", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--allow-private-endpoints", "--log-level", "debug",
	}, more...)
}

func startCommand(t testing.TB, data string, cmd *exec.Cmd) *server {
	t.Helper()
	s := &server{t: t, cmd: cmd, data: data, exited: make(chan struct{})}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	found := make(chan [2]string, 3)
	go s.follow(stderr, found)
	t.Cleanup(func() {
		s.kill()
		if t.Failed() {
			t.Logf("log of ixmage:\n%s", tail(s.output(), 8<<10))
		}
	})
	for s.public == "" {
		select {
		case l := <-found:
			switch l[0] {
			case "public":
				s.public = l[1]
			case "admin":
				s.admin = l[1]
			case "metrics":
				s.metrics = l[1]
			}
		case <-s.exited:
			t.Fatalf("ixmage ended before it listened:\n%s", s.output())
		}
	}
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err == nil {
		s.token = strings.TrimSpace(string(token))
	}
	return s
}

// follow keeps the log and finds the addresses in it.
func (s *server) follow(stderr io.Reader, found chan<- [2]string) {
	scan := bufio.NewScanner(stderr)
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		s.mu.Lock()
		s.log.Write(scan.Bytes())
		s.log.WriteByte('\n')
		s.mu.Unlock()
		if m := listening.FindStringSubmatch(scan.Text()); m != nil {
			found <- [2]string{m[1], m[2]}
		}
	}
	s.cmd.Wait()
	close(s.exited)
}

// output is the log so far.
func (s *server) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// kill ends the process as a power cut would.
func (s *server) kill() {
	s.cmd.Process.Kill()
	<-s.exited
}

// stop ends the process as an operator would, and returns its exit status.
func (s *server) stop() int {
	s.cmd.Process.Signal(syscall.SIGTERM)
	<-s.exited
	return s.cmd.ProcessState.ExitCode()
}

// client keeps connections alive, but not beyond the test.
func client(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// response is an answer with its body read.
type response struct {
	*http.Response
	body []byte
	err  error // of reading the body
}

// get asks the public listener. Headers come in pairs.
func (s *server) get(path string, headers ...string) *response {
	s.t.Helper()
	return s.do(http.MethodGet, "http://"+s.public+path, nil, headers...)
}

// head asks the public listener.
func (s *server) head(path string, headers ...string) *response {
	s.t.Helper()
	return s.do(http.MethodHead, "http://"+s.public+path, nil, headers...)
}

// api calls the admin API with the token; body is encoded as JSON unless it is
// nil or text.
func (s *server) api(method, path string, body any, headers ...string) *response {
	s.t.Helper()
	return s.send(s.request(method, path, body), headers...)
}

// request makes a call of the admin API.
func (s *server) request(method, path string, body any) *http.Request {
	var r io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		r = strings.NewReader(b)
	case map[string]any:
		text, err := json.Marshal(b)
		if err != nil {
			panic(err) // a map of plain values
		}
		r = bytes.NewReader(text)
	default:
		panic(fmt.Sprintf("no body can be made of a %T", body))
	}
	req, err := http.NewRequest(method, "http://"+s.admin+path, r)
	if err != nil {
		panic(err) // a path that a test wrote
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if r != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

func (s *server) do(method, url string, body io.Reader, headers ...string) *response {
	s.t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(req, headers...)
}

func (s *server) send(req *http.Request, headers ...string) *response {
	s.t.Helper()
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := client(s.t).Do(req)
	if err != nil {
		s.t.Fatalf("%s %s: %v", req.Method, req.URL, err)
	}
	defer resp.Body.Close()
	r := &response{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	return r
}

// create registers an alias or fails the test.
func (s *server) create(fields map[string]any) {
	s.t.Helper()
	if r := s.api(http.MethodPost, "/api/v1/aliases", fields); r.StatusCode != http.StatusCreated {
		s.t.Fatalf("create alias: %s: %s", r.Status, r.body)
	}
}

// metric reads one sample from /metrics; series is its name with labels as
// Prometheus prints them. A series that is not there is 0.
func (s *server) metric(series string) float64 {
	s.t.Helper()
	for line := range strings.Lines(string(s.do(http.MethodGet, "http://"+s.admin+"/metrics", nil).body)) {
		if value, ok := strings.CutPrefix(line, series+" "); ok {
			var f float64
			if _, err := fmt.Sscan(value, &f); err != nil {
				s.t.Fatal(err)
			}
			return f
		}
	}
	return 0
}

// eventually polls until ok or the test's patience ends. It is for what crosses
// a process border, where there is nothing to wait on.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for range 2400 { // a busy machine is slow for long
		if ok() {
			return
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // across a process border there is no event
	}
	t.Fatalf("never happened: %s", what)
}
