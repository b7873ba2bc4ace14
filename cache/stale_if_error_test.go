package cache

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// strict is an object that may only be served after its minute while it cannot be
// fetched.
var strict = Source{Meta: 1, Fresh: time.Minute, StaleIfError: time.Hour}

// TestStaleError steps through an outage: the first request waits for its failure, later
// ones do not, no refresh comes sooner than retryDelay after the last, and the first success
// ends it.
func TestStaleError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, gate := newEnv(t, roomy), make(chan struct{})
		w.all(t.Context(), keyA, w.like(keyA, 10, strict))
		elapse(time.Minute)
		w.wantLoads(1)
		out := w.failing(&Unavailable{Err: errBoom})
		first, second := w.start(t.Context(), keyA, gated(gate, out)), w.start(t.Context(), keyA, gated(gate, out))
		synctest.Wait()
		select {
		case got := <-first:
			t.Errorf("got %+v without waiting", got)
		default:
		}
		close(gate)
		for _, c := range []<-chan result{first, second} {
			got := <-c
			got.want(t, keyA, 10, Stale)
			if !got.r.Stale || !got.r.Stores {
				t.Errorf("got %+v, want it stale and stored", got.r)
			}
		}
		w.wantLoads(1)
		for range 5 { // it goes on for long, and somebody asks again each time
			elapse(retryDelay - 1)
			w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 1, Stale)
			elapse(1)
			w.all(t.Context(), keyA, out).wantMeta(t, 1, Stale)
			synctest.Wait()
			w.wantLoads(1)
		}
		elapse(retryDelay)
		w.all(t.Context(), keyA, w.like(keyA, 10, strict.as(2))).wantMeta(t, 1, Stale)
		synctest.Wait()
		w.all(t.Context(), keyA, w.forbidden).wantMeta(t, 2, Hit)
		elapse(time.Minute) // the failure is over: the next one waits
		w.all(t.Context(), keyA, w.like(keyA, 10, strict.as(3))).wantMeta(t, 3, Miss)
	})
}

// TestOldOutage: after an old outage, no request is served stale without a load.
func TestOldOutage(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		after  time.Duration
		status Status
	}{
		"a moment ago": {failureMemory - 1, Stale},
		"long ago":     {failureMemory, Miss},
	} {
		bubble(t, name, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, strict))
			elapse(time.Minute)
			w.all(t.Context(), keyA, w.failing(&Unavailable{Err: errBoom})).wantMeta(t, 1, Stale)
			elapse(row.after)
			got := w.all(t.Context(), keyA, w.like(keyA, 10, strict.as(2)))
			got.want(t, keyA, 10, row.status)
		})
	}
}

// TestOutageEnds: a stale entry is served during stale-if-error, and no longer. An error
// that is not Unavailable goes to every waiter.
func TestOutageEnds(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		src    Source
		wait   time.Duration
		err    error
		served bool
	}{
		"in time":        {strict, time.Hour + time.Minute - 1, &Unavailable{Err: errBoom}, true},
		"too late":       {strict, time.Hour + time.Minute, &Unavailable{Err: errBoom}, false},
		"not allowed":    {Source{Meta: 1, Fresh: time.Minute}, time.Minute, &Unavailable{Err: errBoom}, false},
		"no outage":      {strict, time.Minute, errBoom, false},
		"while, not if":  {Source{Meta: 1, Fresh: time.Minute, StaleWhileRevalidate: time.Minute}, 2 * time.Minute, &Unavailable{Err: errBoom}, false},
		"nothing stored": {Source{Meta: 1}, 0, &Unavailable{Err: errBoom}, false},
	} {
		for way, passed := range map[string]bool{"fetch": false, "past the cache": true} {
			bubble(t, name+"/"+way, func(t *testing.T) {
				w := newEnv(t, roomy)
				w.all(t.Context(), keyA, w.like(keyA, 10, row.src))
				elapse(row.wait)
				if passed {
					w.hitForPass.mark(keyA)
				}
				got := w.all(t.Context(), keyA, w.failing(row.err))
				if row.served {
					got.wantMeta(t, 1, Stale)
					return
				}
				if _, wrapped := errors.AsType[*Unavailable](got.err); !errors.Is(got.err, errBoom) || wrapped {
					t.Errorf("got %v, want the error that the outage is of", got.err)
				}
			})
		}
	}
}

// TestCancelledIsNoOutage: a load that fails because it was abandoned is not a failure of
// its source, whatever its error is.
func TestCancelledIsNoOutage(t *testing.T) {
	t.Parallel()
	for way, passed := range map[string]bool{"fetch": false, "past the cache": true} {
		bubble(t, way, func(t *testing.T) {
			w := newEnv(t, roomy)
			w.all(t.Context(), keyA, w.like(keyA, 10, strict))
			elapse(time.Minute)
			if passed {
				w.hitForPass.mark(keyA)
			}
			ctx, cancel := context.WithCancel(t.Context())
			a := w.start(ctx, keyA, func(ctx context.Context, _ *Entry) (*Source, error) {
				<-ctx.Done()
				return nil, &Unavailable{Err: context.Cause(ctx)}
			})
			synctest.Wait()
			cancel()
			if got := <-a; !errors.Is(got.err, context.Canceled) {
				t.Errorf("got %v, want Canceled", got.err)
			}
			synctest.Wait()
			w.all(t.Context(), keyA, w.like(keyA, 10, strict.as(2))).wantMeta(t, 2, Miss)
		})
	}
}
