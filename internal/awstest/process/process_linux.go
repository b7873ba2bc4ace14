package process

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// dieWithParent makes the kernel kill the child when this process ends, in
// whatever way: a test that times out or is killed runs no cleanup. Because the
// child has its own session, Ctrl-C in the terminal signals only this process,
// which then stops its children in order, and the kernel shares the processors
// as among services (autogroup, sched(7)): workers of ixmage, which run at nice 10,
// yield to their server, and not to every test.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setsid = syscall.SIGKILL, true
}

// childrenOf lists the children of a process.
func childrenOf(pid int) (pids []int) {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid)) // the pattern is valid
	for _, list := range lists {
		b, _ := os.ReadFile(list) // the process may have ended
		for field := range bytes.FieldsSeq(b) {
			if child, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// stopped reports whether a process was stopped by a signal or has ended.
func stopped(pid int) bool {
	s := state(pid)
	return s == 'T' || s == 't' || s == 'Z' || s == 0
}

// ended reports whether a process has ended, waited for or not.
func ended(pid int) bool {
	s := state(pid)
	return s == 'Z' || s == 0
}

// state is the letter of proc(5), 0 for no process.
func state(pid int) byte {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)) // no file: no process
	// The name before it may hold anything.
	if _, fields, ok := bytes.Cut(b[bytes.LastIndexByte(b, ')')+1:], []byte(" ")); ok {
		return fields[0]
	}
	return 0
}
