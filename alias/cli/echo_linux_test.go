package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pseudoTerminal returns both sides of a new terminal: its keys are what is written to keyboard.
func pseudoTerminal(t *testing.T) (keyboard, terminal *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: there are no pseudo terminals here: %v", err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil { // unlocks it
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return keyboard, terminal
}

// echoes reports whether a terminal shows what is typed.
func echoes(t *testing.T, terminal *os.File) bool {
	t.Helper()
	state, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return state.Lflag&unix.ECHO != 0
}

// TestSecretInterrupted: the terminal shows what is typed after Ctrl-C at the prompt for a secret, also when
// the line ends that is still being read then.
func TestSecretInterrupted(t *testing.T) {
	t.Parallel()
	keyboard, in := pseudoTerminal(t)
	ctx, interrupt := context.WithCancel(t.Context())
	term := newTerminal(ctx, in, io.Discard, io.Discard)
	ended := make(chan error, 1)
	go func() {
		_, err := term.askSecret("Secret: ")
		ended <- err
	}()
	untilReading(func(state string) bool { return strings.Contains(state, "syscall.") })
	if echoes(t, in) {
		t.Error("the secret is shown")
	}
	interrupt()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want %v", err, context.Canceled)
	}
	if !echoes(t, in) {
		t.Error("nothing that is typed is shown after Ctrl-C")
	}
	if _, err := keyboard.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	untilReading(func(state string) bool { return state == "" })
	if !echoes(t, in) {
		t.Error("nothing that is typed is shown after Ctrl-C and Enter")
	}
}

// untilReading waits until the stack of the goroutine that reads a secret is ok; it is "" if there is none.
func untilReading(ok func(stack string) bool) {
	for buf := make([]byte, 4<<20); ; <-time.After(10 * time.Millisecond) {
		found := ""
		for stack := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
			if strings.Contains(stack, "terminal.readSecret") {
				found = stack
			}
		}
		if ok(found) {
			return
		}
	}
}
