package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, script string, stdout io.Writer) *Child {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	cmd.Stdout = stdout
	c, err := Start("the shell", cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func TestChildEnds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, script, want string
	}{
		{name: "with status 0", script: "exit 0", want: "exit status 0"},
		{name: "with a failure", script: "exit 3", want: "exit status 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := start(t, tt.script, nil)
			<-c.Done()
			if got := c.Err().Error(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			if err := c.Stop(); err != nil {
				t.Errorf("stop a child that has ended: %v", err)
			}
		})
	}
	if c := start(t, "exit 0", nil); !errors.Is(c.Err(), ErrExited) {
		t.Errorf("got %v, want ErrExited", c.Err())
	}
}

// TestChildOutput: both streams go to Output, and standard output also to the
// writer of the command.
func TestChildOutput(t *testing.T) {
	t.Parallel()
	var stdout bytes.Buffer
	c := start(t, "echo out; echo err >&2", &stdout)
	<-c.Done()
	if got := stdout.String(); got != "out\n" {
		t.Errorf("standard output is %q", got)
	}
	if got := c.Output(); !strings.Contains(got, "out\n") || !strings.Contains(got, "err\n") {
		t.Errorf("Output is %q, want both streams", got)
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	c := start(t, "exec sleep 1000", nil)
	if err := c.Stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	default:
		t.Error("Stop has returned before the child has ended")
	}
}

func TestStartMissingProgram(t *testing.T) {
	t.Parallel()
	_, err := Start("nothing", exec.Command("/nonexistent"))
	if err == nil || !strings.Contains(err.Error(), "start nothing") {
		t.Errorf("got %v, want an error that names the child", err)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var end tail
	for range 3 {
		_, _ = end.Write(bytes.Repeat([]byte("x"), tailSize/2))
	}
	_, _ = end.Write([]byte("last"))
	if got := end.String(); len(got) != tailSize || !strings.HasSuffix(got, "xlast") {
		t.Errorf("got %d bytes ending in %q, want the last %d", len(got), got[max(0, len(got)-8):], tailSize)
	}
}

// TestTree: a signal reaches the children of a child that have left its process group, and KillTree
// ends them.
func TestTree(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("SKIPPED, NOT TESTED: only Linux lists children")
	}
	c := start(t, "setsid sleep 1000 & echo started; wait", nil)
	if err := c.WaitReady(t.Context(), func(context.Context) bool { return len(childrenOf(c.Pid())) == 1 }); err != nil {
		t.Fatal(err)
	}
	child := childrenOf(c.Pid())[0]
	c.SignalTree(syscall.SIGSTOP)
	if err := c.WaitReady(t.Context(), func(context.Context) bool { return stopped(child) }); err != nil {
		t.Fatal(err)
	}
	c.SignalTree(syscall.SIGCONT)
	if err := c.WaitReady(t.Context(), func(context.Context) bool { return !stopped(child) && !stopped(c.Pid()) }); err != nil {
		t.Fatal(err)
	}
	c.KillTree()
	if !ended(child) {
		t.Error("the child of the child runs")
	}
	c.KillTree() // a second call does nothing
}

// TestDetached: the end of a program is noticed, and its folder goes with it.
func TestDetached(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "folder")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	d, err := StartDetached("the shell", "TERM", dir, exec.Command("/bin/sh", "-c", "echo no; exit 3"))
	if err != nil {
		t.Fatal(err)
	}
	err = d.WaitReady(t.Context(), func(context.Context) bool { return false })
	if err == nil || !strings.Contains(err.Error(), "the shell") || !strings.Contains(err.Error(), "ended at once") ||
		!strings.Contains(err.Error(), "no\n") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the folder: %v", err)
	}
}
