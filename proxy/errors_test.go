package proxy

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"ixmage/cache"
	"ixmage/proxy/origin"
)

func TestProblemOf(t *testing.T) {
	t.Parallel()
	of := func(o origin.Outcome) error { return &origin.Error{Outcome: o} }
	rows := []struct {
		name   string
		err    error
		status int
		code   string
	}{
		{"no route", errNoRoute, 404, "not-found"},
		{"bad key", errBadKey, 400, "bad-key"},
		{"no picture", errNotImage, 415, "not-an-image"},
		{"refused with its canary", fmt.Errorf("%w: %w", errAliasDenied, of(origin.OutcomeDenied)), 502, "origin-denied"},
		{"version gone", errVersionGone, 502, "origin-error"},
		{"no length", errNoLength, 502, "origin-error"},
		{"cache closed", cache.ErrClosed, 503, "overloaded"},
		{"fetch abandoned", cache.ErrAbandoned, 503, "overloaded"},
		{"longer than declared", cache.ErrTooLong, 502, "origin-error"},
		{"loader panicked", &cache.PanicError{Value: "x"}, 500, "internal"},
		{"context", context.Canceled, 500, "internal"},
		{"end of file", io.ErrUnexpectedEOF, 500, "internal"},
		{"anything else", errors.New("who knows"), 500, "internal"},

		{"not_found", of(origin.OutcomeNotFound), 404, "not-found"},
		{"denied", of(origin.OutcomeDenied), 404, "not-found"},
		{"bad_credential", of(origin.OutcomeBadCredential), 502, "origin-credential"},
		{"bad_credential that may be outdated", &origin.Error{Outcome: origin.OutcomeBadCredential, Outdated: true}, 503, "registry-stale"},
		{"throttled", of(origin.OutcomeThrottled), 503, "origin-throttled"},
		{"timeout", of(origin.OutcomeTimeout), 504, "origin-timeout"},
		{"network", of(origin.OutcomeNetwork), 502, "origin-unreachable"},
		{"error", of(origin.OutcomeError), 502, "origin-error"},
		{"aborted", of(origin.OutcomeAborted), 502, "origin-error"},
		{"overloaded", of(origin.OutcomeOverloaded), 503, "overloaded"},
		{"circuit_open", of(origin.OutcomeCircuitOpen), 503, "circuit-open"},
		{"range", of(origin.OutcomeRange), 502, "origin-error"},
		{"precondition", of(origin.OutcomePrecondition), 502, "origin-error"},
		{"not_modified", of(origin.OutcomeNotModified), 502, "origin-error"},
		{"ok", of(origin.OutcomeOK), 500, "internal"},
		{"an outcome of tomorrow", of("tomorrow"), 500, "internal"},
	}
	named := map[string]bool{}
	for _, tc := range rows {
		named[tc.name] = true
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for _, err := range []error{tc.err, fmt.Errorf("once: %w", tc.err), errors.Join(io.EOF, fmt.Errorf("twice: %w", tc.err))} {
				if got := problemOf(err); got.status != tc.status || got.code != tc.code {
					t.Errorf("%v: got %d %s, want %d %s", err, got.status, got.code, tc.status, tc.code)
				}
			}
		})
	}
	for _, outcome := range outcomes(t) {
		if !named[outcome] {
			t.Errorf("no row for the outcome %s", outcome)
		}
	}
}

// outcomes reads the values of origin.Outcome out of its source.
func outcomes(t *testing.T) (list []string) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "origin/errors.go", nil, 0)
	must(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := v.Type.(*ast.Ident); ok && typ.Name == "Outcome" {
			value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			must(t, err)
			list = append(list, value)
		}
		return true
	})
	if len(list) < 10 {
		t.Fatalf("found only the outcomes %v", list)
	}
	return list
}

// The codes are an interface: clients may rely on them.
func TestProblemCodes(t *testing.T) {
	t.Parallel()
	have := map[string]int{}
	for _, p := range []problem{
		probNotFound, probBadKey, probBadRequest, probNotImage, probPrecondition, probRange, probMethod, probBody, probExpect,
		probHeaders, probSlow, probVersion, probCredential, probDenied, probOrigin, probUnreachable, probTimeout, probThrottled, probCircuit, probOverloaded, probInternal,
	} {
		if have[p.code] != 0 || p.title == "" {
			t.Errorf("%s: two of this code, or no title", p.code)
		}
		have[p.code] = p.status
	}
	for code, status := range map[string]int{
		"not-found": 404, "bad-key": 400, "not-an-image": 415, "precondition-failed": 412, "range": 416, "method": 405, "body": 413,
		"origin-credential": 502, "origin-denied": 502, "origin-error": 502, "origin-throttled": 503, "origin-timeout": 504, "origin-unreachable": 502,
		"overloaded": 503, "circuit-open": 503, "internal": 500, "expect": 417, "bad-request": 400, "headers": 431, "request-timeout": 408, "http-version": 505,
	} {
		if have[code] != status {
			t.Errorf("%s: status %d, want %d", code, have[code], status)
		}
	}
}

func TestRequestProblem(t *testing.T) {
	t.Parallel()
	timeout := &net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}
	for name, tc := range map[string]struct {
		err  error
		want problem
	}{
		"header too large": {fmt.Errorf("x: %w", &fasthttp.ErrSmallBuffer{}), probHeaders},
		"body too large":   {fmt.Errorf("x: %w", fasthttp.ErrBodyTooLarge), probBody},
		"unknown coding":   {fmt.Errorf("x: %w", fasthttp.ErrUnsupportedTransferEncoding), probBody},
		"too slow":         {fmt.Errorf("x: %w", timeout), probSlow},
		"cut short":        {io.ErrUnexpectedEOF, probBadRequest},
		"malformed":        {errors.New("cannot find http request method in \"secret\""), probBadRequest},
	} {
		if got := requestProblem(tc.err); got != tc.want {
			t.Errorf("%s: got %s, want %s", name, got.code, tc.want.code)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want string
	}{
		{nil, "1"},
		{errors.New("x"), "1"},
		{&origin.Error{Outcome: origin.OutcomeThrottled}, "1"},
		{&origin.Error{Outcome: origin.OutcomeThrottled, RetryAfter: 100 * time.Millisecond}, "1"},
		{&origin.Error{Outcome: origin.OutcomeThrottled, RetryAfter: 7 * time.Second}, "7"},
		{fmt.Errorf("x: %w", &origin.Error{Outcome: origin.OutcomeOverloaded, RetryAfter: 1100 * time.Millisecond}), "2"},
		{&origin.Error{Outcome: origin.OutcomeCircuitOpen, RetryAfter: 4001 * time.Millisecond}, "5"},
		{&origin.Error{RetryAfter: -time.Second}, "1"},
	} {
		if got := retryAfter(tc.err); got != tc.want {
			t.Errorf("%v: got %s, want %s", tc.err, got, tc.want)
		}
	}
}
