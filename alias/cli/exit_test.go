package cli

import (
	"context"
	"os"
	"strings"
	"testing"

	"ixmage/alias/client"
)

// TestReportPlain: no text of an answer moves the cursor, or writes to the clipboard, of a
// terminal.
func TestReportPlain(t *testing.T) {
	t.Parallel()
	const evil = "a\x1b]52;c;AAAA\x07b"
	for name, p := range map[string]*client.Problem{
		"detail": {Status: 500, Detail: evil, Retry: evil, RequestID: evil, Commands: []string{evil}},
		"fields": {Status: 400, Title: evil, Fields: []client.Field{{Name: evil, Detail: evil}, {Detail: evil}}},
	} {
		var b strings.Builder
		s := &session{term: newTerminal(context.Background(), os.Stdin, &b, &b)}
		s.report(p)
		if got := b.String(); strings.ContainsAny(got, "\x1b\x07") || !strings.Contains(got, "a\ufffd]52;c;AAAA\ufffdb") {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

// TestReportToken: a token that the server refuses is one of a file, and it is said which.
func TestReportToken(t *testing.T) {
	t.Setenv(envTokenFile, "")
	t.Setenv("IXMAGE_DATA", "")
	for _, row := range []struct{ file, variable, source string }{
		{"", "", "ixmage-data/admin-token"},
		{"", "ixmage_x", "IXMAGE_ADMIN_TOKEN"},
		{"ci.token", "", "ci.token"},
		{"ci.token", "ixmage_x", "ci.token"},
	} {
		t.Setenv(envToken, row.variable)
		var b strings.Builder
		s := &session{
			term:  newTerminal(context.Background(), os.Stdin, &b, &b),
			flags: &Connection{AdminTokenFile: row.file},
		}
		if code := s.report(&client.Problem{Status: 401, Detail: "no"}); code != exitRefused {
			t.Errorf("got the status %d", code)
		}
		want := "ixmage: no\nis the token in " + row.source + " right? It may be of another server, expired or revoked\n"
		if b.String() != want {
			t.Errorf("got %q, want %q", b.String(), want)
		}
	}
}
