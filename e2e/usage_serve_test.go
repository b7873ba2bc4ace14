package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
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

// certificate makes a self-signed certificate for an address and its key, as
// files.
func certificate(t testing.TB, addr string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ixmage test"}, IPAddresses: []net.IP{net.ParseIP(addr)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, cert, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), 0o644)
	writeFile(t, key, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})), 0o600)
	return cert, key
}

// TestAdminTLS talks to the admin listener as a client that trusts its
// certificate, as one that does not, and in the clear.
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

// TestMetricsListen moves metrics to a listener of their own, which has health
// and nothing else.
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

// TestHealthcheck runs the command beside servers in every state.
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
	draining.cmd.Process.Signal(syscall.SIGTERM)
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
		{"silent", []string{"IXMAGE_LISTEN=" + silent.Addr().String()}, nil, 1, "not ready"},
		{"draining", nil, []string{"--url=http://" + draining.admin + "/-/readyz"}, 1, "503"},
		{"draining, listener closed", []string{"IXMAGE_LISTEN=" + draining.public}, nil, 1, "not ready"},
		{"draining, without a path", nil, []string{"--url=http://" + draining.admin}, 1, "/-/readyz answered 503"},
		{"no host", nil, []string{"--url=http://"}, 1, "not ready"},
		{"no URL at all", nil, []string{"--url=http://[::1"}, 2, "--url"},
		{"no URL", nil, []string{"--url=example"}, 1, "example"},
	} {
		got := runProgram(t, tc.env, append([]string{"healthcheck"}, tc.args...)...)
		if got.code != tc.code || !strings.Contains(got.stderr, tc.says) || (tc.code == 0 && got.stderr != "") {
			t.Errorf("%s: exit status %d and %q, want %d and %q", tc.name, got.code, got.stderr, tc.code, tc.says)
		}
	}
}

// holdUp starts a server with a request that does not end, and so keeps it from
// ending.
func holdUp(t *testing.T, args ...string) *server {
	t.Helper()
	fakeS3 := s3.New(t)
	fakeS3.Put("held", "a.png", s3.Object{Body: pic(64<<10, "held"), ContentType: "image/png"})
	fakeS3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(100, nil) })
	s := start(t, append(args, "--origin-idle-timeout=10m")...)
	s.createOn("shop", fakeS3.URL, "held")
	ask(t, s.public, "/shop/a.png")
	eventually(t, "the request is at S3", func() bool { return fakeS3.OpenBodies() == 1 })
	return s
}

// TestSecondSignal: the first SIGTERM waits for what is under way, the second
// does not.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := holdUp(t, "--shutdown-timeout=10m")
			s.cmd.Process.Signal(sig)
			eventually(t, "it drains", func() bool { return strings.Contains(s.output(), "msg=draining") })
			if r := s.do(http.MethodGet, "http://"+s.admin+"/-/healthz", nil); r.StatusCode != http.StatusOK {
				t.Fatalf("it does not live on while it drains: %s", r.Status)
			}
			eventually(t, "it ends", func() bool {
				s.cmd.Process.Signal(sig) // what follows the first signal takes effect a moment later
				select {
				case <-s.exited:
					return true
				default:
					return false
				}
			})
			if ws := s.cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != sig {
				t.Errorf("it ended with %v, want death by the signal", s.cmd.ProcessState)
			}
		})
	}
}

// TestDrainTimeout: what is under way when --shutdown-timeout ends is cut, and
// the exit status is that of an orderly end.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	s := holdUp(t, "--shutdown-timeout=1s")
	if code := s.stop(); code != 0 {
		t.Errorf("exit status is %d, want %d", code, 0)
	}
}

// TestLogs has formats and levels.
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

// logOfRequests runs a server whose log says nothing but where it listens, has
// it answer a health check of the operator's (debug) and a request
// for what is not there (info), and ends it. It warns of its key set at start.
func logOfRequests(t *testing.T, format, level string) string {
	t.Helper()
	public, admin := freeAddr(t), freeAddr(t)
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program, append(serveArgs(data), "--listen", public, "--admin-listen", admin, "--log-format", format, "--log-level", level)...)
	cmd.Env = plainEnv()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd.Stderr = file
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
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
	cmd.Process.Signal(syscall.SIGTERM)
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	return string(readFile(t, file.Name()))
}

// freeAddr is an address that nobody listened on a moment ago. Nothing else uses
// that part of loopback, so nobody does a moment later.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.77.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
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
