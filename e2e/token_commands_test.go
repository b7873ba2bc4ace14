package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestTokenCommands makes a token, uses it, is refused what it may not, and revokes it.
func TestTokenCommands(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	made := e.runClient(nil, strings.Fields("token add reader --role read --expires 720h")...)
	text := strings.TrimSuffix(made.stdout, "\n")
	if made.code != 0 || !strings.HasPrefix(text, "ixmage_") || strings.ContainsAny(text, " \n") {
		t.Fatalf("not a token alone on standard output: %+v", made)
	}
	if strings.Contains(made.stderr, text) || !strings.Contains(made.stderr, "only time") {
		t.Errorf("the hint: %q", made.stderr)
	}
	reader := []string{"IXMAGE_ADMIN_TOKEN=" + text}
	for args, code := range map[string]int{
		"alias ls": 0, "alias get shop": 0, "audit": 0, "usage": 0, "explain /shop/a.png": 0,
		"alias set shop --ttl 5m": 3, "alias rm shop --yes": 3, "purge shop": 3, "token ls": 3, "token add more --role admin": 3,
		"credential rm shop --yes": 3,
	} {
		if got := e.runClient(reader, strings.Fields(args)...); got.code != code || (code == 3) != strings.Contains(got.stderr, "ixmage: ") {
			t.Errorf("%s with a token that may read: exit status %d, want %d: %s", args, got.code, code, got.stderr)
		}
	}
	list := e.runClient(nil, "token", "ls")
	wantAll(t, "tokens", list.stdout, "reader", "read", "admin@127.0.0.1")
	if strings.Contains(list.stdout, text) {
		t.Error("the list has the text of the token")
	}
	for args, code := range map[string]int{
		"token add reader --role read":                5,
		"token add other --role reader":               2,
		"token add other":                             2,
		"token add other --role read --expires soon":  2,
		"token add other --role read --expires -720h": 2,
		"token rm readr --yes":                        4,
		"token rm reader":                             2,
	} {
		if got := e.runClient(nil, strings.Fields(args)...); got.code != code || got.stdout != "" {
			t.Errorf("%s: %+v, want exit status %d", args, got, code)
		}
	}
	if got := e.runClient(nil, "token", "rm", "reader", "--yes"); got.code != 0 || got.stdout != "" {
		t.Errorf("revoke: %+v", got)
	}
	if got := e.runClient(reader, "alias", "ls"); got.code != 3 {
		t.Errorf("a revoked token: %+v", got)
	}
}

// TestTokenLost: a token whose text could not be written anywhere does not stay.
func TestTokenLost(t *testing.T) {
	t.Parallel()
	s := start(t)
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("SKIPPED: there is no /dev/full")
	}
	defer full.Close()
	cmd := s.client("token", "add", "lost", "--role", "read")
	cmd.Stdout = full
	var text strings.Builder
	cmd.Stderr = &text
	cmd.Run()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d", code)
	}
	wantAll(t, "stderr", text.String(), "no space left", "the token lost was revoked again")
	if got := s.runClient(nil, "token", "ls", "-o", "json"); strings.Contains(got.stdout, "lost") {
		t.Errorf("it is still there: %s", got.stdout)
	}
}
