// Package cachetests runs a public test suite for HTTP caches against ixmage: the
// definitions of http-cache-tests 0.4.5 (Mark Nottingham, https://cache-tests.fyi;
// suite.json is an export of them, under LICENSE.suite), with an engine in Go in
// place of the one that needs node.
//
// The suite's engine is a client, and an origin that answers as each test says.
// Here the origin speaks S3: it is a scripted S3 whose objects are pictures, the
// suite's bodies behind the first bytes of a PNG. What a picture cannot be, or S3
// not answer, is in scope.go.
//
// It is a tool for tests and no part of the product.
package cachetests

import (
	_ "embed"
	"encoding/json"
	"fmt"
)

//go:embed suite.json
var suiteJSON []byte

//go:embed more.json
var moreJSON []byte

// Kind says what it means that a test fails.
type Kind string

// Required is what the RFCs ask of every cache, Optimal what makes a good one,
// Check a question without a right answer.
const (
	Required Kind = "required"
	Optimal  Kind = "optimal"
	Check    Kind = "check"
)

// Test is a test of the suite.
type Test struct {
	Suite       string     `json:"suite"` // the part that it belongs to
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Kind        Kind       `json:"kind"`
	DependsOn   []string   `json:"depends_on"`
	BrowserOnly bool       `json:"browser_only"`
	Requests    []*Request `json:"requests"`
}

// Request is one request of a test: how the client asks, what the origin answers
// if it is asked, and what is to come of it.
type Request struct {
	Method     string   `json:"request_method"`
	Headers    []Field  `json:"request_headers"`
	QueryArg   string   `json:"query_arg"`
	MagicIMS   bool     `json:"magic_ims"` // a date in Headers counts from the answer before
	RFC850     []string `json:"rfc850date"`
	PauseAfter bool     `json:"pause_after"`

	Disconnect     bool    `json:"disconnect"`
	ResponseStatus *Status `json:"response_status"`
	Response       []Field `json:"response_headers"`
	ResponseBody   *string `json:"response_body"`

	ExpectedType    string   `json:"expected_type"` // cached, not_cached, etag_validated, lm_validated, unserved
	ExpectedStatus  int      `json:"expected_status"`
	ExpectedRequest []Expect `json:"expected_request_headers"`
	Expected        []Expect `json:"expected_response_headers"`
	Missing         []Expect `json:"expected_response_headers_missing"`
	ExpectedText    *string  `json:"expected_response_text"`
	CheckBody       *bool    `json:"check_body"`

	// What fails in a setup says nothing of what the test is about.
	Setup      bool     `json:"setup"`
	SetupTests []string `json:"setup_tests"`
}

// Suite is the whole of the suite, as it was published. Each call makes it anew:
// running a test changes it.
func Suite() ([]*Test, error) { return parse(suiteJSON) }

// More are tests of ours, for rules of RFC 9111 and RFC 5861 that the suite has
// none for.
func More() ([]*Test, error) { return parse(moreJSON) }

func parse(text []byte) ([]*Test, error) {
	var tests []*Test
	if err := json.Unmarshal(text, &tests); err != nil {
		return nil, fmt.Errorf("read the tests: %w", err)
	}
	for _, t := range tests {
		if t.Kind == "" {
			t.Kind = Required
		}
		if want, ok := corrected[t.ID]; ok {
			t.Requests[len(t.Requests)-1].ExpectedType = want
		}
	}
	return tests, nil
}
