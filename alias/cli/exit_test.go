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
