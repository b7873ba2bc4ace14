// Package process starts child processes that end with their parent.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// killAfter is when a child that was sent SIGTERM counts as one that hangs.
const killAfter = time.Minute

// ErrExited means that a child process has ended with status 0.
var ErrExited = errors.New("exit status 0")

// Child is a child process that does not outlive us, where the system can
// see to that (Linux). Its methods are safe for concurrent use.
type Child struct {
	name   string
	cmd    *exec.Cmd
	output tail
	done   chan struct{} // closed when the child is gone and reaped
	err    error         // valid after done
}

// Start runs a program and returns once it has been started; name says
// in errors what it is. What it prints goes where cmd says, which must take it
// until the child is gone, and to Output. The caller must Stop it.
func Start(name string, cmd *exec.Cmd) (*Child, error) {
	p := &Child{name: name, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.output.and(cmd.Stdout), p.output.and(cmd.Stderr)
	cmd.WaitDelay = time.Second
	dieWithParent(cmd)
	started := make(chan error)
	go p.run(started)
	if err := <-started; err != nil {
		<-p.done
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// run holds one OS thread for the child's life: the kernel sends the parent
// death signal when the thread that forked ends, not when the process does,
// and the Go runtime is free to end threads that no goroutine is locked to.
func (p *Child) run(started chan<- error) {
	defer close(p.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := p.cmd.Start()
	started <- err
	if err == nil {
		p.err = p.cmd.Wait()
	}
}

// Done is closed when the child is gone.
func (p *Child) Done() <-chan struct{} { return p.done }

// Err waits for the child's end and says how it was: ErrExited where the child
// saw no fault in it.
func (p *Child) Err() error {
	<-p.done
	if p.err == nil {
		return ErrExited
	}
	return p.err
}

// Pid is the child's process id.
func (p *Child) Pid() int { return p.cmd.Process.Pid }

// Signal sends a signal to the child. The error says that it is gone.
func (p *Child) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Kill ends the child and what it has started, as a power cut would, and
// returns when the child is gone.
func (p *Child) Kill() {
	select {
	case <-p.done: // its id may be another process's by now
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // it may end meanwhile
	}
	<-p.done
}

// State waits for the child's end and returns its exit status or signal.
func (p *Child) State() *os.ProcessState {
	<-p.done
	return p.cmd.ProcessState
}

// Output is the last of what the child printed.
func (p *Child) Output() string { return p.output.String() }

// Stop asks the child to end (SIGTERM), insists after some seconds and returns
// when it is gone. A second call does nothing.
func (p *Child) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may be gone already; then done is closed
	insist := time.NewTimer(killAfter)
	defer insist.Stop()
	select {
	case <-p.done:
		return nil
	case <-insist.C:
	}
	_ = p.cmd.Process.Kill() // likewise
	<-p.done
	return fmt.Errorf("%s had to be killed", p.name)
}

// Ready waits until is says so, the child ends or ctx does.
func (p *Child) Ready(ctx context.Context, is func(context.Context) bool) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for {
		if is(ctx) {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended at once (%w): %s", p.name, p.Err(), p.output.String())
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; its output: %s", p.name, ctx.Err(), p.output.String())
		case <-poll.C:
		}
	}
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 64 << 10

// and is w with a copy to t.
func (t *tail) and(w io.Writer) io.Writer {
	if w == nil {
		return t
	}
	return io.MultiWriter(w, t)
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if over := len(t.buf) - tailSize; over > 0 {
		t.buf = bytes.Clone(t.buf[over:])
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
