package cache

import (
	"context"
	"io"
	"log/slog"
	"runtime/debug"
)

// guard runs code of the caller, which may panic.
type guard struct{ log *slog.Logger }

// run calls fn, and then done with the error of fn. It calls done also if fn panics or
// ends its goroutine (runtime.Goexit, which only a deferred call detects), so that no waiter
// hangs. A panic is logged here, once, because its fetch may have many waiters or none.
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

// load calls a Load. done gets a source with a body, or a source with Same, or an error.
func (g guard) load(ctx context.Context, old *Entry, load Load, done func(*Source, error)) {
	var src *Source
	g.run(func() (err error) {
		src, err = load(ctx, old)
		switch {
		case err != nil:
			return err
		case src == nil || src.Body == nil && !src.Same:
			return errNoSource
		case src.Body != nil && src.Same: // it will not be read
			src.Body.Close()
		}
		return nil
	}, func(err error) { done(src, err) })
}

// read calls Read once.
func (g guard) read(r io.Reader, p []byte) (n int, err error) {
	g.run(func() (err error) {
		n, err = r.Read(p)
		return err
	}, func(end error) { err = end })
	return n, err
}

// growStack grows a new goroutine's stack in one step. A load needs a deep stack (the S3
// SDK's middleware), and growing it step by step copies it with all frames four times: an
// eighth of the cost of a miss.
//
//go:noinline
func growStack() {
	var room [40 << 10]byte
	touch(&room)
}

// touch keeps the compiler from removing the unused array.
//
//go:noinline
func touch(room *[40 << 10]byte) { room[0] = 1 }
