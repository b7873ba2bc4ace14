package e2e

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/process"
)

// server is a running ixmage.
type server struct {
	t       testing.TB
	process *process.Child
	log     *logReader
	data    string
	public  string // host:port
	admin   string
	metrics string // host:port of --metrics-listen, if it was given
	token   string
}

// start runs `ixmage serve` in a data folder of its own, on free ports, and waits
// until it is ready. The test ends it.
func start(t testing.TB, args ...string) *server {
	t.Helper()
	return startIn(t, filepath.Join(t.TempDir(), "data"), args...)
}

// startIn is start with a data folder, which an earlier server may have used.
func startIn(t testing.TB, data string, args ...string) *server {
	t.Helper()
	return startCommand(t, data, exec.Command(program(), serveArgs(data, args...)...))
}

// startWith is start with further environment variables.
func startWith(t testing.TB, env []string, args ...string) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program(), serveArgs(data, args...)...)
	cmd.Env = append(os.Environ(), env...)
	return startCommand(t, data, cmd)
}

// startPlain is start with the binary as it ships, for tests that measure.
func startPlain(t testing.TB, args ...string) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	return startCommand(t, data, exec.Command(plain, serveArgs(data, args...)...))
}

// startLimited is startPlain with at most n file descriptors.
func startLimited(t testing.TB, n int) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	shell := fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, n)
	return startCommand(t, data, exec.Command("sh", append([]string{"-c", shell, plain}, serveArgs(data)...)...))
}

// serveArgs has long deadlines for S3: the scripted one is a part of the process of the test, which a busy
// machine may hold for some seconds, and by the defaults ixmage would ask it again. A test of deadlines
// sets its own.
func serveArgs(data string, more ...string) []string {
	return append([]string{
		"serve", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--allow-private-endpoints", "--log-level", "debug",
		"--origin-connect-timeout", "1m", "--origin-first-byte-timeout", "1m", "--origin-call-timeout", "2m", "--origin-idle-timeout", "1m",
	}, more...)
}

func startCommand(t testing.TB, data string, cmd *exec.Cmd) *server {
	t.Helper()
	s, err := launch(t, data, cmd)
	if s != nil {
		t.Cleanup(func() {
			s.process.Kill()
			if t.Failed() {
				t.Logf("log of ixmage:\n%s", tail(s.output(), 8<<10))
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// launch starts a server and waits until it listens. The caller ends it, also if it ended before
// it listened; it is nil if it could not be started.
func launch(t testing.TB, data string, cmd *exec.Cmd) (*server, error) {
	t.Helper()
	s := &server{t: t, data: data, log: &logReader{listeners: make(chan [2]string, 3)}}
	cmd.Stderr = s.log
	var err error
	if s.process, err = process.Start("ixmage", cmd); err != nil {
		return nil, err
	}
	for s.public == "" {
		select {
		case l := <-s.log.listeners:
			switch l[0] {
			case "public":
				s.public = l[1]
			case "admin":
				s.admin = l[1]
			case "metrics":
				s.metrics = l[1]
			}
		case <-s.process.Done():
			return s, fmt.Errorf("ixmage ended before it listened:\n%s", s.output())
		}
	}
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err == nil {
		s.token = strings.TrimSpace(string(token))
	}
	return s, nil
}

// logReader keeps the log of a server and finds the addresses in it.
type logReader struct {
	listeners chan [2]string // name and address

	mu   sync.Mutex // guards text and line
	text bytes.Buffer
	line int // where the last line begins, which may go on
}

var listening = regexp.MustCompile(`msg=listening listener=(\w+) addr=(\S+)`)

// Write takes a piece of the log, which may end in the middle of a line.
func (l *logReader) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(b)
	for {
		line, _, ended := bytes.Cut(l.text.Bytes()[l.line:], []byte("\n"))
		if !ended {
			return len(b), nil
		}
		l.line += len(line) + 1
		if m := listening.FindSubmatch(line); m != nil {
			l.listeners <- [2]string{string(m[1]), string(m[2])}
		}
	}
}

// output is the log so far.
func (s *server) output() string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.text.String()
}

// wholeLog is the log up to this moment. It waits for the line of a request that it makes,
// because lines arrive in order; so the log level must be debug.
func (s *server) wholeLog() string {
	s.t.Helper()
	r := single(s.admin, http.MethodGet, "/metrics")
	if r.Response == nil || r.err != nil {
		s.t.Fatalf("no metrics: %v", r.err)
	}
	id := "request_id=" + r.Header.Get("X-Request-Id")
	eventually(s.t, "the log has a line with "+id, func() bool { return strings.Contains(s.output(), id) })
	return s.output()
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// kill ends the process as a power cut would.
func (s *server) kill() { s.process.Kill() }

// stop ends the process as an operator would, and returns its exit status.
func (s *server) stop() int {
	s.process.Signal(syscall.SIGTERM)
	return s.process.State().ExitCode()
}

// outcome is the result of a run of a program.
type outcome struct {
	code           int
	stdout, stderr string
}

// runProgram runs ixmage until it ends, with env and without the settings of the
// surrounding environment.
func runProgram(t testing.TB, env []string, args ...string) outcome {
	t.Helper()
	cmd := exec.Command(program(), args...)
	cmd.Env = append(plainEnv(), env...)
	return runCommand(t, 2*time.Minute, cmd) // a program that goes on is the failure looked for
}

// runCommand runs a command until it ends, and fails the test if it takes longer
// than patience.
func runCommand(t testing.TB, patience time.Duration, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	child, err := process.Start(filepath.Base(cmd.Path), cmd)
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-child.Done():
	case <-time.After(patience):
		child.Kill()
		t.Fatalf("it did not end:\n%s%s", &stdout, &stderr)
	}
	return outcome{child.State().ExitCode(), stdout.String(), stderr.String()}
}

// plainEnv is the environment without the variables that ixmage and the AWS SDK
// read.
func plainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "IXMAGE_") || strings.HasPrefix(kv, "AWS_")
	})
}

// startTrusting is start with one certificate authority that the server trusts.
func startTrusting(t testing.TB, a *authority, args ...string) *server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return startWith(t, []string{"SSL_CERT_FILE=" + file}, args...)
}

// startWithNames is start with an /etc/hosts that has names. It skips the test
// if this process may not mount.
func startWithNames(t *testing.T, names map[string][]string, args ...string) *server {
	t.Helper()
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	var text strings.Builder
	for name, addrs := range names {
		for _, a := range addrs {
			fmt.Fprintf(&text, "%s %s.ixmage.test\n", a, name)
		}
	}
	if err := os.WriteFile(hosts, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	const bind = `mount --bind "$0" /etc/hosts`
	if out, err := exec.Command("unshare", "-m", "sh", "-c", bind, hosts).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: names cannot be given addresses here: %v: %s", err, out)
	}
	data := filepath.Join(dir, "data")
	command := append([]string{"-m", "sh", "-c", bind + ` && exec "$@"`, hosts, program()}, serveArgs(data, args...)...)
	return startCommand(t, data, exec.Command("unshare", command...))
}

// openFiles counts the descriptors of the process.
func (s *server) openFiles() int {
	s.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.process.Pid()))
	if err != nil {
		s.t.Skip("SKIPPED: no /proc to count open files in")
	}
	return len(list)
}

// waitBlocked waits until inFlight requests are in progress and all of them wait
// for something: no thread of the process runs.
func (s *server) waitBlocked(inFlight int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d requests wait", inFlight), func() bool {
		return s.samples()["ixmage_http_requests_in_flight"] == float64(inFlight) && s.threadsSleep() && s.threadsSleep()
	})
}

// threadsSleep reports whether no thread of the process runs at this moment.
func (s *server) threadsSleep() bool {
	s.t.Helper()
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.process.Pid()))
	if err != nil || len(threads) == 0 {
		s.t.Skip("SKIPPED: no /proc to see threads in")
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		// The name before the state may have spaces and parentheses.
		if _, state, _ := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(" ")); !bytes.HasPrefix(state, []byte("S")) {
			return false
		}
	}
	return true
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

// waitInFlight waits until n requests are in progress. All others are counted and logged and
// hold nothing, which is so a little later than their clients have the answers.
func (s *server) waitInFlight(n int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("%d requests are in flight", n), func() bool {
		return s.samples()["ixmage_http_requests_in_flight"] == float64(n)
	})
}

// samples reads all of /metrics, by series as Prometheus prints them, and leaves
// no connection behind.
func (s *server) samples() map[string]float64 {
	s.t.Helper()
	r := single(s.admin, http.MethodGet, "/metrics")
	if r.Response == nil || r.err != nil || r.StatusCode != http.StatusOK {
		s.t.Fatalf("no metrics: %v", r.err)
	}
	all := map[string]float64{}
	for line := range strings.Lines(string(r.body)) {
		at := strings.LastIndexByte(line, ' ') // label values may hold spaces
		if at < 0 || line[0] == '#' {
			continue
		}
		var v float64
		if _, err := fmt.Sscan(line[at:], &v); err != nil {
			s.t.Fatalf("%v in %q", err, line)
		}
		all[line[:at]] = v
	}
	return all
}

// freeAddr returns an address with a port that stays free until the test listens there: it
// is on a host of the loopback network that nothing else uses. On one host for all, two tests
// were given the same port now and then, and one was answered by the server of the other.
func freeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.77.%d.%d:0", os.Getpid()%256, 1+freeHosts.Add(1)%254))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// freeHosts counts the hosts that freeAddr has given away.
var freeHosts atomic.Int32

// wantAll checks that text contains each of parts.
func wantAll(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q:\n%s", what, p, tail(text, 4<<10))
		}
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// lineOf is the last line of a log that contains text.
func lineOf(log, text string) string {
	found := ""
	for line := range strings.Lines(log) {
		if strings.Contains(line, text) {
			found = line
		}
	}
	return found
}

func readFile(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func writeFile(t testing.TB, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func writeProgram(t *testing.T, path, text string) {
	t.Helper()
	if err := process.WriteProgram(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
}

// peakRSS is the most resident memory the process ever had.
func peakRSS(t *testing.T, s *server) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Pid()))
	if err != nil {
		t.Skip("SKIPPED: no /proc to read resident memory from")
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			var kib int64
			if _, err := fmt.Sscan(v, &kib); err != nil {
				t.Fatal(err)
			}
			return kib << 10
		}
	}
	t.Fatal("no VmHWM in /proc status")
	return 0
}

// needFiles skips the test if the limit of open files is below n and some more.
func needFiles(t *testing.T, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur < n+200 {
		t.Skipf("SKIPPED: needs %d open files, the limit is %d (ulimit -n)", n+200, l.Cur)
	}
}
