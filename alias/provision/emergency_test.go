package provision

import (
	"context"
	"errors"
	"slices"
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
	if d > awsTiming().Quiet-time.Minute && d <= awsTiming().Quiet {
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

// wantEmergency wants an emergency rotation to have succeeded without a soak, and every key
// that the user had before to be gone.
func (w *env) wantEmergency(p *process, op *alias.Operation, dead ...string) {
	w.t.Helper()
	if op.State != alias.OperationDone {
		w.t.Fatalf("%s: %+v", op.State, op.Error)
	}
	for _, s := range op.Steps {
		if strings.HasPrefix(s.Name, "soak") && !strings.HasPrefix(s.Detail, "skipped") {
			w.t.Errorf("step %s: %s", s.Name, s.Detail)
		}
	}
	_, prov := p.provisioned("shop")
	for _, k := range w.iam.Keys(prov.User.Name) {
		if slices.Contains(dead, k.ID) {
			w.t.Errorf("the key %s is left", k.ID)
		}
	}
	w.wantSound(p, "shop")
}

// wantSuperseded wants an operation to have ended in favour of another.
func (w *env) wantSuperseded(id, by string) {
	w.t.Helper()
	op, err := w.store.Operation(w.t.Context(), id)
	if err != nil || op.State != alias.OperationSuperseded || op.Error == nil || op.Error.SupersededBy != by {
		w.t.Errorf("got %+v with %+v, %v; want superseded by %s", op, op.Error, err, by)
	}
}

// TestEmergencySupersedes: an emergency takes the place of an ordinary rotation, wherever
// that is, and no key that the user had when it was asked for works afterwards. A later
// ordinary request is content with it.
func TestEmergencySupersedes(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	_, prov := p.provisioned("shop")
	first, err := p.Rotate(t.Context(), actor, "shop", false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := p.Rotate(t.Context(), actor, "shop", true)
	if err != nil || second.ID == first.ID {
		t.Fatalf("got %+v, %v, want another operation than %s", second, err, first.ID)
	}
	w.wantSuperseded(first.ID, second.ID)
	for _, emergency := range []bool{true, false} {
		again, err := p.Rotate(t.Context(), actor, "shop", emergency)
		if err != nil || again.ID != second.ID {
			t.Fatalf("emergency %v: got %+v, %v, want %s", emergency, again, err, second.ID)
		}
	}
	began := w.clock.Now()
	w.wantEmergency(p, p.mustSucceed(second, nil), prov.AccessKeyID)
	if took := w.clock.Now().Sub(began); took >= awsTiming().SoakInactive {
		t.Errorf("took %s", took)
	}
}

// soaking is a process whose rotation of shop has swapped the keys and waits.
func (w *env) soaking() (p *process, rotation *alias.Operation, keys []string) {
	w.t.Helper()
	hasShop(alias.PolicyInline)(w.start())
	p, clock := w.running()
	rotation, err := p.Rotate(w.t.Context(), actor, "shop", false)
	if err != nil {
		w.t.Fatal(err)
	}
	<-clock.soaking
	_, prov := p.provisioned("shop")
	for _, k := range w.iam.Keys(prov.User.Name) {
		keys = append(keys, k.ID)
	}
	if len(keys) != 2 {
		w.t.Fatalf("keys in a soak: %v", keys)
	}
	return p, rotation, keys
}

// ended waits for the end of an operation.
func (p *process) ended(op *alias.Operation, err error) *alias.Operation {
	p.w.t.Helper()
	if err != nil {
		p.w.t.Fatal(err)
	}
	done, err := p.Wait(p.w.t.Context(), op.ID)
	if err != nil {
		p.w.t.Fatal(err)
	}
	return done
}

// TestEmergencyInSoak: an emergency ends a soak at once. Which of the two keys has leaked is
// not known, so both are replaced.
func TestEmergencyInSoak(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p, rotation, keys := w.soaking()
	op, err := p.Rotate(t.Context(), actor, "shop", true)
	done := p.ended(op, err)
	w.wantSuperseded(rotation.ID, op.ID)
	w.wantEmergency(p, done, keys...)
}

// TestRemovalInSoak: a removal ends a soak at once, and leaves nothing.
func TestRemovalInSoak(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p, rotation, _ := w.soaking()
	_, prov := p.provisioned("shop")
	p.deleteAlias("shop")
	op, err := p.Remove(t.Context(), actor, "shop", 0)
	if done := p.ended(op, err); done.State != alias.OperationDone {
		t.Fatalf("%s: %+v", done.State, done.Error)
	}
	w.wantSuperseded(rotation.ID, op.ID)
	p.wantForgotten("shop", prov.User.Name)
}

// TestSupersededReuse: a reuse that an emergency takes the place of has no effect: its alias
// is not served, and the new location is revoked.
func TestSupersededReuse(t *testing.T) {
	t.Parallel()
	for _, mode := range []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			hasShop(mode)(w.start())
			p := w.start()
			p.dieAfter(map[alias.PolicyMode]string{alias.PolicyInline: "PutUserPolicy", alias.PolicyManaged: "AttachUserPolicy"}[mode])
			reuse, err := p.Provision(p.proc.ctx, actor, w.request("blog", reusing("shop"), withPolicy(mode)))
			if err != nil {
				t.Fatal(err)
			}
			p.drive()
			w.iam.OnCall(nil)
			p = w.start()
			if _, err := p.Rotate(t.Context(), actor, "shop", false); !errors.Is(err, alias.ErrBusy) {
				t.Errorf("an ordinary rotation: %v, want %v", err, alias.ErrBusy)
			}
			op, err := p.Rotate(t.Context(), actor, "shop", true)
			p.mustSucceed(op, err)
			w.wantSuperseded(reuse.ID, op.ID)
			if a, err := p.registry.Alias(t.Context(), "blog"); err != nil || a.State != alias.StateFailed {
				t.Errorf("alias blog: %+v, %v", a, err)
			}
			p.reconcile(t.Context())
			_, prov := p.provisioned("shop")
			drift, err := (caller{p: p.Provisioner, actor: actor}).drift(t.Context(), prov)
			if drift != "" || err != nil || len(prov.ExtraGrants) > 0 || len(prov.Grants) != 1 {
				t.Errorf("drift %q, %v, %+v", drift, err, prov)
			}
			w.wantSound(p, "shop")
		})
	}
}

// TestNotSuperseded: a removal is not stopped by an emergency, which it makes needless, and
// the making of a user is not, since nobody has its key.
func TestNotSuperseded(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	op, err := provisionWith("shop")(p, t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), actor, "shop", true); !errors.Is(err, alias.ErrBusy) {
		t.Errorf("while it is provisioned: %v, want %v", err, alias.ErrBusy)
	}
	var inUse *alias.InUseError
	if _, err := p.Remove(t.Context(), actor, "shop", 0); !errors.As(err, &inUse) {
		t.Errorf("a removal while the alias is provisioned: %v", err)
	}
	p.mustSucceed(op, nil)
	p.deleteAlias("shop")
	if op, err = p.Remove(t.Context(), actor, "shop", 0); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Rotate(t.Context(), actor, "shop", true); !errors.Is(err, alias.ErrBusy) {
		t.Errorf("while it is removed: %v, want %v", err, alias.ErrBusy)
	}
	p.mustSucceed(op, nil)
}

// TestEmergencyBeforeInterrupt: a rotation that writes after the emergency was stored,
// and before it is interrupted, stops without a failure.
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
	var emergency *alias.Operation
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "CreateAccessKey" {
			once.Do(func() { // the process does not know that it works on shop, so nothing is interrupted
				if emergency, err = p.Rotate(t.Context(), actor, "shop", true); err != nil {
					t.Error(err)
				}
			})
		}
		return nil
	})
	p.drive()
	w.wantSuperseded(op.ID, emergency.ID)
	w.wantEmergency(p, p.mustSucceed(emergency, nil))
	if log.has("level=ERROR") {
		t.Errorf("log: %s", &log.lines)
	}
}

// TestSupersededWhileKeyIsMade: the answer to CreateAccessKey is awaited although the
// rotation is interrupted, or its key would take the second place of the user, and the
// emergency could make none.
func TestSupersededWhileKeyIsMade(t *testing.T) {
	t.Parallel()
	for name, remove := range map[string]bool{"emergency": false, "removal": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			hasShop(alias.PolicyInline)(w.start())
			p, _ := w.running()
			_, prov := p.provisioned("shop")
			begun := make(chan *alias.Operation, 1)
			var once sync.Once
			supersede := func() {
				op, err := p.Rotate(t.Context(), actor, "shop", !remove)
				if remove && err == nil {
					p.deleteAlias("shop")
					op, err = p.Remove(t.Context(), actor, "shop", 0)
				}
				if err != nil {
					t.Error(err)
				}
				begun <- op
			}
			w.iam.OnCall(func(c iam.Call) *iam.Fault {
				if c.Action != "CreateAccessKey" || c.AccessKeyID != w.power.AccessKeyID {
					return nil
				}
				return &iam.Fault{After: func() { once.Do(supersede) }}
			})
			if _, err := p.Rotate(t.Context(), actor, "shop", false); err != nil {
				t.Fatal(err)
			}
			done := p.ended(<-begun, nil)
			if !remove {
				w.wantEmergency(p, done, prov.AccessKeyID)
			} else if done.State != alias.OperationDone {
				t.Errorf("%s: %+v", done.State, done.Error)
			}
		})
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
