package cachetests

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ixmage/internal/awstest/s3"
)

// A body begins with the signature of a PNG, the number of the answer and its time.
// The origin of the suite sends number and time in headers, which ixmage would drop.
const (
	magic   = "\x89PNG\r\n\x1a\n"
	tagForm = "%06d%015d"
	tagLen  = 6 + 15
	front   = len(magic) + tagLen
)

// run is one run of one test.
type run struct {
	client *client
	test   *Test
	key    string

	mu      sync.Mutex // guards the fields below
	current int        // number of the client's current request, from 1
	seen    []seenRequest
}

// seenRequest is a request that reached the origin.
type seenRequest struct {
	num     int // of the client's request
	header  http.Header
	relayed []Field // the headers of the answer that the client must get
	confuse bool    // the request should have been conditional, but was not
}

// begin records that the client sends request number n, and returns how many
// requests have reached the origin before.
func (r *run) begin(n int) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.current = n
	return len(r.seen)
}

// requests returns the requests that have reached the origin so far.
func (r *run) requests() []seenRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clip(r.seen)
}

// answer is the answer of the origin to a request.
func (r *run) answer(asked *s3.Request) *s3.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	q := r.test.Requests[r.current-1]
	status := r.status(q, asked.Header)
	for i := range q.Response {
		q.Response[i].fix(now, q.RFC850)
	}
	r.seen = append(r.seen, seenRequest{
		num: r.current, header: asked.Header, relayed: relayed(q.Response), confuse: status == 0,
	})
	switch {
	case q.Disconnect:
		return s3.CloseAfter(s3.BeforeHeaders)
	case status == 0:
		return s3.FailStatus(http.StatusBadRequest, "InvalidRequest")
	case status >= http.StatusInternalServerError:
		return s3.FailStatus(status, "ServiceUnavailable")
	}
	f := s3.Replace(s3.Object{
		Body: r.body(q, now), ContentType: "image/png",
		ETag: `"never matched"`, // the test decides what is unchanged
	})
	f.Status, f.Header = status, func(h http.Header) { setHeaders(h, q.Response) }
	if length := valueOf(q.Response, "Content-Length"); status == http.StatusNotModified && length != "" {
		n, _ := strconv.Atoi(length) // always a number in the suite
		f.Raw = []string{"Content-Length: " + strconv.Itoa(front+n)}
	}
	return f
}

// status is the status of the answer. It is 0 if the test expects a validation and
// the request does not validate the answer before.
func (r *run) status(q *Request, asked http.Header) int {
	if !strings.HasSuffix(q.ExpectedType, "validated") {
		if q.ResponseStatus != nil {
			return int(*q.ResponseStatus)
		}
		return http.StatusOK
	}
	before := r.test.Requests[r.current-2].Response
	for validator, condition := range map[string]string{"Last-Modified": "If-Modified-Since", "ETag": "If-None-Match"} {
		if v := valueOf(before, validator); v != "" && asked.Get(condition) == v {
			return http.StatusNotModified
		}
	}
	return 0
}

// body returns the front, and the body of the test or its key.
func (r *run) body(q *Request, now time.Time) []byte {
	text := r.key
	if q.ResponseBody != nil {
		text = *q.ResponseBody
	}
	if n, err := strconv.Atoi(valueOf(q.Response, "Content-Length")); err == nil {
		text = text[:n]
	}
	return []byte(magic + fmt.Sprintf(tagForm, len(r.seen), now.UnixMilli()) + text)
}

// setHeaders replaces the headers of an object by those of the test.
func setHeaders(h http.Header, list []Field) {
	h.Del("ETag")
	h.Del("Last-Modified")
	fresh := map[string]bool{}
	for _, f := range list {
		name := http.CanonicalHeaderKey(f.Name)
		switch {
		case name == "Content-Length": // that of the body
		case fresh[name]:
			h.Add(name, f.Value)
		default:
			h.Set(name, f.Value)
			fresh[name] = true
		}
	}
}

// relayed are the headers of an answer that must reach the client unchanged, out of
// those that ixmage passes on.
func relayed(list []Field) []Field {
	var out []Field
	for _, f := range list {
		if !passedOn[http.CanonicalHeaderKey(f.Name)] || !f.Checked {
			continue
		}
		var lines []string
		for _, g := range list {
			if g.Name == f.Name {
				lines = append(lines, g.Value)
			}
		}
		f.Value = strings.Join(lines, ", ")
		out = append(out, f)
	}
	return out
}
