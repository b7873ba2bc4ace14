package transform

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"golang.org/x/sys/unix"
)

// TestMisbehaviour: whatever a worker does, its job gets the right error, the worker ends for the
// right reason, and the next job of the pool is done. A picture that killed its worker is
// remembered, and one that was only refused is not.
func TestMisbehaviour(t *testing.T) {
	t.Parallel()
	const big = 1 << 20 // more than pipes hold
	for _, tc := range []struct {
		words  string
		size   int    // of the source
		output Format // Raw by default
		want   error
		ended  string
		killed bool // and remembered
	}{
		{words: "ok -", ended: "map[]"},
		{words: "early -", size: big, ended: "map[]"}, // the answer comes before the source is read
		{words: "noise -", ended: "map[]"},
		{words: "status 1", want: &RefusedError{Why: TooLarge}, ended: "map[]"},
		{words: "status 2", want: &RefusedError{Why: Broken}, ended: "map[]"},
		{words: "status 3", want: &RefusedError{Why: Unsupported}, ended: "map[]"},
		{words: "status 4", want: &RefusedError{Why: CropOutside}, ended: "map[]"},
		{words: "status 5", want: &RefusedError{Why: ResultTooLarge}, ended: "map[]"},
		{words: "status 6", want: ErrInternal, ended: "map[internal:1]"},
		{words: "status 7", want: ErrAnswer, ended: "map[answer:1]", killed: true},
		{words: "status 4294967295", want: ErrAnswer, ended: "map[answer:1]", killed: true},

		{words: "hang -", want: ErrTimeout, ended: "map[deadline:1]", killed: true},
		{words: "deaf -", size: big, want: ErrTimeout, ended: "map[deadline:1]", killed: true}, // never reads
		{words: "short -", want: ErrTimeout, ended: "map[deadline:1]", killed: true},
		{words: "escape -", ended: "map[]"},
		{words: "exit 0", want: ErrCrashed, ended: "map[crash:1]", killed: true},
		{words: "exit 9", want: ErrCrashed, ended: "map[crash:1]", killed: true},
		{words: "half -", want: ErrCrashed, ended: "map[crash:1]", killed: true},
		{words: "shut -", want: ErrCrashed, ended: "map[crash:1]", killed: true},
		{words: "flood -", want: ErrAnswer, ended: "map[answer:1]", killed: true},

		{words: "number 0=0", want: ErrAnswer, ended: "map[answer:1]", killed: true},          // magic
		{words: "number 2=301", want: ErrAnswer, ended: "map[answer:1]", killed: true},        // length
		{words: "number 2=299", want: ErrAnswer, ended: "map[answer:1]", killed: true},        //
		{words: "number 2=4294967295", want: ErrAnswer, ended: "map[answer:1]", killed: true}, //
		{words: "number 3=11", want: ErrAnswer, ended: "map[answer:1]", killed: true},         // width
		{words: "number 4=9", want: ErrAnswer, ended: "map[answer:1]", killed: true},          // height
		{words: "number 5=2", want: ErrAnswer, ended: "map[answer:1]", killed: true},          // frames
		{words: "number 6=999", want: ErrAnswer, ended: "map[answer:1]", killed: true},        // width of the source
		{words: "number 8=9", want: ErrAnswer, ended: "map[answer:1]", killed: true},          // orientation
		{words: "number 10=2", want: ErrAnswer, ended: "map[answer:1]", killed: true},         // alpha
		{words: "number 11=4294967295", ended: "map[]"},                                       // time is only cut
		{words: "number 13=1", want: errOtherJob, ended: "map[answer:1]"},                     // and one more
		{words: "picture 1", output: JPEG, ended: "map[]"},
		{words: "picture 2", output: PNG, ended: "map[]"},
		{words: "picture 1", output: PNG, want: ErrAnswer, ended: "map[answer:1]", killed: true},
		{words: "picture 6", output: GIF, want: ErrAnswer, ended: "map[answer:1]", killed: true}, // an SVG
		{words: "picture 5", output: PNG, want: ErrAnswer, ended: "map[answer:1]", killed: true}, // no byte
	} {
		t.Run(tc.words+" "+tc.output.String(), func(t *testing.T) {
			t.Parallel()
			cfg, e := fakeConfig(t, "ok")
			if errors.Is(tc.want, ErrTimeout) {
				cfg.Timeout = 100 * time.Millisecond
			}
			if tc.words == "shut -" { // it lives, however long it is waited for
				cfg.tune.dying = time.Millisecond
			}
			p := startFakes(t, cfg)
			j := command(1, tc.words, tc.size)
			if tc.output != 0 {
				j.Task.Output = tc.output
			}
			_, err := p.Do(t.Context(), j)
			var refused *RefusedError
			if errors.As(err, &refused) && !reflect.DeepEqual(err, tc.want) || refused == nil && !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if Killed(err) != tc.killed {
				t.Errorf("killed: %v, want %v", Killed(err), tc.killed)
			}
			e.until(func() bool { return len(e.ended()) >= len(tc.ended) })
			if got := e.ended(); got != tc.ended {
				t.Errorf("workers ended: %s, want %s", got, tc.ended)
			}
			if tc.killed {
				_, err := p.Do(t.Context(), j)
				wantError(t, err, ErrRemembered)
			}
			p.cfg.Timeout = time.Minute
			if _, err := p.Do(t.Context(), command(1, "ok +", 0)); err != nil {
				t.Errorf("the next job: %v", err)
			}
		})
	}
}

// TestSuspects: a picture is not to blame for one SIGKILL, nor for one answer to the job before, and is for
// the second one. Any other death counts at once.
func TestSuspects(t *testing.T) {
	t.Parallel()
	for words, ended := range map[string]string{"killed -": "map[crash:2]", "number 13=4294967295": "map[answer:2]"} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			cfg, e := fakeConfig(t, "ok")
			p := startFakes(t, cfg)
			j := command(1, words, 0)
			do := func(want error) {
				t.Helper()
				j.Source.Reader = command(1, words, 0).Source.Reader
				_, err := p.Do(t.Context(), j)
				wantError(t, err, want)
			}
			do(ErrOverloaded)
			if p.KilledBy(1, j.Source.ID, "") {
				t.Error("the picture is blamed for the first death")
			}
			do(ErrCrashed)
			do(ErrRemembered)
			e.until(func() bool { return e.ended() == ended })
			if got := e.outcomes(); got != "map[crashed:2 refused:1]" {
				t.Errorf("outcomes %s", got)
			}
		})
	}
}

// TestUntouched: a worker that writes beyond its answer, or dies after it, ends before it gets
// another job, which another worker does. The next picture is no killer.
func TestUntouched(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	w := p.spares[0]
	if _, err := p.Do(t.Context(), command(1, "more -", 0)); err != nil {
		t.Fatal(err)
	}
	for w.unread() < 1 { // the second answer may be on its way
		runtime.Gosched()
	}
	if _, err := p.Do(t.Context(), command(1, "last -", 0)); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return e.ended() == "map[answer:1 crash:1]" })
	if _, err := p.Do(t.Context(), command(1, "ok -", 0)); err != nil {
		t.Fatal(err)
	}
	if got := e.outcomes(); got != "map[ok:3]" {
		t.Errorf("outcomes %s", got)
	}
}

// TestSource: a source that fails, ends early or panics ends its worker, but is no killer.
func TestSource(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]io.Reader{
		"fails":      iotest.ErrReader(errors.New("disk error")),
		"ends early": strings.NewReader("ok -"),
		"panics":     nil,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, e := fakeConfig(t, "ok")
			p := startFakes(t, cfg)
			j := command(1, "ok -", 1000)
			j.Source.Reader = r
			_, err := p.Do(t.Context(), j)
			wantError(t, err, ErrSource)
			if Killed(err) || e.outcomes() != "map[failed:1]" {
				t.Errorf("killed %v, outcomes %s", Killed(err), e.outcomes())
			}
			e.until(func() bool { return e.ended() == "map[source:1]" })
			if _, err = p.Do(t.Context(), command(1, "ok -", 1000)); err != nil {
				t.Errorf("the next job: %v", err)
			}
		})
	}
}

// TestSlowSource: a source that is not there at the deadline is no killer, and takes a worker's
// place no longer. Do returns when the source is not read any more.
func TestSlowSource(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	j, g := gated(command(1, "ok -", 1000))
	errs := make(chan error, 1)
	ctx, expire := context.WithCancelCause(t.Context())
	go func() {
		_, err := p.Do(ctx, j)
		errs <- err
	}()
	<-g.begun
	expire(ErrTimeout) // as the deadline does, and not before the source is being read
	e.until(func() bool { return p.Stats().Busy == 0 && e.ended() == "map[source:1]" })
	select {
	case err := <-errs:
		t.Fatalf("Do returned %v while the source was being read", err)
	default:
	}
	close(g.open)
	err := <-errs
	wantError(t, err, ErrSource)
	if Killed(err) || !strings.Contains(err.Error(), "not complete at the deadline") {
		t.Error(err)
	}
}

// TestAbandoned: the end of its context kills the worker of a job, and only takes a waiting job
// out of the queue.
func TestAbandoned(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	ctx, cancel := context.WithCancelCause(t.Context())
	waiting, leave := context.WithCancel(t.Context())
	errs, left := make(chan error), make(chan error)
	j, g := gated(command(1, "hang -", 0))
	go func() {
		_, err := p.Do(ctx, j)
		errs <- err
	}()
	<-g.begun // from then on its end is that of the worker
	close(g.open)
	go func() {
		_, err := p.Do(waiting, command(1, "ok -", 0))
		left <- err
	}()
	e.until(func() bool { return p.Stats().Queued == 1 })
	leave()
	wantError(t, <-left, context.Canceled)
	if got := p.Stats(); got.Queued != 0 || got.Busy != 1 || e.ended() != "map[]" {
		t.Errorf("after a waiting job left: %+v, ended %s", got, e.ended())
	}
	gone := errors.New("no waiter is left")
	cancel(gone)
	err := <-errs
	wantError(t, err, gone)
	if Killed(err) || e.outcomes() != "map[abandoned:2]" {
		t.Errorf("killed %v, outcomes %s", Killed(err), e.outcomes())
	}
	e.until(func() bool { return e.ended() == "map[abandoned:1]" })
	if _, err = p.Do(t.Context(), command(1, "ok -", 0)); err != nil {
		t.Errorf("the next job: %v", err)
	}
}

// TestGrandchild: what a worker has started dies with it, and a process that left its group keeps
// nothing waiting.
func TestGrandchild(t *testing.T) {
	t.Parallel()
	for _, words := range []string{"fork -", "escape -"} {
		t.Run(words, func(t *testing.T) {
			t.Parallel()
			cfg, e := fakeConfig(t, "ok")
			p := startFakes(t, cfg)
			r, err := p.Do(t.Context(), command(1, words, 0))
			pid := number(t, r, err)
			fd, err := unix.PidfdOpen(pid, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			p.cfg.Timeout = 50 * time.Millisecond
			_, err = p.Do(t.Context(), command(1, "hang -", 0))
			wantError(t, err, ErrTimeout)
			if words == "escape -" { // only the sandbox can forbid that
				if err := unix.Kill(pid, 0); err != nil {
					t.Fatalf("the process that left the group: %v", err)
				}
				e.until(func() bool { return e.ended() == "map[deadline:1]" })
				_ = unix.Kill(pid, unix.SIGKILL)
			}
			awaitExit(t, fd)
		})
	}
}

// awaitExit waits for the end of the process of a pidfd.
func awaitExit(t *testing.T, fd int) {
	t.Helper()
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if n == 1 {
			return
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
	}
}

// TestConfined: a worker has three descriptors, one variable, the root folder, a process group
// and limits of its own, whatever the server inherited.
func TestConfined(t *testing.T) {
	t.Parallel()
	inherited, err := unix.Open("/dev/null", unix.O_RDONLY, 0) // without O_CLOEXEC
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(inherited)
	cfg, _ := fakeConfig(t, "ok")
	cfg.Memory = 64 << 30 // a binary with the race detector needs much
	if raceEnabled {
		cfg.Memory = -1
	}
	p := startFakes(t, cfg)
	j := command(1, "confined -", 0)
	j.Task.Height = 30
	r, err := p.Do(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Env, FDs []string
		Dir      string
		Group    bool
		AS, Core uint64
		Nice     int
	}
	if err := json.Unmarshal([]byte(strings.TrimRight(string(r.Body), "\x00")), &got); err != nil {
		t.Fatalf("%v in %s", err, r.Body)
	}
	if want := []string{"MALLOC_ARENA_MAX=2"}; !reflect.DeepEqual(got.Env, want) {
		t.Errorf("environment %q, want %q", got.Env, want)
	}
	// Those after the first three are the runtime's of the fake.
	all := strings.Join(got.FDs, ", ")
	if !strings.HasPrefix(all, "0 pipe, 1 pipe, 2 pipe") || strings.Contains(all, "/dev/null") || strings.Count(all, "pipe") > 3 {
		t.Errorf("descriptors %s", all)
	}
	if got.Dir != "/" || !got.Group {
		t.Errorf("%+v", got)
	}
	if cfg.Memory > 0 && (got.AS != uint64(cfg.Memory) || got.Core != 0) {
		t.Errorf("address space %d, core %d", got.AS, got.Core)
	}
	if cfg.Memory > 0 && got.Nice != 10 {
		t.Errorf("nice is %d, want 10: workers leave the processors to answers from the cache", got.Nice)
	}
	if os.Getenv("PATH") == "" {
		t.Error("this test needs a variable that is not handed down")
	}
}

// TestStarved: a picture whose worker had no processor for half of its time is not to blame. What the
// kernel says of a worker grows with the load of the machine.
func TestStarved(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		waits, uses time.Duration // between the two times at which the kernel is asked
		want        error
	}{
		{150 * time.Millisecond, 149 * time.Millisecond, ErrOverloaded}, {149 * time.Millisecond, 0, ErrTimeout},
		{time.Hour, 150 * time.Millisecond, ErrTimeout}, // of many threads
	} {
		cfg, _ := fakeConfig(t, "ok")
		cfg.Timeout = 300 * time.Millisecond
		var asked atomic.Int64
		cfg.tune.scheduled = func(*worker) (t processorTime) {
			if asked.Add(1) > 1 {
				t = processorTime{used: tc.uses, waited: tc.waits}
			}
			return t
		}
		p := startFakes(t, cfg)
		j := command(1, "hang -", 0)
		_, err := p.Do(t.Context(), j)
		wantError(t, err, tc.want)
		if remembered := p.KilledBy(1, j.Source.ID, ""); remembered != (tc.want == ErrTimeout) { //nolint:errorlint // a value of the table
			t.Errorf("%s: the picture is remembered: %t", tc.waits, remembered)
		}
	}
}

// TestScheduled: a process that competes for its processor has waited for it.
func TestScheduled(t *testing.T) {
	t.Parallel()
	cfg, _ := fakeConfig(t, "ok")
	p := startFakes(t, cfg)
	if _, err := p.Do(t.Context(), command(1, "ok -", 0)); err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for w := range p.alive {
		if at := w.scheduled(); at.waited <= 0 || at.used <= 0 {
			t.Errorf("the kernel says %+v of a worker that has worked", at)
		}
	}
}
