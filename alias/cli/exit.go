package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"ixmage/alias/client"
)

// Exit statuses of the client commands.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // flags, arguments, files, or values in them that the API refuses
	exitRefused     = 3
	exitNotFound    = 4
	exitConflict    = 5 // or stale
	exitUnreachable = 6
)

// usageError is a mistake of the command line or of a file.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// exitError ends a command with a status and without a message: its output has everything.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", int(e)) }

// errReported ends a failed command without a message: its output has the failure.
const errReported = exitError(exitFailed)

// writeError is the error of an incomplete write to the output.
func writeError(err error) error { return fmt.Errorf("write the output: %w", err) }

// status maps an error to the exit status.
func status(err error) int {
	if err == nil {
		return exitOK
	}
	if code, ok := errors.AsType[exitError](err); ok {
		return int(code)
	}
	if _, ok := errors.AsType[*usageError](err); ok {
		return exitUsage
	}
	if _, ok := errors.AsType[*client.UnreachableError](err); ok {
		return exitUnreachable
	}
	p, ok := errors.AsType[*client.Problem](err)
	if !ok {
		return exitFailed
	}
	switch p.Status {
	case http.StatusBadRequest:
		return exitUsage
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests:
		return exitRefused
	case http.StatusNotFound:
		return exitNotFound
	case http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	}
	return exitFailed
}

// report prints the error of a command to stderr, and returns the exit status.
func (s *session) report(err error) int {
	code := status(err)
	if _, said := errors.AsType[exitError](err); err == nil || said {
		return code
	}
	if errors.Is(err, context.Canceled) {
		s.term.sayf("ixmage: interrupted")
		return code
	}
	p, ok := errors.AsType[*client.Problem](err)
	if !ok {
		s.term.sayf("ixmage: %v", err)
		if code == exitUnreachable {
			s.term.sayf("%s", s.flags.remote())
		}
		return code
	}
	s.reportProblem(err, p)
	return code
}

// reportProblem prints the detail of the API. The detail of an answer with fields is the
// list of them.
func (s *session) reportProblem(err error, p *client.Problem) {
	if len(p.Fields) == 0 {
		s.term.sayf("ixmage: %s", plain(s.detail(err, p)))
	} else {
		s.term.sayf("ixmage: %s:", plain(p.Title))
	}
	for _, f := range p.Fields {
		if f.Name == "" {
			s.term.sayf("  %s", plain(f.Detail))
			continue
		}
		s.term.sayf("  %s: %s", plain(f.Name), plain(f.Detail))
	}
	if len(p.Commands) > 0 {
		s.term.sayf("To solve it, run:")
	}
	for _, c := range p.Commands {
		s.term.sayf("  %s", plain(c))
	}
	if p.Status == http.StatusUnauthorized {
		s.term.sayf("is the token in %s right? It may be of another server, expired or revoked", s.flags.source())
	}
	if p.Retry != "" {
		s.term.sayf("Try again in %s s.", plain(p.Retry))
	}
	if p.Status >= http.StatusInternalServerError {
		s.term.sayf("The request_id in the log of the server is %s.", plain(p.RequestID))
	}
}

// detail is the text of a problem without fields.
func (s *session) detail(err error, p *client.Problem) string {
	text := err.Error()
	if p.Code == "unauthorized" && strings.Contains(text, "Authorization") { // how a program sends one
		return "the server at " + s.flags.url() + " does not accept the token"
	}
	if len(p.Commands) > 0 { // the detail ends with them
		text, _, _ = strings.Cut(text, ":\n")
	}
	return text
}
