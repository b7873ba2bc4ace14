package cache

import (
	"errors"
	"fmt"
	"io"
)

// Errors of Get and of readers.
var (
	ErrClosed = errors.New("cache is closed")
	// ErrAbandoned is why the context of a fetch ends that nobody follows.
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

// Unavailable is what a Load returns when it could not find out what has become of the
// object, so that something stale is better than nothing.
type Unavailable struct { //nolint:errname // it is what the error says, read cache.Unavailable
	Err error
	// Now, unless it is nil, is what the stored entry's lifetimes would be if it came
	// now. It decides whether the entry is served.
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

// PanicError is what everybody who waits for an object gets when its load or
// its body panics. The stack is in the log.
type PanicError struct {
	Value any
}

func (e *PanicError) Error() string { return fmt.Sprintf("fetch panicked: %v", e.Value) }
