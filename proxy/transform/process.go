package transform

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// worker is a process from its start until it has been waited for. It is killed with
// everything that it has started.
type worker struct {
	cmd           *exec.Cmd
	stdin, stdout *os.File
	stderr        *os.File
	ready         ready         // set before the pool has the worker, and so is since
	since         time.Time     // when it was ready
	exited        chan struct{} // closed after the process has been waited for
	ending        chan struct{} // closed by end
	number        uint32        // of the last job; run sets it before the job's sender starts

	mu          sync.Mutex // guards what follows
	reason      string     // why the worker ends; "": it does not
	waited      bool       // the process id may be another process's
	wasReady    bool
	stderrStart []byte // the first maxStderr bytes that the worker wrote there

	// The pool's, guarded by its lock.
	owner int64
	busy  bool
	jobs  int
	turn  time.Duration // busy for its owner since others wait
}

// processorTime is what the kernel tells of a worker: how long it used processors, and how long its threads
// waited for one.
type processorTime struct{ used, waited time.Duration }

// starved reports whether a worker waited for a processor for at least a time since before, and used
// less. Threads of its own for which it had no processors are no excuse.
func (t processorTime) starved(before processorTime, least time.Duration) bool {
	return t.waited-before.waited >= least && t.used-before.used < least
}

// newWorker prepares a process with three descriptors and an empty environment. start starts it.
func newWorker(path string, args []string) (w *worker, start func() error, err error) {
	var files []*os.File
	pipe := func() (r, wr *os.File) {
		if err == nil {
			r, wr, err = os.Pipe()
			files = append(files, r, wr)
		}
		return r, wr
	}
	childIn, stdin := pipe()
	stdout, childOut := pipe()
	stderr, childErr := pipe()
	if err != nil {
		for _, f := range files {
			f.Close() // a nil file is no problem
		}
		return nil, nil, fmt.Errorf("make a pipe for a transform worker: %w", err)
	}
	w = &worker{
		stdin: stdin, stdout: stdout, stderr: stderr,
		exited: make(chan struct{}), ending: make(chan struct{}),
		cmd: &exec.Cmd{
			Path: path, Args: append([]string{path}, args...), Dir: "/",
			Env:   []string{"MALLOC_ARENA_MAX=2"}, // an arena for each thread would only use memory
			Stdin: childIn, Stdout: childOut, Stderr: childErr,
			SysProcAttr: processAttr(),
		},
	}
	return w, func() error {
		err := startProcess(w.cmd)
		childIn.Close()
		childOut.Close()
		childErr.Close()
		if err != nil {
			stdin.Close()
			stdout.Close()
			stderr.Close()
		}
		return err
	}, nil
}

// reap waits for the process, after it has died or has been killed, and for the end of its stderr.
func (w *worker) reap() {
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		w.readStderr()
	}()
	waitUnreaped(w.cmd.Process.Pid)
	w.mu.Lock()
	// The dead process still holds its id: no other process can get the signal.
	killGroup(w.cmd.Process.Pid)
	_ = w.cmd.Wait()
	w.waited = true
	w.mu.Unlock()
	// A process that left the group may hold the pipe open.
	_ = w.stderr.SetReadDeadline(time.Now().Add(time.Second))
	<-drained
	w.stderr.Close()
	close(w.exited)
}

// readStderr keeps the first bytes of stderr and drops the rest, until it is closed.
func (w *worker) readStderr() {
	buffer := make([]byte, 1<<10)
	for {
		n, err := w.stderr.Read(buffer)
		w.mu.Lock()
		w.stderrStart = append(w.stderrStart, buffer[:min(n, maxStderr-len(w.stderrStart))]...)
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// stderrText returns the start of what the worker wrote to stderr.
func (w *worker) stderrText() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.ToValidUTF8(string(bytes.TrimSpace(w.stderrStart)), "?")
}

// end kills the worker and closes its pipes, which ends reads and writes under way. It
// returns the reason of its first call.
func (w *worker) end(reason string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.reason != "" {
		return w.reason
	}
	w.reason = reason
	if !w.waited {
		killGroup(w.cmd.Process.Pid)
	}
	w.stdin.Close()
	w.stdout.Close()
	close(w.ending)
	return reason
}

// dyingTime is how long a process has to be gone after it closed its output.
const dyingTime = time.Second

// diedOf reports whether the process, whose output has ended, died of a signal before it was killed here.
func (w *worker) diedOf(signal syscall.Signal, within time.Duration) bool {
	select {
	case <-w.exited:
	case <-w.ending:
		return false
	case <-time.After(within): // it lives
		return false
	}
	status, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == signal
}

// waitReady reads the frame that says that the worker is ready. An error says what to do.
func (w *worker) waitReady(timeout time.Duration) error {
	var frame [readyLen]byte
	_ = w.stdout.SetReadDeadline(time.Now().Add(timeout))
	_, err := io.ReadFull(w.stdout, frame[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it was not ready after %s", timeout)
	case err != nil:
		return w.earlyExit()
	}
	_ = w.stdout.SetReadDeadline(time.Time{})
	w.ready, err = parseReady(frame[:])
	w.since = time.Now()
	return err
}

// earlyExit says how a worker ended that closed its output before it was ready.
func (w *worker) earlyExit() error {
	w.end(EndCrash) // it may have closed only its output
	<-w.exited
	line, _, _ := strings.Cut(w.stderrText(), "\n")
	if line == "" {
		line = "it wrote nothing to stderr"
	}
	return fmt.Errorf("it ended before it was ready (%s): %s", w.cmd.ProcessState, line)
}

// startError says what to do about a program that cannot be executed.
func startError(path string, err error) error {
	_, missing := os.Stat(path)
	switch {
	case errors.Is(missing, fs.ErrNotExist):
		return fmt.Errorf("%s: no such file: build it with make worker, or correct the path", path)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: the dynamic loader that it needs is not installed: "+
			"use a worker built for this system: %w", path, err)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: it cannot be executed: give the file of make worker, "+
			"and let the user of ixmage execute it (chmod +x): %w", path, err)
	case errors.Is(err, syscall.ENOEXEC):
		return fmt.Errorf("%s: it is not a program for this machine: %w", path, err)
	default:
		return fmt.Errorf("start %s: %w", path, err)
	}
}
