package cli

import (
	"bufio"
	"context"
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
	ctx  context.Context //nolint:containedctx // ends at Ctrl-C, which a prompt waits for too
	in   *os.File
	err  io.Writer
	asks bool // stdin and stderr are a terminal
	live bool // stderr is one, so that progress can be shown
	// shows is true if stdout is a terminal.
	shows bool
	// redraws is true if stderr can move its cursor.
	redraws bool
	out     io.Writer // stdout itself, behind the buffer
	draws   bool      // stdout can move its cursor
	colour  bool      // stdout is one that has colours
	reader  *bufio.Reader
}

func newTerminal(ctx context.Context, in *os.File, out, errs io.Writer) terminal {
	t := terminal{ctx: ctx, in: in, out: out, err: errs, live: isTerminal(errs), reader: bufio.NewReader(in)}
	t.shows = isTerminal(out)
	t.draws = t.shows && os.Getenv("TERM") != "dumb"
	t.redraws = t.live && os.Getenv("TERM") != "dumb"
	t.asks = t.live && isTerminal(in)
	t.colour = t.draws && os.Getenv("NO_COLOR") == ""
	return t
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// sayf prints a line to stderr.
func (t terminal) sayf(format string, args ...any) {
	fmt.Fprintf(t.err, format+"\n", args...)
}

// colours are those of states; a text without one is not painted.
var colours = map[string]string{
	"active": "32", "done": "32", "proven": "32", "ready": "32", "readable": "32",
	"provisioning": "33", "running": "33", "rotating": "33", "removing": "33", "weak": "33", "not-proven": "33",
	create: "32", modify: "33", remove: "31",
	"failed": "31", "violated": "31", "failing": "31", "superseded": "33", "pending": "2",
	"live": "32", "silent": "31", "good": "32", "warning": "33", "bad": "31", "GOOD": "32", "WARNING": "33", "BAD": "31",
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
	return t.read(prompt, t.readLine)
}

func (t terminal) readLine() (string, error) {
	line, err := t.reader.ReadString('\n')
	if errors.Is(err, io.EOF) && line != "" {
		err = nil
	}
	return line, err
}

// askSecret reads a line without showing it.
func (t terminal) askSecret(prompt string) (alias.Secret, error) {
	fd := int(t.in.Fd())
	before, err := term.GetState(fd)
	if err == nil {
		err = stopEcho(fd) // before the prompt, because a paste may be quick
	}
	if err != nil {
		return alias.Secret{}, usagef("read from the terminal: %v", err)
	}
	text, err := t.read(prompt, t.readSecret)
	_ = term.Restore(fd, before) // after Ctrl-C too, or the shell would not show what is typed
	fmt.Fprintln(t.err)
	return alias.NewSecret(text), err
}

// read prints a prompt and reads the answer, until Ctrl-C. Nothing ends the reading of a
// terminal, so the goroutine of an interrupted prompt ends with the process, which follows
// at once.
func (t terminal) read(prompt string, read func() (string, error)) (string, error) {
	fmt.Fprint(t.err, prompt)
	type answer struct {
		text string
		err  error
	}
	answered := make(chan answer, 1)
	go func() {
		text, err := read()
		answered <- answer{strings.TrimSpace(text), err}
	}()
	select {
	case <-t.ctx.Done():
		fmt.Fprintln(t.err)
		return "", t.ctx.Err()
	case a := <-answered:
		if a.err != nil {
			fmt.Fprintln(t.err)
			return "", usagef("no answer to %q: %v", strings.TrimSpace(prompt), a.err)
		}
		return a.text, nil
	}
}

// confirm asks before a change, unless yes is set. Without a terminal it returns an error.
func (t terminal) confirm(yes bool, what string) error {
	if yes {
		return nil
	}
	if !t.asks {
		return usagef("%s: standard input or standard error is no terminal, so no question can be asked; "+
			"add --yes to do it", what)
	}
	answer, err := t.ask(what + "? [y/N] ")
	if err != nil {
		return err
	}
	if a := strings.ToLower(answer); a != "y" && a != "yes" {
		return errors.New("not confirmed: nothing was changed")
	}
	return nil
}
