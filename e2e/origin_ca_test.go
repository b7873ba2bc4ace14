package e2e

import (
	"crypto/tls"
	"encoding/pem"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// tlsS3 starts a scripted S3 with a certificate and returns it with its URL.
func tlsS3(t *testing.T, cert tls.Certificate) (server *s3.Server, url string) {
	t.Helper()
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
	if err != nil {
		t.Fatal(err)
	}
	server = s3.Serve(ln)
	t.Cleanup(server.Close)
	return server, "https://" + ln.Addr().String()
}

// file writes the certificate of an authority.
func (a *authority) file(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})), 0o600)
	return path
}

// TestOriginCA has an S3 server with a certificate of a private authority. It is refused
// with a remedy that names --origin-ca; with the flag, its variable, or SSL_CERT_FILE it serves,
// also canaries and scope checks.
func TestOriginCA(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	store, url := tlsS3(t, ca.issue(t, time.Hour, "127.0.0.1"))
	body := png(40_000, "")
	store.Allow(testPair, "media", "")
	store.Put("media", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	file := ca.file(t)
	for _, tc := range []struct {
		name    string
		env     []string
		args    []string
		trusted bool
	}{
		{"system", nil, nil, false},
		{"another authority", nil, []string{"--origin-ca", newAuthority(t).file(t)}, false},
		{"flag", nil, []string{"--origin-ca", file}, true},
		{"variable", []string{"IXMAGE_ORIGIN_CA=" + file}, nil, true},
		{"SSL_CERT_FILE", []string{"SSL_CERT_FILE=" + file}, nil, true},
		{"SSL_CERT_FILE and another flag", []string{"SSL_CERT_FILE=" + file}, []string{"--origin-ca", newAuthority(t).file(t)}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := &env{server: startWith(t, tc.env, append([]string{"--canary-interval", "100ms"}, tc.args...)...)}
			s.createOn("shop", url, "media")
			if !tc.trusted {
				wantProblem(t, s.get("/shop/a.png"), http.StatusBadGateway, "origin-unreachable")
				s.wantCause(t, "shop", "tls", "--origin-ca", "SSL_CERT_FILE")
				return
			}
			s.patchOn("shop", `{"canary":"a.png"}`)
			if r := s.head("/shop/a.png"); r.StatusCode != http.StatusOK {
				t.Errorf("HEAD: %s", r.Status)
			}
			wantPicture(t, s.get("/shop/a.png"), body)
			eventually(t, "the canary is read", func() bool { return s.explain("/shop/a.png", "").Canary.State == "readable" })
			r := s.api(http.MethodPost, "/api/v1/aliases/shop/verify", nil)
			if r.StatusCode != http.StatusOK || strings.Contains(string(r.body), "certificate") {
				t.Errorf("verify: %s: %s", r.Status, r.body)
			}
		})
	}
}

// wantCause checks that explain, with and without a probe, and the log name a cause and the
// parts of a remedy.
func (s *env) wantCause(t *testing.T, alias, cause string, remedy ...string) {
	t.Helper()
	for _, more := range []string{"", "&probe=true"} {
		e := s.explain("/"+alias+"/a.png", more)
		for what, a := range map[string]*explainedAnswer{"last_failure": e.LastFailure, "probe": e.Probe} {
			if what == "probe" && more == "" {
				continue
			}
			if a == nil || a.Cause != cause {
				t.Errorf("%s is %+v, want cause %s", what, a, cause)
			}
		}
		wantAll(t, "the remedy", e.Remedy, remedy...)
	}
	s.waitInFlight(0)
	wantAll(t, "the log", lineOf(s.wholeLog(), "alias="+alias+" "), remedy...)
}

// TestNetworkCauses has S3 give no answer in the ways that configurations get wrong.
// explain and the log lead to the flag or field in one step, and clients learn nothing.
func TestNetworkCauses(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	plain := s3.New(t)
	_, secure := tlsS3(t, ca.issue(t, time.Hour, "127.0.0.1"))
	_, otherName := tlsS3(t, ca.issue(t, time.Hour, "s3.example.com"))
	_, expired := tlsS3(t, ca.issue(t, -time.Hour, "127.0.0.1"))
	web := httptest.NewUnstartedServer(http.NotFoundHandler())
	web.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	web.StartTLS()
	t.Cleanup(web.Close)
	ssh := newRawS3(t, func(c net.Conn, _ string) { _, _ = c.Write([]byte("SSH-2.0-OpenSSH_9.6\r\n")) })
	s := &env{server: start(t, "--origin-ca", ca.file(t), "--breaker-failures", "0")}
	for _, tc := range []struct {
		name, endpoint string
		status         int
		code, cause    string
		remedy         []string
	}{
		{"refused", "http://" + netfault.Refused(t), 502, "origin-unreachable", "refused", []string{"Nothing listens", "endpoint"}},
		{"tls-on-plain-port", strings.Replace(plain.URL, "http:", "https:", 1), 502, "origin-unreachable", "tls", []string{"http://"}},
		{"plain-on-tls-port", strings.Replace(secure, "https:", "http:", 1), 502, "origin-unreachable", "reset", []string{"https://"}},
		{"plain-on-https-port", strings.Replace(web.URL, "https:", "http:", 1), 502, "origin-error", "protocol", []string{"speaks TLS", "https://"}},
		{"other-name", otherName, 502, "origin-unreachable", "tls", []string{"another host name"}},
		{"expired", expired, 502, "origin-unreachable", "tls", []string{"expired"}},
		{"ssh", ssh.url, 502, "origin-error", "protocol", []string{"no answer of HTTP/1.1"}},
	} {
		s.createOn(tc.name, tc.endpoint, "media")
		r := s.get("/" + tc.name + "/a.png")
		wantProblem(t, r, tc.status, tc.code)
		for _, word := range []string{"127.0.0.1", "endpoint", "media", "certificate", "--"} {
			if strings.Contains(string(r.body), word) {
				t.Errorf("%s: clients learn %s: %s", tc.name, word, r.body)
			}
		}
		s.wantCause(t, tc.name, tc.cause, tc.remedy...)
	}
}
