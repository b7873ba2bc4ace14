package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"ixmage/alias"
)

// testPair is the key pair that scripted servers accept.
var testPair = alias.KeyPair{AccessKeyID: "AKIAIOSFODNN7EXAMPLE", SecretAccessKey: alias.NewSecret("wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY")}

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
	c := client(s.t)
	if req.URL.Host == s.admin {
		c.Transport = contract().Transport(c.Transport, func(err error) {
			s.t.Errorf("docs/openapi.json differs: %v", err)
		})
	}
	resp, err := c.Do(req)
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

// createOn registers an alias for a bucket of a path-style server, read with
// testPair, with no prefix.
func (s *server) createOn(name, endpoint, bucket string) {
	s.t.Helper()
	s.create(map[string]any{
		"name": name, "bucket": bucket, "endpoint": endpoint, "path_style": true,
		"credential": map[string]string{
			"access_key_id": testPair.AccessKeyID, "secret_access_key": testPair.SecretAccessKey.Reveal(),
		},
	})
}

// adminCall calls the admin API, wants an answer with a status, and leaves no
// connection behind that would count as a leak.
func (s *server) adminCall(method, path string, fields map[string]any, status int) {
	s.t.Helper()
	req := s.request(method, path, fields)
	req.Close = true
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode != status {
		s.t.Fatalf("%s %s: %s: %s", method, path, resp.Status, text)
	}
}

// wantPicture checks that an answer is a complete picture.
func wantPicture(t testing.TB, r *response, body []byte) {
	t.Helper()
	if r == nil || r.StatusCode != http.StatusOK || r.err != nil || !bytes.Equal(r.body, body) {
		t.Fatalf("got %s; want 200 and %d bytes of picture", summary(r), len(body))
	}
}

// wantProblem checks that an answer is a problem with a status and a code.
func wantProblem(t testing.TB, r *response, status int, code string) {
	t.Helper()
	if r == nil || r.StatusCode != status || r.Header.Get("Content-Type") != "application/problem+json" ||
		!strings.Contains(string(r.body), `"type":"https://ixmage.dev/problems/`+code+`"`) {
		t.Fatalf("got %s; want %d and the problem %s", summary(r), status, code)
	}
}

func summary(r *response) string {
	if r == nil {
		return "a closed connection"
	}
	return r.Status + ", error " + errText(r.err) + ", body " + strings.TrimSpace(string(r.body[:min(len(r.body), 200)]))
}

func errText(err error) string {
	if err == nil {
		return "none"
	}
	return err.Error()
}
