package transform

import "time"

// Recorder counts what a Pool does. Its methods are called by many goroutines at once and
// must not block.
type Recorder interface {
	// TransformJob is called at the end of every call of Do.
	TransformJob(r Report)
	// TransformWorkerStarted is called when a worker is ready, or has failed to become so.
	TransformWorkerStarted(ok bool)
	// TransformWorkerEnded is called once for every worker that was ready, with one of Reasons.
	TransformWorkerEnded(reason string)
}

// Report is what is counted of one job. Durations and sizes that a job did not come to are 0.
type Report struct {
	Owner                 int64
	Output                Format // that was asked for
	Outcome               string // one of Outcomes
	Queue, Decode, Encode time.Duration
	Wall                  time.Duration // in which a worker was busy
	BytesIn, BytesOut     int64
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
	EndStarved   = "starved"   // its job took too long because it seldom had a processor
	EndClose     = "close"     // the pool was closed
)

// Reasons are all reasons for which a worker ends.
func Reasons() []string {
	return []string{
		EndDeadline, EndCrash, EndAnswer, EndInternal, EndMemory, EndJobs, EndOwner, EndAbandoned, EndSource, EndStarved,
		EndClose,
	}
}

// noRecorder counts nothing.
type noRecorder struct{}

func (noRecorder) TransformJob(Report)         {}
func (noRecorder) TransformWorkerStarted(bool) {}
func (noRecorder) TransformWorkerEnded(string) {}
