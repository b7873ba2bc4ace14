package transform

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// acquire waits for a worker of owner. The caller must release it.
func (p *Pool) acquire(ctx context.Context, owner int64) (*worker, error) {
	job := &waiting{owner: owner, grant: make(chan grant, 1)}
	p.mu.Lock()
	p.queue.push(job)
	p.schedule()
	if last := p.queue.overflow(job); last != nil {
		last.grant <- grant{err: ErrOverloaded}
	}
	p.queued.Store(int64(p.queue.n))
	p.mu.Unlock()
	select {
	case g := <-job.grant:
		return g.worker, g.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	waited := p.queue.remove(job)
	p.queued.Store(int64(p.queue.n))
	p.mu.Unlock()
	if !waited { // it got its grant at the same moment
		if g := <-job.grant; g.worker != nil {
			p.release(g.worker, "", 0)
		}
	}
	return nil, context.Cause(ctx)
}

// release takes a worker back that was busy for some time. It ends if there is a reason.
func (p *Pool) release(w *worker, reason string, took time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w.busy = false
	p.busy--
	w.turn += took
	if took > 0 {
		w.jobs++
	}
	if reason == "" && w.jobs >= p.cfg.tune.jobs {
		reason = EndJobs
	}
	switch {
	case p.closed:
		w.end(EndClose)
	case reason != "":
		w.end(reason)
	case w.dead():
		w.end(EndCrash)
	default:
		p.idle = append(p.idle, w)
	}
	p.schedule()
}

// dead reports whether the process has died or is being killed. A process that dies later is
// found by reaped.
func (w *worker) dead() bool {
	select {
	case <-w.exited:
		return true
	case <-w.ending:
		return true
	default:
		return false
	}
}

// schedule gives waiting jobs to workers, and starts new spares. It is called with mu held after
// everything that may let a job go on.
func (p *Pool) schedule() {
	for p.dispatch() {
	}
	p.fill()
	for _, l := range slices.Clone(p.queue.lines) {
		err := p.blocked(l.owner)
		for err != nil && len(l.jobs) > 0 {
			p.queue.pop(l).grant <- grant{err: err}
		}
	}
	p.queued.Store(int64(p.queue.n))
	p.cfg.tune.changed()
}

// blocked returns why jobs of owner would wait for a worker for an unknown time, or nil.
func (p *Pool) blocked(owner int64) error {
	if p.closed {
		return fmt.Errorf("%w: the server is shutting down", ErrOff)
	}
	if p.retry == nil || len(p.spares)+p.starting > 0 {
		return nil
	}
	for w := range p.alive {
		if w.busy && w.owner == owner {
			return nil
		}
	}
	return fmt.Errorf("%w: %w", ErrOff, p.err)
}

// dispatch gives one waiting job to a worker, if it can. A worker goes on with its owner until
// its turn is over; then the owner that waits longest for a turn is next.
func (p *Pool) dispatch() bool {
	alone := len(p.queue.lines) == 1
	for _, l := range p.queue.lines {
		w := p.idleOf(l.owner)
		if w == nil || !alone && w.turn >= p.cfg.tune.turn {
			continue
		}
		if alone {
			w.turn = 0
		}
		p.give(l, w)
		return true
	}
	for i, l := range p.queue.lines {
		w := p.idleOf(l.owner)
		if w == nil {
			w = p.bind(l.owner)
		}
		if w == nil {
			continue // no spare is ready: those behind may go on with what they have
		}
		if i == 0 {
			w.turn = 0
		}
		p.give(l, w)
		return true
	}
	return false
}

// idleOf returns the idle worker of owner that was used last, or nil.
func (p *Pool) idleOf(owner int64) *worker {
	for _, w := range slices.Backward(p.idle) {
		if w.owner == owner {
			return w
		}
	}
	return nil
}

// bind makes a spare the worker of owner. Where all places are taken, the worker that is idle
// for the longest time ends for it.
func (p *Pool) bind(owner int64) *worker {
	full := len(p.idle)+p.busy >= p.cfg.Workers
	if len(p.spares) == 0 || full && len(p.idle) == 0 {
		return nil
	}
	if full {
		p.idle[0].end(EndOwner)
		p.idle = slices.Delete(p.idle, 0, 1)
	}
	w := p.spares[0]
	p.spares = slices.Delete(p.spares, 0, 1)
	w.owner = owner
	p.failures, p.lost = 0, false
	return w
}

// give hands w to the first job of a line.
func (p *Pool) give(l *line, w *worker) {
	if i := slices.Index(p.idle, w); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
	}
	w.busy = true
	p.busy++
	p.queue.pop(l).grant <- grant{worker: w}
}

// fill starts as many spares as are missing, unless a start has just failed.
func (p *Pool) fill() {
	for !p.closed && p.retry == nil && len(p.spares)+p.starting < min(p.cfg.Workers, maxSpares) {
		p.starting++
		p.ends.Go(p.startSpare)
	}
}

func (p *Pool) startSpare() {
	w, err := p.launch()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.starting--
	if err == nil {
		err = p.addSpare(w)
	}
	p.failed(err)
	p.schedule()
}

// addSpare adds a worker that is ready. It may have died since: then reaped has not found it.
func (p *Pool) addSpare(w *worker) error {
	if w.dead() {
		w.end(EndCrash)
		return p.deadSpare(w)
	}
	p.spares = append(p.spares, w)
	p.err = nil
	return nil
}

func (p *Pool) deadSpare(w *worker) error {
	return fmt.Errorf("%s: it died before its first job: %s", p.cfg.Path, w.stderrText())
}

// lostSpare notes that a spare has died. It is replaced at once, unless it may be that none lives
// for long.
func (p *Pool) lostSpare(w *worker) {
	if time.Since(w.since) >= p.cfg.tune.retry {
		return
	}
	if p.lost {
		p.failed(p.deadSpare(w))
	}
	p.lost = true
}

// failed notes that a spare could not be started, or died, and tries again later.
func (p *Pool) failed(err error) {
	if err == nil || p.closed || p.retry != nil {
		return
	}
	p.err = err
	wait := min(maxRetryStart, p.cfg.tune.retry<<min(p.failures, 10))
	p.failures++
	p.cfg.Log.Error("transform worker cannot be started", "error", err, "retry_after", wait)
	p.retry = time.AfterFunc(wait, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.retry = nil
		p.schedule()
	})
}

// launch starts a worker and waits until it is ready.
func (p *Pool) launch() (*worker, error) {
	w, err := p.fork()
	if err == nil {
		if err = w.waitReady(p.cfg.tune.start); err == nil && p.version != "" && p.version != w.ready.version {
			err = fmt.Errorf("it has libvips %s now, and %s when the server started: restart ixmage",
				w.ready.version, p.version)
		}
		if err != nil {
			err = fmt.Errorf("%s: %w", p.cfg.Path, err)
			w.end(EndCrash)
		}
	}
	if err == nil {
		// Close may end it now. Before this, the worker counts neither as started nor as ended; after it, as both.
		w.mu.Lock()
		if w.wasReady = w.reason == ""; !w.wasReady {
			err = ErrOff
		}
		w.mu.Unlock()
	}
	p.cfg.Recorder.TransformWorkerStarted(err == nil)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// fork starts a process that reaped will wait for.
func (p *Pool) fork() (*worker, error) {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrOff
	}
	p.ends.Add(1)
	p.mu.Unlock()
	w, start, err := newWorker(p.cfg.Path, p.cfg.tune.args)
	if err == nil {
		if err = p.forker.do(start); err != nil {
			err = startError(p.cfg.Path, err)
		}
	}
	if err != nil {
		p.ends.Done()
		return nil, err
	}
	p.mu.Lock()
	p.alive[w] = struct{}{}
	if p.closed {
		w.end(EndClose)
	}
	p.mu.Unlock()
	if p.cfg.Memory > 0 { // before reaped waits: afterwards its id may be another process's
		err = limit(w.cmd.Process.Pid, p.cfg.Memory)
	}
	go p.reaped(w)
	if err != nil {
		w.end(EndCrash)
		return nil, fmt.Errorf("%s: limit its memory: %w", p.cfg.Path, err)
	}
	return w, nil
}

// reaped waits for the end of a process and counts it.
func (p *Pool) reaped(w *worker) {
	defer p.ends.Done()
	w.reap()
	p.mu.Lock()
	delete(p.alive, w)
	if i := slices.Index(p.idle, w); i >= 0 {
		p.idle = slices.Delete(p.idle, i, i+1)
		w.end(EndCrash)
		p.schedule()
	}
	if i := slices.Index(p.spares, w); i >= 0 {
		p.spares = slices.Delete(p.spares, i, i+1)
		w.end(EndCrash)
		p.lostSpare(w)
		p.schedule()
	}
	p.mu.Unlock()
	// The job of a busy worker finds its pipes closed, or still has to read an answer, and ends it.
	<-w.ending
	p.mu.Lock()
	w.mu.Lock()
	ready, owner, jobs := w.wasReady, w.owner, w.jobs
	w.mu.Unlock()
	p.mu.Unlock()
	if !ready {
		return
	}
	log := p.cfg.Log.Debug
	switch w.reason {
	case EndDeadline, EndCrash, EndAnswer, EndInternal:
		log = p.cfg.Log.Warn
	}
	log("transform worker ended", "reason", w.reason, "owner", owner,
		"jobs", jobs, "state", w.cmd.ProcessState.String(), "stderr", w.stderrText())
	p.cfg.Recorder.TransformWorkerEnded(w.reason)
}
