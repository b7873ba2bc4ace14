package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// adminClient sends calls of the admin API from one local address.
type adminClient struct {
	url  string
	http *http.Client
}

func newAdminClient(t *testing.T, url, from string, config *tls.Config) adminClient {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	tr := &http.Transport{TLSClientConfig: config, DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", addr)
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return adminClient{url, &http.Client{Transport: tr}}
}

// list reads the aliases with an Authorization header, or without one.
func (c adminClient) list(authorization string) (*response, error) {
	req, err := http.NewRequest(http.MethodGet, c.url+"/api/v1/aliases", nil)
	if err != nil {
		return nil, err
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	r := &response{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	return r, nil
}

// TestWrongTokens: an address may send 10 wrong tokens a minute. More are 429, while the
// right token is served, also at the same moment from the same address.
func TestWrongTokens(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "127.0.0.1")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(readFile(t, cert))
	for _, tc := range []struct {
		name, scheme string
		args         []string
		config       *tls.Config
	}{
		{"in the clear", "http", nil, nil},
		{"over TLS", "https", []string{"--admin-tls-cert", cert, "--admin-tls-key", key}, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, append(tc.args, "--log-level", "info")...)
			url := tc.scheme + "://" + s.admin
			one := newAdminClient(t, url, "127.0.0.1", tc.config)
			begun := time.Now()
			for range 3 { // a request without a token is no guess
				wantStatus(t, one, "", 401)
			}
			const guesses = 60
			var mu sync.Mutex
			count := map[int]int{}
			var crowd sync.WaitGroup
			for i := range guesses {
				crowd.Go(func() {
					r, err := one.list(fmt.Sprintf("Bearer %064d", i))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					count[r.StatusCode]++
					if r.StatusCode == http.StatusTooManyRequests {
						wantTooMany(t, r)
					}
				})
				crowd.Go(func() { wantStatus(t, one, "Bearer "+s.token, 200) })
			}
			crowd.Wait()
			if count[401] != 10 || count[429] != guesses-10 {
				t.Errorf("got %v, want 10 of 401 and %d of 429", count, guesses-10)
			}
			wantStatus(t, one, "Basic "+s.token, 429)
			wantStatus(t, one, "", 401)
			wantStatus(t, newAdminClient(t, url, "127.0.0.2", tc.config), "Bearer wrong", 401)
			s.stop()
			seconds := 1 + int(time.Since(begun).Seconds()) // each with five lines and their report
			if n := strings.Count(s.output(), "level=WARN msg=\"admin request"); n > 6*seconds {
				t.Errorf("%d log lines of %d refused requests in %d seconds", n, guesses+6, seconds)
			}
			if n := loggedRefusals(s.output()); n != guesses+6 {
				t.Errorf("the log counts %d refused requests, want %d", n, guesses+6)
			}
		})
	}
}

func wantStatus(t *testing.T, c adminClient, authorization string, want int) {
	t.Helper()
	r, err := c.list(authorization)
	if err != nil {
		t.Error(err)
	} else if r.StatusCode != want {
		t.Errorf("got %s, want %d: %s", r.Status, want, r.body)
	}
}

// wantTooMany checks the answer to a wrong token beyond the limit.
func wantTooMany(t *testing.T, r *response) {
	t.Helper()
	seconds, err := strconv.Atoi(r.Header.Get("Retry-After"))
	if err != nil || seconds < 1 || seconds > 60 {
		t.Errorf("Retry-After: got %q, want 1 to 60", r.Header.Get("Retry-After"))
	}
	if r.Header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(string(r.body), `"type":"https://ixmage.dev/problems/wrong-tokens"`) ||
		!strings.Contains(string(r.body), "the right token is served") {
		t.Errorf("got %s: %s", r.Header.Get("Content-Type"), r.body)
	}
}

// loggedRefusals adds up the lines and the counts of refused requests in a log.
func loggedRefusals(log string) int {
	total := 0
	for line := range strings.Lines(log) {
		switch {
		case strings.Contains(line, `msg="admin requests refused"`):
			_, rest, _ := strings.Cut(line, " count=")
			n, _ := strconv.Atoi(strings.Fields(rest)[0])
			total += n
		case strings.Contains(line, "problem=unauthorized"), strings.Contains(line, "problem=wrong-tokens"):
			total++
		}
	}
	return total
}
