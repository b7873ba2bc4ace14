package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// Problem is a refusal of the API, a problem of RFC 9457.
type Problem struct { //nolint:errname // the name in RFC 9457
	Status    int
	Code      string // the last segment of type: not-found, invalid, …
	Title     string
	Detail    string // what is wrong and what to do
	Fields    []Field
	Commands  []string // shell commands that solve it
	RequestID string   // also in the log of the server
	Retry     string   // Retry-After, or empty
}

// Field is what is wrong with one field of the body; Name is empty for all of it.
type Field struct {
	Name   string `json:"field"`
	Detail string `json:"detail"`
}

func (p *Problem) Error() string { return p.Detail }

// maxProblem bounds a problem; the server sends 50 fields at most.
const maxProblem = 1 << 20

// readProblem reads a problem. The public listener answers with problems too, which have
// no detail.
func (c *Client) readProblem(resp *http.Response) error {
	var p struct {
		Type      string   `json:"type"`
		Title     string   `json:"title"`
		Detail    string   `json:"detail"`
		RequestID string   `json:"request_id"`
		Errors    []Field  `json:"errors"`
		Commands  []string `json:"commands"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxProblem)).Decode(&p); err != nil {
		return fmt.Errorf("the server answered %s with a problem that cannot be read: %w", resp.Status, err)
	}
	if p.Detail == "" {
		return fmt.Errorf("%s is not the admin listener of ixmage: it answered %s as the public listener does; check the URL",
			c.base, resp.Status)
	}
	return &Problem{
		Status: resp.StatusCode, Code: p.Type[strings.LastIndexByte(p.Type, '/')+1:], Title: p.Title, Detail: p.Detail,
		Fields: p.Errors, Commands: p.Commands, RequestID: p.RequestID, Retry: resp.Header.Get("Retry-After"),
	}
}

// IsStatus reports whether err is a problem with the status.
func IsStatus(err error, status int) bool {
	p, ok := errors.AsType[*Problem](err)
	return ok && p.Status == status
}

// UnreachableError says that no answer came from the server.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("no answer from the admin listener at %s: %v", e.URL, e.Err)
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// broken is the error of an answer that ended early.
func (c *Client) broken(err error) error {
	return &UnreachableError{URL: c.base.String(), Err: fmt.Errorf("the answer is incomplete: %w", err)}
}

// notAPI is the error of an answer that does not come from the admin API.
func (c *Client) notAPI(resp *http.Response) error {
	return fmt.Errorf("%s is not the admin listener of ixmage: it answered %s with the type %q; check the URL",
		c.base, resp.Status, resp.Header.Get("Content-Type"))
}
