package origin

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

const s3Request = "AWSTESTREQUEST01"

// Each end of a call is told as S3 said it, and the last failure beside it.
func TestLastAnswer(t *testing.T) {
	t.Parallel()
	get := func(k *env, r Request) error { _, err := k.read(t, r); return err }
	head := func(k *env, r Request) error { _, err := k.Head(t.Context(), r); return err }
	ok := Answer{Operation: opGet, Outcome: "ok", OK: true, Status: 200, RequestID: s3Request}
	for _, tc := range []struct {
		name   string
		call   func(*env, Request) error
		change func(*Request)
		faults []*s3.Fault
		want   Answer
	}{
		{name: "GET", call: get, want: ok},
		{name: "range", call: get, change: func(r *Request) { r.Range = &Range{0, 9} }, want: Answer{Operation: opGet, Outcome: "ok", OK: true, Status: 206, RequestID: s3Request}},
		{name: "HEAD", call: head, want: Answer{Operation: opHead, Outcome: "ok", OK: true, Status: 200, RequestID: s3Request}},
		{
			name: "HEAD refused, GET not", call: head, faults: []*s3.Fault{{Status: http.StatusForbidden, Body: []byte{}}},
			want: Answer{Operation: opGet, Outcome: "ok", OK: true, Status: 206, RequestID: s3Request},
		},
		{
			name: "304", call: func(k *env, r Request) error { _, err := k.Get(t.Context(), r); return err },
			change: func(r *Request) { r.IfNoneMatch = `"e"` },
			want:   Answer{Operation: opGet, Outcome: "not_modified", OK: true, Status: 304, RequestID: s3Request},
		},
		{name: "412", call: get, change: func(r *Request) { r.IfMatch = `"f"` }, want: Answer{Operation: opGet, Outcome: "ok", OK: true, Status: 412, Code: "PreconditionFailed", RequestID: s3Request}},
		{name: "404", call: get, change: func(r *Request) { r.Key = "none" }, want: Answer{Operation: opGet, Outcome: "not_found", Status: 404, Code: "NoSuchKey", RequestID: s3Request}},
		{name: "403", call: get, faults: []*s3.Fault{s3.Fail("AccessDenied")}, want: Answer{Operation: opGet, Outcome: "denied", Status: 403, Code: "AccessDenied", RequestID: s3Request}},
		{
			name: "500 twice", call: get, faults: []*s3.Fault{s3.Fail("InternalError"), s3.Fail("InternalError")},
			want: Answer{Operation: opGet, Outcome: "error", Status: 500, Code: "InternalError", RequestID: s3Request},
		},
		{name: "500, then well", call: get, faults: []*s3.Fault{s3.Fail("InternalError")}, want: ok},
		{
			name: "no answer", call: get, faults: []*s3.Fault{s3.ResetAfter(s3.BeforeHeaders), s3.ResetAfter(s3.BeforeHeaders)},
			want: Answer{Operation: opGet, Outcome: "network"},
		},
		{name: "a body that breaks", call: get, faults: []*s3.Fault{s3.ResetAfter(50), s3.ResetAfter(0)}, want: Answer{Operation: opGet, Outcome: "network"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize), ETag: `"e"`})
			id := r.Route.Alias.ID
			if _, known := k.LastAnswer(id); known {
				t.Fatal("there is an answer before the first call")
			}
			k.next(r, tc.faults...)
			asked := r
			if tc.change != nil {
				tc.change(&asked)
			}
			before := time.Now()
			err := tc.call(k, asked)
			if (err == nil) != tc.want.OK && tc.want.Status != http.StatusPreconditionFailed {
				t.Fatal(err)
			}
			got, _ := k.LastAnswer(id)
			if got.At.Before(before) || got.At.After(time.Now()) {
				t.Errorf("it was at %s", got.At)
			}
			if got.Key != asked.Key || (got.Err == nil) != got.OK {
				t.Errorf("it is of key %q, with error %v", got.Key, got.Err)
			}
			if got.At, got.Key, got.Err = (time.Time{}), "", nil; got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
			failed, known := k.LastFailure(id)
			failed.At, failed.Key, failed.Err = time.Time{}, "", nil
			if known == tc.want.OK || known && failed != tc.want {
				t.Errorf("the last failure is %+v", failed)
			}
			if err := get(k, r); err != nil {
				t.Fatal(err)
			}
			if got, _ := k.LastAnswer(id); !got.OK {
				t.Errorf("after a success: %+v", got)
			}
			if _, known := k.LastFailure(id); known == tc.want.OK {
				t.Error("a success wipes out the failure")
			}
		})
	}
}

// What S3 was not asked, or nobody waited for, is no answer.
func TestNoAnswer(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	for _, key := range []string{"", "folder/"} {
		_, err := k.Get(t.Context(), Request{Route: r.Route, Key: key})
		wantOutcome(t, err, OutcomeNotFound)
	}
	ctx, cancel := context.WithCancel(t.Context())
	k.s3.Hook(func(*s3.Request) *s3.Fault {
		cancel()
		return s3.StallAfter(s3.BeforeHeaders, nil)
	})
	_, err := k.Get(ctx, r)
	wantOutcome(t, err, OutcomeAborted)
	broken := r
	broken.Route.Credential = new(*r.Route.Credential)
	broken.Route.Credential.ID = 99
	_, err = k.Get(t.Context(), broken)
	wantOutcome(t, err, OutcomeBadCredential)
	if a, known := k.LastAnswer(r.Route.Alias.ID); known {
		t.Errorf("got %+v", a)
	}
}

// TestObjectFailure: the failures of an object are kept beside later answers for the alias,
// but not what a refused credential or throttling would make of every object, nor what is
// no failure of the object.
func TestObjectFailure(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code   string
		change func(*Request)
		kept   bool
	}{
		{code: "InternalError", kept: true},
		{code: "AccessDenied", kept: true},
		{code: "InvalidObjectState", kept: true},
		// Something on the way may change the escapes of one key.
		{code: "SignatureDoesNotMatch", kept: true},
		// The request names no range and no version.
		{code: "InvalidRange", kept: true},
		{code: "PreconditionFailed", kept: true},
		{code: "InvalidRange", change: func(r *Request) { r.Range = &Range{0, 9} }},
		{code: "PreconditionFailed", change: func(r *Request) { r.IfMatch = `"e"` }},
		{code: "NoSuchKey"},
		{code: "InvalidAccessKeyId"},
		{code: "SlowDown"},
	} {
		k := newEnv(t, nil)
		r, other := k.put("shop", "a.png", s3.Object{Body: noise(100)}), k.put("shop", "b.png", s3.Object{Body: noise(100)})
		var well atomic.Bool
		k.s3.Hook(func(q *s3.Request) *s3.Fault {
			if q.Key != r.Key || well.Load() {
				return nil
			}
			return s3.Fail(tc.code)
		})
		asked := r
		if tc.change != nil {
			tc.change(&asked)
		}
		if _, err := k.Get(t.Context(), asked); err == nil {
			t.Fatalf("%s: no error", tc.code)
		}
		if _, err := k.read(t, other); err != nil {
			t.Fatal(err)
		}
		a, kept := k.ObjectFailure(r.Route, r.Key)
		if kept != tc.kept || kept && (a.Code != tc.code || a.Err == nil) {
			t.Errorf("%s: %t, %+v is kept, want %t", tc.code, kept, a, tc.kept)
		}
		well.Store(true)
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
		if a, kept := k.ObjectFailure(r.Route, r.Key); kept {
			t.Errorf("%s: after a success %+v is kept", tc.code, a)
		}
	}
}

// Nothing in an answer tells where it was read and with what.
func TestAnswerTellsNoSecret(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "hidden.png", s3.Object{Body: noise(100)})
	for _, code := range []string{"NoSuchKey", "SignatureDoesNotMatch", "InternalError"} {
		k.s3.Hook(func(*s3.Request) *s3.Fault { return s3.Fail(code) })
		_, _ = k.Get(t.Context(), r)
		a, _ := k.LastFailure(r.Route.Alias.ID)
		kp := k.secrets.pair(r.Route.Credential)
		for _, hidden := range []string{r.Route.Alias.Bucket, kp.AccessKeyID, kp.SecretAccessKey.Reveal()} {
			if text := fmt.Sprintf("%+v", a); strings.Contains(text, hidden) {
				t.Errorf("%s: %q is in %s", code, hidden, text)
			}
		}
	}
}

// A server's texts neither break nor fill what is kept of them.
func TestAnswerIsBounded(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
	k.next(r, &s3.Fault{Header: func(h http.Header) { h.Set("x-amz-request-id", strings.Repeat("long", 1000)) }})
	if _, err := k.read(t, r); err != nil {
		t.Fatal(err)
	}
	if a, _ := k.LastAnswer(r.Route.Alias.ID); len(a.RequestID) != 128 {
		t.Errorf("a request id of %d bytes is kept", len(a.RequestID))
	}
	s := newAnswers()
	for id := range int64(10 * maxAnswers) {
		s.put(Answer{At: time.Now()}, objectID{alias: id})
		s.put(Answer{At: time.Now()}, objectID{alias: 7})
	}
	if n := s.lru.Len(); n > maxAnswers {
		t.Errorf("%d aliases are kept, want at most %d", n, maxAnswers)
	}
	for id, want := range map[int64]bool{7: true, 10*maxAnswers - 1: true, 9*maxAnswers + maxAnswers/2 + 1: true, 1: false} {
		if _, known := s.get(id, false); known != want {
			t.Errorf("alias %d is known: %t, want %t", id, known, want)
		}
	}
}
