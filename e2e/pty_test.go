package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pty is a pseudo terminal on which a program runs, as a user sits before it.
type pty struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd
	done   chan struct{} // closed when the output has ended

	mu     sync.Mutex
	output bytes.Buffer
	more   chan struct{} // has an element after new output
}

// atTerminal starts a command on a terminal of its own. If stdout is not nil, that takes
// the standard output.
func atTerminal(t *testing.T, cmd *exec.Cmd, stdout *os.File) *pty {
	t.Helper()
	master, path := openTerminal(t)
	slave, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if stdout != nil {
		cmd.Stdout = stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &pty{t: t, master: master, cmd: cmd, done: make(chan struct{}), more: make(chan struct{}, 1)}
	go p.read()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-p.done
	})
	return p
}

// read collects the output until the program has closed the terminal.
func (p *pty) read() {
	defer close(p.done)
	buf := make([]byte, 4096)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.output.Write(buf[:n])
		p.mu.Unlock()
		select {
		case p.more <- struct{}{}:
		default:
		}
		if err != nil { // EIO: the other side is closed
			return
		}
	}
}

func (p *pty) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.ReplaceAll(p.output.String(), "\r\n", "\n")
}

// expect waits until the program has printed a text.
func (p *pty) expect(text string) {
	p.t.Helper()
	for !strings.Contains(p.text(), text) {
		select {
		case <-p.more:
		case <-p.done:
			if !strings.Contains(p.text(), text) {
				p.t.Fatalf("the program ended without %q:\n%s", text, p.text())
			}
		case <-time.After(2 * time.Minute): // a program that waits is the failure looked for
			p.t.Fatalf("there is no %q:\n%s", text, p.text())
		}
	}
}

// enter types a line.
func (p *pty) enter(line string) {
	p.t.Helper()
	p.press(line + "\n")
}

// press types keys.
func (p *pty) press(keys string) {
	p.t.Helper()
	if _, err := p.master.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// end waits for the end of the program and returns its exit status.
func (p *pty) end() int {
	p.t.Helper()
	<-p.done
	p.cmd.Wait()
	return p.cmd.ProcessState.ExitCode()
}
