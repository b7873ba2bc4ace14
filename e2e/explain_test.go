package e2e

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"ixmage/internal/awstest/s3"
)

// explanation holds the fields of an answer of explain that the tests check.
type explanation struct {
	Status     int
	Code       string
	Alias      string
	Bucket     string
	Key        string
	Remedy     string
	Credential struct {
		Name, Kind string
		KeyID      string `json:"access_key_id"`
	}
	Cache struct {
		Memory *struct {
			State          string
			Age, TTL, Size int64
		}
		Missing  *struct{ TTL int64 }
		Fetching bool
	}
	Circuit struct{ State string }
	Canary  struct{ State string }
	Probe   *explainedAnswer

	LastAnswer  *explainedAnswer `json:"last_answer"`
	LastFailure *explainedAnswer `json:"last_failure"`
	KeyFailure  *explainedAnswer `json:"key_failure"`
}

type explainedAnswer struct {
	Key         string
	Error       string
	S3Message   string `json:"s3_message"`
	Outcome     string
	Status      int
	Cause       string
	S3Code      string `json:"s3_code"`
	S3RequestID string `json:"s3_request_id"`
}

// explain returns how a path resolves.
func (s *env) explain(path, more string) (e explanation) {
	s.t.Helper()
	r := s.api(http.MethodGet, "/api/v1/explain?path="+url.QueryEscape(path)+more, "")
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("explain %s: %s: %s", path, r.Status, r.body)
	}
	if strings.Contains(string(r.body), "not-a-real-secret") {
		s.t.Errorf("a secret is in %s", r.body)
	}
	if err := json.Unmarshal(r.body, &e); err != nil {
		s.t.Fatal(err)
	}
	return e
}

// explainedFault is a way in which a request can fail, and the explanation of it.
type explainedFault struct {
	path    string // a.png of the row's own alias unless it begins with a slash
	fault   *s3.Fault
	patch   string // of the alias
	status  int
	code    string
	outcome string // of S3's answer; empty: there is none, or nothing is wrong with it
	remedy  string // a part of it
}

func explainedFaults() map[string]explainedFault {
	fail, failStatus := s3.Fail, s3.FailStatus
	return map[string]explainedFault{
		"unknown alias":       {path: "/nowhere/a.png", status: 404, code: "not-found", remedy: "no alias of this name"},
		"disabled":            {patch: `{"enabled":false}`, status: 404, code: "not-found", remedy: "disabled"},
		"bad key":             {path: "a//b.png", status: 400, code: "bad-key", remedy: "not a valid key"},
		"too long":            {path: strings.Repeat("a", 1024), status: 400, code: "bad-key", remedy: "longer than"},
		"missing":             {path: "none.png", status: 404, code: "not-found", outcome: "not_found", remedy: "no object of this key"},
		"denied":              {fault: fail("AccessDenied"), status: 404, code: "not-found", outcome: "denied", remedy: "AccessDenied"},
		"no picture":          {path: "text.png", status: 415, code: "not-an-image", remedy: "Content-Type"},
		"canary refused":      {fault: fail("AccessDenied"), patch: `{"canary":"canary.png"}`, status: 502, code: "origin-denied", outcome: "denied", remedy: "canary"},
		"key unknown":         {fault: fail("InvalidAccessKeyId"), status: 502, code: "origin-credential", outcome: "bad_credential", remedy: "does not know the access key id"},
		"wrong secret":        {fault: fail("SignatureDoesNotMatch"), status: 502, code: "origin-credential", outcome: "bad_credential", remedy: "secret"},
		"expired":             {fault: fail("ExpiredToken"), status: 502, code: "origin-credential", outcome: "bad_credential", remedy: "temporary"},
		"throttled":           {fault: fail("SlowDown"), status: 503, code: "origin-throttled", outcome: "throttled", remedy: "slow down"},
		"given up by S3":      {fault: fail("RequestTimeout"), status: 504, code: "origin-timeout", outcome: "timeout", remedy: "in time"},
		"S3 fails":            {fault: fail("InternalError"), status: 502, code: "origin-error", outcome: "error", remedy: "S3 itself fails"},
		"wrong region":        {fault: failStatus(http.StatusBadRequest, "AuthorizationHeaderMalformed"), status: 502, code: "origin-error", outcome: "error", remedy: "another region"},
		"wrong place":         {fault: fail("PermanentRedirect"), status: 502, code: "origin-error", outcome: "error", remedy: "another region"},
		"clock":               {fault: fail("RequestTimeTooSkewed"), status: 502, code: "origin-error", outcome: "error", remedy: "clock"},
		"no bucket":           {fault: fail("NoSuchBucket"), status: 502, code: "origin-error", outcome: "error", remedy: "no such bucket"},
		"archived":            {fault: failStatus(http.StatusForbidden, "InvalidObjectState"), status: 502, code: "origin-error", outcome: "error", remedy: "archived"},
		"empty":               {fault: s3.Replace(s3.Object{ContentType: "binary/octet-stream"}), status: 415, code: "not-an-image", remedy: "it is empty"},
		"alias in upper case": {path: "/Shop/a.png", status: 404, code: "not-found", remedy: "a-z"},
		"no end":              {fault: &s3.Fault{UntilClose: true, Body: png(100, ""), Header: func(h http.Header) { h.Set("ETag", `"1"`) }}, status: 502, code: "origin-error", remedy: "Content-Length"},
		"not public":          {fault: fail("AccessDenied"), patch: `{"credential":null}`, status: 404, code: "not-found", outcome: "denied", remedy: "no key pair"},
		"reset":               {fault: s3.ResetAfter(s3.BeforeHeaders), status: 502, code: "origin-unreachable", outcome: "network", remedy: "cannot be reached"},
		"no HTTP":             {fault: s3.NoHTTP(), status: 502, code: "origin-error", outcome: "error", remedy: "made no sense"},
	}
}

// TestExplainErrors: for every way in which a request can fail, explain gives the
// status and code that the client got, S3's answer if there was one, and a remedy.
func TestExplainErrors(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	rows := explainedFaults()
	byAlias := map[string]explainedFault{}
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		name, _, _ := strings.Cut(r.Key, "/")
		return byAlias[name].fault
	})
	for name, row := range rows {
		name = aliasFor(name)
		byAlias[name] = row
		s.open(name, "media", name+"/", map[string]any{"negative_ttl": "1h"})
		s.s3.Put("media", name+"/a.png", s3.Object{Body: png(100, ""), ContentType: "image/png"})
		s.s3.Put("media", name+"/text.png", s3.Object{Body: []byte("no picture"), ContentType: "text/plain"})
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			if row.patch != "" {
				s.patch(aliasFor(name), row.patch)
			}
			s.wantExplained(t, aliasFor(name), row)
		})
	}
}

// aliasFor makes the name of an alias from the name of a row.
func aliasFor(name string) string { return strings.ReplaceAll(strings.ToLower(name), " ", "-") }

// wantExplained sends a client's request, and then asks for an explanation of it,
// with and without a probe.
func (s *env) wantExplained(t *testing.T, alias string, row explainedFault) {
	t.Helper()
	path := cmp.Or(row.path, "a.png")
	if path[0] != '/' {
		path = "/" + alias + "/" + path
	}
	wantProblem(t, s.ask(path), row.status, row.code)
	probed := s.explain(path, "&probe=true")
	if probed.Status != row.status || probed.Code != row.code || !strings.Contains(probed.Remedy, row.remedy) {
		t.Errorf("the answer is %d %s; explained: %d %s, %q", row.status, row.code, probed.Status, probed.Code, probed.Remedy)
	}
	known := s.explain(path, "")
	if known.Status != 0 && known.Status != row.status || !strings.Contains(known.Remedy, row.remedy) && row.code != "not-an-image" {
		t.Errorf("without a probe: %d %s, %q", known.Status, known.Code, known.Remedy)
	}
	if row.outcome == "" {
		return
	}
	want := explainedAnswer{Outcome: row.outcome}
	if row.fault != nil {
		want.S3Code = row.fault.Code
	}
	for what, got := range map[string]*explainedAnswer{
		"probe": probed.Probe, "last answer": known.LastAnswer, "last failure": known.LastFailure,
	} {
		if got == nil || got.Outcome != want.Outcome || want.S3Code != "" && got.S3Code != want.S3Code ||
			(got.S3RequestID != "") != (got.Status != 0) {
			t.Errorf("%s: got %+v, want %+v", what, got, want)
		}
	}
}

// TestExplainCached: explain tells whether a picture is in memory, whether it is
// fresh or stale, and whether the circuit is open.
func TestExplainCached(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--breaker-failures", "3", "--breaker-open", "1h")
	s.patch("shop", `{"ttl":"1h","stale_if_error":"1h","stale_while_revalidate":"0s"}`)
	s.put("a.png", s3.Object{Body: png(1000, "")})
	if e := s.explain("/shop/a.png", ""); e.Status != 0 || e.Cache.Memory != nil || e.Bucket != "media" || e.Key != "web/a.png" ||
		e.Credential.Name != "shop" || e.Credential.KeyID != "AKIAIOSFODNN7EXAMPLE" || e.Circuit.State != "closed" || e.Canary.State != "none" {
		t.Errorf("cold: %+v", e)
	}
	if n := s.calls("a.png"); n != 0 {
		t.Errorf("S3 was asked %d times without a probe", n)
	}
	if e := s.explain("/shop/a.png", "&probe=true"); e.Status != 200 || e.Probe == nil || e.Probe.Outcome != "ok" || e.Cache.Memory != nil {
		t.Errorf("probed: %+v", e)
	}
	wantPicture(t, s.get("/shop/a.png"), png(1000, ""))
	if e := s.explain("/shop/a.png", ""); e.Status != 200 || e.Cache.Memory == nil || e.Cache.Memory.State != "fresh" || e.Cache.Memory.Size != 1000 {
		t.Errorf("cached: %+v", e)
	}
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	for range 4 {
		s.get("/shop/other.png")
	}
	if e := s.explain("/shop/cold.png", ""); e.Status != 0 || e.Circuit.State != "closed" {
		t.Errorf("circuit open for one object that fails: %+v", e)
	}
	s.get("/shop/another.png")
	s.get("/shop/third.png")
	if e := s.explain("/shop/cold.png", ""); e.Status != 503 || e.Code != "circuit-open" || e.Circuit.State == "closed" ||
		!strings.Contains(e.Remedy, "sends it no requests") || !strings.Contains(e.Remedy, "S3 itself fails") {
		t.Errorf("circuit open: %+v", e)
	}
	s.patch("shop", `{"ttl":"1s"}`)
	eventually(t, "it is served stale", func() bool { // at once, because ttl has changed, and after a second by its age
		r := s.get("/shop/a.png")
		return strings.Contains(r.Header.Get("Cache-Status"), "ttl=-") && r.Header.Get("Age") != "0"
	})
	e := s.explain("/shop/a.png", "")
	if e.Status != 200 || e.Cache.Memory == nil || e.Cache.Memory.State != "stale" || e.Cache.Memory.TTL > 0 ||
		e.Cache.Memory.Age < 1 || !strings.Contains(e.Remedy, "stale") || !strings.Contains(e.Remedy, "S3 itself fails") {
		t.Errorf("stale: %+v", e)
	}
	s.s3.Hook(nil)
	if e := s.explain("/shop/text.png", "&probe=true"); e.Probe == nil || e.Probe.Status != 404 {
		t.Errorf("probed past the circuit: %+v", e)
	}
	pair := map[string]any{"access_key_id": "AKIAREPLACED0EXAMPLE", "secret_access_key": "another-secret-that-is-not-real"}
	if r := s.api(http.MethodPut, "/api/v1/credentials/shop", pair); r.StatusCode != http.StatusOK { // it begins with a closed circuit
		t.Fatalf("replace: %s: %s", r.Status, r.body)
	}
	eventually(t, "it is known to be missing", func() bool {
		s.get("/shop/none.png")
		return s.explain("/shop/none.png", "").Cache.Missing != nil
	})
}

// TestExplainTimeout: explain tells a timeout of S3 from a refusal. The deadlines are
// short where no answer has to arrive in time; where a header has to, a busy machine gets longer.
func TestExplainTimeout(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--origin-first-byte-timeout", "100ms", "--origin-call-timeout", "300ms")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(s3.BeforeHeaders, nil) })
	s.wantExplained(t, "shop", explainedFault{status: 504, code: "origin-timeout", outcome: "timeout", remedy: "in time"})
	s = newEnv(t, "--origin-first-byte-timeout", "5s", "--origin-call-timeout", "5s")
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(0, nil) })
	s.put("b.png", s3.Object{Body: png(100_000, "")})
	s.wantExplained(t, "shop", explainedFault{path: "b.png", status: 504, code: "origin-timeout", remedy: "in the middle of an answer"})
}

// TestExplainOverload: while all places before S3 are taken, neither a client's
// request nor the probe gets one, and stale objects are served.
func TestExplainOverload(t *testing.T) {
	t.Parallel()
	s := newEnv(
		t, "--origin-concurrency", "1", "--origin-alias-concurrency", "1", "--origin-queue", "1",
		"--origin-first-byte-timeout", "5m", "--origin-call-timeout", "5m", "--origin-queue-timeout", "5m",
	)
	s.patch("shop", `{"ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h"}`)
	s.put("old.png", s3.Object{Body: png(100, "")})
	wantPicture(t, s.get("/shop/old.png"), png(100, ""))
	gate := make(chan struct{})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.StallAfter(s3.BeforeHeaders, gate) })
	var stuck sync.WaitGroup
	for _, path := range []string{"/shop/stuck-1.png", "/shop/stuck-2.png"} {
		stuck.Go(func() { single(s.public, http.MethodGet, path) })
	}
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(func() { open(); stuck.Wait() })
	s.waitBlocked(2)
	wantProblem(t, s.get("/shop/a.png"), http.StatusServiceUnavailable, "overloaded")
	e := s.explain("/shop/a.png", "&probe=true")
	if e.Status != 503 || e.Code != "overloaded" || !strings.Contains(e.Remedy, "Too many requests wait") {
		t.Errorf("explained: %d %s, %q", e.Status, e.Code, e.Remedy)
	}
	if e.Probe == nil || e.Probe.Outcome != "overloaded" || e.Probe.Status != 0 || e.LastFailure != nil {
		t.Errorf("the probe says %+v, the last failure %+v: S3 was not asked", e.Probe, e.LastFailure)
	}
	eventually(t, "it is stale", func() bool {
		return strings.HasPrefix(s.get("/shop/old.png").Header.Get("Cache-Status"), "ixmage; hit; ttl=-")
	})
	wantPicture(t, s.get("/shop/old.png"), png(100, ""))
	open()
	stuck.Wait()
	s.put("a.png", s3.Object{Body: png(200, "")})
	eventually(t, "there is a place again", func() bool { return s.get("/shop/a.png").StatusCode == http.StatusOK })
}

// TestExplainConditions: explain does not apply the conditions and ranges of a
// client's request, since they are no fault of the picture.
func TestExplainConditions(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	for key, tc := range map[string]struct {
		line, code string
		status     int
	}{
		"range.png": {"Range: bytes=100-", "range", http.StatusRequestedRangeNotSatisfiable},
		"match.png": {`If-Match: "another"`, "precondition-failed", http.StatusPreconditionFailed},
	} {
		s.put(key, s3.Object{Body: png(100, "")})
		wantProblem(t, s.ask("/shop/"+key, tc.line), tc.status, tc.code)
		for _, more := range []string{"&probe=true", ""} {
			if more == "" {
				wantPicture(t, s.get("/shop/"+key), png(100, ""))
			}
			e := s.explain("/shop/"+key, more)
			if e.Status != http.StatusOK || e.Code != "" || e.Remedy == "" || e.LastFailure != nil {
				t.Errorf("%s%s: %d %s, %q, last failure %+v", key, more, e.Status, e.Code, e.Remedy, e.LastFailure)
			}
		}
	}
}

// TestExplainCircuit: while the circuit is open, clients get 503 whatever the probe
// finds. The remedy says what the probe found.
func TestExplainCircuit(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--breaker-failures", "1", "--breaker-open", "1h")
	s.put("a.png", s3.Object{Body: png(100, "")})
	s.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail("InternalError") })
	wantProblem(t, s.get("/shop/a.png"), http.StatusBadGateway, "origin-error")
	for _, step := range []struct{ more, remedy string }{
		{"", "sends it no requests for some seconds"}, {"&probe=true", "S3 itself fails"}, {"&probe=true", "S3 now serves"},
	} {
		if step.remedy == "S3 now serves" {
			s.s3.Hook(nil)
		}
		wantProblem(t, s.get("/shop/a.png"), http.StatusServiceUnavailable, "circuit-open")
		e := s.explain("/shop/a.png", step.more)
		if e.Status != 503 || e.Code != "circuit-open" || e.Circuit.State != "open" || !strings.Contains(e.Remedy, step.remedy) {
			t.Errorf("%q: %d %s, circuit %s, %q; want %s", step.more, e.Status, e.Code, e.Circuit.State, e.Remedy, step.remedy)
		}
		if f := e.LastFailure; f == nil || f.Outcome != "error" || f.S3Code != "InternalError" || f.S3RequestID == "" {
			t.Errorf("%q: the last failure is %+v", step.more, f)
		}
	}
}

// TestExplainRemembered: a negative entry answers clients although S3 has the object
// by now, and explain says so.
func TestExplainRemembered(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"negative_ttl":"1h"}`)
	wantProblem(t, s.get("/shop/a.png"), http.StatusNotFound, "not-found")
	s.put("a.png", s3.Object{Body: png(100, "")})
	wantProblem(t, s.get("/shop/a.png"), http.StatusNotFound, "not-found")
	e := s.explain("/shop/a.png", "&probe=true")
	if e.Status != 404 || e.Code != "not-found" || e.Cache.Missing == nil || e.Probe == nil || e.Probe.Status != 200 || !strings.Contains(e.Remedy, "purge") {
		t.Errorf("explained: %d %s, %q, probe %+v", e.Status, e.Code, e.Remedy, e.Probe)
	}
	s.purge(`{"alias":"shop","key":"a.png"}`)
	wantPicture(t, s.get("/shop/a.png"), png(100, ""))
}
