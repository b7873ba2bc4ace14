package provision

import (
	"context"
	"slices"
	"strings"

	"ixmage/alias"
)

// The steps of operations. Their names are part of the API. They show how far an
// operation is; the controller does not depend on them.
const (
	stepCreateUser  = "create-user"
	stepAdoptUser   = "adopt-user"
	stepWaitUser    = "wait-user"
	stepPutPolicy   = "put-policy"
	stepCheckPolicy = "check-policy"
	stepCreateKey   = "create-key"
	stepVerify      = "verify"
	stepOpen        = "open"

	stepCheckKeys     = "check-keys"
	stepSwap          = "swap"
	stepSoak          = "soak"
	stepDeactivateOld = "deactivate-old"
	stepRevoke        = "revoke-sessions"
	stepSoakInactive  = "soak-inactive"
	stepProbeRefused  = "probe-refused"
	stepDeleteOld     = "delete-old"
	stepConfirm       = "confirm"

	stepDeactivateKeys = "deactivate-keys"
	stepInspectUser    = "inspect-user"
	stepDeleteUser     = "delete-user"
	stepConfirmGone    = "confirm-gone"
	stepReleaseUser    = "release-user"
)

// stepNames are the steps of an operation, in their order.
func stepNames(op *alias.Operation, data *progress) []string {
	switch {
	case op.Kind == alias.OperationRotate && data.Emergency:
		return []string{
			stepCheckKeys, stepCreateKey, stepVerify, stepSwap, stepSoak, stepDeactivateOld, stepRevoke, stepSoakInactive,
			stepProbeRefused, stepDeleteOld, stepConfirm,
		}
	case op.Kind == alias.OperationRotate:
		return []string{
			stepCheckKeys, stepCreateKey, stepVerify, stepSwap, stepSoak, stepDeactivateOld, stepSoakInactive,
			stepProbeRefused, stepDeleteOld, stepConfirm,
		}
	case op.Kind == alias.OperationRemove && data.Adopted:
		return []string{stepDeactivateKeys, stepProbeRefused, stepReleaseUser}
	case op.Kind == alias.OperationRemove:
		return []string{stepDeactivateKeys, stepProbeRefused, stepInspectUser, stepDeleteUser, stepConfirmGone}
	case creates(op, data):
		return []string{
			stepCreateUser, stepWaitUser, stepPutPolicy, stepCheckPolicy, stepCreateKey, stepVerify, stepOpen,
		}
	case adopts(op, data):
		return []string{stepAdoptUser, stepPutPolicy, stepCheckPolicy, stepCreateKey, stepVerify, stepOpen}
	}
	return []string{stepPutPolicy, stepCheckPolicy, stepVerify, stepOpen}
}

// newSteps makes the steps of a new operation.
func newSteps(op *alias.Operation, data *progress) []alias.Step {
	names := stepNames(op, data)
	steps := make([]alias.Step, len(names))
	for i, name := range names {
		steps[i] = alias.Step{Name: name, State: alias.StepPending}
	}
	return steps
}

func (t *task) step(name string) int {
	if t.op == nil || name == "" {
		return -1
	}
	return slices.IndexFunc(t.op.Steps, func(s alias.Step) bool { return s.Name == name })
}

// enter marks a step as running, and stores that, if it is not running already. The steps
// before it are done.
func (t *task) enter(ctx context.Context, name string) error {
	i := t.step(name)
	if i < 0 || t.data.Undo != nil || t.op.Steps[i].State != alias.StepPending {
		return nil
	}
	t.pass(i)
	t.op.Steps[i].State, t.op.Steps[i].StartedAt = alias.StepRunning, t.now()
	return t.save(ctx)
}

// pass marks the steps before the ith as done.
func (t *task) pass(i int) {
	for j := range t.op.Steps[:i] {
		s := &t.op.Steps[j]
		if s.State == alias.StepDone {
			continue
		}
		skipped := s.StartedAt.IsZero()
		s.State, s.FinishedAt = alias.StepDone, t.now()
		switch {
		case !skipped:
			t.p.cfg.Recorder.Step(s.Name, s.FinishedAt.Sub(s.StartedAt))
		case t.data.Emergency && strings.HasPrefix(s.Name, stepSoak):
			s.StartedAt, s.Detail = s.FinishedAt, "skipped: the old key has leaked"
		default:
			s.StartedAt, s.Detail = s.FinishedAt, "nothing to do"
		}
	}
}

// note sets the detail of a step, which is stored with the next write.
func (t *task) note(name, detail string) {
	if i := t.step(name); i >= 0 && detail != "" && t.op.Steps[i].State == alias.StepRunning {
		t.op.Steps[i].Detail = detail
	}
}

// failStep marks a step as failed, or the running one if name is empty, and returns its
// name.
func (t *task) failStep(name, detail string) string {
	i := t.step(name)
	if i < 0 {
		i = slices.IndexFunc(t.op.Steps, func(s alias.Step) bool { return s.State == alias.StepRunning })
	}
	if i < 0 {
		i = slices.IndexFunc(t.op.Steps, func(s alias.Step) bool { return s.State == alias.StepPending })
	}
	if i < 0 {
		return ""
	}
	t.pass(i)
	s := &t.op.Steps[i]
	if s.StartedAt.IsZero() {
		s.StartedAt = t.now()
	}
	s.State, s.FinishedAt, s.Detail = alias.StepFailed, t.now(), detail
	t.p.cfg.Recorder.Step(s.Name, s.FinishedAt.Sub(s.StartedAt))
	return s.Name
}
