// Package tracing sends spans to an OpenTelemetry collector (OTLP over HTTP, in protobuf). It
// decides which requests are traced. A slow or unreachable collector costs memory for a bounded
// number of spans, and delays no request.
package tracing

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// Config has the parameters of New.
type Config struct {
	// Endpoint is the base URL of the collector: see ParseEndpoint.
	Endpoint string
	// Ratio is the share of requests without a parent that are traced, from 0 to 1.
	Ratio float64
	// Version is an attribute of the resource.
	Version string
	Log     *slog.Logger
}

// Tracer begins the spans of requests. It is safe for concurrent use.
type Tracer struct {
	exporter *exporter
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	ratio    float64
}

// limits bound the memory of a span. Variables of the environment do not change them.
var limits = sdk.SpanLimits{
	AttributeCountLimit: 16, AttributeValueLengthLimit: 256,
	EventCountLimit: 1, LinkCountLimit: 8, AttributePerEventCountLimit: 1, AttributePerLinkCountLimit: 1,
}

// New makes a tracer and reads the OTEL_ variables that docs/operations.md names. It does not
// call the collector. The caller must Close it.
func New(ctx context.Context, cfg Config) (*Tracer, error) {
	res, err := resource.New(ctx,
		resource.WithTelemetrySDK(),
		resource.WithAttributes(attribute.String("service.name", "ixmage"), attribute.String("service.version", cfg.Version)),
		resource.WithFromEnv(), // wins
	)
	if err != nil {
		return nil, fmt.Errorf("read OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME: %w", err)
	}
	e, err := newExporter(cfg.Endpoint, cfg.Log)
	if err != nil {
		return nil, err
	}
	// The SDK's own handler writes to stderr, which may wait.
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { cfg.Log.Debug("tracing failed", "error", err) }))
	provider := sdk.NewTracerProvider(
		sdk.WithSampler(sdk.AlwaysSample()), // Start has decided
		sdk.WithRawSpanLimits(limits), sdk.WithResource(res),
		sdk.WithBatcher(e), // drops spans when its queue is full
	)
	return &Tracer{exporter: e, provider: provider, tracer: provider.Tracer("ixmage"), ratio: cfg.Ratio}, nil
}

// Close sends the spans that have ended, until ctx ends at most.
func (t *Tracer) Close(ctx context.Context) { _ = t.provider.Shutdown(ctx) }

// Start begins the span of a request that arrived at a time. It returns nil if the request is
// not traced: a valid traceparent in parent decides that, otherwise the sampling ratio.
func (t *Tracer) Start(parent string, at time.Time) *Span {
	ctx := context.Background()
	if parent != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.MapCarrier{"traceparent": parent})
	}
	switch p := trace.SpanContextFromContext(ctx); {
	case p.IsValid() && !p.IsSampled():
		return nil
	case p.IsValid():
	case rand.Float64() >= t.ratio: //nolint:gosec // a sample is no secret
		return nil
	}
	return t.begin(ctx, "GET /{alias}/{key}", trace.WithTimestamp(at), trace.WithSpanKind(trace.SpanKindServer))
}

// begin begins a span, which the caller ends.
func (t *Tracer) begin(ctx context.Context, name string, options ...trace.SpanStartOption) *Span {
	_, s := t.tracer.Start(ctx, name, options...) //nolint:spancheck // Span.End does
	return &Span{s, t}                            //nolint:spancheck // likewise
}

// Span is a timed part of a request. It is safe for concurrent use.
type Span struct {
	span   trace.Span
	tracer *Tracer
}

// Start begins a part of the span. An attempt calls another server.
func (s *Span) Start(name string) *Span {
	kind := trace.SpanKindInternal
	if name == "attempt" {
		kind = trace.SpanKindClient
	}
	ctx := trace.ContextWithSpanContext(context.Background(), s.span.SpanContext())
	return s.tracer.begin(ctx, name, trace.WithSpanKind(kind))
}

// ID returns the ids of the trace and of the span.
func (s *Span) ID() (id [24]byte) {
	c := s.span.SpanContext()
	traceID, spanID := c.TraceID(), c.SpanID()
	copy(id[copy(id[:], traceID[:]):], spanID[:])
	return id
}

// Link says that the span waited for the span with an id.
func (s *Span) Link(to [24]byte) {
	s.span.AddLink(trace.Link{SpanContext: trace.NewSpanContext(trace.SpanContextConfig{
		TraceID: trace.TraceID(to[:16]), SpanID: trace.SpanID(to[16:]), TraceFlags: trace.FlagsSampled,
	})})
}

// Set sets an attribute.
func (s *Span) Set(key, value string) { s.span.SetAttributes(attribute.String(key, value)) }

// SetInt sets an attribute.
func (s *Span) SetInt(key string, value int64) { s.span.SetAttributes(attribute.Int64(key, value)) }

// End ends the span, with an error if failure is not empty.
func (s *Span) End(failure string) {
	if failure != "" {
		s.Set("error.type", failure)
		s.span.SetStatus(codes.Error, "")
	}
	s.span.End()
}
