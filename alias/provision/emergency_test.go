package provision

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// patientClock passes short waits by, like a fakeClock, and lets long ones last
// until their context ends. It tells of those that a soak begins.
type patientClock struct {
	*fakeClock
	soaking chan struct{}
}

func (c *patientClock) Sleep(ctx context.Context, d time.Duration) error {
	if d < time.Minute {
		return c.fakeClock.Sleep(ctx, d)
	}
	if d == awsTiming().Quiet {
		select {
		case c.soaking <- struct{}{}:
		case <-ctx.Done():
		}
	}
	<-ctx.Done()
	return ctx.Err()
}

// running starts a process that performs its operations by itself, with a clock on
// which no long wait ends.
func (w *env) running(edit ...func(*Config)) (*process, *patientClock) {
	clock := &patientClock{fakeClock: w.clock, soaking: make(chan struct{})}
	w.edit = func(cfg *Config) {
		cfg.Clock = clock
		for _, fn := range edit {
			fn(cfg)
		}
	}
	p := w.start()
	done := make(chan error)
	go func() { done <- p.Run(p.proc.ctx) }()
	w.t.Cleanup(func() {
		p.proc.cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	})
	return p, clock
}

// wantEscalated wants a rotation to have skipped both soaks.
func wantEscalated(t *testing.T, op *alias.Operation) {
	t.Helper()
	if op.State != alias.OperationDone {
		t.Fatalf("%s: %+v", op.State, op.Error)
	}
	for _, s := range op.Steps {
		if strings.HasPrefix(s.Name, "soak") && !strings.HasPrefix(s.Detail, "skipped") {
			t.Errorf("step %s: %s", s.Name, s.Detail)
		}
	}
}

// TestEmergencyWhileRotating: an emergency that is asked for while an ordinary
// rotation runs makes an emergency of that one.
func TestEmergencyWhileRotating(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	first, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	for _, emergency := range []bool{true, false} { // which no later request takes back
		again, err := p.Rotate(t.Context(), actor, "shop", emergency)
		if err != nil || again.ID != first.ID {
			t.Fatalf("emergency %v: got %+v, %v, want %s", emergency, again, err, first.ID)
		}
	}
	stored, err := w.store.Operation(t.Context(), first.ID)
	if err != nil {
		t.Fatal(err)
	}
	var data progress
	if err := json.Unmarshal(stored.Data, &data); err != nil || !data.Emergency {
		t.Errorf("stored: %s, %v, want an emergency", stored.Data, err)
	}
	began := w.clock.Now()
	wantEscalated(t, p.do(first, nil))
	if took := w.clock.Now().Sub(began); took >= awsTiming().SoakInactive {
		t.Errorf("took %s", took)
	}
	w.wantSound(p, "shop")
}

// TestEmergencyEndsSoak: a rotation that waits is woken by an emergency, and does
// not wait to the end.
func TestEmergencyEndsSoak(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	hasShop(alias.PolicyInline)(w.start())
	p, clock := w.running()
	op, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	<-clock.soaking
	again, err := p.Rotate(t.Context(), actor, "shop", true)
	if err != nil || again.ID != op.ID {
		t.Fatalf("got %+v, %v, want %s", again, err, op.ID)
	}
	ended, err := p.Wait(t.Context(), op.ID)
	if err != nil {
		t.Fatal(err)
	}
	wantEscalated(t, ended)
	w.wantSound(p, "shop")
}

// TestEmergencyBeforeInterrupt: a rotation that writes after the emergency was stored,
// and before it is interrupted, continues from the stored state without a failure.
func TestEmergencyBeforeInterrupt(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	hasShop(alias.PolicyInline)(w.start())
	p, log := w.trapped()
	op, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "CreateAccessKey" {
			once.Do(func() { // another goroutine would interrupt the task after this
				p.mu.Lock()
				delete(p.active, op.ID)
				p.mu.Unlock()
				if _, err := p.Rotate(t.Context(), actor, "shop", true); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	wantEscalated(t, p.mustSucceed(op, nil))
	w.wantSound(p, "shop")
	if log.has("level=ERROR") {
		t.Errorf("log: %s", &log.lines)
	}
}

// flakyStore is a store whose first list of operations cannot be read.
type flakyStore struct {
	alias.Store
	failed atomic.Bool
}

func (f *flakyStore) Operations(ctx context.Context, o alias.OperationFilter) ([]*alias.Operation, error) {
	if f.failed.CompareAndSwap(false, true) {
		return nil, errors.New("disk I/O error")
	}
	return f.Store.Operations(ctx, o)
}

// TestRunReadsAgain: operations that could not be read at the start are performed
// nevertheless.
func TestRunReadsAgain(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	op, err := provisionWith("shop")(w.start(), t.Context())
	if err != nil {
		t.Fatal(err)
	}
	store := &flakyStore{Store: w.store}
	w.store = store
	p, _ := w.running()
	ended, err := p.Wait(t.Context(), op.ID)
	if err != nil || ended.State != alias.OperationDone || !store.failed.Load() {
		t.Errorf("got %+v, %v; failed before: %v", ended, err, store.failed.Load())
	}
}
