// Package apitest compares the requests and answers of tests with an OpenAPI document. The
// document is made by another library, so that an error of one library is found by the other.
package apitest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
)

// Exchange is a request and its answer.
type Exchange struct {
	Method, Target string // the target is a path with its query
	Header         http.Header
	Body           []byte
	Status         int
	AnswerHeader   http.Header
	Answer         []byte // nil for a stream, whose events are not looked at
}

// Contract is a document to which exchanges are compared. It is safe for concurrent use.
type Contract struct {
	doc *openapi3.T

	mu   sync.Mutex
	seen map[string]bool // operations with a status of success
}

// Load reads a document, and makes it stricter: an answer must not have a member that is not
// described.
func Load(document []byte) (*Contract, error) {
	var raw map[string]any
	if err := json.Unmarshal(document, &raw); err != nil {
		return nil, err
	}
	if components, ok := raw["components"].(map[string]any); ok {
		forbidMore(components["schemas"])
	}
	strict, err := json.Marshal(raw)
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(strict)
	if err != nil {
		return nil, err
	}
	return &Contract{doc: doc, seen: map[string]bool{}}, doc.Validate(context.Background(), openapi3.IsOpenAPI31OrLater())
}

// forbidMore forbids further members in every object that lists its members.
func forbidMore(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if _, ok := s["properties"].(map[string]any); ok && s["additionalProperties"] == nil {
			s["additionalProperties"] = false
		}
		for _, v := range s {
			forbidMore(v)
		}
	case []any:
		for _, v := range s {
			forbidMore(v)
		}
	}
}

// Check compares an exchange with the document. A request that was refused need not be valid.
func (c *Contract) Check(x Exchange) error {
	target, err := url.ParseRequestURI(x.Target)
	if err != nil {
		return nil // such a request reaches no call
	}
	method := x.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	path, params := c.find(target.EscapedPath())
	var op *openapi3.Operation
	if path != "" {
		op = c.doc.Paths.Value(path).GetOperation(method)
	}
	if op == nil {
		return c.checkRefused(x)
	}
	if err := checkCall(x, &openapi3filter.RequestValidationInput{
		Request: &http.Request{
			Method: x.Method, URL: target, Header: x.Header, Body: io.NopCloser(bytes.NewReader(x.Body)),
			ContentLength: int64(len(x.Body)),
		},
		PathParams: params, QueryParams: target.Query(),
		Route: &routers.Route{
			Spec: c.doc, Path: path, PathItem: c.doc.Paths.Value(path), Method: method, Operation: op,
		},
	}); err != nil {
		return fmt.Errorf("%s %s: %w", x.Method, x.Target, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[op.OperationID+" "+strconv.Itoa(x.Status)] = true
	return nil
}

// find returns the path of the document that a path of a request has, with its parameters.
func (c *Contract) find(path string) (string, map[string]string) {
	have := strings.Split(path, "/")
	for _, pattern := range slices.Sorted(maps.Keys(c.doc.Paths.Map())) {
		want := strings.Split(pattern, "/")
		if len(want) != len(have) {
			continue
		}
		params := map[string]string{}
		ok := true
		for i, w := range want {
			if name, is := strings.CutPrefix(w, "{"); is && have[i] != "" {
				params[strings.TrimSuffix(name, "}")], _ = url.PathUnescape(have[i])
			} else if w != have[i] {
				ok = false
				break
			}
		}
		if ok {
			return pattern, params
		}
	}
	return "", nil
}

// checkRefused compares the answer to a request of no call.
func (c *Contract) checkRefused(x Exchange) error {
	if x.Status < http.StatusBadRequest {
		if strings.HasPrefix(x.Target, "/api/") {
			return fmt.Errorf("%s %s has status %d, and is not in the document", x.Method, x.Target, x.Status)
		}
		return nil
	}
	if x.Method == http.MethodHead {
		return nil
	}
	var v any
	if err := json.Unmarshal(x.Answer, &v); err != nil {
		return err
	}
	return c.doc.Components.Schemas["Problem"].Value.VisitJSON(v, openapi3.EnableJSONSchema2020())
}

func checkCall(x Exchange, input *openapi3filter.RequestValidationInput) error {
	response := input.Route.Operation.Responses.Status(x.Status)
	if response == nil {
		return fmt.Errorf("the status %d is not in the document: list it in statuses, or its error in fails, of the endpoint",
			x.Status)
	}
	input.Options = &openapi3filter.Options{
		AuthenticationFunc: openapi3filter.NoopAuthenticationFunc, MultiError: true, IncludeResponseStatus: true,
		SkipSettingDefaults: true,
	}
	input.Options.WithCustomSchemaErrorFunc(func(e *openapi3.SchemaError) string {
		return fmt.Sprintf("%s: %s, not %.100v", strings.Join(e.JSONPointer(), "."), e.Reason, e.Value)
	})
	if x.Status < http.StatusBadRequest {
		if err := openapi3filter.ValidateRequest(context.Background(), input); err != nil {
			return fmt.Errorf("the server took a request that the document forbids: %w", err)
		}
	}
	if err := undescribed(x.AnswerHeader, response.Value); err != nil {
		return err
	}
	err := openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: input, Status: x.Status, Header: x.AnswerHeader,
		Body: io.NopCloser(bytes.NewReader(x.Answer)), Options: withoutBody(x, input.Options),
	})
	if err != nil {
		return fmt.Errorf("the answer with status %d is not as described: %w", x.Status, err)
	}
	return nil
}

// withoutBody excludes a body that is not JSON.
func withoutBody(x Exchange, o *openapi3filter.Options) *openapi3filter.Options {
	media, _, _ := mime.ParseMediaType(x.AnswerHeader.Get("Content-Type"))
	changed := *o
	changed.ExcludeResponseBody = media != "application/json" && media != "application/problem+json"
	return &changed
}

// common are the headers that every answer may have.
var common = []string{
	"Cache-Control", "Connection", "Content-Length", "Content-Type", "Date", "X-Content-Type-Options", "X-Accel-Buffering",
	"Transfer-Encoding",
}

// undescribed reports headers of an answer that are not described, and its media type.
func undescribed(h http.Header, response *openapi3.Response) error {
	var errs []error
	for name := range h {
		if slices.Contains(common, name) {
			continue
		}
		if !slices.ContainsFunc(slices.Collect(maps.Keys(response.Headers)), func(known string) bool {
			return http.CanonicalHeaderKey(known) == name
		}) {
			errs = append(errs, fmt.Errorf("the header %s is not in the document: list it in sends of the endpoint", name))
		}
	}
	sent := h.Get("Content-Type")
	if (sent == "") != (len(response.Content) == 0) || sent != "" && response.Content.Get(sent) == nil {
		errs = append(errs, fmt.Errorf("the Content-Type %q is not in the document", sent))
	}
	return errors.Join(errs...)
}

// Missing lists the operations, each with a status of success, that no exchange had.
func (c *Contract) Missing() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var missing []string
	for _, item := range c.doc.Paths.Map() {
		for _, op := range item.Operations() {
			for status := range op.Responses.Map() {
				if key := op.OperationID + " " + status; status[0] < '4' && !c.seen[key] {
					missing = append(missing, key)
				}
			}
		}
	}
	slices.Sort(missing)
	return missing
}

// Transport returns a RoundTripper that calls report with every difference between an
// exchange and the document.
func (c *Contract) Transport(next http.RoundTripper, report func(error)) http.RoundTripper {
	return transport{c, next, report}
}

type transport struct {
	contract *Contract
	next     http.RoundTripper
	report   func(error)
}

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) {
	x := Exchange{Method: r.Method, Target: r.URL.RequestURI(), Header: r.Header}
	if r.Body != nil && r.Body != http.NoBody {
		var err error
		if x.Body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(x.Body))
	}
	resp, err := t.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	x.Status, x.AnswerHeader = resp.StatusCode, resp.Header
	if media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); media != "text/event-stream" {
		if x.Answer, err = io.ReadAll(resp.Body); err != nil { // the test meets the error as well
			resp.Body = io.NopCloser(io.MultiReader(bytes.NewReader(x.Answer), failing{err}))
			return resp, nil //nolint:nilerr // the body has it
		}
		resp.Body.Close()
		resp.Body = io.NopCloser(bytes.NewReader(x.Answer))
	}
	if err := t.contract.Check(x); err != nil { //nolint:contextcheck // the library waits for nothing
		t.report(err)
	}
	return resp, nil
}

// CloseIdleConnections is what http.Client calls.
func (t transport) CloseIdleConnections() {
	if c, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		c.CloseIdleConnections()
	}
}

// failing is a reader that fails.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
