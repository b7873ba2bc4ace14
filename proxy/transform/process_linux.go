package transform

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supported is nil where workers can be confined.
var supported error

// processAttr puts a worker into a process group of its own, and lets it die with the thread
// that started it (forker).
func processAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// startProcess starts a process with its three descriptors only. Those that this process was
// started with may lack the flag that closes them.
func startProcess(cmd *exec.Cmd) error {
	_ = unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC) // Linux 5.11; workers need more
	return cmd.Start()
}

// priority is the nice value of workers. With it they get a tenth of a processor that answers from
// the cache keep busy, and all of it otherwise.
const priority = 10

// limit bounds a process before it gets its first picture. The worker sets the other limits.
func limit(pid int, memory int64) error {
	space := unix.Rlimit{Cur: uint64(memory), Max: uint64(memory)}
	return errors.Join(
		unix.Prlimit(pid, unix.RLIMIT_AS, &space, nil),
		unix.Prlimit(pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil),
		unix.Setpriority(unix.PRIO_PROCESS, pid, priority))
}

// waitUnreaped waits until a child has died, and leaves it a zombie.
func waitUnreaped(pid int) {
	err := error(unix.EINTR)
	for errors.Is(err, unix.EINTR) {
		err = unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
	}
}

// killGroup kills a process that has not been waited for, and all of its group.
func killGroup(pid int) { _ = unix.Kill(-pid, unix.SIGKILL) }

// resident returns how much memory the worker has, in bytes, or 0 if the kernel does not tell. The
// worker's own figure (ru_maxrss) is no use: it begins with the memory of the process that
// started it, which is the server with its cache.
func (w *worker) resident() int64 {
	statm, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", w.cmd.Process.Pid))
	fields := bytes.Fields(statm)
	if err != nil || len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// scheduled returns the processor time of the worker, or zeros if the kernel does not tell (schedstat of
// each thread: time on a processor, time of waiting for one, both in nanoseconds).
func (w *worker) scheduled() (t processorTime) {
	pid := w.cmd.Process.Pid
	var used unix.Timespec
	const clockOfProcess = 2 // CPUCLOCK_SCHED; see clock_getcpuclockid(3)
	if unix.ClockGettime(int32(^pid<<3|clockOfProcess), &used) == nil {
		t.used = time.Duration(used.Nano())
	}
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, file := range files {
		text, _ := os.ReadFile(file)
		if fields := bytes.Fields(text); len(fields) > 1 {
			ns, _ := strconv.ParseInt(string(fields[1]), 10, 64)
			t.waited += time.Duration(ns)
		}
	}
	return t
}

// unread returns how many bytes wait in a pipe.
func (w *worker) unread() (n int) {
	raw, err := w.stdout.SyscallConn()
	if err != nil {
		return 0
	}
	_ = raw.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n
}
