package cli

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"ixmage/alias/client"
)

// waitFor follows an operation until it has ended. Its failure is that of the command.
func (s *session) waitFor(id string) error {
	resp, err := s.get("operations", id)
	if err != nil {
		return s.suggestOperation(err)
	}
	_, err = s.follow(resp)
	return err
}

// suggestOperation says where ids are.
func (s *session) suggestOperation(err error) error {
	if p, ok := errors.AsType[*client.Problem](err); ok && p.Status == http.StatusNotFound {
		said := *p
		said.Detail += ". The ids are in ixmage operation ls"
		return &said
	}
	return err
}

// follow shows the operation of an answer until it has ended. The error of one that was not
// done is errReported.
func (s *session) follow(first *client.Response) (client.Value, error) {
	op, err := first.Value()
	if err != nil {
		return op, err
	}
	api, err := s.api()
	if err != nil {
		return op, err
	}
	view := s.newStepsView(skewOf(first.Header, time.Now()))
	ctx, cancel := context.WithCancel(s.ctx)
	updates := make(chan stateUpdate)
	send := func(u stateUpdate) {
		select {
		case updates <- u:
		case <-ctx.Done():
		}
	}
	f := follower{api: api, path: client.Path("operations", op.Get("id").Text()), pause: pollInterval, send: send}
	var following sync.WaitGroup
	if op.Get("finished_at").IsNull() {
		following.Go(func() {
			if err := f.run(ctx); err != nil {
				send(stateUpdate{err: err})
			}
		})
	}
	op, err = view.watch(ctx, op, updates)
	cancel()
	following.Wait()
	if s.out.format != formatTable {
		view.erase()
	}
	if err != nil {
		s.term.sayf("The operation goes on. To follow it: ixmage operation wait %s", op.Get("id").Text())
		return op, err
	}
	return op, s.showEnded(op, view)
}

// showEnded shows an operation that has ended, beyond what the view has drawn.
func (s *session) showEnded(op client.Value, view *stepsView) error {
	var err error
	if s.out.format != formatTable {
		err = s.showValue(op, nil)
	}
	if op.Get("state").Text() != "done" {
		if !view.redraws || s.out.format != formatTable { // else the last state that was drawn says so
			s.term.sayf("ixmage: %s. %s", headOf(op), endOf(op))
		}
		err = errors.Join(err, errReported)
	}
	return err
}

// skewOf is how much later the clock here is than that of the server, whose header has
// whole seconds.
func skewOf(h http.Header, now time.Time) time.Duration {
	at, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return 0
	}
	if skew := now.Sub(at); skew < -2*time.Second || skew > 2*time.Second {
		return skew
	}
	return 0
}

// stateUpdate is a new state of an operation, or the error that ends its updates.
type stateUpdate struct {
	op  client.Value
	err error
}

// watch draws an operation, and every second again, until it has ended, no update can come
// any more, or ctx ends.
func (v *stepsView) watch(ctx context.Context, op client.Value, updates <-chan stateUpdate) (client.Value, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		v.show(op)
		if !op.Get("finished_at").IsNull() {
			return op, nil
		}
		select {
		case u := <-updates:
			if u.err != nil {
				return op, u.err
			}
			op = u.op
		case <-tick.C:
		case <-ctx.Done():
			return op, ctx.Err()
		}
	}
}

const (
	// pollInterval is the pause between two readings of an operation.
	pollInterval = time.Second
	// maxAway is the number of readings without an answer before following ends: a server
	// that starts again goes on with its operations.
	maxAway = 15
)

// follower sends every state of an operation until it has ended.
type follower struct {
	api   *client.Client
	path  string
	pause time.Duration
	send  func(stateUpdate)
}

// run reads the stream of events; or the operation, again and again, if there is no stream
// or it breaks off.
func (f follower) run(ctx context.Context) error {
	finished := false
	err := f.api.Events(ctx, f.path+"/events", func(e client.Event) error {
		op, err := client.Decode(e.Data)
		if err != nil || e.Name != "operation" {
			return err
		}
		finished = !op.Get("finished_at").IsNull()
		f.send(stateUpdate{op: op})
		return nil
	})
	switch {
	case finished, ctx.Err() != nil:
		return ctx.Err()
	case client.IsStatus(err, http.StatusUnauthorized), client.IsStatus(err, http.StatusForbidden):
		return err
	}
	return f.poll(ctx)
}

func (f follower) poll(ctx context.Context) error {
	for away := 0; ; {
		resp, err := f.api.Do(ctx, client.Request{Path: f.path})
		switch _, unreachable := errors.AsType[*client.UnreachableError](err); {
		case err == nil:
			op, err := resp.Value()
			if err != nil {
				return err
			}
			f.send(stateUpdate{op: op})
			if !op.Get("finished_at").IsNull() {
				return nil
			}
			away = 0
		case !unreachable || away == maxAway:
			return err
		default:
			away++
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.pause):
		}
	}
}
