// Package cachetests runs a public test suite for HTTP caches against ixmage: the
// definitions of http-cache-tests 0.4.5 (Mark Nottingham, https://cache-tests.fyi;
// suite.json is an export of them, under LICENSE.suite), with an engine in Go
// instead of one that needs node.
//
// The engine of the suite is a client, and an origin with the answers of each test. Here
// the origin is a scripted S3 server whose objects are pictures: the bodies of the suite
// behind the first bytes of a PNG. scope.go lists the tests that a picture or S3 cannot
// satisfy.
//
// It is a tool for tests and not part of the product.
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

// Kind is the meaning of a failed test.
type Kind string

// Required tests are requirements of the RFCs, Optimal tests distinguish a good
// cache, and Check tests have no correct result.
const (
	Required Kind = "required"
	Optimal  Kind = "optimal"
	Check    Kind = "check"
)

// Test is a test of the suite.
type Test struct {
	Suite       string     `json:"suite"` // part of the suite
	ID          string     `json:"id"`
	Name        string     `json:"name"`
	Kind        Kind       `json:"kind"`
	DependsOn   []string   `json:"depends_on"`
	BrowserOnly bool       `json:"browser_only"`
	Requests    []*Request `json:"requests"`
}

// Request is one request of a test, with the answer of the origin, if it gets the
// request, and the expected result.
type Request struct {
	Method     string   `json:"request_method"`
	Headers    []Field  `json:"request_headers"`
	QueryArg   string   `json:"query_arg"`
	MagicIMS   bool     `json:"magic_ims"` // dates in Headers are relative to the answer before
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

	// A failure in a setup says nothing about the subject of the test.
	Setup      bool     `json:"setup"`
	SetupTests []string `json:"setup_tests"`
}

// Suite is the whole suite as published. Each call returns a new copy, because
// running a test changes it.
func Suite() ([]*Test, error) { return parse(suiteJSON) }

// More are additional tests, for rules of RFC 9111 and RFC 5861 that the suite does
// not test.
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
