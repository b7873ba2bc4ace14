package cachetests

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// failure is a failed check. A failed check of the setup means that the test could
// not run; it says nothing about its subject.
type failure struct {
	setup bool
	text  string
}

func (f *failure) Error() string { return f.text }

// check returns a failure unless ok.
func check(setup, ok bool, format string, args ...any) error {
	if ok {
		return nil
	}
	return &failure{setup: setup, text: fmt.Sprintf(format, args...)}
}

// first is the first error that is not nil.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// isSetup reports whether a member of a request is part of the setup.
func (q *Request) isSetup(member string) bool {
	return q.Setup || slices.Contains(q.SetupTests, member)
}

// checkReply checks the answer to request number n, in the order of the suite's own
// engine.
func checkReply(r *run, n int, got *reply) error {
	q := r.test.Requests[n-1]
	if q.ExpectedType == "unserved" {
		return check(false, got.status >= http.StatusInternalServerError, "answer %d is a stored one", n)
	}
	return first(
		checkAskedOnce(r, got), checkType(q, n, got), checkStatus(r, q, n, got),
		checkHeaders(q, n, got), checkMissing(q, n, got), checkBody(r, q, n, got),
	)
}

// checkAskedOnce checks that the origin got at most one request for one answer.
func checkAskedOnce(r *run, got *reply) error {
	if got.body == "" || got.number == 0 {
		return nil
	}
	asked := map[int]bool{}
	for _, s := range r.requests()[:got.number] {
		if asked[s.num] {
			return check(true, false, "request %d was sent to the origin twice", s.num)
		}
		asked[s.num] = true
	}
	return nil
}

func checkType(q *Request, n int, got *reply) error {
	switch q.ExpectedType {
	case "cached":
		ok := got.number != 0 && got.number < n
		if got.status == http.StatusNotModified {
			ok = got.stored
		}
		return check(q.isSetup("expected_type"), ok, "answer %d does not come from the cache", n)
	case "not_cached":
		return check(q.isSetup("expected_type"), got.number == n, "answer %d comes from the cache", n)
	}
	return nil
}

func checkStatus(r *run, q *Request, n int, got *reply) error {
	want, setup := http.StatusOK, true
	switch seen := r.requests(); {
	case q.ExpectedStatus != 0:
		want, setup = q.ExpectedStatus, q.isSetup("expected_status")
	case q.ResponseStatus != nil:
		want = int(*q.ResponseStatus)
	case len(seen) > 0 && seen[len(seen)-1].num == n && seen[len(seen)-1].confuse:
		return check(q.isSetup("expected_type"), false, "request %d should have been conditional", n)
	}
	return check(setup, got.status == want, "answer %d has status %d, not %d", n, got.status, want)
}

func checkHeaders(q *Request, n int, got *reply) error {
	setup := q.isSetup("expected_response_headers")
	for i := range q.Expected {
		e := &q.Expected[i]
		e.fix(got.now, q.RFC850)
		values := got.header.Values(e.Name)
		value := strings.Join(values, ", ")
		ok := len(values) > 0
		switch {
		case e.Present:
		case e.Above != nil:
			number, err := strconv.Atoi(value)
			ok = err == nil && number > *e.Above
		default:
			ok = value == e.Value
		}
		if err := check(setup, ok, "answer %d has %s %q", n, e.Name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkMissing(q *Request, n int, got *reply) error {
	setup := q.isSetup("expected_response_headers_missing")
	for _, e := range q.Missing {
		value := strings.Join(got.header.Values(e.Name), ", ")
		ok := !strings.Contains(value, e.Value)
		if e.Present {
			ok = got.header.Values(e.Name) == nil
		}
		if err := check(setup, ok || value == "" && !e.Present, "answer %d has %s %q", n, e.Name, value); err != nil {
			return err
		}
	}
	return nil
}

func checkBody(r *run, q *Request, n int, got *reply) error {
	want, setup := r.key, true
	switch {
	case q.CheckBody != nil && !*q.CheckBody || got.status == http.StatusNotModified:
		return nil
	case q.ExpectedText != nil:
		want, setup = *q.ExpectedText, q.isSetup("expected_response_text")
	case q.ResponseBody != nil:
		want = *q.ResponseBody
	}
	return check(setup, got.body == want, "answer %d has the body %q, not %q", n, got.body, want)
}

// checkOrigin compares the requests that reached the origin with the expected ones.
func checkOrigin(r *run, replies []*reply) error {
	seen, at := r.requests(), 0
	for i, q := range r.test.Requests {
		if q.ExpectedType == "cached" {
			continue // the origin does not see it
		}
		var s *seenRequest
		if at < len(seen) {
			s = &seen[at]
		}
		at++
		if err := first(checkSeen(q, i+1, s), checkSent(q, i+1, s), checkRelayed(i+1, s, replies[i])); err != nil {
			return err
		}
	}
	return nil
}

func checkSeen(q *Request, n int, s *seenRequest) error {
	setup := q.isSetup("expected_type")
	var header string
	switch q.ExpectedType {
	case "not_cached":
		return check(setup, s != nil && s.num == n, "answer %d comes from the cache, says the origin", n)
	case "etag_validated":
		header = "If-None-Match"
	case "lm_validated":
		header = "If-Modified-Since"
	default:
		return nil
	}
	return check(setup, s != nil && s.header.Get(header) != "", "request %d came to the origin without %s", n, header)
}

func checkSent(q *Request, n int, s *seenRequest) error {
	for _, e := range q.ExpectedRequest {
		value := ""
		if s != nil {
			value = s.header.Get(e.Name)
		}
		ok := value == e.Value || e.Present && value != ""
		if err := check(q.isSetup("expected_request_headers"), ok, "request %d has %s %q", n, e.Name, value); err != nil {
			return err
		}
	}
	return nil
}

// checkRelayed checks that the client got the headers of the origin. ixmage writes the
// names of directives in lower case.
func checkRelayed(n int, s *seenRequest, got *reply) error {
	if s == nil {
		return nil
	}
	for _, f := range s.relayed {
		value := strings.Join(got.header.Values(f.Name), ", ")
		ok := value == f.Value || f.Name == "Cache-Control" && strings.EqualFold(value, f.Value)
		if err := check(true, ok, "answer %d has %s %q, not %q", n, f.Name, value, f.Value); err != nil {
			return err
		}
	}
	return nil
}
