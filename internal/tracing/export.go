package tracing

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	collector "go.opentelemetry.io/proto/slim/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	tracepb "go.opentelemetry.io/proto/slim/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// exporter sends spans by POST, as OTLP 1 over HTTP. The exporter of the SDK is not used, because
// it imports gRPC and is three times as large.
type exporter struct {
	url     string
	headers http.Header
	gzip    bool
	client  *http.Client
	log     *slog.Logger
	backoff time.Duration
	failing atomic.Bool
}

const (
	exportTimeout = 10 * time.Second // of one request, the default of OTLP
	attempts      = 3                // to send a batch
	firstBackoff  = time.Second      // before the second attempt, then twice that
	maxReply      = 64 << 10
	tracesPath    = "/v1/traces"
)

// ParseEndpoint returns the URL that spans are sent to: endpoint with /v1/traces, unless it
// ends so.
func ParseEndpoint(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return "", errEndpoint // the error of Parse quotes the URL
	case u.User != nil:
		return "", errPassword
	}
	if !strings.HasSuffix(u.Path, tracesPath) {
		u = u.JoinPath(tracesPath)
	}
	return u.String(), nil
}

var (
	errEndpoint = errors.New("it is not a URL like http://127.0.0.1:4318")
	errPassword = errors.New("it has a password: a flag takes no secret, " +
		"put an Authorization header into OTEL_EXPORTER_OTLP_HEADERS")
	errHeaders = errors.New("not a list like name=value,name=value")
)

func newExporter(endpoint string, log *slog.Logger) (*exporter, error) {
	target, err := ParseEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	e := &exporter{
		url: target, log: log, backoff: firstBackoff, gzip: variable("COMPRESSION") == "gzip",
		client: &http.Client{
			Timeout: exportTimeout,
			// No proxy and no redirect: the headers may hold a secret.
			Transport:     &http.Transport{MaxIdleConnsPerHost: 1, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	if e.headers, err = parseHeaders(variable("HEADERS")); err != nil {
		return nil, fmt.Errorf("read OTEL_EXPORTER_OTLP_HEADERS: %w", err)
	}
	return e, nil
}

// variable reads a variable of the environment for OTLP; OTEL_EXPORTER_OTLP_TRACES_… wins.
func variable(name string) string {
	if v := os.Getenv("OTEL_EXPORTER_OTLP_TRACES_" + name); v != "" {
		return v
	}
	return os.Getenv("OTEL_EXPORTER_OTLP_" + name)
}

// parseHeaders reads headers of the form of W3C Baggage. Its error does not quote them.
func parseHeaders(list string) (http.Header, error) {
	h := http.Header{}
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, ok := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		name = strings.TrimSpace(name)
		if !ok || err != nil || !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, errHeaders
		}
		h.Set(name, value)
	}
	return h, nil
}

// isToken reports whether s is the name of a header (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

// ExportSpans sends one batch. Spans that cannot be sent are dropped; the log says when that
// begins and ends.
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	body, err := proto.Marshal(request(spans))
	if err == nil {
		err = e.post(ctx, body)
	}
	switch {
	case err == nil && e.failing.Swap(false):
		e.log.Info("traces are exported again")
	case err != nil && !e.failing.Swap(true):
		e.log.Warn("traces cannot be exported; spans are dropped until they can", "error", err)
	}
	return nil
}

// Shutdown ends idle connections.
func (e *exporter) Shutdown(context.Context) error {
	e.client.CloseIdleConnections()
	return nil
}

// post sends a batch, again if the collector asks for that.
func (e *exporter) post(ctx context.Context, body []byte) error {
	encoding := ""
	if e.gzip {
		encoding = "gzip"
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		_, _ = w.Write(body) // to memory
		_ = w.Close()
		body = packed.Bytes()
	}
	wait := e.backoff
	for n := 1; ; n++ {
		again, after, err := e.send(ctx, body, encoding)
		if err == nil || !again || n == attempts {
			return err
		}
		timer := time.NewTimer(max(wait, after))
		wait *= 2
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// send sends a batch once. again says that it may be sent again, after the duration after at the
// earliest.
func (e *exporter) send(
	ctx context.Context, body []byte, encoding string,
) (again bool, after time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return false, 0, err
	}
	req.Header = e.headers.Clone()
	req.Header.Set("Content-Type", "application/x-protobuf")
	if encoding != "" {
		req.Header.Set("Content-Encoding", encoding)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		return true, 0, err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxReply)) // so that the connection is used again
	switch resp.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, 0, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		again = true
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
			after = time.Duration(min(s, int(exportTimeout/time.Second))) * time.Second
		}
	}
	return again, after, fmt.Errorf("the collector answered %s", resp.Status)
}

// request makes the message of a batch. All spans of a process have the same resource and scope.
func request(spans []sdk.ReadOnlySpan) *collector.ExportTraceServiceRequest {
	scope := &tracepb.ScopeSpans{Scope: &common.InstrumentationScope{Name: "ixmage"}}
	res := &resourcepb.Resource{}
	for _, s := range spans {
		res.Attributes = attributes(s.Resource().Attributes())
		scope.Spans = append(scope.Spans, message(s))
	}
	return &collector.ExportTraceServiceRequest{
		ResourceSpans: []*tracepb.ResourceSpans{{Resource: res, ScopeSpans: []*tracepb.ScopeSpans{scope}}},
	}
}

func message(s sdk.ReadOnlySpan) *tracepb.Span {
	c := s.SpanContext()
	traceID, spanID, parent := c.TraceID(), c.SpanID(), s.Parent().SpanID()
	m := &tracepb.Span{
		TraceId: traceID[:], SpanId: spanID[:], Flags: uint32(c.TraceFlags()),
		Name: s.Name(), Kind: tracepb.Span_SpanKind(s.SpanKind()),
		StartTimeUnixNano: uint64(s.StartTime().UnixNano()), EndTimeUnixNano: uint64(s.EndTime().UnixNano()),
		Attributes: attributes(s.Attributes()), DroppedAttributesCount: uint32(s.DroppedAttributes()),
		Status: &tracepb.Status{},
	}
	if s.Parent().HasSpanID() {
		m.ParentSpanId = parent[:]
	}
	if s.Status().Code == codes.Error {
		m.Status.Code = tracepb.Status_STATUS_CODE_ERROR
	}
	for _, l := range s.Links() {
		traceID, spanID := l.SpanContext.TraceID(), l.SpanContext.SpanID()
		m.Links = append(m.Links, &tracepb.Span_Link{
			TraceId: traceID[:], SpanId: spanID[:], Flags: uint32(l.SpanContext.TraceFlags()),
		})
	}
	return m
}

// attributes encodes texts and integers, and all others as texts.
func attributes(list []attribute.KeyValue) []*common.KeyValue {
	all := make([]*common.KeyValue, 0, len(list))
	for _, kv := range list {
		v := &common.AnyValue{}
		if kv.Value.Type() == attribute.INT64 {
			v.Value = &common.AnyValue_IntValue{IntValue: kv.Value.AsInt64()}
		} else {
			v.Value = &common.AnyValue_StringValue{StringValue: kv.Value.String()}
		}
		all = append(all, &common.KeyValue{Key: string(kv.Key), Value: v})
	}
	return all
}
