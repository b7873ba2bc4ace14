package provision

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// sequence is a series of requests, faults and crashes. Three bytes encode each step, so
// that any bytes are a sequence and a part of them is a shorter one.
type sequence struct {
	w           *env
	p           *process
	steps       []byte
	opened      map[alias.Name]bool // aliases that were served and not deleted since
	s3Fails     bool                // S3 refused keys that are good
	theirs      map[string]string   // keys of an operator, and their users
	changed     map[alias.Name]bool // credentials whose user's tags somebody changed
	copy        alias.Store         // of the registry
	copied      map[string]bool     // users that the copy made
	most        int                 // calls of IAM in one step
	publicError []string
}

// maxSteps bounds a sequence: what takes longer to go wrong is not found by
// chance.
const maxSteps = 14

// move is one kind of step. who and how pick among what it can be done to and
// in which way.
type move struct {
	name string
	do   func(q *sequence, who, how byte) string
}

func moves() []move {
	return []move{
		{"provision", (*sequence).provision},
		{"provision", (*sequence).provision},
		{"provision", (*sequence).provision},
		{"reuse", (*sequence).reuse},
		{"rotate", func(q *sequence, who, how byte) string { return q.rotate(who, how, false) }},
		{"rotate in an emergency", func(q *sequence, who, how byte) string { return q.rotate(who, how, true) }},
		{"remove", (*sequence).remove},
		{"delete alias", (*sequence).deleteAlias},
		{"crash at a write", (*sequence).crashAtWrite},
		{"break a call", (*sequence).breakCall},
		{"break a call", (*sequence).breakCall},
		{"break S3", (*sequence).breakS3},
		{"restart", (*sequence).restart},
		{"time passes", (*sequence).wait},
		{"lag", (*sequence).lag},
		{"fall back", (*sequence).fallBack},
		{"supersede", (*sequence).supersede},
		{"supersede", (*sequence).supersede},
		{"operator's key", (*sequence).addKey},
		{"operator's key", (*sequence).addKey},
		{"change tags", (*sequence).changeTags},
		{"quarantine", (*sequence).quarantine},
		{"copy", (*sequence).copyActs},
		{"copy", (*sequence).copyActs},
	}
}

func (q *sequence) play() {
	list := moves()
	if len(q.steps) > 0 && q.steps[0]&128 != 0 {
		q.publicError = append(q.publicError, "provision "+q.provision(0, 0))
	}
	for i := 0; i+2 < len(q.steps) && i < 3*maxSteps && !q.w.t.Failed(); i += 3 {
		a := list[int(q.steps[i])%len(list)]
		before := q.w.iamCalls()
		done := a.do(q, q.steps[i+1], q.steps[i+2])
		q.most = max(q.most, q.w.iamCalls()-before)
		q.publicError = append(q.publicError, a.name+" "+done)
		if q.p.proc.killed.Load() {
			q.publicError = append(q.publicError, "  and crashed")
			q.p = q.w.start()
		}
		q.wantServing()
	}
}

// String describes the sequence.
func (q *sequence) String() string {
	return fmt.Sprintf("IXMAGE_SEQUENCE=%x\n%s", q.steps, strings.Join(q.publicError, "\n"))
}

// wantServing checks the invariants that hold at any time: no alias is served before it
// was verified, and every served alias can be read.
func (q *sequence) wantServing() {
	q.w.t.Helper()
	list, err := q.w.store.Aliases(q.w.t.Context(), "", 100)
	if err != nil {
		q.w.t.Fatal(err)
	}
	for _, a := range list {
		if a.State == alias.StateActive {
			q.opened[a.Name] = true
			q.wantWorking(a)
		}
		if route, ok := q.p.registry.Lookup(string(a.Name)); !ok || route.Alias.Serves() != (a.State == alias.StateActive) {
			q.w.t.Errorf("alias %s is %s; served: %v", a.Name, a.State, ok && route.Alias.Serves())
		}
	}
}

var sequenceNames = []alias.Name{"shop", "blog", "docs", "team"}

func nameOf(b byte) alias.Name { return sequenceNames[int(b)%len(sequenceNames)] }

// known is the name of a credential that there is, if there is one.
func (q *sequence) known(b byte) alias.Name {
	list := q.credentials()
	if len(list) == 0 {
		return nameOf(b)
	}
	return list[int(b)%len(list)].Name
}

func (q *sequence) request(name alias.Name, how byte) policy.Request {
	return q.w.request(name, func(r *policy.Request) {
		if how&1 != 0 {
			r.Prefix, r.Inside = "blog/", "blog/a.png"
		}
		if how&112 == 112 {
			r.Inside = r.Prefix + "missing.png"
		}
	})
}

func (q *sequence) provision(who, how byte) string {
	req := q.request(nameOf(who), how)
	req.Policy = []alias.PolicyMode{alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly}[int(how>>1)%3]
	op, err := q.p.Provision(q.p.proc.ctx, actor, req)
	return q.goOn(op, err, how, fmt.Sprintf("%s %s on %s", req.Alias, req.Policy, req.Inside))
}

func (q *sequence) reuse(who, how byte) string {
	req := q.request(nameOf(who), how)
	req.Credential = q.known(who >> 4)
	op, err := q.p.Provision(q.p.proc.ctx, actor, req)
	return q.goOn(op, err, how, fmt.Sprintf("%s for %s on %s", req.Credential, req.Alias, req.Inside))
}

func (q *sequence) rotate(who, how byte, emergency bool) string {
	name := q.known(who)
	op, err := q.p.Rotate(q.p.proc.ctx, actor, name, emergency)
	return q.goOn(op, err, how, string(name))
}

func (q *sequence) remove(who, how byte) string {
	name := q.known(who)
	c, err := q.p.registry.Credential(q.w.t.Context(), name)
	if err != nil {
		return string(name) + ": " + err.Error()
	}
	users, err := q.w.store.AliasesOf(q.w.t.Context(), c.ID)
	if err != nil {
		q.w.t.Fatal(err)
	}
	for _, user := range users {
		q.drop(user)
	}
	op, err := q.p.Remove(q.p.proc.ctx, actor, name, 0)
	return q.goOn(op, err, how, string(name))
}

func (q *sequence) deleteAlias(who, _ byte) string { return q.drop(nameOf(who)) }

func (q *sequence) drop(name alias.Name) string {
	err := q.p.registry.DeleteAlias(q.p.proc.ctx, name, 0)
	q.mayFail(err)
	if err == nil || errors.Is(err, errCrash) {
		delete(q.opened, name)
	}
	return fmt.Sprintf("%s: %v", name, err)
}

// goOn drives what has begun, or leaves it to a later step.
func (q *sequence) goOn(op *alias.Operation, err error, how byte, what string) string {
	q.mayFail(err)
	if err != nil {
		return what + ": " + err.Error()
	}
	if how&128 != 0 && how&8 != 0 {
		return what + ", begun"
	}
	q.p.drive()
	if done, err := q.w.store.Operation(q.w.t.Context(), op.ID); err == nil {
		what += ": " + string(done.State)
		if done.Error != nil {
			what += fmt.Sprintf(": %+v", *done.Error)
		}
	}
	return what
}

// mayFail wants an error to be nil or one that a sequence may cause.
func (q *sequence) mayFail(err error) {
	q.w.t.Helper()
	var validation *alias.ValidationError
	for _, ok := range []error{alias.ErrBusy, alias.ErrExists, alias.ErrNotFound, alias.ErrInUse, errCrash, context.Canceled} {
		if err == nil || errors.Is(err, ok) || errors.As(err, &validation) {
			return
		}
	}
	q.w.t.Errorf("unexpected: %v", err)
}

func (q *sequence) crashAtWrite(who, how byte) string {
	q.p.store.mu.Lock()
	defer q.p.store.mu.Unlock()
	q.p.store.at, q.p.store.after = q.p.store.writes+1+int(who)%24, how%2 == 0
	return fmt.Sprintf("%d from now, after it %v", 1+who%24, how%2 == 0)
}

// breakCall makes one call of IAM or several in a row fail.
func (q *sequence) breakCall(who, how byte) string {
	var calls []fault
	for _, f := range faults() {
		if f.call != nil && !f.again {
			calls = append(calls, f)
		}
	}
	f, many := calls[int(how)%len(calls)], 1+int(how>>5)
	q.breakCalls("iam", f, 1+int(who)%48, many)
	return fmt.Sprintf("%s: %d of them, from the %dth", f.name, many, 1+who%48)
}

func (q *sequence) breakCalls(service string, f fault, first, many int) {
	seen, proc := 0, q.p.proc
	q.w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Service != service || service == "iam" && c.AccessKeyID != q.w.power.AccessKeyID {
			return nil
		}
		if seen++; seen < first || seen >= first+many {
			return nil
		}
		return f.call(proc)
	})
}

func (q *sequence) breakS3(who, how byte) string {
	q.s3Fails = true
	code := []string{"InvalidAccessKeyId", "SlowDown", "AccessDenied", "InternalError"}[int(how)%4]
	refuse := fault{call: func(*procState) *iam.Fault { return iam.Fail(code) }}
	q.breakCalls("s3", refuse, 1+int(who)%16, 1+int(how>>3))
	return fmt.Sprintf("%s, %d times from the %dth", code, 1+how>>3, 1+who%16)
}

func (q *sequence) restart(_, how byte) string {
	q.p.proc.kill()
	q.p = q.w.start()
	if how&1 != 0 {
		q.p.drive()
	}
	q.p.reconcile(q.p.proc.ctx)
	return fmt.Sprintf("resumed: %v", how&1 != 0)
}

func (q *sequence) wait(who, how byte) string {
	d := []time.Duration{time.Second, time.Minute, time.Hour, 30 * time.Hour}[int(who)%4]
	q.w.clock.advance(d)
	if how&1 != 0 {
		q.p.reconcile(q.p.proc.ctx)
	}
	return d.String()
}

func (q *sequence) lag(who, _ byte) string {
	d := []time.Duration{0, time.Second, 20 * time.Second, time.Minute}[int(who)%4]
	q.w.iam.SetLag(d)
	return d.String()
}

// fallBack says that requests fall back on the old key, for so many minutes.
func (q *sequence) fallBack(who, how byte) string {
	c, err := q.p.registry.Credential(q.w.t.Context(), q.known(who))
	if err != nil {
		return err.Error()
	}
	q.p.previousUses.Store(c.ID, q.w.clock.Now().Add(time.Duration(how)*time.Minute))
	return fmt.Sprintf("%s for %d minutes", c.Name, how)
}
