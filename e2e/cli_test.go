package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"ixmage/internal/awstest/process"
	"ixmage/internal/awstest/s3"
)

// TestMistakesTogether has values that are wrong only in combination, and rows that
// are right and must give no message.
func TestMistakesTogether(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "127.0.0.1")
	other, _ := certificate(t, "127.0.0.1")
	token := func(text string) []string {
		path := filepath.Join(t.TempDir(), "token")
		writeFile(t, path, text, 0o600)
		return []string{"--admin-token-file", path}
	}
	const tokenFile = "--admin-token-file (IXMAGE_ADMIN_TOKEN_FILE): "
	authorities := func(text string) []string {
		path := filepath.Join(t.TempDir(), "ca.pem")
		writeFile(t, path, text, 0o600)
		return []string{"--origin-ca", path}
	}
	pem, private := string(readFile(t, cert)), string(readFile(t, key))
	const originCA = "--origin-ca (IXMAGE_ORIGIN_CA): "
	const wrong = "--log-level=wrong" // so that a run of right ones ends, with this one line
	for _, tc := range []struct {
		name string
		env  []string
		args []string
		says []string // one line each, in any order; none: only log-level is wrong
	}{
		{"admin in the clear", nil, []string{"--admin-listen=0.0.0.0:8081"}, []string{"--admin-tls-cert and --admin-tls-key, or --admin-insecure"}},
		{"admin on all interfaces", nil, []string{"--admin-listen=:8081"}, []string{"not a loopback address"}},
		{"admin on a name", []string{"IXMAGE_ADMIN_LISTEN=admin.example:8081"}, nil, []string{"not a loopback address"}},
		{"admin on loopback", nil, []string{"--admin-listen=127.8.8.8:1"}, nil},
		{"admin on loopback by name", nil, []string{"--admin-listen=localhost:1"}, nil},
		{"admin on loopback, version 6", nil, []string{"--admin-listen=[::1]:1"}, nil},
		{"admin insecure", nil, []string{"--admin-listen=:8081", "--admin-insecure"}, nil},
		{"admin insecure by variable", []string{"IXMAGE_ADMIN_INSECURE=yes", "IXMAGE_ADMIN_LISTEN=:8081"}, nil, nil},
		{"admin not insecure", []string{"IXMAGE_ADMIN_INSECURE=off", "IXMAGE_ADMIN_LISTEN=:8081"}, nil, []string{"not a loopback address"}},
		{"admin with TLS", nil, []string{"--admin-listen=:8081", "--admin-tls-cert", cert, "--admin-tls-key", key}, nil},
		{"certificate alone", nil, []string{"--admin-tls-cert", cert}, []string{"--admin-tls-key (IXMAGE_ADMIN_TLS_KEY): is missing"}},
		{"key alone", []string{"IXMAGE_ADMIN_TLS_KEY=" + key}, nil, []string{"--admin-tls-cert (IXMAGE_ADMIN_TLS_CERT): is missing"}},
		{"certificate of another key", nil, []string{"--admin-tls-cert", other, "--admin-tls-key", key}, []string{"--admin-tls-cert (IXMAGE_ADMIN_TLS_CERT): cannot be used"}},
		{"certificate that is not there", nil, []string{"--admin-tls-cert=/none.pem", "--admin-tls-key", key}, []string{"/none.pem: no such file"}},
		{"authority", nil, []string{"--origin-ca", cert}, nil},
		{"authority by variable", []string{"IXMAGE_ORIGIN_CA=" + cert}, nil, nil},
		{"authorities with a comment", nil, authorities("of the company\n" + pem + "\n" + pem), nil},
		{"authority that is not there", nil, []string{"--origin-ca=/none.pem"}, []string{originCA + "open /none.pem: no such file"}},
		{"authority a folder", nil, []string{"--origin-ca", t.TempDir()}, []string{originCA + "/"}},
		{"authority empty", nil, authorities(""), []string{"contains no certificate"}},
		{"authority garbage", nil, authorities("garbage\x00"), []string{"contains no certificate"}},
		{"authority in DER", nil, authorities("\x30\x82\x01\x00"), []string{"contains no certificate"}},
		{"authority a key", nil, authorities(private), []string{`block 1 is a "PRIVATE KEY"`}},
		{"authority and a key", nil, authorities(pem + private), []string{`block 2 is a "PRIVATE KEY"`}},
		{"authority cut", nil, authorities(pem + pem[:len(pem)/2]), []string{"1 of 2 certificates are damaged"}},
		{"authority damaged", nil, authorities(strings.Replace(pem, "M", "*", 3) + pem), []string{"1 of 2 certificates are damaged"}},
		{"authority of other bytes", nil, authorities("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), []string{"certificate 1: x509"}},
		{"token variable too short", []string{"IXMAGE_ADMIN_TOKEN=short"}, nil, []string{"the admin token in IXMAGE_ADMIN_TOKEN is shorter than 16 characters"}},
		{"token file missing", nil, []string{"--admin-token-file", "/none/token"}, []string{tokenFile + "open the admin token: open /none/token: no such file"}},
		{"token file a folder", nil, []string{"--admin-token-file", t.TempDir()}, []string{tokenFile + "read the admin token"}},
		{"token file empty", nil, token("\n"), []string{tokenFile + "the file "}},
		{"token too short", nil, token("fifteen-letters\n"), []string{tokenFile + "the admin token in the file "}},
		{"token of two lines", nil, token("sixteen-letters-\nand-one-more\n"), []string{tokenFile + "the admin token in the file "}},
		{"token file", nil, token("sixteen-letters-\n"), nil},
		{"two tokens", []string{"IXMAGE_ADMIN_TOKEN=" + strings.Repeat("a", 32)}, []string{"--admin-token-file=x"}, []string{"--admin-token-file (IXMAGE_ADMIN_TOKEN_FILE): IXMAGE_ADMIN_TOKEN is set too: use one of them"}},
		{"one alias has more than all", nil, []string{"--origin-concurrency=8"}, []string{"--origin-alias-concurrency (IXMAGE_ORIGIN_ALIAS_CONCURRENCY): 64 is more than --origin-concurrency 8"}},
		{"below zero, as a word of its own", nil, []string{"--shutdown-timeout", "-5s", "--cache-memory", "-1", "--origin-queue", "-0", "--listen", "-5"}, []string{
			`--shutdown-timeout (IXMAGE_SHUTDOWN_TIMEOUT): "-5s" is not a duration`, `--cache-memory (IXMAGE_CACHE_MEMORY): "-1" is not a size`,
			`--origin-queue (IXMAGE_ORIGIN_QUEUE): "-0" is not a whole number`, `--listen (IXMAGE_LISTEN): "-5" is not an address`,
		}},
		{"below zero, of a switch", nil, []string{"--admin-insecure", "-1"}, []string{`--admin-insecure (IXMAGE_ADMIN_INSECURE): "-1" is neither true nor false`}},
		{"more memory than there is", nil, []string{"--cache-memory=9999999GiB", "--cache-object-max=99999999999999999999"}, []string{
			`--cache-memory (IXMAGE_CACHE_MEMORY): "9999999GiB" is too much: at most 16384GiB`,
			`--cache-object-max (IXMAGE_CACHE_OBJECT_MAX): "99999999999999999999" is too much: at most 16384GiB`,
		}},
		{"all memory there could be", nil, []string{"--cache-memory=16384GiB", "--cache-object-max=17592186044416"}, nil},
		{"one byte more", nil, []string{"--cache-memory=17592186044417"}, []string{"too much"}},
		{"flags before variables", []string{"IXMAGE_CACHE_MEMORY=wrong"}, []string{"--cache-memory=1GiB"}, nil},
		{"every form", []string{"IXMAGE_ALLOW_PRIVATE_ENDPOINTS=1", "IXMAGE_CACHE_OBJECT_MAX=4096"}, []string{
			"--listen=[::]:0", "--metrics-listen=:9090", "--cache-memory=0", "--cache-object-max=64KiB", "--origin-connect-timeout=500ms",
			"--shutdown-timeout=1m30s", "--origin-queue=1", "--breaker-failures=0", "--metrics-alias-cap=16777216", "--log-format=json",
			"--master-key=aws-kms://arn:aws:kms:eu-west-1:123456789012:alias/ixmage", "--allow-private-endpoints=false", "--data=x",
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := runProgram(t, tc.env, append([]string{"serve", wrong}, tc.args...)...)
			if n := strings.Count(got.stderr, "\n"); got.code != 2 || n != 1+len(tc.says) {
				t.Errorf("exit status %d and %d lines, want %d and %d:\n%s", got.code, n, 2, 1+len(tc.says), got.stderr)
			}
			wantAll(t, "stderr", got.stderr, append(tc.says, "--log-level")...)
		})
	}
}

// TestCommandLine has command lines without a configuration.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"version", []string{"version"}, 0, ""},
		{"unknown flag", []string{"serve", "--cache-memroy=1GiB"}, 2, "--cache-memroy"},
		{"unknown flag of the program", []string{"--verbose", "serve"}, 2, "--verbose"},
		{"unknown command", []string{"sevre"}, 2, "sevre"},
		{"an argument too many", []string{"serve", "now"}, 2, "now"},
		{"no value", []string{"serve", "--listen"}, 2, "--listen"},
		{"a flag for a value", []string{"serve", "--listen", "--log-level=info"}, 2, "--listen"},
		{"a dash and a letter for a value", []string{"serve", "--listen", "-x"}, 2, "--listen"},
		{"a number that no flag takes", []string{"serve", "--log-level=info", "-5"}, 2, "-5"},
		{"a number behind the end of flags", []string{"serve", "--", "-5"}, 2, "-5"},
		{"a secret on the command line", []string{"serve", "--admin-token=abc"}, 2, "--admin-token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := runProgram(t, nil, tc.args...)
			if got.code != tc.code {
				t.Errorf("exit status %d, want %d", got.code, tc.code)
			}
			if tc.code == 0 {
				if !strings.HasPrefix(got.stdout, "ixmage ") || !strings.Contains(got.stdout, " go1.") || got.stderr != "" {
					t.Errorf("got %q and %q, want the versions of ixmage and Go", got.stdout, got.stderr)
				}
				return
			}
			wantAll(t, "stderr", got.stderr, tc.says, "Try: ixmage ", "--help")
			if got.stdout != "" {
				t.Errorf("on stdout: %q", got.stdout)
			}
		})
	}
}

// TestUnknownVariable: variables that look like settings give a warning, and the
// server starts.
func TestUnknownVariable(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program(), serveArgs(data)...)
	cmd.Env = append(plainEnv(), "IXMAGE_CACHE_MEMROY=1GiB", "IXMAGE_CERT=x", "IXMAGE_METRICS_ALIAS_CAP=7", "IXMAGE_ADMIN_TOKEN="+strings.Repeat("t", 16))
	s := startCommand(t, data, cmd)
	for _, name := range []string{"IXMAGE_CACHE_MEMROY", "IXMAGE_CERT"} {
		if line := lineWith(s.output(), name); !strings.Contains(line, "level=WARN") {
			t.Errorf("no warning of %s: %q", name, line)
		}
	}
	for _, name := range []string{"IXMAGE_METRICS_ALIAS_CAP", "IXMAGE_ADMIN_TOKEN"} {
		if line := lineWith(s.output(), name); line != "" {
			t.Errorf("%s is a setting, and is warned of: %s", name, line)
		}
	}
}

// TestAdminTLS connects to the admin listener as a client that trusts its
// certificate, as one that does not, and without TLS.
func TestAdminTLS(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "127.0.0.1")
	s := start(t, "--admin-tls-cert", cert, "--admin-tls-key", key)
	ask := func(url string, pool *x509.CertPool) (*http.Response, error) {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true}
		return (&http.Client{Transport: tr}).Do(req)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(readFile(t, cert))
	for _, path := range []string{"/api/v1/aliases", "/metrics", "/-/readyz"} {
		resp, err := ask("https://"+s.admin+path, pool)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s over TLS: %s", path, resp.Status)
		}
	}
	if resp, err := ask("https://"+s.admin+"/api/v1/aliases", x509.NewCertPool()); err == nil {
		t.Errorf("a client that does not trust the certificate got %s", resp.Status)
	}
	if resp, err := ask("http://"+s.admin+"/api/v1/aliases", nil); err == nil && resp.StatusCode == http.StatusOK {
		t.Errorf("in the clear: %s", resp.Status)
	}
	if resp, err := ask("http://"+s.public+"/-/readyz", nil); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("the public listener, which has no TLS: %v, %v", resp, err)
	}
	old := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	if conn, err := tls.Dial("tcp", s.admin, old); err == nil {
		conn.Close()
		t.Error("TLS 1.1 is taken")
	}
}

// TestMetricsListen moves metrics to their own listener, which serves health and
// nothing else.
func TestMetricsListen(t *testing.T) {
	t.Parallel()
	s := start(t, "--metrics-listen", "127.0.0.1:0")
	for _, tc := range []struct {
		addr, path string
		status     int
	}{
		{s.metrics, "/metrics", 200},
		{s.metrics, "/-/healthz", 200},
		{s.metrics, "/-/readyz", 200},
		{s.metrics, "/api/v1/aliases", 404},
		{s.admin, "/metrics", 404},
		{s.admin, "/-/healthz", 200},
		{s.admin, "/-/readyz", 200},
		{s.admin, "/api/v1/aliases", 401},
		{s.public, "/metrics", 404},
		{s.public, "/-/healthz", 200},
		{s.public, "/-/readyz", 200},
		{s.public, "/api/v1/aliases", 404},
	} {
		r := s.do(http.MethodGet, "http://"+tc.addr+tc.path, nil)
		if r.StatusCode != tc.status {
			t.Errorf("%s of %s: %s, want %d", tc.path, tc.addr, r.Status, tc.status)
		}
		if has := strings.Contains(string(r.body), "ixmage_build_info"); has != (tc.path == "/metrics" && tc.status == 200) {
			t.Errorf("%s of %s holds metrics: %v", tc.path, tc.addr, has)
		}
	}
}

// TestHealthcheck runs the command against servers in every state.
func TestHealthcheck(t *testing.T) {
	t.Parallel()
	ready := start(t)
	_, port, _ := net.SplitHostPort(ready.public)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	draining := holdUp(t, "--shutdown-timeout=10m")
	draining.process.Signal(syscall.SIGTERM)
	eventually(t, "it drains", func() bool { return strings.Contains(draining.output(), "msg=draining") })
	for _, tc := range []struct {
		name string
		env  []string
		args []string
		code int
		says string
	}{
		{"ready", []string{"IXMAGE_LISTEN=" + ready.public}, nil, 0, ""},
		{"all interfaces", []string{"IXMAGE_LISTEN=:" + port}, nil, 0, ""},
		{"all interfaces, version 4", []string{"IXMAGE_LISTEN=0.0.0.0:" + port}, nil, 0, ""},
		{"all interfaces, version 6", []string{"IXMAGE_LISTEN=[::]:" + port}, nil, 0, ""},
		{"by URL", []string{"IXMAGE_LISTEN=127.0.0.1:1"}, []string{"--url=http://" + ready.admin + "/-/readyz"}, 0, ""},
		{"by URL without a path", nil, []string{"--url=http://" + ready.public}, 0, ""},
		{"by URL with a query alone", nil, []string{"--url", "http://" + ready.public + "?x=y"}, 0, ""},
		{"by URL of the root", nil, []string{"--url=http://" + ready.public + "/"}, 1, "404"},
		{"no proxy", []string{"IXMAGE_LISTEN=" + ready.public, "http_proxy=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1"}, nil, 0, ""},
		{"not found", nil, []string{"--url=http://" + ready.public + "/none"}, 1, "404"},
		{"nothing listens", []string{"IXMAGE_LISTEN=127.0.0.1:1"}, nil, 1, "127.0.0.1:1"},
		{"nothing listens there", []string{"IXMAGE_LISTEN=127.0.0.1:1"}, nil, 1,
			"connection refused; use --url or IXMAGE_LISTEN if the server listens elsewhere\n"},
		{"silent", []string{"IXMAGE_LISTEN=" + silent.Addr().String()}, nil, 1, "not ready"},
		{"draining", nil, []string{"--url=http://" + draining.admin + "/-/readyz"}, 1, "503"},
		{"draining, listener closed", []string{"IXMAGE_LISTEN=" + draining.public}, nil, 1, "not ready"},
		{"draining, without a path", nil, []string{"--url=http://" + draining.admin}, 1, "/-/readyz answered 503"},
		{"no host", nil, []string{"--url=http://"}, 1, "not ready"},
		{"no URL at all", nil, []string{"--url=http://[::1"}, 2, "--url"},
		{"no URL", nil, []string{"--url=example"}, 1, "example"},
	} {
		check := func() outcome { return runProgram(t, tc.env, append([]string{"healthcheck"}, tc.args...)...) }
		got := check()
		for range 20 { // a busy machine may hold the server for three seconds
			if tc.name == "silent" || !strings.Contains(got.stderr, "Client.Timeout exceeded") {
				break
			}
			got = check()
		}
		if got.code != tc.code || !strings.Contains(got.stderr, tc.says) || (tc.code == 0 && got.stderr != "") {
			t.Errorf("%s: exit status %d and %q, want %d and %q", tc.name, got.code, got.stderr, tc.code, tc.says)
		}
	}
}

// holdUp starts a server with a request that does not end, so that it drains
// forever.
func holdUp(t *testing.T, args ...string) *server {
	t.Helper()
	fakeS3 := s3.New(t)
	fakeS3.Put("held", "a.png", s3.Object{Body: bytesOf(64<<10, "held"), ContentType: "image/png"})
	fakeS3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(100, nil) })
	s := start(t, append(args, "--origin-idle-timeout=10m")...)
	s.createOn("shop", fakeS3.URL, "held")
	sendGet(t, s.public, "/shop/a.png")
	eventually(t, "the request is at S3", func() bool { return fakeS3.OpenBodies() == 1 })
	return s
}

// TestSecondSignal: the first SIGTERM waits for requests in progress, the second
// does not.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := holdUp(t, "--shutdown-timeout=10m")
			s.process.Signal(sig)
			eventually(t, "it drains", func() bool { return strings.Contains(s.output(), "msg=draining") })
			if r := s.do(http.MethodGet, "http://"+s.admin+"/-/healthz", nil); r.StatusCode != http.StatusOK {
				t.Fatalf("it does not live on while it drains: %s", r.Status)
			}
			eventually(t, "it ends", func() bool {
				s.process.Signal(sig) // what follows the first signal takes effect a moment later
				select {
				case <-s.process.Done():
					return true
				default:
					return false
				}
			})
			state := s.process.State()
			if ws := state.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("it ended with %v, want death by the signal", state)
			}
		})
	}
}

// TestDrainTimeout: requests in progress are cut at --shutdown-timeout, and the exit
// status is 0.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	s := holdUp(t, "--shutdown-timeout=1s")
	if code := s.stop(); code != 0 {
		t.Errorf("exit status is %d, want 0", code)
	}
}

// TestLogs has the formats and levels.
func TestLogs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		level string
		has   []string // of the lines below
		not   []string
	}{
		{"debug", []string{"DEBUG", "INFO", "WARN"}, nil},
		{"info", []string{"INFO", "WARN"}, []string{"DEBUG"}},
		{"warn", []string{"WARN"}, []string{"DEBUG", "INFO"}},
		{"error", nil, []string{"DEBUG", "INFO", "WARN"}},
	} {
		for _, format := range []string{"text", "json"} {
			t.Run(format+" "+tc.level, func(t *testing.T) {
				t.Parallel()
				log := logOfRequests(t, format, tc.level)
				seen := map[string]int{}
				announced := 0
				for line := range strings.Lines(log) {
					level := levelIn(t, format, line)
					if strings.Contains(line, "listening") && level == "INFO" {
						announced++ // at every level
						continue
					}
					seen[level]++
				}
				if announced != 2 {
					t.Errorf("%d listeners are announced, want 2:\n%s", announced, log)
				}
				for _, level := range tc.has {
					if seen[level] == 0 {
						t.Errorf("no line of level %s:\n%s", level, log)
					}
				}
				for _, level := range tc.not {
					if seen[level] > 0 {
						t.Errorf("lines of level %s:\n%s", level, log)
					}
				}
			})
		}
	}
}

// logOfRequests runs a server that answers a health check (level debug) and a request
// for a missing object (level info), and returns its log.
func logOfRequests(t *testing.T, format, level string) string {
	t.Helper()
	public, admin := freeAddr(t), freeAddr(t)
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program(), append(serveArgs(data), "--listen", public, "--admin-listen", admin, "--log-format", format, "--log-level", level)...)
	cmd.Env = plainEnv()
	var log bytes.Buffer
	cmd.Stderr = &log
	child, err := process.Start("ixmage", cmd)
	if err != nil {
		t.Fatal(err)
	}
	defer child.Kill()
	c := client(t)
	eventually(t, "it is ready", func() bool {
		resp, err := c.Get("http://" + admin + "/-/readyz")
		if err == nil {
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	s := &server{t: t, public: public}
	if r := s.get("/none/a.png"); r.StatusCode != http.StatusNotFound {
		t.Errorf("got %s", r.Status)
	}
	child.Signal(syscall.SIGTERM)
	if err := child.Err(); !errors.Is(err, process.ErrExited) {
		t.Errorf("it ended with %v", err)
	}
	return log.String()
}

func levelIn(t *testing.T, format, line string) string {
	t.Helper()
	var l struct{ Time, Level, Msg string }
	if format == "json" {
		if err := json.Unmarshal([]byte(line), &l); err != nil || l.Time == "" || l.Msg == "" {
			t.Errorf("not a line of JSON with time, level and msg: %s", line)
		}
		return l.Level
	}
	_, rest, ok := strings.Cut(line, " level=")
	if !ok || !strings.HasPrefix(line, "time=") || !strings.Contains(rest, " msg=") {
		t.Errorf("not a line of text with time, level and msg: %s", line)
	}
	level, _, _ := strings.Cut(rest, " ")
	return level
}
