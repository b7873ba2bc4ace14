package workertest

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"ixmage/internal/awstest/process"
)

// TestSandboxFromInside tries in the sandbox what a picture that has taken over the worker
// would try. "killed" is SIGSYS, the rest are errors of the call. Landlock alone, without
// seccomp, must stop what is a file, a connection or another process.
func TestSandboxFromInside(t *testing.T) {
	t.Parallel()
	const killed, denied, absent, forbidden = "killed", "Permission denied", "Function not implemented", "Operation not permitted"
	tests := map[string]struct{ all, landlock string }{
		"read a file":                            {absent, denied},
		"write a file":                           {absent, denied},
		"list a folder":                          {absent, denied},
		"read memory of the parent":              {absent, denied},
		"connect":                                {killed, denied},
		"socket":                                 {killed, ""},
		"unix socket":                            {killed, ""},
		"socket pair":                            {killed, ""},
		"fork":                                   {killed, ""},
		"fork by clone3":                         {absent, ""},
		"exec":                                   {killed, denied},
		"trace the parent":                       {killed, forbidden},
		"read another process":                   {killed, forbidden},
		"write another process":                  {killed, forbidden},
		"kill the parent":                        {killed, forbidden},
		"kill all":                               {killed, ""},
		"signal a thread of the parent":          {killed, forbidden},
		"signal itself":                          {"done", ""}, // abort needs it
		"writable code":                          {denied, ""},
		"code from data":                         {denied, ""},
		"file in memory":                         {killed, ""},
		"io_uring":                               {killed, ""},
		"namespaces":                             {killed, ""},
		"raise its memory":                       {forbidden, ""},
		"raise its processor time":               {"done", ""},    // a backstop, not a border: the parent's deadline is
		"limit the processor time of the parent": {forbidden, ""}, // it would be killed
		"2 GiB":                                  {"Cannot allocate memory", ""},
		"a debuggable process":                   {absent, ""},
		"an unknown call":                        {absent, ""},
	}
	if runtime.GOARCH == "amd64" {
		tests["a call of 32 bits"] = struct{ all, landlock string }{killed, ""}
		tests["a call of x32"] = struct{ all, landlock string }{killed, ""}
	}
	probe := built(t, "ixmage-worker-probe")
	for action, want := range tests {
		t.Run(action, func(t *testing.T) {
			t.Parallel()
			if got := try(t, probe, "all", action); got != want.all {
				t.Errorf("in the sandbox: %s, want %s", got, want.all)
			}
			if want.landlock == "" {
				return
			}
			if got := try(t, probe, "landlock", action); got != want.landlock {
				t.Errorf("with Landlock alone: %s, want %s", got, want.landlock)
			}
		})
	}
}

// try runs the probe and says what became of the action.
func try(t *testing.T, probe, mode, action string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), probe, mode, action).Output()
	exit := &exec.ExitError{}
	if errors.As(err, &exit) {
		signal := exit.Sys().(syscall.WaitStatus).Signal()
		if signal == syscall.SIGSYS || signal == syscall.SIGSEGV && action == "a call of 32 bits" { // the kernel has none
			return "killed"
		}
	}
	if err != nil {
		t.Fatalf("%v: %s", err, exit.Stderr)
	}
	return string(out)
}

// TestNeverWithoutSandbox: on a kernel that lacks a part of it the worker does not start.
func TestNeverWithoutSandbox(t *testing.T) {
	t.Parallel()
	probe, worker := built(t, "ixmage-worker-probe"), built(t, "ixmage-worker")
	for call, part := range map[string]string{
		"landlock":    "Landlock is absent",
		"restriction": "Landlock's restriction",
		"seccomp":     "seccomp",
		"limits":      "limit of the address space",
		"close_range": "closing of inherited files",
		"prctl":       "death with the parent",
	} {
		t.Run(call, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), probe, "without", call, worker)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != 3 {
				t.Errorf("exit code %d, want 3", code)
			}
			if stdout.Len() > 0 {
				t.Errorf("%d bytes on stdout, want no ready frame", stdout.Len())
			}
			if text := stderr.String(); !strings.Contains(text, "the sandbox cannot be set up: "+part) || strings.Count(text, "\n") != 1 {
				t.Errorf("stderr is %q, want one line that names %q", text, part)
			}
		})
	}
}

// TestStatus reads what the kernel says of the running worker.
func TestStatus(t *testing.T) {
	t.Parallel()
	c := start(t)
	source := quarters400()
	c.do(plain(source, webpType), source, nil)
	proc := fmt.Sprintf("/proc/%d/", c.cmd.Process.Pid)
	status := readFile(t, proc+"status")
	for _, line := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapPrm:\t0000000000000000", "CapEff:\t0000000000000000"} {
		if !strings.Contains(status, line) {
			t.Errorf("%sstatus has no line %q", proc, line)
		}
	}
	limits := readFile(t, proc+"limits")
	for name, want := range map[string]string{"Max address space": "1073741824", "Max core file size": "0", "Max file size": "0", "Max open files": "3"} {
		_, line, _ := strings.Cut(limits, name)
		if fields := strings.Fields(line); len(fields) < 2 || fields[0] != want || fields[1] != want {
			t.Errorf("%s is %v, want %s for both", name, fields, want)
		}
	}
	if group, err := syscall.Getpgid(c.cmd.Process.Pid); err != nil || group != c.cmd.Process.Pid {
		t.Errorf("process group %d, %v; want its own", group, err)
	}
	files, err := os.ReadDir(proc + "fd")
	if err != nil {
		t.Skipf("as this user: %v", err) // the worker is not dumpable, so its files are root's to see
	}
	if len(files) != 3 {
		t.Errorf("%d open files, want 3", len(files))
	}
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestUnprivileged: the sandbox stands without any capability, and no process of the same user can
// look into the worker.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can start a program as another user; the other tests run without root then")
	}
	built(t, "ixmage-worker")
	folder := t.TempDir()
	for name := range strings.FieldsSeq("ixmage-worker libvips-cpp.so.8.18.7") {
		if body, err := os.ReadFile(bin + name); err == nil {
			if err := process.WriteProgram(folder+"/"+name, body, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, open := range []string{folder, filepath.Dir(folder)} { // t.TempDir is closed to others
		if err := os.Chmod(open, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), folder+"/ixmage-worker")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 48)); err != nil {
		t.Fatalf("no ready frame: %v", err)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the memory of the worker belongs to its user, %v; want root's", err)
	}
	_ = in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestDiesWithParent: a worker whose parent is killed ends, although its stdin stays open.
func TestDiesWithParent(t *testing.T) {
	t.Parallel()
	worker := built(t, "ixmage-worker")
	// The shell is the parent. It tells when the worker may be orphaned: after the ready frame.
	stdin, keep, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = stdin.Close(), keep.Close() }()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `"$0" <&3 & wait`, worker)
	cmd.ExtraFiles = []*os.File{stdin}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read := bufio.NewReader(out)
	if _, err := io.ReadFull(read, make([]byte, 48)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// Only the worker still holds stdout: its end is the worker's.
	if n, err := io.Copy(io.Discard, read); err != nil || n != 0 {
		t.Errorf("%d bytes, %v; want the end of stdout", n, err)
	}
	_ = cmd.Wait()
}

// TestInherits: a lower limit of the parent stays, and nothing of the environment is used.
func TestInherits(t *testing.T) {
	t.Parallel()
	worker := built(t, "ixmage-worker")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `ulimit -v 524288; exec "$0" 9</dev/null`, worker)
	cmd.Env = []string{"VIPS_WARNING=1", "G_MESSAGES_DEBUG=all", "VIPS_TRACE=1", "VIPS_INFO=1", "VIPS_LEAK=1", "VIPSHOME=/tmp"}
	c := startCommand(t, cmd)
	if limits := readFile(t, fmt.Sprintf("/proc/%d/limits", cmd.Process.Pid)); !strings.Contains(limits, "536870912") {
		t.Error("the address space is not limited to 512 MiB")
	}
	c.do(plain(quarters400(), jpegType), quarters400(), nil) // VIPS_TRACE would print among the frames
	if code := c.end(); code != 0 || c.stderr.Len() > 0 {
		t.Errorf("exit code %d, stderr %q; want 0 and nothing", code, &c.stderr)
	}
}
