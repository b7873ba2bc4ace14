package transform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/process"
)

// TestStart: the error of a worker that does not stand names it, and says what to do.
func TestStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := process.WriteProgram(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tc := range []struct {
		name string
		path string // of a fake worker by default
		mode string
		want string
	}{
		{name: "no file", path: filepath.Join(dir, "absent"), want: "no such file: build it with make worker"},
		{name: "a folder", path: dir, want: "it cannot be executed"},
		{name: "no right", path: write("plain", "", 0o600), want: "it cannot be executed"},
		{name: "no program", path: write("text", "text", 0o700), want: "not a program for this machine"},
		{name: "no loader", path: write("script", "#!/no/such/loader\n", 0o700), want: "the dynamic loader that it needs is not installed"},
		{name: "refused sandbox", mode: "exit", want: "(exit status 3): ixmage-worker: the sandbox cannot be set up: Landlock is absent or switched off"},
		{name: "mute", mode: "mute", want: "(exit status 0): it wrote nothing to stderr"},
		{name: "closed output", mode: "closed", want: "it ended before it was ready"},
		{name: "not ready", mode: "hang", want: "it was not ready after 200ms"},
		{name: "garbage", mode: "garbage", want: "it is not an ixmage worker"},
		{name: "other frames", mode: "abi", want: "version 1 of the frames, and this server version 2: build both from one source"},
		{name: "no version", mode: "nameless", want: "does not tell its version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg, e := fakeConfig(t, tc.mode)
			if tc.mode == "hang" {
				cfg.tune.start = 200 * time.Millisecond
			}
			if tc.path != "" {
				cfg.Path = tc.path
			}
			p, err := Start(t.Context(), cfg)
			if err == nil {
				p.Close()
				t.Fatal("it started")
			}
			if got := err.Error(); !strings.HasPrefix(got, cfg.Path+": ") || !strings.Contains(got, tc.want) || strings.Contains(got, "\n") {
				t.Errorf("%q has no %q", got, tc.want)
			}
			if e.started != 0 || e.failed != 1 || e.ended() != "map[]" {
				t.Errorf("%d started, %d failed, ended %s", e.started, e.failed, e.ended())
			}
		})
	}
}

// TestStartAbandoned: a start ends with its context, and leaves no process.
func TestStartAbandoned(t *testing.T) {
	t.Parallel()
	cfg, _ := fakeConfig(t, "hang")
	cfg.tune.start = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err := Start(ctx, cfg)
	wantError(t, err, context.DeadlineExceeded)
}

// TestRelativePath: a path is relative to the folder of the server, not to that of the worker.
func TestRelativePath(t *testing.T) {
	t.Parallel()
	cfg, _ := fakeConfig(t, "ok")
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Path, err = filepath.Rel(wd, cfg.Path); err != nil {
		t.Fatal(err)
	}
	startFakes(t, cfg)
}

// TestLaterStart: if workers cannot be started any more, jobs fail with the reason, except those
// of an owner with a worker, and go on when they can.
func TestLaterStart(t *testing.T) {
	t.Parallel()
	sign := filepath.Join(t.TempDir(), "sign")
	cfg, e := fakeConfig(t, "unless:"+sign)
	cfg.Workers, cfg.tune.retry = 2, time.Millisecond
	p := startFakes(t, cfg)
	e.until(func() bool { return p.Stats().Spares == 2 })
	if _, err := p.Do(t.Context(), command(1, "ok -", 0)); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return p.Stats().Spares == 2 })
	if err := os.WriteFile(sign, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(t.Context(), command(2, "exit 0", 0)); err == nil { // takes a spare
		t.Fatal("a dying worker gave a result")
	}
	e.until(func() bool { return p.Err() != nil })
	if _, err := p.Do(t.Context(), command(2, "exit 1", 0)); err == nil { // takes the last one
		t.Fatal("a dying worker gave a result")
	}
	_, err := p.Do(t.Context(), command(2, "ok -", 0))
	wantError(t, err, ErrOff)
	if !strings.Contains(err.Error(), "the file is there") || !strings.Contains(p.Err().Error(), "the file is there") {
		t.Errorf("%v, %v: no reason", err, p.Err())
	}
	if _, err := p.Do(t.Context(), command(1, "ok +", 0)); err != nil {
		t.Errorf("an owner with a worker: %v", err)
	}
	if err := os.Remove(sign); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return p.Err() == nil && p.Stats().Spares == 2 })
	if _, err := p.Do(t.Context(), command(2, "ok -", 0)); err != nil {
		t.Errorf("after the reason has gone: %v", err)
	}
}

// TestOtherVersion: workers of another version than the first are refused: their results would
// have the ETags of the first.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "version")
	if err := os.WriteFile(file, []byte("8.1"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, e := fakeConfig(t, "from:"+file)
	p := startFakes(t, cfg)
	if err := os.WriteFile(file, []byte("8.2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Do(t.Context(), command(1, "ok -", 0)); err != nil {
		t.Fatal(err)
	}
	e.until(func() bool { return p.Err() != nil })
	if got := p.Err().Error(); !strings.Contains(got, "libvips 8.2 now, and 8.1 when the server started: restart ixmage") {
		t.Error(got)
	}
}

// TestDeadSpare: a worker that dies before its first job is a failed start: it is not
// replaced at once, again and again.
func TestDeadSpare(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "dies")
	cfg.tune.retry = 0 // a second
	p, err := Start(t.Context(), cfg)
	if err != nil {
		if !strings.Contains(err.Error(), "it died before its first job") {
			t.Error(err)
		}
		return // it was dead before Start had returned
	}
	defer p.Close()
	e.until(func() bool { return p.Err() != nil })
	_, err = p.Do(t.Context(), command(1, "ok -", 0))
	if !errors.Is(err, ErrOff) && !errors.Is(err, ErrCrashed) {
		t.Errorf("got %v", err)
	}
}

// TestKilledSpare: a worker that is killed from outside before its first job is replaced at once,
// so that jobs need not fail until the time of a new try. The second one that dies young is not.
func TestKilledSpare(t *testing.T) {
	t.Parallel()
	cfg, e := fakeConfig(t, "ok")
	cfg.tune.retry = time.Hour
	p := startFakes(t, cfg)
	kill := func(after time.Duration) {
		e.until(func() bool { return p.Stats().Spares == 1 })
		p.mu.Lock()
		w := p.spares[0]
		w.since = w.since.Add(-after)
		p.mu.Unlock()
		if err := w.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		e.until(func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return !slices.Contains(p.spares, w)
		})
	}
	kill(0)
	kill(2 * time.Hour)
	if e.until(func() bool { return p.Stats().Spares == 1 }); p.Err() != nil {
		t.Error(p.Err())
	}
	kill(0)
	e.until(func() bool { return p.Err() != nil })
	_, err := p.Do(t.Context(), command(1, "ok -", 0))
	wantError(t, err, ErrOff)
}
