package transform

import (
	"errors"
	"fmt"
	"time"
)

// Errors of Do. The worker's own refusal is a *RefusedError.
var (
	ErrOverloaded = errors.New("all transform workers are busy and the queue is full")
	ErrLimited    = errors.New("the worker time of this alias or client is used up") // as a *LimitedError
	ErrTimeout    = errors.New("the transform worker was killed at its deadline")
	ErrCrashed    = errors.New("the transform worker died")
	ErrAnswer     = errors.New("the transform worker gave an answer that cannot be true")
	ErrInternal   = errors.New("the transform worker reported an error of its own")
	ErrRemembered = errors.New("this picture killed a transform worker a short time ago and is not tried now")
	ErrSource     = errors.New("the source of the transform cannot be read")
	ErrOff        = errors.New("transforms are off") // no worker can be started, or the pool is closed
	// ErrSlowSource is an ErrSource: the deadline came while the worker waited for bytes of a picture.
	ErrSlowSource = fmt.Errorf("%w: it was not complete at the deadline", ErrSource)
)

// Errors that are an ErrOverloaded: something other than the picture is the likely cause.
var (
	errStarved  = &machineError{"waited for a processor for most of its time, and was killed at its deadline", false}
	errKilled   = &machineError{"was killed from outside, or by the kernel for want of memory", true}
	errOtherJob = &machineError{"answered another job than its last one", true}
)

type machineError struct {
	what    string
	suspect bool // the picture may be to blame after all
}

func (e *machineError) Error() string      { return "the transform worker " + e.what }
func (*machineError) Is(target error) bool { return target == ErrOverloaded }

// isSuspect reports whether err is a death of a worker for which the picture may be to blame.
func isSuspect(err error) bool {
	e, ok := errors.AsType[*machineError](err)
	return ok && e.suspect
}

// Killed reports whether err means that a picture killed its worker, now or a short time ago.
func Killed(err error) bool {
	return errors.Is(err, ErrTimeout) || errors.Is(err, ErrCrashed) || errors.Is(err, ErrAnswer) ||
		errors.Is(err, ErrRemembered)
}

// ErrRefused is the error that every *RefusedError is.
var ErrRefused = errors.New("the transform worker refused the picture")

// Refusal is why a picture cannot be transformed. Its numbers are those of the worker's answers.
type Refusal uint32

// The refusals.
const (
	TooLarge Refusal = iota + 1
	Broken
	Unsupported
	CropOutside
	ResultTooLarge
)

// RefusedError is the refusal of a picture.
type RefusedError struct {
	Why  Refusal
	Mark bool // the watermark is refused, before a worker saw it
}

// Unwrap returns an *OptionError if another value of an option would be good.
func (e *RefusedError) Unwrap() error {
	if e.Why == CropOutside {
		return errCrop
	}
	return nil
}

var errCrop = &OptionError{"crop", "crop leaves nothing of the picture: x and y are less than its width and height"}

func (e *RefusedError) Error() string {
	if e.Mark {
		return "the watermark: " + (&RefusedError{Why: e.Why}).Error()
	}
	switch e.Why {
	case TooLarge:
		return "the picture is too large to be transformed"
	case Broken:
		return "the picture is broken or truncated"
	case CropOutside:
		return "the crop lies outside of the picture"
	case ResultTooLarge:
		return "the result is too large"
	default:
		return "the type of the picture is not supported"
	}
}

// Is makes a RefusedError an ErrRefused.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// LimitedError is ErrLimited with the time after which a job may be tried again.
type LimitedError struct {
	Client     bool // the client's time is used up, else the alias's
	RetryAfter time.Duration
}

func (e *LimitedError) Error() string {
	if e.Client {
		return "the worker time of this client is used up"
	}
	return "the worker time of this alias is used up"
}

// Is makes a LimitedError an ErrLimited.
func (e *LimitedError) Is(target error) bool { return target == ErrLimited }
