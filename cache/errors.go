package cache

import (
	"errors"
	"fmt"
	"io"
)

// Errors of Get and of readers.
var (
	ErrClosed = errors.New("cache is closed")
	// ErrAbandoned is the cause of a cancelled fetch that nobody waits for.
	ErrAbandoned = errors.New("fetch abandoned: no reader left")
	// ErrReaderClosed is what Next returns after Close, or when Close came while
	// it was waiting.
	ErrReaderClosed = errors.New("reader is closed")
	// ErrTooLong means that a source gave more bytes than it declared.
	ErrTooLong = errors.New("object is longer than declared")
)

// errShort means that a source ended before its declared length, although it
// claimed to be complete.
var errShort = fmt.Errorf("object is shorter than declared: %w", io.ErrUnexpectedEOF)

// Unavailable is the error of a Load that could not reach the object. A stale entry may be
// served instead, as stale-if-error allows (RFC 5861).
type Unavailable struct { //nolint:errname // read cache.Unavailable
	Err error
	// Now, if set, is what the lifetimes of the stored entry would be if it came now.
	// They decide whether it is served, instead of those that it was stored with.
	Now *Lifetimes
}

func (o *Unavailable) Error() string { return o.Err.Error() }
func (o *Unavailable) Unwrap() error { return o.Err }

var (
	errNoStored = errors.New("load says that nothing has changed, but nothing is stored")
	errNoSource = errors.New("load gave neither an object nor an error")
	errExited   = errors.New("load ended its goroutine")
	errBare     = errors.New("a bare reader has no bytes")
)

// PanicError is the error of all waiters and readers of an object whose load or body
// panics. The stack is in the log.
type PanicError struct {
	Value any
}

func (e *PanicError) Error() string { return fmt.Sprintf("fetch panicked: %v", e.Value) }
