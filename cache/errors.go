package cache

import (
	"errors"
	"fmt"
	"io"
)

// Errors of Get and of readers.
var (
	ErrClosed = errors.New("cache is closed")
	// ErrAbandoned is the cause of a fetch that was cancelled because it had no waiter.
	ErrAbandoned = errors.New("fetch abandoned: no reader left")
	// ErrReaderClosed is the error of Next after Close, and of a Next during which
	// Close was called.
	ErrReaderClosed = errors.New("reader is closed")
	// ErrTooLong means that a source returned more bytes than it declared.
	ErrTooLong = errors.New("object is longer than declared")
	// ErrOutgrown is the error of Next if the object, whose size was not known, has become
	// larger than the cache takes, and another reader gets the rest. The bytes before it are
	// right.
	ErrOutgrown = errors.New("object of unknown length is larger than the cache takes")
)

// errShort means that a source returned io.EOF before its declared length.
var errShort = fmt.Errorf("object is shorter than declared: %w", io.ErrUnexpectedEOF)

// Unavailable is the error of a Load that could not reach the object. A stale entry may be
// served instead, as stale-if-error allows (RFC 5861).
type Unavailable struct { //nolint:errname // read cache.Unavailable
	Err error
	// Now, if set, holds the lifetimes that the stored entry would get if it were stored
	// now. They decide whether it is served, in place of its own.
	Now *Lifetimes
}

func (o *Unavailable) Error() string { return o.Err.Error() }
func (o *Unavailable) Unwrap() error { return o.Err }

var (
	errNoStored = errors.New("load returned Same, but no entry is stored")
	errNoSource = errors.New("load returned neither an object nor an error")
	errExited   = errors.New("load ended its goroutine")
	errOutgrown = errors.New("body has no room for more")
	errBare     = errors.New("this reader has metadata only")
)

// PanicError is the error of all waiters and readers of an object whose load or body
// panics. The stack is in the log.
type PanicError struct {
	Value any
}

func (e *PanicError) Error() string { return fmt.Sprintf("fetch panicked: %v", e.Value) }
