package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// client returns a client command with the server's address and token in its environment.
func (s *server) client(args ...string) *exec.Cmd {
	cmd := exec.Command(plain, args...)
	cmd.Env = append(plainEnv(), "IXMAGE_ADMIN_URL=http://"+s.admin, "IXMAGE_ADMIN_TOKEN="+s.token, "TERM=xterm")
	return cmd
}

// TestPromptForKeyPair registers an alias whose key pair is typed: the secret is not
// shown, and the picture can be read with it.
func TestPromptForKeyPair(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.put("a.png", s3.Object{Body: bytesOf(100, "a")})
	p := atTerminal(t, e.client("alias", "add", "typed", "--bucket", "media", "--prefix", "web/", "--endpoint", e.s3.URL, "--path-style"), nil)
	p.expect("Access key id: ")
	p.enter("AKIAIOSFODNN7EXAMPLE")
	p.expect("not shown): ")
	p.enter("not-a-real-secret-key-typed")
	if code := p.end(); code != 0 {
		t.Fatalf("exit status %d:\n%s", code, p.text())
	}
	wantAll(t, "terminal", p.text(), "typed is registered", "\x1b[32mactive\x1b[0m", "Its pictures: http://", "/typed/KEY", "ixmage explain --probe /typed/KEY")
	if strings.Contains(p.text(), "not-a-real-secret") {
		t.Errorf("the secret is shown:\n%s", p.text())
	}
	wantPicture(t, e.get("/typed/a.png"), bytesOf(100, "a"))
}

// TestPromptAnswers: only yes removes something, and a command that is interrupted at the
// prompt does nothing.
func TestPromptAnswers(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, row := range []struct {
		answer string
		code   int
		left   bool
	}{{"", 1, true}, {"n", 1, true}, {"yes please", 1, true}, {"\x04", 2, true}, {"\x03", 1, true}, {"y", 0, false}} {
		p := atTerminal(t, e.client("alias", "rm", "shop"), nil)
		p.expect("Remove the alias shop of s3://media/web/ at " + e.s3.URL + "? [y/N] ")
		p.enter(row.answer)
		if code := p.end(); code != row.code {
			t.Errorf("%q: exit status %d, want %d:\n%s", row.answer, code, row.code, p.text())
		}
		got := e.api("GET", "/api/v1/aliases/shop", nil).StatusCode
		if (got == 200) != row.left {
			t.Errorf("after the answer %q: %d", row.answer, got)
		}
	}
}

// TestSecretPromptInterrupted: after Ctrl-C at the prompt for the secret the terminal
// shows what is typed again.
func TestSecretPromptInterrupted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	cmd := exec.Command("sh", "-c", `trap : INT; "$0" credential add typed; echo "status $?"; stty -a`, plain)
	cmd.Env = e.client().Env
	p := atTerminal(t, cmd, nil)
	p.expect("Access key id: ")
	p.enter("AKIAIOSFODNN7EXAMPLE")
	p.expect("not shown): ")
	p.press("\x03") // alone: Enter behind it would be an answer, which may come before the signal
	p.end()
	text := p.text()
	if i := strings.Index(text, "status 1"); i < 0 || !strings.Contains(text, "ixmage: interrupted") || strings.Contains(text[i:], "-echo ") {
		t.Errorf("the terminal is left without echo:\n%s", text)
	}
	if got := e.api("GET", "/api/v1/credentials/typed", nil).StatusCode; got != 404 {
		t.Errorf("the credential: %d", got)
	}
}

// TestColours: only a terminal that can show colours gets them.
func TestColours(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	for _, row := range []struct {
		env  string
		file bool
		want bool
	}{{"TERM=xterm", false, true}, {"TERM=dumb", false, false}, {"NO_COLOR=1", false, false}, {"TERM=xterm", true, false}} {
		cmd := e.client("alias", "ls")
		cmd.Env = append(cmd.Env, row.env)
		var out *os.File
		if row.file {
			var err error
			if out, err = os.Create(filepath.Join(t.TempDir(), "out")); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { out.Close() })
		}
		p := atTerminal(t, cmd, out)
		if code := p.end(); code != 0 {
			t.Errorf("%v: exit status %d", row, code)
		}
		text := p.text()
		if out != nil {
			text = string(readFile(t, out.Name()))
		}
		if got := strings.Contains(text, "\x1b["); got != row.want || !strings.Contains(text, "shop") {
			t.Errorf("%v: colours %t:\n%q", row, got, text)
		}
	}
}
