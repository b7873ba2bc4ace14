package origin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/internal/awstest/s3"
)

func TestGetErrors(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		fault *s3.Fault
		want  Outcome
	}{
		"HTML 404":            {s3.HTML404(), OutcomeNotFound},
		"Throttling":          {s3.FailStatus(400, "Throttling"), OutcomeThrottled},
		"ThrottlingException": {s3.FailStatus(400, "ThrottlingException"), OutcomeThrottled},
		"RequestLimit":        {s3.FailStatus(503, "RequestLimitExceeded"), OutcomeThrottled},
		"TooManyRequests":     {s3.FailStatus(429, "TooManyRequestsException"), OutcomeThrottled},
		"NoSuchVersion":       {s3.FailStatus(404, "NoSuchVersion"), OutcomeNotFound},
		"AllAccessDisabled":   {s3.FailStatus(403, "AllAccessDisabled"), OutcomeError},
		"TokenRefresh":        {s3.FailStatus(400, "TokenRefreshRequired"), OutcomeBadCredential},
		"Unauthorized":        {s3.FailStatus(401, "Unauthorized"), OutcomeBadCredential},
	}
	for _, status := range []int{301, 307, 308, 400, 405, 409, 500, 501, 502, 503, 504} {
		rows[fmt.Sprintf("bare %d", status)] = bare(status, OutcomeError)
	}
	for status, want := range map[int]Outcome{
		304: OutcomeNotModified, 401: OutcomeBadCredential, 403: OutcomeDenied, 404: OutcomeNotFound,
		408: OutcomeTimeout, 412: OutcomePrecondition, 416: OutcomeRange, 429: OutcomeThrottled,
	} {
		rows[fmt.Sprintf("bare %d", status)] = bare(status, want)
	}
	codes := map[string]Outcome{
		"NoSuchKey": OutcomeNotFound, "AccessDenied": OutcomeDenied, "NoSuchBucket": OutcomeError,
		"InvalidAccessKeyId": OutcomeBadCredential, "SignatureDoesNotMatch": OutcomeBadCredential,
		"ExpiredToken": OutcomeBadCredential, "InvalidToken": OutcomeBadCredential,
		"SlowDown": OutcomeThrottled, "RequestTimeout": OutcomeTimeout,
		"InvalidRange": OutcomeRange, "PreconditionFailed": OutcomePrecondition,
	}
	for code := range s3.Codes() {
		want, ok := codes[code]
		if !ok {
			want = OutcomeError
		}
		rows[code] = struct {
			fault *s3.Fault
			want  Outcome
		}{s3.Fail(code), want}
	}
	for name, tc := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.s3.Hook(func(*s3.Request) *s3.Fault { return tc.fault })
			_, err := k.read(t, r)
			e := wantOutcome(t, err, tc.want)
			if e.Code != tc.fault.Code {
				t.Errorf("code is %q, want %q", e.Code, tc.fault.Code)
			}
			if e.Code != "" && (e.S3RequestID == "" || !strings.Contains(e.Error(), e.Code) || !strings.Contains(e.Error(), e.S3RequestID)) {
				t.Errorf("text %q lacks the code or the request id %q", e, e.S3RequestID)
			}
			if e.Code != "" && !strings.Contains(e.Error(), "scripted "+e.Code) {
				t.Errorf("text %q lacks S3's message", e)
			}
			if (e.RetryAfter > 0) != (tc.want == OutcomeThrottled) {
				t.Errorf("RetryAfter is %s", e.RetryAfter)
			}
			k.rec.wantCounts(t, map[string]int{tc.want.Label(): 1})
			for _, q := range k.s3.Requests() {
				if q.Bucket != r.Route.Alias.Bucket {
					t.Errorf("a redirect was followed to %s", q.Target)
				}
			}
		})
	}
}

// bare is a reply with a status and no document.
func bare(status int, want Outcome) struct {
	fault *s3.Fault
	want  Outcome
} {
	return struct {
		fault *s3.Fault
		want  Outcome
	}{&s3.Fault{Status: status, Body: []byte{}}, want}
}

func TestGetBrokenReplies(t *testing.T) {
	t.Parallel()
	set := func(name, value string) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set(name, value) }}
	}
	for _, tc := range []struct {
		name  string
		fault *s3.Fault
		want  Outcome
	}{
		{"error document is no XML", &s3.Fault{Status: 403, Body: []byte("<Error><Code>Acc")}, OutcomeDenied},
		{"error document without end", &s3.Fault{Status: 500, Body: []byte("<Error>"), Excess: 1000, Cut: &s3.Cut{After: 7}}, OutcomeError},
		{"204", &s3.Fault{Status: 204, Header: func(h http.Header) { h.Del("Content-Length") }, Cut: &s3.Cut{After: 0}}, OutcomeError},
		{"206 to no range", &s3.Fault{Status: 206}, OutcomeError},
		{"huge header", s3.RawHeader("x-amz-meta-x: " + strings.Repeat("a", 64<<10)), OutcomeError},
		{"endless headers", s3.RawHeader(strings.Repeat("x-a: b\r\n", 64<<10)), OutcomeError},
		{"NUL in a header", s3.RawHeader("x-a: b\x00c"), OutcomeError},
		{"header without colon", s3.RawHeader("nonsense"), OutcomeError},
		{"length is no number", set("Content-Length", "many"), OutcomeError},
		{"length below zero", set("Content-Length", "-5"), OutcomeError},
		{"closed before headers", s3.CloseAfter(s3.BeforeHeaders), OutcomeNetwork},
		{"reset before headers", s3.ResetAfter(s3.BeforeHeaders), OutcomeNetwork},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.s3.Hook(func(*s3.Request) *s3.Fault { return tc.fault })
			_, err := k.read(t, r)
			wantOutcome(t, err, tc.want)
			k.rec.wantCounts(t, map[string]int{string(tc.want): 1})
		})
	}
}

// Of an error document without end only the beginning is read.
func TestGetHugeErrorDocument(t *testing.T) {
	t.Parallel()
	const size = 32 << 20 // more than any buffer between the two ends holds
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	k.s3.Hook(func(*s3.Request) *s3.Fault { return &s3.Fault{Status: 403, Body: make([]byte, size)} })
	_, err := k.read(t, r)
	wantOutcome(t, err, OutcomeDenied)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := k.s3.Wait(ctx, func() bool { return k.s3.InFlight() == 0 }); err != nil {
		t.Fatal(err)
	}
	for _, q := range k.s3.Requests() {
		if q.Sent > size/2 {
			t.Errorf("%d bytes of an error document were read", q.Sent)
		}
	}
}

func TestGetRetryAfter(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": time.Second, "7": 7 * time.Second, "0": time.Second, "-3": time.Second,
		"86400": maxRetryAfter, "99999999999999999999": time.Second, "Wed, 21 Oct 2026 07:28:00 GMT": time.Second,
	} {
		k := newEnv(t, nil)
		r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
		k.s3.Hook(func(*s3.Request) *s3.Fault {
			return &s3.Fault{Code: "SlowDown", Header: func(h http.Header) { h.Set("Retry-After", value) }}
		})
		_, err := k.read(t, r)
		if e := wantOutcome(t, err, OutcomeThrottled); e.RetryAfter != want {
			t.Errorf("Retry-After %q: got %s, want %s", value, e.RetryAfter, want)
		}
	}
}

// What a server puts into code and request id cannot break or fill the log.
func TestErrorTextIsBounded(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	k.s3.Hook(func(*s3.Request) *s3.Fault {
		long := strings.Repeat("Long", 5000)
		return &s3.Fault{
			Status: 400, Body: []byte("<Error><Code>Line\n" + long + "</Code><RequestId>" + long + "</RequestId></Error>"),
			Header: func(h http.Header) { h.Del("x-amz-request-id") },
		}
	})
	_, err := k.read(t, r)
	text := wantOutcome(t, err, OutcomeError).Error()
	if len(text) > 400 || strings.ContainsAny(text, "\n\r") {
		t.Errorf("text of %d bytes: %q", len(text), text)
	}
}

func TestErrorLeaksNoSecret(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	for _, code := range []string{"SignatureDoesNotMatch", "AccessDenied", "InternalError"} {
		k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(code) })
		_, err := k.read(t, r)
		for _, format := range []string{"%v", "%s", "%q", "%+v", "%#v"} {
			if text := fmt.Sprintf(format, err); strings.Contains(text, k.secrets.pair(r.Route.Credential).SecretAccessKey.Reveal()) {
				t.Errorf("%s prints the secret: %s", format, text)
			}
		}
	}
}

func TestGetSilentOrigin(t *testing.T) {
	t.Parallel()
	t.Run("two attempts", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			k := newBubbleEnv(t, func(c *Config) { c.FirstByteTimeout = time.Second })
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.next(r, s3.StallAfter(s3.BeforeHeaders, nil), s3.StallAfter(s3.BeforeHeaders, nil), nil)
			_, err := k.read(t, r)
			wantOutcome(t, err, OutcomeTimeout)
			if n := k.s3.Total(); n != 2 || k.rec.retried() != 1 {
				t.Errorf("%d requests and %d retries recorded, want 2 and 1", n, k.rec.retried())
			}
		})
	})
	t.Run("call timeout", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			k := newBubbleEnv(t, func(c *Config) { c.CallTimeout = time.Second })
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.next(r, s3.StallAfter(s3.BeforeHeaders, nil))
			_, err := k.read(t, r)
			wantOutcome(t, err, OutcomeTimeout)
			k.rec.wantCounts(t, map[string]int{"timeout": 1})
		})
	})
	t.Run("caller leaves", func(t *testing.T) {
		t.Parallel()
		k := newEnv(t, nil)
		r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
		ctx, cancel := context.WithCancel(t.Context())
		k.s3.Hook(func(*s3.Request) *s3.Fault {
			cancel()
			return s3.StallAfter(s3.BeforeHeaders, nil)
		})
		_, err := k.Get(ctx, r)
		if e := wantOutcome(t, err, OutcomeAborted); !errors.Is(e, context.Canceled) {
			t.Error(e)
		}
		k.rec.wantCounts(t, map[string]int{"aborted": 1})
	})
}

// The second attempt hides one hiccup, and the metrics show it.
func TestGetRetries(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]*s3.Fault{
		"500": s3.Fail("InternalError"), "SlowDown": s3.Fail("SlowDown"),
		"reset": s3.ResetAfter(s3.BeforeHeaders),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.next(r, fault)
			if _, err := k.read(t, r); err != nil {
				t.Fatal(err)
			}
			if k.s3.Total() != 2 || k.rec.retried() != 1 {
				t.Errorf("%d requests and %d retries, want 2 and 1", k.s3.Total(), k.rec.retried())
			}
			k.rec.wantCounts(t, map[string]int{"ok": 1})
		})
	}
}

// Idle connections that turn out to be dead cost a request some tries, all of
// them counted, and never its success: the SDK's retry gets a new one.
func TestDeadConnections(t *testing.T) {
	t.Parallel()
	const idle = 10
	for _, dead := range []int{1, maxResends, maxResends + 1, maxResends + 2, idle} {
		t.Run(strconv.Itoa(dead), func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
			k.idle(t, r, dead)
			k.s3.Hook(func(q *s3.Request) *s3.Fault {
				if q.Conn <= dead {
					return s3.CloseAfter(s3.BeforeHeaders)
				}
				return nil
			})
			if _, err := k.read(t, r); err != nil {
				t.Errorf("got %v although S3 is well", err)
			}
			asked, want := k.s3.Total()-dead, 1+min(dead, 1+maxResends)
			if asked != want || k.rec.retried() != asked-1 {
				t.Errorf("S3 was asked %d times, want %d; %d retries are recorded", asked, want, k.rec.retried())
			}
			k.rec.wantCounts(t, map[string]int{"ok": 1 + dead})
		})
	}
}

// A server that hangs up whenever it is asked does not get at the idle
// connections of everybody.
func TestHangUps(t *testing.T) {
	t.Parallel()
	const idle = 10
	for name, fault := range map[string]*s3.Fault{
		"closed": s3.CloseAfter(s3.BeforeHeaders), "reset": s3.ResetAfter(s3.BeforeHeaders),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
			k.idle(t, r, idle)
			k.s3.Hook(func(*s3.Request) *s3.Fault { return fault })
			_, err := k.Get(t.Context(), r)
			wantOutcome(t, err, OutcomeNetwork)
			_, err = k.Head(t.Context(), r)
			wantOutcome(t, err, OutcomeNetwork)
			asked, want := k.s3.Total()-idle, 2*(1+maxResends+1)
			if asked != want || k.rec.retried() != asked-2 {
				t.Errorf("S3 was asked %d times, want %d; %d retries are recorded", asked, want, k.rec.retried())
			}
		})
	}
}

// idle leaves so many idle connections.
func (k *env) idle(t *testing.T, r Request, n int) {
	t.Helper()
	open := make([]*Object, n)
	for i := range open {
		obj, err := k.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		open[i] = obj
	}
	for _, obj := range open {
		if _, err := readAll(t, obj); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNoEOF(t *testing.T) {
	t.Parallel()
	for _, err := range []error{io.EOF, fmt.Errorf("read: %w", io.EOF), errors.Join(errSlow, io.EOF)} {
		if got := noEOF(err); errors.Is(got, io.EOF) || !errors.Is(got, io.ErrUnexpectedEOF) {
			t.Errorf("noEOF(%v) is %v", err, got)
		}
	}
	if got := noEOF(errSlow); got != errSlow { //nolint:errorlint // it must come back unchanged
		t.Errorf("noEOF(%v) is %v", errSlow, got)
	}
}
