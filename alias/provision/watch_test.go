package provision

import (
	"context"
	"errors"
	"sync"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// TestWatch: a change of an operation wakes Watch while the operation runs. The server does
// not answer the first call before Watch has returned the step that makes it.
func TestWatch(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	op, err := p.Provision(t.Context(), actor, w.request("shop"))
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan *alias.Operation, 1)
	go func() {
		next, err := p.Watch(t.Context(), op.ID, op.Revision)
		if err != nil {
			t.Error(err)
		}
		seen <- next
	}()
	var first sync.Once
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action == "CreateUser" {
			first.Do(func() {
				next := <-seen
				if s := next.Steps[0]; next.Finished() || next.Revision <= op.Revision || s.State != alias.StepRunning {
					t.Errorf("revision %d, state %s, first step %+v", next.Revision, next.State, s)
				}
			})
		}
		return nil
	})
	done := p.mustSucceed(op, nil)
	if last, err := p.Watch(t.Context(), op.ID, done.Revision); err != nil || !last.Finished() {
		t.Errorf("after the end: %+v, %v", last, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if now, err := p.Watch(ended, op.ID, done.Revision+1); err != nil || now.Revision != done.Revision {
		t.Errorf("with an ended context: %+v, %v", now, err)
	}
	if _, err := p.Watch(t.Context(), "unknown", 0); !errors.Is(err, alias.ErrNotFound) {
		t.Errorf("unknown id: %v", err)
	}
}
