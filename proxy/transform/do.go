package transform

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// Do transforms a picture. It waits for a worker; if ctx ends, the worker of the job is killed.
// The readers of the job are not used after Do has returned.
func (p *Pool) Do(ctx context.Context, j Job) (*Result, error) {
	report := Report{Owner: j.Owner, Output: j.Task.Output}
	result, err := p.do(ctx, &j, &report)
	report.Outcome = outcomeOf(err)
	p.cfg.Recorder.TransformJob(report)
	return result, err
}

// errUntouched is the end of a worker for which its next job had no part.
var errUntouched = fmt.Errorf("%w before it got its job", ErrCrashed)

// maxTries is how many workers may end so for one job.
const maxTries = 3

func (p *Pool) do(ctx context.Context, j *Job, report *Report) (*Result, error) {
	begin := time.Now()
	if err := p.admit(j, begin); err != nil {
		return nil, err
	}
	for try := 1; ; try++ {
		w, err := p.acquire(ctx, j.Owner)
		report.Queue = time.Since(begin)
		if err != nil {
			return nil, err
		}
		result, err := p.work(ctx, w, j, report)
		if try == maxTries || !errors.Is(err, errUntouched) {
			return result, err
		}
	}
}

// work has w do a job, and releases it.
func (p *Pool) work(ctx context.Context, w *worker, j *Job, report *Report) (*Result, error) {
	began := time.Now()
	if p.killers.has(j.killer(), began) { // it killed another worker while this job waited
		p.release(w, "", 0)
		return nil, ErrRemembered
	}
	send := &sender{log: p.cfg.Log, done: make(chan struct{})}
	defer func() { <-send.done }() // after w has been released: a source may not end for some time
	a, body, err := w.run(ctx, j, p.cfg, send)
	ended := time.Now()
	wall := max(1, ended.Sub(began))
	err = p.blame(j, err, ended)
	p.aliases.charge(j.Owner, wall, ended)
	if j.Client != "" {
		p.clients.charge(j.Client, wall, ended)
	}
	reason := ""
	switch {
	case a.status == statusInternal:
		reason = EndInternal
	case p.cfg.tune.resident > 0 && w.resident() > p.cfg.tune.resident:
		reason = EndMemory
	}
	p.release(w, reason, wall)
	report.Wall = wall
	report.BytesIn, report.BytesOut = j.bytes(), int64(len(body))
	report.Decode, report.Encode = min(a.decode, wall), min(a.encode, wall)
	if err != nil {
		return nil, err
	}
	return &Result{
		Body: body, Width: a.width, Height: a.height, Frames: a.frames, Source: a.source,
		Queue: report.Queue, Wall: wall, Decode: report.Decode, Encode: report.Encode,
	}, nil
}

// blame remembers the picture of a job that killed its worker. SIGKILL from outside, by an operator or by the
// kernel for want of memory, and an answer to another job may have had another cause: the second one within
// some minutes counts.
func (p *Pool) blame(j *Job, err error, now time.Time) error {
	id := j.killer()
	switch {
	case errors.Is(err, errUntouched):
		return err
	case isSuspect(err):
		if !p.suspects.has(id, now) {
			p.suspects.add(id, now)
			return err
		}
		err = ErrCrashed
	case !Killed(err):
		return err
	}
	p.killers.add(id, now)
	return err
}

// admit refuses a job before it waits for a worker.
func (p *Pool) admit(j *Job, now time.Time) error {
	if err := j.check(); err != nil {
		return err
	}
	if p.killers.has(j.killer(), now) {
		return ErrRemembered
	}
	if wait := p.aliases.wait(j.Owner, now); wait > 0 {
		return &LimitedError{RetryAfter: wait}
	}
	if j.Client == "" {
		return nil
	}
	if wait := p.clients.wait(j.Client, now); wait > 0 {
		return &LimitedError{Client: true, RetryAfter: wait}
	}
	return nil
}

// bytes is how many bytes of pictures a job has.
func (j *Job) bytes() int64 {
	n := j.Source.Size
	if j.Mark != nil {
		n += j.Mark.Size
	}
	return n
}

func outcomeOf(err error) string {
	switch {
	case err == nil:
		return OutcomeOK
	case errors.Is(err, ErrRefused), errors.Is(err, ErrRemembered):
		return OutcomeRefused
	case errors.Is(err, ErrTimeout):
		return OutcomeTimeout
	case errors.Is(err, ErrCrashed), errors.Is(err, ErrAnswer), isSuspect(err):
		return OutcomeCrashed
	case errors.Is(err, ErrOverloaded):
		return OutcomeOverloaded
	case errors.Is(err, ErrLimited):
		return OutcomeLimited
	case errors.Is(err, ErrInternal), errors.Is(err, ErrSource), errors.Is(err, ErrOff):
		return OutcomeFailed
	default: // the cause of the context's end
		return OutcomeAbandoned
	}
}

// run does a job. The worker has ended if the error is neither a refusal nor ErrInternal. The
// caller must wait for the sender, which may read the job's pictures for longer.
func (w *worker) run(ctx context.Context, j *Job, cfg Config, send *sender) (answer, []byte, error) {
	if w.unread() > 0 { // bytes beyond its last answer
		close(send.done)
		w.end(EndAnswer)
		return answer{}, nil, errUntouched
	}
	before := cfg.tune.scheduled(w)
	ctx, cancel := context.WithTimeoutCause(ctx, cfg.Timeout, ErrTimeout)
	defer cancel()
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		switch {
		case !errors.Is(context.Cause(ctx), ErrTimeout):
			w.end(EndAbandoned)
		case send.reading.Load(): // the worker waits for a source that is slow
			w.end(EndSource)
		default:
			w.end(cfg.lateness(w, before))
		}
	})
	defer func() {
		if !stop() { // it must not end the worker when that has its next job
			<-stopped
		}
	}()
	// The pictures are sent while the answer may already come: neither side waits for the
	// other with a full pipe.
	w.number++
	go send.run(w, j)
	a, body, err := readAnswer(w.stdout, j, w.number)
	var wrong *answerError
	switch {
	case errors.As(err, &wrong), errors.Is(err, errOtherJob):
		w.end(EndAnswer)
	case err != nil:
		err = w.died(err, cfg.tune.dying)
	}
	if failed := send.wait(w); err == nil || errors.Is(failed, ErrSource) || errors.Is(failed, errUntouched) {
		err = failed
	}
	if err != nil {
		return answer{}, nil, w.endError(ctx, err)
	}
	err = a.err()
	return a, body, err
}

// died ends a worker whose output has ended, and returns errKilled instead of err if SIGKILL was why.
func (w *worker) died(err error, within time.Duration) error {
	if w.diedOf(syscall.SIGKILL, within) {
		err = errKilled
	}
	w.end(EndCrash)
	return err
}

// lateness is the reason for which a worker ends at its deadline. before is from the start of the job.
func (c *Config) lateness(w *worker, before processorTime) string {
	if c.tune.scheduled(w).starved(before, c.Timeout/2) {
		return EndStarved
	}
	return EndDeadline
}

// err returns the error of a job that its worker has answered.
func (a *answer) err() error {
	switch a.status {
	case 0:
		return nil
	case statusInternal:
		return ErrInternal
	default:
		return &RefusedError{Why: Refusal(a.status)}
	}
}

// endError ends the worker after err, and says why it ends.
func (w *worker) endError(ctx context.Context, err error) error {
	switch w.end(EndCrash) {
	case EndDeadline:
		return ErrTimeout
	case EndStarved:
		return errStarved
	case EndAbandoned:
		return context.Cause(ctx)
	case EndAnswer:
		if errors.Is(err, errOtherJob) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	case EndSource:
		if !errors.Is(err, ErrSource) {
			return ErrSlowSource
		}
		return err
	case EndClose:
		return fmt.Errorf("%w: the server is shutting down", ErrOff)
	default:
		if errors.Is(err, errUntouched) || errors.Is(err, errKilled) {
			return err
		}
		return ErrCrashed
	}
}
