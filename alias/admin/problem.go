package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"ixmage/alias"
)

// Errors of requests that do not reach the registry. Each has a row in the table below;
// a failure adds a text.
var (
	errBadRequest     = errors.New("bad request")
	errInvalid        = errors.New("invalid")
	errUnauthorized   = errors.New("unauthorized")
	errWrongTokens    = errors.New("too many wrong tokens")
	errForbidden      = errors.New("forbidden")
	errNoRoute        = errors.New("no such path")
	errMethod         = errors.New("method not allowed")
	errTimeout        = errors.New("request timeout")
	errTooLarge       = errors.New("body too large")
	errMediaType      = errors.New("unsupported media type")
	errHeaders        = errors.New("header fields too large")
	errExpect         = errors.New("expectation failed")
	errHost           = errors.New("unknown host")
	errNoPicture      = errors.New("no picture")
	errPictureSize    = errors.New("picture too large")
	errStreams        = errors.New("too many event streams")
	errNotReady       = errors.New("not ready")
	errVersion        = errors.New("HTTP version not supported")
	errInternal       = errors.New("internal")
	errNotImplemented = errors.New("not implemented")
)

// kind is a row of the table from errors to answers.
type kind struct {
	is     error
	status int
	code   string
	title  string
	detail string // for an error without a text of its own
}

// kinds maps every error to its status. An error without a row is internal, and the
// client does not see its text.
var kinds = []kind{
	{errBadRequest, http.StatusBadRequest, "bad-request", "The request cannot be understood",
		"the request is not valid HTTP for this server"},
	{errInvalid, http.StatusBadRequest, "invalid", "The request is not valid", ""},
	{errUnauthorized, http.StatusUnauthorized, "unauthorized", "The admin token is needed",
		"send exactly one header \"Authorization: Bearer TOKEN\"; unless one was configured, " +
			"the token is in the file admin-token of the data folder"},
	{errWrongTokens, http.StatusTooManyRequests, "wrong-tokens", "Too many wrong tokens came from this address", ""},
	{errForbidden, http.StatusForbidden, "forbidden", "This is not allowed", ""},
	{alias.ErrForbidden, http.StatusForbidden, "not-allowed", "The configuration does not allow this", ""},
	{errNoRoute, http.StatusNotFound, "not-found", "There is nothing here",
		"there is no such path on this listener"},
	{alias.ErrNotFound, http.StatusNotFound, "not-found", "There is no such thing", ""},
	{errNoPicture, http.StatusNotFound, "no-picture", "Clients do not get this picture", ""},
	{errMethod, http.StatusMethodNotAllowed, "method", "The method is not allowed here",
		"the header Allow lists the methods of this path"},
	{errTimeout, http.StatusRequestTimeout, "timeout", "The request took too long to arrive",
		"the whole request must arrive in " + readTimeout.String()},
	{alias.ErrExists, http.StatusConflict, "exists", "The name is taken", ""},
	{errNoSigningKey, http.StatusConflict, "no-signing-key", "The alias has no signing key", ""},
	{alias.ErrTooManyKeys, http.StatusConflict, "too-many-signing-keys", "The alias has too many signing keys", ""},
	{alias.ErrInUse, http.StatusConflict, "in-use", "It is in use", ""},
	{alias.ErrNotStatic, http.StatusConflict, "not-static", "The credential is not a static key pair", ""},
	{alias.ErrNotRole, http.StatusConflict, "not-role", "The credential is not a role", ""},
	{alias.ErrBusy, http.StatusConflict, "operation-running", "An operation is under way", ""},
	{alias.ErrProvisioned, http.StatusConflict, "provisioned", "The credential is a provisioned one", ""},
	{alias.ErrNoKeyPair, http.StatusConflict, "no-key-pair", "The credential has no key pair", ""},
	{alias.ErrNoBoundary, http.StatusConflict, "no-boundary", "There is no permissions boundary", ""},
	{alias.ErrNotProvisioned, http.StatusConflict, "not-provisioned", "The credential is not a provisioned one", ""},
	{alias.ErrOtherUser, http.StatusConflict, "user-changed", "The IAM user is not that of the credential", ""},
	{alias.ErrStale, http.StatusPreconditionFailed, "precondition-failed", "It has changed in the meantime",
		"If-Match does not name the current revision: read it again and use its ETag"},
	{errTooLarge, http.StatusRequestEntityTooLarge, "body", "The request body is too large",
		fmt.Sprintf("a request body may have %d bytes", bodyLimit)},
	{errPictureSize, http.StatusRequestEntityTooLarge, "picture-size", "The picture cannot be shown here", ""},
	{errMediaType, http.StatusUnsupportedMediaType, "media-type", "The media type is not supported", ""},
	{errExpect, http.StatusExpectationFailed, "expect", "The expectation cannot be met",
		"send no Expect, or 100-continue"},
	{errHost, http.StatusMisdirectedRequest, "host", "This listener does not answer for that host",
		"a listener on loopback answers for localhost, loopback addresses and the names in --admin-host"},
	{errHeaders, http.StatusRequestHeaderFieldsTooLarge, "headers", "The request's headers are too large",
		fmt.Sprintf("request line and headers may have %d bytes", headerLimit)},
	{errNotImplemented, http.StatusNotImplemented, "not-implemented", "This server cannot do that",
		"this server does not have the part that this call needs"},
	{alias.ErrIAM, http.StatusBadGateway, "iam", "IAM refused or failed", ""},
	{errNotReady, http.StatusServiceUnavailable, "not-ready", "Not ready",
		"the server is starting or draining"},
	{alias.ErrSTS, http.StatusServiceUnavailable, "sts", "STS cannot give a session now", ""},
	{errStreams, http.StatusServiceUnavailable, "overloaded", "Too many clients follow operations",
		fmt.Sprintf("%d clients follow operations already: try again, or read the operation now and then", maxStreams)},
	{alias.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "The registry cannot be used now",
		"its database is locked by another process, its disk is full, or its files cannot be opened, read or written: " +
			"the server's log has the cause under this request_id; correct it and try again. Pictures are served meanwhile"},
	{alias.ErrLeased, http.StatusConflict, "leased", "Another node works on it",
		"another node works on it at this moment: try again"},
	{alias.ErrLeaseLost, http.StatusServiceUnavailable, "lease-lost", "This node was cut off on the way",
		"this node was cut off from the database on the way: try again"},
	{ErrNotDurable, http.StatusServiceUnavailable, "not-durable", "The purge may not survive a crash",
		"the objects were purged, but neither the disk cache nor the database could be told, so they may come back if " +
			"the server crashes: correct what its log has under this request_id, and send the purge again"},
	{errVersion, http.StatusHTTPVersionNotSupported, "http-version", "The HTTP version is not supported",
		"send the request as HTTP/1.1"},
	{alias.ErrDamaged, http.StatusInternalServerError, "damaged", "The registry's database is damaged",
		"the log of the server has the cause under this request_id; restore the database from backup"},
	{errInternal, http.StatusInternalServerError, "internal", "Something went wrong inside",
		"the log of the server has the cause under this request_id"},
}

// failure is an error of the table with a text for the client, problems of fields, shell
// commands that solve the problem, and headers of the answer.
type failure struct {
	kind     error
	detail   string
	problems []alias.Problem
	commands []string
	header   map[string]string
}

func (f *failure) Error() string { return f.kind.Error() + ": " + f.detail }
func (f *failure) Unwrap() error { return f.kind }

// failf makes a failure without fields.
func failf(kind error, format string, args ...any) *failure {
	return &failure{kind: kind, detail: fmt.Sprintf(format, args...)}
}

// invalid makes the failure that lists problems.
func invalid(problems []alias.Problem) *failure {
	return &failure{kind: errInvalid, detail: summary(problems), problems: problems}
}

// maxProblems bounds an answer: a body of 64 KiB can have thousands of problems.
const maxProblems = 50

func summary(problems []alias.Problem) string {
	parts := make([]string, 0, min(len(problems), maxProblems)+1)
	for i, p := range problems {
		if i == maxProblems {
			parts = append(parts, fmt.Sprintf("and %d more", len(problems)-i))
			break
		}
		if p.Field == "" {
			parts = append(parts, p.Detail)
			continue
		}
		parts = append(parts, p.Field+": "+p.Detail)
	}
	return strings.Join(parts, "; ")
}

// classify returns the row and the text of err; an unknown error is internal.
func classify(err error) (kind, *failure) {
	if v, ok := errors.AsType[*alias.ValidationError](err); ok {
		err = invalid(v.Problems)
	}
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = &failure{}
	}
	for _, k := range kinds {
		if !errors.Is(err, k.is) {
			continue
		}
		if f.detail == "" {
			f = &failure{kind: k.is, detail: k.detail, problems: f.problems, commands: f.commands, header: f.header}
		}
		return k, f
	}
	return classify(errInternal)
}

// problemJSON is a problem of RFC 9457 with extension members.
type problemJSON struct {
	Type      string      `json:"type" description:"An identifier of the kind of problem, which ends in its code; not a page."`
	Title     string      `json:"title" description:"The kind of problem in words."`
	Status    int         `json:"status" description:"The status of the answer."`
	Detail    string      `json:"detail" description:"What is wrong with this request, and what to do."`
	RequestID string      `json:"request_id" description:"The id of the request in the log, as in X-Request-Id."`
	Errors    []fieldJSON `json:"errors,omitempty" description:"The members of the body, or the parameters, that are wrong, all of them up to a limit; absent if the problem is another."`
	Commands  []string    `json:"commands,omitempty" description:"Shell commands that solve the problem; absent if there are none."`
}

type fieldJSON struct {
	Field  string `json:"field" description:"The path of the member, like probe.inside, or the name of the parameter."`
	Detail string `json:"detail" description:"What is wrong with it."`
}

// retryAfter is in seconds. The cause of a 503 ends within seconds, or needs an
// operator.
const retryAfter = "5"

const problemType = "https://ixmage.dev/problems/"

// problem makes the answer to err: its status and body. It sets the headers of the
// answer, and the fields of rec for the log line.
func problem(h http.Header, rec *record, err error) (status int, body []byte) {
	k, f := classify(err)
	rec.code = k.code
	if k.status >= http.StatusInternalServerError {
		rec.err = err
	}
	p := problemJSON{
		Type: problemType + k.code, Title: k.title, Status: k.status,
		Detail: f.detail, RequestID: rec.id, Commands: f.commands,
	}
	for _, one := range f.problems[:min(len(f.problems), maxProblems)] {
		p.Errors = append(p.Errors, fieldJSON{one.Field, one.Detail})
	}
	h.Set("Content-Type", "application/problem+json")
	if k.status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", "Bearer")
	}
	if k.status == http.StatusServiceUnavailable {
		h.Set("Retry-After", retryAfter)
	}
	for name, value := range f.header {
		h.Set(name, value)
	}
	body, err = encode(p)
	if err != nil {
		rec.err = errors.Join(rec.err, err)
	}
	return k.status, body
}

// encode encodes an answer as JSON.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // a prefix may hold '&'; the answers are not HTML
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode %T: %w", v, err)
	}
	return b.Bytes(), nil
}
