package cache

import (
	"context"
	"io"
	"log/slog"
	"runtime/debug"
)

// guard runs code that is not ours and may panic.
type guard struct{ log *slog.Logger }

// run calls fn, and then done with how fn ended, whichever way it did: with
// an error, in a panic, or by ending its goroutine (runtime.Goexit, which only
// a deferred call notices). done is called in every case, so that no waiter hangs. A
// panic is logged here: it may have many waiters, or none, and one stack.
func (g guard) run(fn func() error, done func(error)) {
	err := errExited
	defer func() {
		if v := recover(); v != nil {
			g.log.Error("panic while fetching", "panic", v, "stack", string(debug.Stack()))
			err = &PanicError{Value: v}
		}
		done(err)
	}()
	err = fn()
}

// load calls a Load. done gets a source with a body, or one that is the
// same as old, or an error.
func (g guard) load(ctx context.Context, old *Entry, load Load, done func(*Source, error)) {
	var src *Source
	g.run(func() (err error) {
		src, err = load(ctx, old)
		switch {
		case err != nil:
			return err
		case src == nil || src.Body == nil && !src.Same:
			return errNoSource
		case src.Body != nil && src.Same: // nobody will read it
			src.Body.Close()
		}
		return nil
	}, func(err error) { done(src, err) })
}

// read is one Read.
func (g guard) read(r io.Reader, p []byte) (n int, err error) {
	g.run(func() (err error) {
		n, err = r.Read(p)
		return err
	}, func(end error) { err = end })
	return n, err
}

// growStack makes room on a new goroutine's stack in one step. A load goes deep
// (the S3 SDK's middleware), and growing on the way means copying the stack, with
// all frames on it, four times over: an eighth of what a miss costs.
//
//go:noinline
func growStack() {
	var room [40 << 10]byte
	touch(&room)
}

// touch keeps the compiler from seeing that nobody uses the room.
//
//go:noinline
func touch(room *[40 << 10]byte) { room[0] = 1 }
