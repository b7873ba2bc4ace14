// Package transform resizes pictures in worker processes that have no files, no network and
// no credentials. It knows neither aliases nor the cache.
package transform

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// Config has the settings of a Pool. A zero field means its default.
type Config struct {
	Path    string        // the program of the workers
	Workers int           // default: GOMAXPROCS
	Timeout time.Duration // for one job, from the first byte that its worker gets; default 5 s
	Memory  int64         // bytes of address space of a worker (RLIMIT_AS), default 1 GiB
	// AliasTime and ClientTime are how long workers may be busy for one owner and for one
	// client. A zero rate is no limit.
	AliasTime, ClientTime Rate
	Log                   *slog.Logger
	Recorder              Recorder // may be nil
}

// Rate is worker time: PerSecond is added each second, and at most Burst is kept.
type Rate struct{ PerSecond, Burst time.Duration }

// Recorder counts what a Pool does. Its methods are called by many goroutines, some with a lock
// held: they must not block, nor call the Pool.
type Recorder interface {
	// TransformJob is called at the end of every call of Do.
	TransformJob(r Report)
	// TransformWorkerStarted is called when a worker is ready, or has failed to become so.
	TransformWorkerStarted(ok bool, took time.Duration)
	// TransformWorkerEnded is called once for every worker that was ready, with one of Reasons.
	TransformWorkerEnded(reason string)
}

// Report is what is counted of one job. Durations and sizes that a job did not come to are 0.
type Report struct {
	Owner                        int64
	Outcome                      string // one of Outcomes
	Queue, Decode, Encode, Total time.Duration
	BytesIn, BytesOut            int64
}

// Outcomes of a job.
const (
	OutcomeOK         = "ok"
	OutcomeRefused    = "refused"    // by the worker, or because the picture killed one lately
	OutcomeFailed     = "failed"     // an error of the worker, or of the source
	OutcomeTimeout    = "timeout"    // killed at the deadline
	OutcomeCrashed    = "crashed"    // the worker died, or gave an answer that cannot be true
	OutcomeOverloaded = "overloaded" // the queue was full
	OutcomeLimited    = "limited"    // alias or client had no worker time left
	OutcomeAbandoned  = "abandoned"  // the context of the job ended
)

// Outcomes are all outcomes of a job.
func Outcomes() []string {
	return []string{
		OutcomeOK, OutcomeRefused, OutcomeFailed, OutcomeTimeout, OutcomeCrashed, OutcomeOverloaded,
		OutcomeLimited, OutcomeAbandoned,
	}
}

// Reasons for which a worker ends.
const (
	EndDeadline  = "deadline"  // its job took too long
	EndCrash     = "crash"     // it died
	EndAnswer    = "answer"    // its answer cannot be true
	EndInternal  = "internal"  // it reported an error of its own
	EndMemory    = "memory"    // it had become large
	EndJobs      = "jobs"      // it had done many jobs
	EndOwner     = "owner"     // another owner needed its place
	EndAbandoned = "abandoned" // the context of its job ended
	EndSource    = "source"    // the source of its job could not be read
	EndClose     = "close"     // the pool was closed
)

// Reasons are all reasons for which a worker ends.
func Reasons() []string {
	return []string{
		EndDeadline, EndCrash, EndAnswer, EndInternal, EndMemory, EndJobs, EndOwner, EndAbandoned, EndSource,
		EndClose,
	}
}

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
)

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
type RefusedError struct{ Why Refusal }

func (e *RefusedError) Error() string {
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

// Job is one picture to transform.
type Job struct {
	Owner  int64  // the id of the alias: a worker never works for two owners
	Client string // whose time is used; "": nobody's
	Task   Task
	Source Blob
	Mark   *Blob // the watermark, or nil
}

// Blob is a picture.
type Blob struct {
	Header // by Sniff
	// ID names the picture and its version, as in an ETag. A picture that kills its worker is
	// not tried again for some minutes. "": not remembered.
	ID     string
	Size   int64     // bytes
	Reader io.Reader // gives Size bytes and does not wait for others; read until Do returns
}

// Result is a transformed picture.
type Result struct {
	Body                  []byte // the caller's
	Width, Height, Frames int
	Source                SourceInfo
	// Queue is the time before a worker began, Wall the time that it was busy. Decode and
	// Encode are parts of Wall as the worker tells them.
	Queue, Wall, Decode, Encode time.Duration
}

// SourceInfo is what the worker tells about the source.
type SourceInfo struct {
	Width, Height int // of one frame as stored
	Orientation   int // 1 to 8, as in EXIF
	Frames        int
	Alpha         bool
}

// Stats is the state of a Pool at one moment.
type Stats struct {
	Workers int // that may be busy at once
	Busy    int
	Queued  int
	Spares  int // ready and without an owner
}

// Pool runs jobs in worker processes. It is safe for concurrent use.
type Pool struct{ cfg Config }

// Start starts one worker to see that it stands. The error says what to do.
func Start(_ context.Context, cfg Config) (*Pool, error) {
	return &Pool{cfg}, ErrOff
}

// Do transforms a picture. It waits for a worker; if ctx ends, the worker of the job is killed.
func (p *Pool) Do(_ context.Context, _ Job) (*Result, error) { return nil, ErrOff }

// Busy reports whether so many jobs wait that results should be cheap to encode.
func (p *Pool) Busy() bool { return false }

// Version returns the version of libvips in the workers.
func (p *Pool) Version() string { return "" }

// Err returns why no worker can be started at the moment, or nil.
func (p *Pool) Err() error { return nil }

// Stats returns the state of the pool.
func (p *Pool) Stats() Stats { return Stats{} }

// Close kills all workers and waits for them. Jobs under way and later ones fail with ErrOff.
func (p *Pool) Close() {}
