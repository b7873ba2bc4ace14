package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"ixmage/alias"
)

// terminal is what the user sees and types besides the output: prompts, hints and errors
// are on stderr, answers come from stdin.
type terminal struct {
	in   *os.File
	err  io.Writer
	asks bool // stdin and stderr are a terminal
	live bool // stderr is one, so that progress can be shown
	// shows is true if stdout is a terminal.
	shows bool
	// redraws is true if stderr can move its cursor.
	redraws bool
	colour  bool // stdout is one that has colours
	reader  *bufio.Reader
}

func newTerminal(in *os.File, out, errs io.Writer) terminal {
	t := terminal{in: in, err: errs, live: isTerminal(errs), reader: bufio.NewReader(in)}
	t.redraws = t.live && os.Getenv("TERM") != "dumb"
	t.asks = t.live && isTerminal(in)
	t.shows = isTerminal(out)
	t.colour = t.shows && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return t
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// say prints a line to stderr.
func (t terminal) say(format string, args ...any) {
	fmt.Fprintf(t.err, format+"\n", args...)
}

// colours are those of states; a text without one is not painted.
var colours = map[string]string{
	"active": "32", "done": "32", "proven": "32", "ready": "32", "readable": "32",
	"provisioning": "33", "running": "33", "rotating": "33", "removing": "33", "weak": "33", "not-proven": "33",
	create: "32", modify: "33", remove: "31",
	"failed": "31", "violated": "31", "failing": "31", "superseded": "33", "pending": "2",
}

func (t terminal) paint(text string) string { return t.paintAs(text, text) }

// paintAs paints a text in the colour of a state.
func (t terminal) paintAs(state, text string) string {
	if code, ok := colours[state]; ok && t.colour {
		return "\x1b[" + code + "m" + text + "\x1b[0m"
	}
	return text
}

// ask reads a line that the user types.
func (t terminal) ask(prompt string) (string, error) {
	fmt.Fprint(t.err, prompt)
	line, err := t.reader.ReadString('\n')
	if err != nil && (!errors.Is(err, io.EOF) || line == "") {
		fmt.Fprintln(t.err)
		return "", usagef("no answer to %q: %v", strings.TrimSpace(prompt), err)
	}
	return strings.TrimSpace(line), nil
}

// askSecret reads a line without showing it.
func (t terminal) askSecret(prompt string) (alias.Secret, error) {
	fmt.Fprint(t.err, prompt)
	text, err := term.ReadPassword(int(t.in.Fd()))
	fmt.Fprintln(t.err)
	if err != nil {
		return alias.Secret{}, usagef("no answer to %q: %v", strings.TrimSpace(prompt), err)
	}
	return alias.NewSecret(strings.TrimSpace(string(text))), nil
}

// confirm asks before something is removed, unless yes. Without a terminal it is an error.
func (t terminal) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	if !t.asks {
		return usagef("%s: nobody can be asked, because this is no terminal; say --yes to do it", what)
	}
	answer, err := t.ask(what + "? [y/N] ")
	if err != nil {
		return err
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return errors.New("nothing was done")
	}
	return nil
}
