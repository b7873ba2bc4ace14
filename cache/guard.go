package cache

import (
	"context"
	"io"
	"runtime/debug"
)

// guard calls fn, and then done with how fn ended, whichever way it did: with
// an error, in a panic, or by ending its goroutine (runtime.Goexit, which only
// a deferred call notices). Whoever waits for fn is released in every case. A
// panic is logged here: it may have many waiters, or none, and one stack.
func (c *Cache) guard(fn func() error, done func(error)) {
	err := errExited
	defer func() {
		if v := recover(); v != nil {
			c.log.Error("panic while fetching", "panic", v, "stack", string(debug.Stack()))
			err = &PanicError{Value: v}
		}
		done(err)
	}()
	err = fn()
}

// load calls a Load under guard. done gets a source with a body, or one that is the
// same as old, or an error.
func (c *Cache) load(ctx context.Context, old *Entry, load Load, done func(*Source, error)) {
	var src *Source
	c.guard(func() (err error) {
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

// readGuarded is one Read under guard.
func (c *Cache) readGuarded(r io.Reader, p []byte) (n int, err error) {
	c.guard(func() (err error) {
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
