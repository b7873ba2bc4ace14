package transform

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeParent is a server that is killed: it prints the process id of a worker that does a job.
func fakeParent() {
	p, err := Start(context.Background(), Config{
		Path: os.Args[0], Memory: -1, tune: tune{args: []string{"fake-worker", "ok"}, start: time.Minute},
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		exit(1)
	}
	fmt.Fprintln(os.Stdout, p.spares[0].cmd.Process.Pid)
	pause()
}

// TestDeathOfParent: workers die with a server that is killed.
func TestDeathOfParent(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], "parent")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, _ := bufio.NewReader(out).ReadString('\n')
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err, line)
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	awaitExit(t, fd)
}

// TestThreads: workers live on when threads of the server end.
func TestThreads(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	cfg.Workers = 2
	p := startFakes(t, cfg)
	e.until(func() bool { return p.Stats().Spares == 2 })
	var ended sync.WaitGroup
	for range 100 {
		ended.Go(runtime.LockOSThread) // and ends, with its thread
	}
	ended.Wait()
	r, err := p.Do(t.Context(), command(1, "pid -", 0))
	pid := number(t, r, err)
	for range 100 {
		ended.Go(runtime.LockOSThread)
	}
	ended.Wait()
	for range 10 {
		r, err := p.Do(t.Context(), command(1, "pid -", 0))
		if got := number(t, r, err); got != pid {
			t.Fatalf("the job ran in process %d, and not in %d", got, pid)
		}
	}
	if got := e.ended(); got != "map[]" {
		t.Errorf("workers ended: %s", got)
	}
}
