package cachetests

import (
	"net/http"
	"slices"
	"strings"
)

// passedOn are the headers of an object that clients get unchanged.
var passedOn = map[string]bool{
	"Cache-Control": true, "Etag": true, "Last-Modified": true, "Age": true, "Content-Length": true,
}

// Exclusion is a reason why tests of the suite do not apply to the interface of
// ixmage, GET of stored objects.
type Exclusion struct {
	Name string
	Why  string
	IDs  []string
	// holds reports whether the reason is true of a test.
	holds func(*Test) bool
}

// Holds reports whether the reason is true of a test.
func (e *Exclusion) Holds(t *Test) bool { return e.holds(t) }

// Excluded are the tests of the suite that do not apply.
func Excluded() []Exclusion { return slices.Clone(excluded) }

// corrected are tests whose expectation is replaced, by the type of the last
// answer: the suite of this version is older than RFC 9111.
//
// Of several members of Age the first counts, and an Age that is not a number is
// ignored (RFC 9111, section 5.1); the suite expects all of them to be stale.
//
// If the origin closes the connection, the engine of the suite cannot pass: it
// expects an answer that the origin has not sent. The subject of such a test is that
// the stored answer is not served.
var corrected = map[string]string{
	"age-parse-nonnumeric":        "cached",
	"age-parse-negative":          "cached",
	"age-parse-float":             "cached",
	"age-parse-prefix-twoline":    "cached",
	"age-parse-dup-0":             "cached",
	"age-parse-dup-0-twoline":     "cached",
	"age-parse-dup-old":           "cached",
	"age-parse-parameter":         "cached",
	"age-parse-numeric-parameter": "cached",

	"stale-close-must-revalidate":  "unserved",
	"stale-close-proxy-revalidate": "unserved",
	"stale-close-no-cache":         "unserved",
	"stale-close-s-maxage=2":       "unserved",
}

// Corrected reports whether the expectation of a test differs from the suite.
func (t *Test) Corrected() bool { return corrected[t.ID] != "" }

// any reports whether ok is true of a request of the test.
func (t *Test) any(ok func(*Request) bool) bool { return slices.ContainsFunc(t.Requests, ok) }

func (q *Request) method() string {
	if q.Method == "" {
		return http.MethodGet
	}
	return q.Method
}

func isOther(q *Request) bool { return q.method() != http.MethodGet }

func isStatus(q *Request) bool {
	return q.ResponseStatus != nil && *q.ResponseStatus != http.StatusOK &&
		*q.ResponseStatus != http.StatusPartialContent && q.ExpectedStatus == 0
}

func isPart(q *Request) bool {
	return q.ResponseStatus != nil && *q.ResponseStatus == http.StatusPartialContent
}

// isVarying reports whether an answer varies by a header of the client, not by "*".
func isVarying(q *Request) bool {
	vary := valueOf(q.Response, "Vary")
	return vary != "" && !strings.Contains(vary, "*")
}

func asks(name string) func(*Request) bool {
	return func(q *Request) bool { return valueOf(q.Headers, name) != "" }
}

func isNotRelayed(q *Request) bool {
	return slices.ContainsFunc(q.Expected, func(e Expect) bool { return !passedOn[http.CanonicalHeaderKey(e.Name)] })
}

func isNoPicture(q *Request) bool {
	return valueOf(q.Response, "Content-Type") != "" || valueOf(q.Response, "Content-Encoding") != ""
}

func anyRequest(ok func(*Request) bool) func(*Test) bool {
	return func(t *Test) bool { return t.any(ok) }
}

// Applicable are the tests that are not excluded.
func Applicable(tests []*Test) []*Test {
	var out []*Test
	for _, t := range tests {
		if !slices.ContainsFunc(excluded, func(e Exclusion) bool { return slices.Contains(e.IDs, t.ID) }) {
			out = append(out, t)
		}
	}
	return out
}
