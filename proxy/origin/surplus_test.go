package origin

import (
	"bytes"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// planted is a complete reply that no request has asked for.
func planted(body []byte) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: \"planted\"\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// TestSurplus has S3 send bytes after each kind of reply, in the write of its end. They
// are never taken for the reply to another request on the host, and the next
// request does not meet them.
func TestSurplus(t *testing.T) {
	t.Parallel()
	wrong := bytes.Repeat([]byte("wrong"), 20)
	answer := planted(wrong)
	for _, tc := range []struct {
		name  string
		head  bool // HEAD, not GET
		same  bool // conditional, answered 304
		fault *s3.Fault
	}{
		{name: "length", fault: &s3.Fault{After: answer}},
		{name: "two", fault: &s3.Fault{After: answer + answer}},
		{name: "part of a reply", fault: &s3.Fault{After: answer[:30]}},
		{name: "one byte", fault: &s3.Fault{After: "x"}},
		{name: "line end", fault: &s3.Fault{After: "\r\n"}},
		{name: "interim reply", fault: &s3.Fault{After: "HTTP/1.1 100 Continue\r\n\r\n"}},
		{name: "after an interim reply", fault: &s3.Fault{Before: "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", After: answer}},
		{name: "chunks", fault: &s3.Fault{Chunked: true, After: answer}},
		{name: "longer than declared", fault: &s3.Fault{After: string(noise(5000)) + answer}},
		{name: "HEAD", head: true, fault: &s3.Fault{After: answer}},
		{name: "HEAD with the body", head: true, fault: &s3.Fault{After: string(noise(bodySize)) + answer}},
		{name: "304", same: true, fault: &s3.Fault{After: answer}},
		{name: "204", fault: &s3.Fault{Status: 204, Code: "NoContent", Header: func(h http.Header) { h.Del("Content-Length") }, Body: []byte{}, After: answer}},
		{name: "404", fault: &s3.Fault{Code: "NoSuchKey", After: answer}},
		{name: "403", fault: &s3.Fault{Code: "AccessDenied", After: answer}},
		{name: "500", fault: &s3.Fault{Code: "InternalError", After: answer}},
		{name: "416", fault: &s3.Fault{Code: "InvalidRange", After: answer}},
		{name: "redirect", fault: &s3.Fault{Code: "PermanentRedirect", After: answer}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			hostile := k.put("hostile", "a.png", s3.Object{Body: noise(bodySize), ETag: `"e"`})
			other := k.put("other", "b.png", s3.Object{Body: noise(300)})
			same := hostile
			same.Key = "c.png"
			k.s3.Put(same.Route.Alias.Bucket, same.Key, s3.Object{Body: noise(400)})
			if tc.same {
				hostile.IfNoneMatch = `"e"`
			}
			k.s3.Hook(func(q *s3.Request) *s3.Fault {
				if q.Key == hostile.Key {
					return tc.fault
				}
				return nil
			})
			innocent := map[int]Request{300: other, 400: same} // by size
			var wg sync.WaitGroup
			for range 6 {
				wg.Go(func() {
					for range 20 {
						k.askHostile(t, hostile, tc.head)
					}
				})
				for size, r := range innocent {
					wg.Go(func() {
						for range 20 {
							if got, err := k.read(t, r); err != nil || !bytes.Equal(got, noise(size)) {
								t.Errorf("%s: %d bytes, %v, want its own %d", r.Key, len(got), err, size)
							}
						}
					})
				}
			}
			wg.Wait()
		})
	}
}

// askHostile asks for an object whose reply does not matter.
func (k *env) askHostile(t *testing.T, r Request, head bool) {
	t.Helper()
	if head {
		_, _ = k.Head(t.Context(), r)
		return
	}
	if obj, err := k.Get(t.Context(), r); err == nil && obj.Body != nil {
		_, _ = readAll(t, obj)
	}
}

// TestSurplusOfMany is TestSurplus with many requests at once, for objects whose bytes
// are different each time.
func TestSurplusOfMany(t *testing.T) {
	t.Parallel()
	const clients, rounds = 12, 60
	k := newEnv(t, nil)
	body := func(key string) []byte { return append(noise(2000), key...) }
	k.s3.Hook(func(q *s3.Request) *s3.Fault {
		f := s3.Replace(s3.Object{Body: body(q.Key), ContentType: "image/png"})
		if q.Bucket == "bucket-hostile" {
			f.After = planted(body("planted"))
		}
		return f
	})
	aliases := []Request{{Route: k.route("hostile")}, {Route: k.route("innocent")}}
	var n, wrong atomic.Int64
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for range rounds {
				r := aliases[c%len(aliases)]
				r.Key = fmt.Sprintf("%d.png", n.Add(1))
				if got, err := k.read(t, r); err != nil || !bytes.Equal(got, body(r.Key)) {
					wrong.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d of %d answers are wrong", wrong.Load(), clients*rounds)
	}
}
