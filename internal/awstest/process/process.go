// Package process starts child processes that end with their parent.
package process

import (
	"bytes"
	"cmp"
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

// killAfter is the time from SIGTERM to SIGKILL.
const killAfter = time.Minute

// outputDelay is how long the last output of a child that has ended is read. A busy machine may read
// it late; a process that the child has left behind may hold it open for ever.
const outputDelay = 10 * time.Second

// ErrExited means that a child process has ended with status 0.
var ErrExited = errors.New("exit status 0")

// Child is a child process. On Linux it does not outlive its parent. Its methods
// are safe for concurrent use.
type Child struct {
	name   string
	cmd    *exec.Cmd
	output tail
	done   chan struct{} // closed when the child has ended and was waited for
	err    error         // valid after done
}

// Start starts a program; name stands for it in errors. Its output goes to Output
// and to cmd.Stdout and cmd.Stderr, which must accept it until the child has
// ended. The caller must Stop it.
func Start(name string, cmd *exec.Cmd) (*Child, error) {
	c := &Child{name: name, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = c.output.tee(cmd.Stdout), c.output.tee(cmd.Stderr)
	cmd.WaitDelay = cmp.Or(cmd.WaitDelay, outputDelay)
	dieWithParent(cmd)
	started := make(chan error)
	go c.run(started)
	if err := <-started; err != nil {
		<-c.done
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	return c, nil
}

// run keeps its OS thread until the child ends: the kernel sends the parent death
// signal when the thread that forked ends, not when the process does, and the Go
// runtime may end a thread to which no goroutine is locked.
func (c *Child) run(started chan<- error) {
	defer close(c.done)
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := c.cmd.Start()
	started <- err
	if err == nil {
		c.err = c.cmd.Wait()
	}
}

// Done is closed when the child has ended.
func (c *Child) Done() <-chan struct{} { return c.done }

// Err waits for the end of the child and returns its error, ErrExited for status
// 0.
func (c *Child) Err() error {
	<-c.done
	if c.err == nil {
		return ErrExited
	}
	return c.err
}

// Pid is the process id of the child.
func (c *Child) Pid() int { return c.cmd.Process.Pid }

// Signal sends a signal to the child. The error says that it is gone.
func (c *Child) Signal(sig os.Signal) error { return c.cmd.Process.Signal(sig) }

// Kill ends the child and what it has started, as a power cut would, and
// returns when the child is gone.
func (c *Child) Kill() {
	select {
	case <-c.done: // its id may be another process's by now
	default:
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may end meanwhile
	}
	<-c.done
}

// State waits for the child's end and returns its exit status or signal.
func (c *Child) State() *os.ProcessState {
	<-c.done
	return c.cmd.ProcessState
}

// Output is the end of the output of the child.
func (c *Child) Output() string { return c.output.String() }

// Stop sends SIGTERM, after a minute SIGKILL, and waits for the end of the child.
// A second call does nothing.
func (c *Child) Stop() error {
	_ = c.cmd.Process.Signal(syscall.SIGTERM) // it may have ended; then done is closed
	insist := time.NewTimer(killAfter)
	defer insist.Stop()
	select {
	case <-c.done:
		return nil
	case <-insist.C:
	}
	_ = c.cmd.Process.Kill() // likewise
	<-c.done
	return fmt.Errorf("%s had to be killed", c.name)
}

// WaitReady polls is until it returns true, the child ends or ctx ends.
func (c *Child) WaitReady(ctx context.Context, is func(context.Context) bool) error {
	var ended error
	err := waitReady(ctx, is, func() error {
		select {
		case <-c.done:
			ended = fmt.Errorf("%s ended at once (%w): %s", c.name, c.Err(), c.output.String())
		default:
		}
		return ended
	})
	if err != nil && ended == nil {
		err = fmt.Errorf("wait for %s: %w; its output: %s", c.name, err, c.output.String())
	}
	return err
}

// waitReady polls is until it returns true, gone returns an error or ctx ends.
func waitReady(ctx context.Context, is func(context.Context) bool, gone func() error) error {
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for !is(ctx) {
		if err := gone(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
	}
	return nil
}

// tail keeps the last tailSize bytes written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

const tailSize = 64 << 10

// tee returns a writer to both w and t.
func (t *tail) tee(w io.Writer) io.Writer {
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
