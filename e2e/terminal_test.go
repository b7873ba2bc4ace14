package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"ixmage/internal/awstest/process"
)

// openTerminal opens a pseudo terminal. It returns the side that reads what programs write,
// and the path of the side of the programs.
func openTerminal(t *testing.T) (screen *os.File, path string) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: there are no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { screen.Close() })
	fd := int(screen.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil { // unlocks it
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	return screen, "/dev/pts/" + strconv.Itoa(n)
}

// onTerminal runs a server whose stderr is a terminal, and returns what the terminal shows
// until a line contains last.
func onTerminal(t *testing.T, data, last string, args ...string) string {
	t.Helper()
	screen, path := openTerminal(t)
	cmd := exec.Command("sh", append([]string{"-c", `exec "$0" "$@" 2>"$TERMINAL"`, program()}, serveArgs(data, args...)...)...)
	cmd.Env = append(plainEnv(), "TERMINAL="+path)
	hold, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0) // reads fail while no program has it open
	if err != nil {
		t.Fatal(err)
	}
	defer hold.Close()
	child, err := process.Start("ixmage", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(child.Kill)
	go func() { <-child.Done(); hold.Close() }()
	var text strings.Builder
	lines := bufio.NewScanner(screen)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		text.WriteString(line + "\n")
		if strings.Contains(line, last) {
			return text.String()
		}
	}
	t.Fatalf("the server ended before it wrote %q: %v\n%s", last, lines.Err(), text.String())
	return ""
}

// TestTerminal: a person who starts the server at a terminal reads where everything is, and never
// the token. A log in a file or pipe, and one of JSON, has no such lines.
func TestTerminal(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "it's data")
	text := onTerminal(t, data, "  next ", "--metrics-listen", "127.0.0.1:0")
	addr := map[string]string{}
	for _, m := range listening.FindAllStringSubmatch(text, -1) {
		addr[m[1]] = m[2]
	}
	token := filepath.Join(data, "admin-token")
	for _, want := range []string{
		"\n  pictures  http://" + addr["public"] + "/ALIAS/KEY\n",
		"\n  console   http://" + addr["admin"] + "/\n",
		"\n  token     " + token + "\n",
		"\n  metrics   http://" + addr["metrics"] + "/metrics\n",
		"\n  next      IXMAGE_ADMIN_URL=http://" + addr["admin"] + " IXMAGE_ADMIN_TOKEN_FILE='" +
			strings.ReplaceAll(token, "'", `'\''`) + "' ixmage ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the terminal does not show %q:\n%s", want, text)
		}
	}
	secret, err := os.ReadFile(token)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(text, strings.TrimSpace(string(secret))) {
		t.Error("the terminal shows the token")
	}
	if strings.Contains(text, "\x1b") {
		t.Error("the terminal gets control sequences")
	}
}

// TestNoTerminal: other outputs have the lines of the log and no others.
func TestNoTerminal(t *testing.T) {
	t.Parallel()
	s := start(t)
	if r := s.get("/-/healthz"); r.StatusCode != 200 {
		t.Fatalf("healthz: %s", r.Status)
	}
	s.stop()
	json := onTerminal(t, filepath.Join(t.TempDir(), "data"), `"listener":"public"`, "--log-format", "json")
	for line := range strings.Lines(s.output()) {
		if !strings.HasPrefix(line, "time=") {
			t.Errorf("a line of a pipe: %q", line)
		}
	}
	for line := range strings.Lines(json) {
		if !strings.HasPrefix(line, "{") {
			t.Errorf("a line of a JSON log: %q", line)
		}
	}
}
