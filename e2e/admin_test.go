package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestAdminBadUse has one row for each way in which the admin API of a running
// program refuses a call. The rules in detail are tested in their packages.
func TestAdminBadUse(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.createOn("shop", "http://127.0.0.1:1", "media")
	pair := `"credential":{"access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"wJalrXUtnFEMI"}`
	const list, shop = "/api/v1/aliases", "/api/v1/aliases/shop"
	const none = "-" // a header that is not sent
	for _, tc := range []struct {
		name         string
		method, path string
		body         string
		headers      []string
		status       int
		code         string
		says         []string
	}{
		{"no token", "GET", list, "", []string{"Authorization", none}, 401, "unauthorized", []string{"Authorization: Bearer TOKEN", "admin-token of the data folder"}},
		{"wrong token", "GET", list, "", []string{"Authorization", "Bearer " + strings.Repeat("0", 64)}, 401, "unauthorized", []string{"Authorization: Bearer TOKEN"}},
		{"wrong scheme", "GET", list, "", []string{"Authorization", "Basic " + s.token}, 401, "unauthorized", nil},
		{"no token, no path", "GET", "/api/v1/none", "", []string{"Authorization", none}, 401, "unauthorized", nil},
		{"no path", "GET", "/api/v1/none", "", nil, 404, "not-found", []string{"no such path"}},
		{"no alias", "GET", "/api/v1/aliases/none", "", nil, 404, "not-found", []string{`no alias named \"none\"`}},
		{"wrong method", "PUT", shop, "{}", nil, 405, "method", []string{"Allow"}},
		{"no body", "POST", list, "", nil, 400, "bad-request", []string{"needs a JSON object"}},
		{"malformed JSON", "POST", list, `{"name":"b",`, nil, 400, "bad-request", []string{"not valid JSON", "byte 12"}},
		{"not an object", "POST", list, `[]`, nil, 400, "bad-request", []string{"must be a JSON object, not an array"}},
		{"unknown field", "PATCH", shop, `{"bukket":"media"}`, nil, 400, "invalid", []string{"bukket: unknown field"}},
		{"nearly a field", "PATCH", shop, `{"negativeTTL":"5s"}`, nil, 400, "invalid", []string{`did you mean \"negative_ttl\"?`}},
		{"read-only field", "PATCH", shop, `{"revision":7}`, nil, 400, "invalid", []string{"revision: is read-only"}},
		{"wrong type", "PATCH", shop, `{"enabled":"yes"}`, nil, 400, "invalid", []string{"enabled: must be true or false, not a string"}},
		{"bad name", "POST", list, `{"name":"Shop!","bucket":"media","region":"eu-west-1",` + pair + `}`, nil, 400, "invalid", []string{"name: must be 1 to 63 of a-z, 0-9 and hyphen"}},
		{"bad bucket", "POST", list, `{"name":"b","bucket":"My_Bucket","region":"eu-west-1",` + pair + `}`, nil, 400, "invalid", []string{"bucket: must be 3 to 63 of a-z"}},
		{"bad prefix", "POST", list, `{"name":"b","bucket":"media","prefix":"../private/","region":"eu-west-1",` + pair + `}`, nil, 400, "invalid", []string{`prefix: must not have empty, \".\" or \"..\" segments`}},
		{"wildcard in the prefix", "PATCH", shop, `{"prefix":"web*/"}`, nil, 400, "invalid", []string{"prefix: must not have *, ? or $"}},
		{"bad endpoint", "PATCH", shop, `{"endpoint":"http://169.254.169.254"}`, nil, 400, "invalid", []string{"endpoint: must be at an allowed address", "never allowed"}},
		{"endpoint without a scheme", "PATCH", shop, `{"endpoint":"minio:9000"}`, nil, 400, "invalid", []string{"endpoint: must begin with https:// or http://: write https://minio:9000"}},
		{"bucket in the endpoint's path", "PATCH", shop, `{"endpoint":"https://s3.example.com/media"}`, nil, 400, "invalid", []string{"endpoint: must not have a path: write https://s3.example.com"}},
		{"bucket in the endpoint's host", "PATCH", shop, `{"endpoint":"https://media.minio.local:9000"}`, nil, 400, "invalid", []string{"endpoint: must not have the bucket media in its host: write https://minio.local:9000"}},
		{"bucket in the endpoint's host, later", "PATCH", shop, `{"endpoint":"https://other.s3.example.com","bucket":"other","path_style":false}`, nil, 400, "invalid", []string{"endpoint: must not have the bucket other in its host: write https://s3.example.com"}},
		{"region of another endpoint", "PATCH", shop, `{"endpoint":"https://s3.eu-west-1.amazonaws.com"}`, nil, 400, "invalid", []string{"region: must be eu-west-1, the region in the endpoint, and not us-east-1"}},
		{"no region", "POST", list, `{"name":"b","bucket":"media",` + pair + `}`, nil, 400, "invalid", []string{"region: is required for AWS, such as eu-west-1"}},
		{"no credential", "POST", list, `{"name":"b","bucket":"media","region":"eu-west-1"}`, nil, 400, "invalid", []string{"credential: is required"}},
		{"temporary key", "PUT", "/api/v1/credentials/shop", `{"access_key_id":"ASIAIOSFODNN7EXAMPLE","secret_access_key":"x"}`, nil, 400, "invalid", []string{"temporary"}},
		{
			"everything at once", "POST", list, `{"name":"-","bucket":"B","prefix":"/","region":"EU","ttl":"soon","colour":"red","state":"active"}`, nil, 400, "invalid",
			[]string{"name: ", "bucket: ", "prefix: ", "region: ", "ttl: must be a duration", "colour: unknown field", "state: is read-only", "credential: is required"},
		},
		{"name taken", "POST", list, `{"name":"shop","bucket":"media","region":"eu-west-1",` + pair + `}`, nil, 409, "exists", []string{"shop"}},
		{"credential in use", "DELETE", "/api/v1/credentials/shop", "", nil, 409, "in-use", []string{"used by these aliases: shop"}},
		{"stale revision", "PATCH", shop, `{"ttl":"1m"}`, []string{"If-Match", `"7"`}, 412, "precondition-failed", []string{"another revision", "ETag"}},
		{"not JSON", "POST", list, "name=b", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "media-type", []string{"application/json"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var body any
			if tc.body != "" {
				body = tc.body
			}
			req := s.request(tc.method, tc.path, body)
			for i := 0; i+1 < len(tc.headers); i += 2 {
				if tc.headers[i+1] == none {
					req.Header.Del(tc.headers[i])
				} else {
					req.Header.Set(tc.headers[i], tc.headers[i+1])
				}
			}
			r := s.send(req)
			if r.StatusCode != tc.status {
				t.Errorf("got %s, want %d", r.Status, tc.status)
			}
			wantHelp(t, r, tc.code)
			wantAll(t, "the answer", string(r.body), tc.says...)
		})
	}
	t.Run("large body", func(t *testing.T) {
		// Without the body: the server does not read it, and a client that sends
		// on may find the connection reset before it sees the answer.
		conn, err := net.Dial("tcp", s.admin)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: 65537\r\n\r\n", list, s.admin, s.token)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &response{Response: resp}
		r.body, r.err = io.ReadAll(resp.Body)
		if r.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
			t.Errorf("got %s and the connection stays: %v", r.Status, !resp.Close)
		}
		wantHelp(t, r, "body")
		wantAll(t, "the answer", string(r.body), "65536 bytes")
	})
	if r := s.api(http.MethodGet, list, nil); strings.Count(string(r.body), `"name":`) != 1 || !strings.Contains(string(r.body), `"revision":1,`) {
		t.Errorf("the refused calls have changed something: %s", r.body)
	}
}

// TestRebinding: a web page whose name resolves to a loopback address sends its
// own name as Host, and no Origin. It gets nothing from the listeners there.
func TestRebinding(t *testing.T) {
	t.Parallel()
	local := start(t, "--metrics-listen", "127.0.0.1:0", "--admin-host", "admin.example, ixmage")
	open := start(t, "--admin-listen", "0.0.0.0:0", "--admin-insecure", "--metrics-listen", "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(open.admin)
	all := "127.0.0.1:" + port
	for _, tc := range []struct {
		name, addr, host string
		answered         bool
	}{
		{"admin listener", local.admin, "evil.example", false},
		{"admin listener, its port", local.admin, "evil.example:8081", false},
		{"admin listener, below localhost", local.admin, "localhost.evil.example", false},
		{"admin listener, its address", local.admin, local.admin, true},
		{"admin listener, localhost", local.admin, "localhost", true},
		{"admin listener, IPv6", local.admin, "[::1]:8081", true},
		{"admin listener, other loopback address", local.admin, "127.1.2.3", true},
		{"admin listener, name that was given", local.admin, "ixmage:1", true},
		{"metrics listener", local.metrics, "evil.example", false},
		{"metrics listener, name that was given", local.metrics, "admin.example", true},
		{"on all addresses", all, "evil.example", true},
		{"metrics listener beside one on all addresses", open.metrics, "evil.example", false},
		{"metrics listener beside one on all addresses, localhost", open.metrics, "localhost", true},
	} {
		s := local
		if tc.addr == all {
			s = open
		}
		paths := []string{"/-/healthz", "/-/readyz"}
		if tc.addr != local.admin && tc.addr != all {
			paths = append(paths, "/metrics")
		} else {
			paths = append(paths, "/api/v1/aliases")
		}
		for _, path := range paths {
			conn, err := net.Dial("tcp", tc.addr)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n\r\n", path, tc.host, s.token)
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			r := &response{Response: resp}
			r.body, r.err = io.ReadAll(resp.Body)
			conn.Close()
			switch {
			case tc.answered && r.StatusCode != http.StatusOK, !tc.answered && r.StatusCode != http.StatusMisdirectedRequest:
				t.Errorf("%s, %s: got %s", tc.name, path, r.Status)
			case !tc.answered:
				wantHelp(t, r, "host")
				wantAll(t, tc.name, string(r.body), "--admin-host")
			}
		}
	}
}

// wantHelp checks the form of a refusal.
func wantHelp(t *testing.T, r *response, code string) {
	t.Helper()
	var p struct {
		Type, Title, Detail string
		Status              int
		RequestID           string `json:"request_id"`
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		t.Errorf("not JSON: %v: %s", err, r.body)
		return
	}
	if p.Type != "https://ixmage.dev/problems/"+code || p.Status != r.StatusCode || p.Title == "" || p.Detail == "" ||
		p.RequestID == "" || p.RequestID != r.Header.Get("X-Request-Id") {
		t.Errorf("want the problem %s with title, detail and the request's id, got %s", code, r.body)
	}
	if got := r.Header.Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("Content-Type is %q", got)
	}
	if got := r.Header.Get("Cache-Control"); got != "no-store" {
		t.Errorf("Cache-Control is %q", got)
	}
	if got := r.Header.Get("WWW-Authenticate"); (got == "Bearer") != (r.StatusCode == http.StatusUnauthorized) {
		t.Errorf("WWW-Authenticate is %q", got)
	}
}
