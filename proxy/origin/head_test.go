package origin

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/internal/awstest/s3"
)

func TestHead(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := k.put("shop", "a.png", s3.Object{
		Body: noise(1000), ContentType: "image/png", CacheControl: "max-age=60", ETag: `"e"`, LastModified: modified,
	})
	r.Range = &Range{5, 6}
	obj, err := k.Head(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if obj.Size != 1000 || obj.ETag != `"e"` || obj.ContentType != "image/png" || obj.CacheControl != "max-age=60" ||
		!obj.LastModified.Equal(modified) || obj.Body != nil {
		t.Errorf("got %+v", obj)
	}
	if n := k.s3.Total(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
	k.rec.wantCounts(t, map[string]int{"ok": 1})
}

// The SDK has the first line of a header alone, and what comes after it may be
// what forbids to store.
func TestCacheControlLines(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		lines []string
		want  string
	}{
		{"none", nil, ""},
		{"one", []string{"max-age=60"}, "max-age=60"},
		{"two", []string{"max-age=60", "no-store"}, "max-age=60, no-store"},
		{"the same twice", []string{"max-age=60", "max-age=60"}, "max-age=60, max-age=60"},
		{"three, one a list", []string{"public", "max-age=60, immutable", "private"}, "public, max-age=60, immutable, private"},
		{"an empty one", []string{"", "no-store"}, ", no-store"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100), ContentType: "image/png"})
			lines := s3.Fault{Header: func(h http.Header) { h["Cache-Control"] = tc.lines }}
			refused := s3.Fault{Status: http.StatusForbidden, Body: []byte{}}
			k.next(r, &lines, &lines, &refused, &lines)
			got, err := k.Get(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			got.Body.Close()
			if got.CacheControl != tc.want {
				t.Errorf("GET: %q, want %q", got.CacheControl, tc.want)
			}
			for _, way := range []string{"HEAD", "GET after a HEAD that was refused"} {
				got, err := k.Head(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if got.CacheControl != tc.want {
					t.Errorf("%s: %q, want %q", way, got.CacheControl, tc.want)
				}
			}
		})
	}
}

// A HEAD fails as the GET would, although its own reply does not say why.
func TestHeadErrorsAreThoseOfGet(t *testing.T) {
	t.Parallel()
	for code := range s3.Codes() {
		if code == "NoSuchBucket" {
			continue // HEAD says 404, and asking again for each 404 costs too much
		}
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(code) })
			_, err := k.Get(t.Context(), r)
			want := outcomeOf(err)
			_, err = k.Head(t.Context(), r)
			wantOutcome(t, err, want)
			k.rec.wantCounts(t, map[string]int{want.Label(): 2})
		})
	}
}

func TestHeadAsksAgain(t *testing.T) {
	t.Parallel()
	fail := func(status int) *s3.Fault { return &s3.Fault{Status: status, Body: []byte{}} }
	for _, tc := range []struct {
		name   string
		faults []*s3.Fault
		size   int
		want   Outcome
		sent   int
	}{
		{"404 is clear", []*s3.Fault{s3.Fail("NoSuchKey")}, 100, OutcomeNotFound, 1},
		{"412 is clear", []*s3.Fault{s3.Fail("PreconditionFailed")}, 100, OutcomePrecondition, 1},
		{"429 is clear", []*s3.Fault{fail(429)}, 100, OutcomeThrottled, 1},
		{"403 is not", []*s3.Fault{fail(403), s3.Fail("InvalidAccessKeyId")}, 100, OutcomeBadCredential, 2},
		{"403 twice without a word", []*s3.Fault{fail(403), fail(403)}, 100, OutcomeDenied, 2},
		{"GET may what HEAD may not", []*s3.Fault{fail(403)}, 100, OutcomeOK, 2},
		{"GET may, and it is empty", []*s3.Fault{fail(403)}, 0, OutcomeDenied, 2},
		{"range is not heeded", []*s3.Fault{fail(403), {Status: 200}}, 100, OutcomeDenied, 2},
		{"unreachable is clear", []*s3.Fault{s3.CloseAfter(s3.BeforeHeaders), s3.CloseAfter(s3.BeforeHeaders)}, 100, OutcomeNetwork, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(tc.size), ETag: `"e"`, ContentType: "image/png"})
			k.next(r, tc.faults...)
			obj, err := k.Head(t.Context(), r)
			if tc.want != OutcomeOK {
				wantOutcome(t, err, tc.want)
			} else if err != nil || obj.Size != int64(tc.size) || obj.ETag != `"e"` || obj.ContentType != "image/png" || obj.Body != nil {
				t.Errorf("got %+v, %v", obj, err)
			}
			if n := k.s3.Total(); n != tc.sent {
				t.Errorf("%d requests, want %d", n, tc.sent)
			}
			k.rec.wantCounts(t, map[string]int{tc.want.Label(): 1})
		})
	}
}

func TestHeadTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := newBubbleEnv(t, func(c *Config) { c.CallTimeout = time.Second })
		r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
		// The limit covers the second request too.
		k.next(r, &s3.Fault{Status: http.StatusForbidden, Body: []byte{}}, s3.StallAfter(s3.BeforeHeaders, nil))
		_, err := k.Head(t.Context(), r)
		wantOutcome(t, err, OutcomeTimeout)
	})
}
