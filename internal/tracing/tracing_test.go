package tracing

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"http://127.0.0.1:4318":                   "http://127.0.0.1:4318/v1/traces",
		"http://127.0.0.1:4318/":                  "http://127.0.0.1:4318/v1/traces",
		"https://otel.example.com/otlp":           "https://otel.example.com/otlp/v1/traces",
		"https://otel.example.com/otlp/v1/traces": "https://otel.example.com/otlp/v1/traces",
		"":                            "",
		"127.0.0.1:4318":              "",
		"grpc://127.0.0.1:4317":       "",
		"http://":                     "",
		"http://a b":                  "",
		"http://x:4318/?token=geheim": "",
		"http://x:4318/#geheim":       "",
		"http://me:geheim@x:4318":     "",
	} {
		got, err := ParseEndpoint(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", in, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}

func TestParseHeaders(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                   "map[]",
		"api-key=abc":                        "map[Api-Key:[abc]]",
		" a = b , c=d%20e ,":                 "map[A:[b] C:[d e]]",
		"Authorization=Basic%20dXNlcjpwdw==": "map[Authorization:[Basic dXNlcjpwdw==]]",
		"geheim":                             "",
		"=geheim":                            "",
		"a=%zzgeheim":                        "",
		"a=geheim%0d%0aHost:x":               "",
		"a b=geheim":                         "",
	} {
		got, err := parseHeaders(in)
		if err == nil && fmt.Sprint(map[string][]string(got)) != want || (err != nil) != (want == "") {
			t.Errorf("%q: got %v, %v; want %q", in, got, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}

func FuzzParseHeaders(f *testing.F) {
	f.Add("api-key=abc,x=%20")
	f.Fuzz(func(t *testing.T, list string) {
		h, err := parseHeaders(list)
		if err != nil {
			return
		}
		req := httptest.NewRequest(http.MethodPost, "http://x/", http.NoBody)
		req.Header = h
		var wire bytes.Buffer
		if err := req.Write(&wire); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(wire.String(), "\r\n"); n > len(h)+5 {
			t.Errorf("%q makes %d lines of %d headers: %q", list, n, len(h), &wire)
		}
	})
}

// receiver is a collector that answers with statuses, the last of them again and again.
func receiver(t *testing.T, statuses ...int) (url string, calls *atomic.Int32, spans *atomic.Int32) {
	t.Helper()
	calls, spans = new(atomic.Int32), new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := int(calls.Add(1))
		body, _ := io.ReadAll(r.Body)
		status := statuses[min(n, len(statuses))-1]
		if m := (&collector.ExportTraceServiceRequest{}); status == 200 && proto.Unmarshal(body, m) == nil {
			spans.Add(int32(len(m.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans())))
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL, calls, spans
}

func newTracer(t *testing.T, url string, ratio float64) (*Tracer, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	tr, err := New(t.Context(), Config{Endpoint: url, Ratio: ratio, Version: "v0", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return tr, &log
}

// TestExport: a batch is sent again if the collector asks for that, and then the log says nothing.
func TestExport(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name     string
		statuses []int
		calls    int32
		sent     bool
	}{
		{"accepted", []int{200}, 1, true},
		{"busy once", []int{503, 200}, 2, true},
		{"busy", []int{429}, 3, false},
		{"refused", []int{400, 200}, 1, false},
		{"redirected", []int{302, 200}, 1, false},
		{"away", nil, 0, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			url, calls, spans := "http://127.0.0.1:1", new(atomic.Int32), new(atomic.Int32)
			if tc.statuses != nil {
				url, calls, spans = receiver(t, tc.statuses...)
			}
			tr, log := newTracer(t, url, 1)
			tr.exporter.backoff = time.Millisecond
			s := tr.Start("", time.Now())
			s.Start("fetch").End("")
			s.End("")
			tr.Close(t.Context())
			if calls.Load() != tc.calls || (spans.Load() == 2) != tc.sent {
				t.Errorf("%d calls, %d spans", calls.Load(), spans.Load())
			}
			if strings.Contains(log.String(), "cannot be exported") == tc.sent {
				t.Errorf("the log: %q", log)
			}
		})
	}
}

func TestStart(t *testing.T) {
	t.Parallel()
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	url, _, _ := receiver(t, 200)
	for _, tc := range []struct {
		name, parent string
		ratio        float64
		traced, ours bool
	}{
		{"none", "", 0, false, false},
		{"all", "", 1, true, true},
		{"sampled parent", "00-" + trace + "-" + span + "-01", 0, true, false},
		{"parent that is not sampled", "00-" + trace + "-" + span + "-00", 1, false, false},
		{"later version", "cc-" + trace + "-" + span + "-01-more", 0, true, false},
		{"no trace", "00-00000000000000000000000000000000-" + span + "-01", 0, false, false},
		{"no parent", "00-" + trace + "-0000000000000000-01", 0, false, false},
		{"capitals", "00-" + strings.ToUpper(trace) + "-" + span + "-01", 0, false, false},
		{"garbage", strings.Repeat("-", 9000), 1, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tr, _ := newTracer(t, url, tc.ratio)
			defer tr.Close(t.Context())
			s := tr.Start(tc.parent, time.Now())
			if (s != nil) != tc.traced {
				t.Fatalf("traced %t", s != nil)
			}
			if s == nil {
				return
			}
			id := s.ID()
			if got := fmt.Sprintf("%x", id[:16]); (got == trace) == tc.ours {
				t.Errorf("the trace is %s", got)
			}
		})
	}
}

// TestBounded: spans beyond the queue, and attributes and links beyond their limits, are dropped.
func TestBounded(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	got := make(chan *collector.ExportTraceServiceRequest, 100)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		<-gate
		m := &collector.ExportTraceServiceRequest{}
		_ = proto.Unmarshal(body, m)
		got <- m
	}))
	t.Cleanup(s.Close)
	tr, _ := newTracer(t, s.URL, 1)
	const many = 8000 // far above the queue of 2,048
	for range many {
		span := tr.Start("", time.Now())
		for i := range 30 {
			span.Link(span.ID())
			span.SetInt(fmt.Sprint(i), 1)
		}
		span.Set("0", strings.Repeat("x", 10_000))
		span.End("")
	}
	close(gate)
	tr.Close(t.Context())
	close(got)
	n := 0
	for m := range got {
		for _, span := range m.GetResourceSpans()[0].GetScopeSpans()[0].GetSpans() {
			n++
			if proto.Size(span) > 2<<10 {
				t.Fatalf("a span of %d bytes", proto.Size(span))
			}
		}
	}
	if n == 0 || n > 4000 {
		t.Errorf("%d of %d spans arrived", n, many)
	}
}

func TestVariables(t *testing.T) {
	url, _, _ := receiver(t, 200)
	t.Setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=1")
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "b=2")
	tr, _ := newTracer(t, url, 1)
	tr.Close(t.Context())
	if h := tr.exporter.headers; h.Get("b") != "2" || h.Get("a") != "" {
		t.Errorf("headers %v", h)
	}
	t.Setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "geheim")
	if _, err := New(t.Context(), Config{Endpoint: url, Log: slog.New(slog.DiscardHandler)}); err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("headers that are none: %v", err)
	}
}
