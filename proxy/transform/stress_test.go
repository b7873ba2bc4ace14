package transform

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// stressJobs is how many jobs TestStress does. make test-long sets IXMAGE_JOBS.
func stressJobs(t *testing.T) int {
	text := os.Getenv("IXMAGE_JOBS")
	if text == "" {
		return 2000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStress: with all faults at random times, every job ends, results are right, every process
// that started has ended and been waited for, and no goroutine or descriptor is left.
func TestStress(t *testing.T) { //nolint:paralleltest // it counts what the process has
	ignore := goleak.IgnoreCurrent()
	before := descriptors(t)
	cfg, e := fakeConfig(t, "ok")
	cfg.Workers, cfg.Timeout, cfg.tune.jobs, cfg.tune.turn = 4, time.Second, 100, 10*time.Millisecond
	p, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	faults := strings.Fields("exit half shut flood short more last noise early status fork deaf")
	const callers = 8
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			r := rand.New(rand.NewPCG(uint64(caller), 7))
			for n := range stressJobs(t) / callers {
				owner := r.Int64N(3)
				words, size := "owner "+strconv.FormatInt(owner, 10), 1<<r.IntN(18)
				ctx, cancel := context.WithCancel(t.Context())
				if r.IntN(100) == 0 {
					words = fmt.Sprintf("%s %d", faults[r.IntN(len(faults))], 100000+1000*caller+n)
					cancel = cancelAfter(cancel, time.Duration(r.IntN(50))*time.Millisecond)
				}
				j := command(owner, words, size)
				if strings.HasPrefix(words, "owner") { // its worker may die after the job before
					j.Source.ID = ""
				}
				result, err := p.Do(ctx, j)
				cancel()
				if err == nil && strings.HasPrefix(words, "owner") && (len(result.Body) != 300 || result.Body[0] != 1) {
					t.Errorf("%s: %d bytes, %x", words, len(result.Body), result.Body)
				}
			}
		})
	}
	all.Wait()
	s := p.Stats()
	p.Close()
	if s.Busy != 0 || s.Queued != 0 {
		t.Errorf("%+v after all jobs", s)
	}
	ended := 0
	for _, n := range e.ends {
		ended += n
	}
	if ended != e.started {
		t.Errorf("%d workers started, and %d ended: %v", e.started, ended, e.ends)
	}
	for _, pid := range children(t) {
		t.Errorf("process %s is left", pid)
	}
	goleak.VerifyNone(t, ignore)
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	t.Log(e.jobs, e.ends)
}

// cancelAfter cancels after some time, or when it is called.
func cancelAfter(cancel context.CancelFunc, d time.Duration) context.CancelFunc {
	timer := time.AfterFunc(d, cancel)
	return func() {
		timer.Stop()
		cancel()
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("descriptors cannot be counted: %v", err)
	}
	return len(entries)
}

// children returns the process ids of fake workers that are children of this process, zombies
// included.
func children(t *testing.T) (pids []string) {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		b, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/children") // an ended thread has none
		pids = append(pids, strings.Fields(string(b))...)
	}
	return pids
}

// TestZombies: an idle worker that is killed from outside is found and waited for.
func TestZombies(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	r, err := p.Do(t.Context(), command(1, "pid -", 0))
	pid := number(t, r, err)
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return e.ended() == "map[crash:1]" })
	if err := unix.Kill(pid, 0); err != unix.ESRCH {
		t.Errorf("process %d: %v", pid, err)
	}
	r, err = p.Do(t.Context(), command(1, "pid -", 0))
	if number(t, r, err) == pid {
		t.Error("a dead worker answered")
	}
}
