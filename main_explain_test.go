package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ixmage/alias/awstest"
)

// explanation is what the test looks at in an answer of explain.
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
		Missing *struct{ TTL int64 }
	}
	Circuit struct{ State string }
	Canary  struct{ State string }
	Probe   *struct {
		Outcome string
		Status  int
		S3Code  string `json:"s3_code"`
	}
	LastFailure *struct {
		Outcome     string
		S3Code      string `json:"s3_code"`
		S3RequestID string `json:"s3_request_id"`
	} `json:"last_failure"`
}

// explain asks how a path resolves.
func (s *site) explain(path, more string) (e explanation) {
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

// TestExplainErrors: for every way in which a request can fail, explain gives the
// status and code that the client got, and a remedy.
func TestExplainErrors(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		path   string
		fault  *awstest.Fault
		setup  func(s *site)
		remedy string // a part of it
	}{
		"unknown alias":  {path: "/nowhere/a.png", remedy: "no alias of this name"},
		"disabled":       {path: "/shop/a.png", setup: func(s *site) { s.patch("shop", `{"enabled":false}`) }, remedy: "disabled"},
		"bad key":        {path: "/shop/a//b.png", remedy: "no valid key"},
		"too long":       {path: "/shop/" + strings.Repeat("a", 1024), remedy: "longer than"},
		"missing":        {path: "/shop/none.png", remedy: "no object of this key"},
		"denied":         {path: "/shop/none.png", setup: func(s *site) { s.s3.HideMissing() }, remedy: "AccessDenied"},
		"no picture":     {path: "/shop/text.png", remedy: "Content-Type"},
		"canary refused": {path: "/shop/a.png", fault: awstest.Fail("AccessDenied"), setup: func(s *site) { s.patch("shop", `{"canary":"canary.png"}`) }, remedy: "canary"},
		"key unknown":    {path: "/shop/a.png", fault: awstest.Fail("InvalidAccessKeyId"), remedy: "does not know the access key id"},
		"wrong secret":   {path: "/shop/a.png", fault: awstest.Fail("SignatureDoesNotMatch"), remedy: "secret"},
		"expired":        {path: "/shop/a.png", fault: awstest.Fail("ExpiredToken"), remedy: "temporary"},
		"throttled":      {path: "/shop/a.png", fault: awstest.Fail("SlowDown"), remedy: "slow down"},
		"S3 fails":       {path: "/shop/a.png", fault: awstest.Fail("InternalError"), remedy: "S3 itself fails"},
		"wrong region":   {path: "/shop/a.png", fault: awstest.FailStatus(http.StatusBadRequest, "AuthorizationHeaderMalformed"), remedy: "another region"},
		"no bucket":      {path: "/shop/a.png", fault: awstest.Fail("NoSuchBucket"), remedy: "no such bucket"},
		"reset":          {path: "/shop/a.png", fault: awstest.ResetAfter(awstest.BeforeHeaders), remedy: "cannot be reached"},
		"archived":       {path: "/shop/a.png", fault: awstest.FailStatus(http.StatusForbidden, "InvalidObjectState"), remedy: "archived"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.put("text.png", awstest.Object{Body: []byte("no picture"), ContentType: "text/plain"})
			if tc.setup != nil {
				tc.setup(s)
			}
			s.s3.Hook(func(*awstest.Recorded) *awstest.Fault { return tc.fault })
			r := s.ask(tc.path)
			var p struct{ Type string }
			if err := json.Unmarshal(r.body, &p); err != nil {
				t.Fatalf("%s: %v", summary(r), err)
			}
			code := p.Type[strings.LastIndexByte(p.Type, '/')+1:]
			e := s.explain(tc.path, "&probe=true")
			if e.Status != r.StatusCode || e.Code != code || !strings.Contains(e.Remedy, tc.remedy) {
				t.Errorf("the answer is %d %s; explained: %d %s, %q", r.StatusCode, code, e.Status, e.Code, e.Remedy)
			}
			if tc.fault == nil || tc.fault.Code == "" {
				return
			}
			e = s.explain(tc.path, "")
			if f := e.LastFailure; f == nil || f.S3Code != tc.fault.Code || f.S3RequestID == "" || !strings.Contains(e.Remedy, tc.remedy) {
				t.Errorf("without a probe: %+v, last failure %+v", e, f)
			}
		})
	}
}

// TestExplainCached: a picture in memory is told from one that is not, fresh from
// stale, and an open circuit from a closed one.
func TestExplainCached(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--breaker-failures", "3")
	s.patch("shop", `{"ttl":"2s","stale_if_error":"1h","stale_while_revalidate":"0s"}`)
	s.put("a.png", awstest.Object{Body: fakePNG(1000)})
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
	wantPicture(t, s.get("/shop/a.png"), fakePNG(1000))
	if e := s.explain("/shop/a.png", ""); e.Status != 200 || e.Cache.Memory == nil || e.Cache.Memory.State != "fresh" || e.Cache.Memory.Size != 1000 {
		t.Errorf("cached: %+v", e)
	}
	s.s3.Hook(func(*awstest.Recorded) *awstest.Fault { return awstest.Fail("InternalError") })
	for range 4 {
		s.get("/shop/other.png")
	}
	if e := s.explain("/shop/cold.png", ""); e.Status != 0 || e.Circuit.State != "closed" {
		t.Errorf("circuit open for another object: %+v", e)
	}
	s.get("/shop/another.png")
	if e := s.explain("/shop/cold.png", ""); e.Status != 503 || e.Code != "circuit-open" || e.Circuit.State == "closed" ||
		!strings.Contains(e.Remedy, "left alone") || !strings.Contains(e.Remedy, "S3 itself fails") {
		t.Errorf("circuit open: %+v", e)
	}
	eventually(t, "it is served stale", func() bool {
		return strings.Contains(s.get("/shop/a.png").Header.Get("Cache-Status"), "ttl=-")
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
	s.get("/shop/none.png")
	eventually(t, "it is known to be missing", func() bool {
		s.get("/shop/none.png")
		return s.explain("/shop/none.png", "").Cache.Missing != nil
	})
}
