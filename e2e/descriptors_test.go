package e2e

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// quickly is a client that leaves no connection behind and gives up.
var quickly = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// wantAllServices checks that everything answers: health on both listeners, the admin API,
// a hit and a miss.
func wantAllServices(t *testing.T, s *env, round string) {
	t.Helper()
	s.put(round+".png", s3.Object{Body: png(100, "")})
	try := func(what string, req *http.Request) {
		t.Helper()
		resp, err := quickly.Do(req)
		if err != nil {
			t.Errorf("%s, %s: %v", round, what, err)
			return
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s, %s: %s", round, what, resp.Status)
		}
	}
	for _, url := range []string{
		"http://" + s.public + "/-/healthz", "http://" + s.public + "/-/readyz", "http://" + s.admin + "/-/healthz",
		"http://" + s.public + "/shop/hot.png", "http://" + s.public + "/shop/" + round + ".png", "http://" + s.admin + "/metrics",
	} {
		req, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		try(url, req)
	}
	try("GET of the admin API", s.request(http.MethodGet, "/api/v1/aliases", nil))
	try("PATCH of the admin API", s.request(http.MethodPatch, "/api/v1/aliases/shop", `{"ttl":"2h"}`))
}

// TestDescriptorsHeld has one address hold more connections than the server has descriptors:
// idle ones, ones that never finish a header, and ones that do not read. All services answer,
// and the connections of the others stay.
func TestDescriptorsHeld(t *testing.T) { //nolint:paralleltest // it fills the machine
	for _, tc := range []struct {
		name  string
		conns int
		send  string
		more  string // sent again and again
	}{
		{"idle", 1100, "GET /-/healthz HTTP/1.1\r\nHost: x\r\n\r\n", ""},
		{"slow header", 3000, "GET /-/healthz HT", "T"},
		{"silent", 1100, "", ""},
		{"unread", 1100, "GET /shop/large.png HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			needFiles(t, uint64(2*tc.conns))
			s := newEnvOn(t, startLimited(t, 1024))
			s.put("hot.png", s3.Object{Body: png(100, "")})
			s.put("large.png", s3.Object{Body: png(20<<20, "")})
			wantAllServices(t, s, "before")
			held := make([]net.Conn, 0, tc.conns)
			for range tc.conns {
				c, err := net.DialTimeout("tcp", s.public, 20*time.Second)
				if err != nil {
					t.Fatalf("after %d connections: %v", len(held), err)
				}
				t.Cleanup(func() { c.Close() })
				c.Write([]byte(tc.send)) // the server may have closed it
				held = append(held, c)
				if len(held)%500 == 0 {
					wantAllServices(t, s, fmt.Sprint(len(held)))
				}
			}
			for i := range 3 {
				for _, c := range held {
					c.Write([]byte(tc.more)) // likewise
				}
				wantAllServices(t, s, fmt.Sprintf("round %d", i))
			}
			if n := s.openFiles(); n > 1000 {
				t.Errorf("%d descriptors are open", n)
			}
		})
	}
}
