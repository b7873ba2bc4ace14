package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
)

// untilExit runs a program until file 3 ends, which the parent of the shell holds open, ends it by
// a signal and removes a folder.
const untilExit = `signal=$1 dir=$2
shift 2
"$@" 3<&- &
program=$!
{ read -r _; kill -s "$signal" $program; } <&3 &
wait $program
kill $!
cd / && rm -rf "$dir"`

// Detached is a process that ends with this process and needs no Stop. No goroutine waits for it,
// so that the tests of a package may share it and look for leaks.
type Detached struct {
	name string
	pid  int
	log  *os.File // may be removed already
}

// held keeps the write ends of the pipes open until this process ends.
var held struct {
	sync.Mutex
	files []*os.File
}

// StartDetached starts a program that is sent a signal (its name without SIG) when this process
// ends, in whatever way. Then dir is removed, where its output is in the file log.
func StartDetached(name, signal, dir string, cmd *exec.Cmd) (*Detached, error) {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	held.Lock()
	held.files = append(held.files, w)
	held.Unlock()
	shell := exec.Command("/bin/sh", append([]string{"-c", untilExit, "sh", signal, dir, cmd.Path}, cmd.Args[1:]...)...)
	shell.Dir, shell.Env, shell.SysProcAttr = cmd.Dir, cmd.Env, cmd.SysProcAttr
	if shell.SysProcAttr == nil {
		shell.SysProcAttr = &syscall.SysProcAttr{}
	}
	shell.SysProcAttr.Setpgid = true // Ctrl-C ends this process first
	shell.ExtraFiles, shell.Stdout, shell.Stderr = []*os.File{r}, log, log
	if err := shell.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	d := &Detached{name: name, pid: shell.Process.Pid, log: log}
	return d, shell.Process.Release()
}

// Output is the output of the program so far.
func (d *Detached) Output() string {
	b, _ := io.ReadAll(io.NewSectionReader(d.log, 0, math.MaxInt64)) // what was read is enough for a message
	return string(b)
}

// WaitReady is Child.WaitReady.
func (d *Detached) WaitReady(ctx context.Context, is func(context.Context) bool) error {
	err := waitReady(ctx, is, func() error {
		if ended(d.pid) {
			return errors.New("it ended at once")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("wait for %s: %w; its output: %s", d.name, err, d.Output())
	}
	return nil
}
