package e2e

import (
	"compress/gzip"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	collectorpb "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"ixmage/internal/awstest/s3"
)

// collector receives spans as an OpenTelemetry collector does.
type collector struct {
	*httptest.Server
	t testing.TB

	mu       sync.Mutex // guards the fields below
	spans    []*tracepb.Span
	exported []byte // everything, decoded from gzip
	resource map[string]string
	header   http.Header
}

func newCollector(t testing.TB) *collector {
	t.Helper()
	c := &collector{t: t, resource: map[string]string{}}
	c.Server = httptest.NewServer(http.HandlerFunc(c.receive))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) receive(_ http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		body, _ = gzip.NewReader(r.Body)
	}
	text, err := io.ReadAll(body)
	var m collectorpb.ExportTraceServiceRequest
	if err == nil {
		err = proto.Unmarshal(text, &m)
	}
	if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" {
		c.t.Errorf("export to %s of %s: %v", r.URL.Path, r.Header.Get("Content-Type"), err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.exported, c.header = append(c.exported, text...), r.Header
	for _, rs := range m.GetResourceSpans() {
		for _, kv := range rs.GetResource().GetAttributes() {
			c.resource[kv.GetKey()] = kv.GetValue().GetStringValue()
		}
		for _, ss := range rs.GetScopeSpans() {
			c.spans = append(c.spans, ss.GetSpans()...)
		}
	}
}

// find returns the spans so far whose name and attributes, as key=value, are these.
func (c *collector) find(name string, attrs ...string) (found []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		have := attributesOf(s)
		if s.GetName() == name && !slices.ContainsFunc(attrs, func(a string) bool { return !slices.Contains(have, a) }) {
			found = append(found, s)
		}
	}
	return found
}

// one waits for the only span of a name with attributes.
func (c *collector) one(name string, attrs ...string) *tracepb.Span {
	c.t.Helper()
	eventually(c.t, fmt.Sprint("a span ", name, attrs), func() bool { return len(c.find(name, attrs...)) > 0 })
	found := c.find(name, attrs...)
	if len(found) != 1 {
		c.t.Fatalf("%d spans %s %v", len(found), name, attrs)
	}
	return found[0]
}

// parts waits for n parts of a span, in the order of their beginning.
func (c *collector) parts(of *tracepb.Span, n int) (parts []*tracepb.Span) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%d parts of %s", n, of.GetName()), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		parts = nil
		for _, s := range c.spans {
			if string(s.GetParentSpanId()) == string(of.GetSpanId()) && string(s.GetTraceId()) == string(of.GetTraceId()) {
				parts = append(parts, s)
			}
		}
		return len(parts) >= n
	})
	slices.SortFunc(parts, func(a, b *tracepb.Span) int { return int(a.GetStartTimeUnixNano() - b.GetStartTimeUnixNano()) })
	if len(parts) != n {
		c.t.Fatalf("%s has %d parts, want %d: %v", of.GetName(), len(parts), n, parts)
	}
	return parts
}

func attributesOf(s *tracepb.Span) (all []string) {
	for _, kv := range s.GetAttributes() {
		value := kv.GetValue().GetStringValue()
		if value == "" {
			value = fmt.Sprint(kv.GetValue().GetIntValue())
		}
		all = append(all, kv.GetKey()+"="+value)
	}
	return all
}

func wantSpan(t *testing.T, s *tracepb.Span, name string, failed bool, attrs ...string) {
	t.Helper()
	have := attributesOf(s)
	for _, a := range attrs {
		if !slices.Contains(have, a) {
			t.Errorf("%s has no %s but %v", s.GetName(), a, have)
		}
	}
	if s.GetName() != name || (s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR) != failed {
		t.Errorf("a span %s with status %v, want %s, failed %t", s.GetName(), s.GetStatus(), name, failed)
	}
	if s.GetEndTimeUnixNano() < s.GetStartTimeUnixNano() {
		t.Errorf("%s ends before it begins", name)
	}
}

// linksTo reports whether a span links to another one.
func linksTo(s, to *tracepb.Span) bool {
	return slices.ContainsFunc(s.GetLinks(), func(l *tracepb.Span_Link) bool {
		return string(l.GetSpanId()) == string(to.GetSpanId()) && string(l.GetTraceId()) == string(to.GetTraceId())
	})
}

const (
	spanRequest = "GET /{alias}/{key}"
	exportSoon  = "OTEL_BSP_SCHEDULE_DELAY=50"
)

// TestTracing follows requests through cache and S3 in what a collector receives, and looks for
// secrets in all of it.
func TestTracing(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	e := newEnvOn(t, startWith(t, []string{
		exportSoon, "OTEL_EXPORTER_OTLP_HEADERS=x-api-key=not%20for%20others", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip",
		"OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=proving-ground", "OTEL_TRACES_SAMPLER=always_off",
	}, "--otlp-endpoint", c.URL, "--trace-sample", "1", "--breaker-failures", "0"))
	body := png(3000, "")
	for _, key := range []string{"cold", "crowd", "stale"} {
		e.put(key+"-hidden.png", s3.Object{Body: body})
	}
	fault := &s3.Fault{Code: "InternalError"}

	e.s3.Next("media", "web/cold-hidden.png", fault)
	foreign := "00-11111111111111111111111111111111-2222222222222222-00"
	wantPicture(t, e.get("/shop/cold-hidden.png?sig=hidden", "Traceparent", foreign, "Tracestate", "hidden=1", "Baggage", "hidden=1"), body)
	miss := c.one(spanRequest, "ixmage.cache=miss", "ixmage.alias=shop")
	wantSpan(t, miss, spanRequest, false, "http.request.method=GET", "http.response.status_code=200",
		fmt.Sprintf("http.response.body.size=%d", len(body)))
	if hex.EncodeToString(miss.GetTraceId()) == foreign[3:35] || len(miss.GetParentSpanId()) != 0 {
		t.Error("the traceparent of a stranger decided")
	}
	fetch := c.parts(miss, 1)[0]
	wantSpan(t, fetch, "fetch", false)
	call := c.parts(fetch, 1)[0]
	wantSpan(t, call, "S3 GetObject", false, "ixmage.outcome=ok", "ixmage.alias=shop")
	attempts := c.parts(call, 2)
	wantSpan(t, attempts[0], "attempt", true, "ixmage.attempt=1", "http.response.status_code=500", "error.type=status")
	wantSpan(t, attempts[1], "attempt", false, "ixmage.attempt=2", "http.response.status_code=200")

	wantPicture(t, e.get("/shop/cold-hidden.png"), body)
	c.parts(c.one(spanRequest, "ixmage.cache=hit"), 0)
	wantProblem(t, e.get("/shop/none-hidden.png"), 404, "not-found")
	none := c.one(spanRequest, "http.response.status_code=404", "ixmage.alias=shop")
	wantSpan(t, none, spanRequest, false)
	wantSpan(t, c.parts(c.parts(none, 1)[0], 1)[0], "S3 GetObject", false, "ixmage.outcome=not_found")
	wantProblem(t, e.get("/unknown-hidden/a.png"), 404, "not-found")
	wantSpan(t, c.one(spanRequest, "ixmage.cache=none", "http.response.status_code=404"), spanRequest, false)
	e.head("/shop/crowd-hidden.png")
	wantSpan(t, c.parts(c.one(spanRequest, "http.request.method=HEAD"), 1)[0], "S3 HeadObject", false, "ixmage.outcome=ok")
	e.get("/-/readyz")

	first, second := e.together(c, "crowd-hidden.png", "200", &s3.Fault{})
	wantSpan(t, second, spanRequest, false, "ixmage.cache=collapsed")
	if !linksTo(second, c.parts(first, 1)[0]) {
		t.Errorf("the request that joined has no link to the fetch, but %v", second.GetLinks())
	}
	first, second = e.together(c, "down-hidden.png", "502", fault, fault)
	wantSpan(t, second, spanRequest, true, "error.type=origin-error")
	failed := c.parts(first, 1)[0]
	wantSpan(t, failed, "fetch", true, "error.type=origin-error")
	wantSpan(t, c.parts(failed, 1)[0], "S3 GetObject", true, "ixmage.outcome=error")
	if !linksTo(second, failed) || len(first.GetLinks()) != 0 {
		t.Errorf("links of a failed fetch: %v and %v", first.GetLinks(), second.GetLinks())
	}

	e.patch("shop", `{"ttl":"1s","stale_while_revalidate":"1h"}`)
	eventually(t, "a refresh in the background", func() bool {
		e.get("/shop/stale-hidden.png")
		return len(c.find("revalidate")) > 0
	})
	refresh := c.find("revalidate")[0]
	wantSpan(t, c.parts(refresh, 1)[0], "S3 GetObject", false, "ixmage.outcome=not_modified")

	if code := e.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	if n := len(c.find(spanRequest, "ixmage.cache=none")); n != 1 { // that of the unknown alias
		t.Errorf("%d spans of requests that did not ask the cache: health checks are traced", n)
	}
	if got := c.header.Get("X-Api-Key"); got != "not for others" {
		t.Errorf("the header of OTEL_EXPORTER_OTLP_HEADERS is %q", got)
	}
	if c.resource["service.name"] != "ixmage" || c.resource["deployment.environment.name"] != "proving-ground" {
		t.Errorf("resource %v", c.resource)
	}
	e.wantNothingSecret(c)
}

// together sends two requests for an object, of which the second joins the fetch of the first, and
// returns their spans. The faults are those of S3's answers, the first of which waits for both.
func (s *env) together(c *collector, key, status string, faults ...*s3.Fault) (first, second *tracepb.Span) {
	s.t.Helper()
	gate := make(chan struct{})
	waits := *faults[0]
	waits.Stall = &s3.Stall{After: s3.BeforeHeaders, Release: gate}
	s.s3.Next("media", "web/"+key, append([]*s3.Fault{&waits}, faults[1:]...)...)
	before := s.calls(key)
	var asked sync.WaitGroup
	asked.Go(func() { single(s.public, http.MethodGet, "/shop/"+key) })
	eventually(s.t, "S3 is asked", func() bool { return s.calls(key) > before })
	asked.Go(func() { single(s.public, http.MethodGet, "/shop/"+key) })
	s.waitBlocked(2)
	done := len(c.find(spanRequest, "http.response.status_code="+status))
	close(gate)
	asked.Wait()
	eventually(s.t, "both spans", func() bool {
		return len(c.find(spanRequest, "http.response.status_code="+status)) >= done+2
	})
	for _, r := range c.find(spanRequest, "http.response.status_code="+status)[done:] {
		if len(r.GetLinks()) > 0 {
			second = r
		} else {
			first = r
		}
	}
	if first == nil || second == nil {
		s.t.Fatalf("of two requests for one object, not exactly one has a link")
	}
	return first, second
}

// wantNothingSecret looks for what must not leave in everything that was exported, and for
// attributes that nobody has thought about; and for headers of clients at S3.
func (s *env) wantNothingSecret(c *collector) {
	s.t.Helper()
	known := []string{
		"http.request.method", "http.response.status_code", "http.response.body.size", "error.type", "rpc.service", "rpc.method",
		"ixmage.alias", "ixmage.cache", "ixmage.request_id", "ixmage.outcome", "ixmage.attempt",
	}
	for _, span := range c.spans {
		for _, kv := range span.GetAttributes() {
			if !slices.Contains(known, kv.GetKey()) {
				s.t.Errorf("%s has the attribute %s", span.GetName(), kv.GetKey())
			}
		}
		if len(span.GetEvents()) > 0 || span.GetStatus().GetMessage() != "" || span.GetTraceState() != "" {
			s.t.Errorf("%s has text: %v", span.GetName(), span)
		}
	}
	host, port, _ := net.SplitHostPort(strings.TrimPrefix(s.s3.URL, "http://"))
	for _, secret := range []string{
		"hidden", "web/", "media", ".png", "AKIA", "not-a-real-secret", "not for others", "not%20for", s.token, host, port, "Go-http-client",
		"InternalError", "NoSuchKey", s.data, "cold", "crowd",
	} {
		if strings.Contains(string(c.exported), secret) {
			s.t.Errorf("what is exported contains %q", secret)
		}
	}
	for _, r := range s.s3.Requests() {
		for _, name := range []string{"Traceparent", "Tracestate", "Baggage", "X-Amzn-Trace-Id"} {
			if r.Header.Get(name) != "" {
				s.t.Errorf("S3 gets %s: %s", name, r.Header.Get(name))
			}
		}
	}
}

// TestTraceparent: what a trusted proxy says decides whether a request is traced, and what a
// stranger says does not.
func TestTraceparent(t *testing.T) {
	t.Parallel()
	const trace = "0af7651916cd43dd8448eb211c80319c"
	for _, tc := range []struct {
		name         string
		args         []string
		sent         string
		traced, ours bool // ours: the trace begins here
	}{
		{name: "sampled", args: []string{"--trusted-proxies", "127.0.0.1", "--trace-sample", "0"}, sent: "00-" + trace + "-b7ad6b7169203331-01", traced: true},
		{name: "not sampled", args: []string{"--trusted-proxies", "127.0.0.1", "--trace-sample", "1"}, sent: "00-" + trace + "-b7ad6b7169203331-00"},
		{name: "none", args: []string{"--trusted-proxies", "127.0.0.1", "--trace-sample", "1"}, traced: true, ours: true},
		{name: "malformed", args: []string{"--trusted-proxies", "127.0.0.1", "--trace-sample", "1"}, sent: "00-" + trace + "-b7ad-01", traced: true, ours: true},
		{name: "of a stranger", args: []string{"--trace-sample", "1"}, sent: "00-" + trace + "-b7ad6b7169203331-00", traced: true, ours: true},
		{name: "of a stranger, no sample", args: []string{"--trace-sample", "0"}, sent: "00-" + trace + "-b7ad6b7169203331-01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := newCollector(t)
			s := start(t, append(tc.args, "--otlp-endpoint", c.URL+"/v1/traces")...)
			if tc.sent != "" {
				s.get("/none/a.png", "Traceparent", tc.sent)
			} else {
				s.get("/none/a.png")
			}
			if code := s.stop(); code != 0 { // which sends what there is
				t.Fatalf("exit status %d", code)
			}
			found := c.find(spanRequest)
			if (len(found) == 1) != tc.traced {
				t.Fatalf("%d spans, traced %t", len(found), tc.traced)
			}
			if tc.traced && (hex.EncodeToString(found[0].GetTraceId()) == trace) == tc.ours {
				t.Errorf("the trace is %x with the parent %x", found[0].GetTraceId(), found[0].GetParentSpanId())
			}
		})
	}
}

// TestCollectorAway: a collector that is silent, away or refuses costs requests nothing, is in the
// log once, and does not keep the process.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}))
	t.Cleanup(silent.Close)
	refuses := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(refuses.Close)
	for name, url := range map[string]string{"silent": silent.URL, "away": "http://127.0.0.1:1", "refuses": refuses.URL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnvOn(t, startWith(t, []string{exportSoon, "OTEL_BSP_MAX_QUEUE_SIZE=16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE=8"},
				"--otlp-endpoint", url, "--trace-sample", "1", "--shutdown-timeout", "1s"))
			body := png(1000, "")
			e.put("a.png", s3.Object{Body: body})
			for range 200 {
				wantPicture(t, e.get("/shop/a.png"), body)
			}
			if name != "silent" {
				eventually(t, "a line in the log", func() bool { return strings.Contains(e.output(), "traces cannot be exported") })
			}
			if code := e.stop(); code != 0 {
				t.Errorf("exit status %d", code)
			}
			if log := e.output(); strings.Contains(log, "shutdown timed out") || strings.Count(log, "traces cannot be exported") > 1 {
				t.Errorf("the log:\n%s", tail(log, 2000))
			}
		})
	}
}
