package usage_test

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/alias/usage"
)

func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var logs bytes.Buffer
		l := usage.New(usage.Config{Store: m, Every: time.Minute, Log: slog.New(slog.NewTextHandler(&logs, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		count(l.Of(1), 1)
		<-time.After(time.Minute - time.Second)
		wantStored(t, m, map[int64]alias.Usage{})
		<-time.After(2 * time.Second)
		wantStored(t, m, map[int64]alias.Usage{1: counted(1)})

		m.set(errDown, nil)
		count(l.Of(1), 10)
		<-time.After(time.Minute)
		synctest.Wait()
		m.set(nil, nil)
		if text := logs.String(); strings.Count(text, "the counts stay in memory") != 1 || !strings.Contains(text, errDown.Error()) {
			t.Errorf("log: %q", text)
		}
		count(l.Of(1), 100)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		wantStored(t, m, map[int64]alias.Usage{1: counted(111)})
	})
}

// What cannot be stored at the end is said to be lost, and does not hold up the
// end for long.
func TestRunLosesTheRest(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var logs bytes.Buffer
		l := usage.New(usage.Config{Store: stuck{m}, Every: 15 * time.Second, Log: slog.New(slog.NewTextHandler(&logs, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		count(l.Of(1), 1)
		cancel()
		began := time.Now()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(began); d > 10*time.Second {
			t.Errorf("it took %v", d)
		}
		if text := logs.String(); !strings.Contains(text, "are lost") {
			t.Errorf("log: %q", text)
		}
	})
}

// stuck never gets to add anything.
type stuck struct{ *memory }

func (stuck) AddUsage(ctx context.Context, _ alias.UsageBatch) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestRunAfterPanic: a store that panics loses nothing and ends nothing.
func TestRunAfterPanic(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := newMemory()
		var logs bytes.Buffer
		l := usage.New(usage.Config{Store: m, Every: time.Minute, Log: slog.New(slog.NewTextHandler(&logs, nil))})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- l.Run(ctx) }()
		count(l.Of(1), 1)
		m.mu.Lock()
		m.before = func() error { panic("no disk") }
		m.mu.Unlock()
		<-time.After(90 * time.Second)
		synctest.Wait()
		if text := logs.String(); !strings.Contains(text, "no disk") {
			t.Errorf("log: %q", text)
		}
		m.set(nil, nil)
		count(l.Of(1), 10)
		<-time.After(time.Minute)
		synctest.Wait()
		wantStored(t, m, map[int64]alias.Usage{1: counted(11)})
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
