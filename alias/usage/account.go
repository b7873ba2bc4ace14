package usage

import (
	"sync/atomic"
	"time"

	"ixmage/alias"
)

// By is the way in which a request to S3, or its bytes, were saved.
type By int

// Ways to save. With NotModified the request was sent and counts as spent; only the
// bytes of the object are saved.
const (
	Hit By = iota
	Collapsed
	NotModified
)

// String returns the name in the API and in labels.
func (b By) String() string {
	switch b {
	case Hit:
		return "hit"
	case Collapsed:
		return "collapsed"
	case NotModified:
		return "not_modified"
	}
	return "unknown"
}

// Account counts for one alias. Its methods take no lock, allocate nothing and
// are safe for concurrent use.
type Account struct {
	id    int64
	since atomic.Int64 // microseconds since 1970, of the first count; 0 before it
	spent tally
	saved [NotModified + 1]tally
	work  work
}

// work is an alias.Work with atomic counters.
type work struct{ jobs, ms, saved atomic.Int64 }

func (w *work) load() alias.Work {
	return alias.Work{Jobs: w.jobs.Load(), Milliseconds: w.ms.Load(), SavedBytes: w.saved.Load()}
}

// take returns all counters and sets them to zero, as tally.take does.
func (w *work) take() alias.Work {
	return alias.Work{Jobs: w.jobs.Swap(0), Milliseconds: w.ms.Swap(0), SavedBytes: w.saved.Swap(0)}
}

// tally is an alias.Tally with atomic counters.
type tally struct{ requests, bytes atomic.Int64 }

func (t *tally) add(requests, bytes int64) {
	if requests != 0 {
		t.requests.Add(requests)
	}
	if bytes != 0 {
		t.bytes.Add(bytes)
	}
}

func (t *tally) load() alias.Tally {
	return alias.Tally{Requests: t.requests.Load(), Bytes: t.bytes.Load()}
}

// take returns both counters and sets them to zero. A count in between may be split over
// two batches; none is lost.
func (t *tally) take() alias.Tally {
	return alias.Tally{Requests: t.requests.Swap(0), Bytes: t.bytes.Swap(0)}
}

// Spent counts requests that were sent to S3, and body bytes that came from it.
func (a *Account) Spent(requests, bytes int64) {
	a.begin()
	a.spent.add(requests, bytes)
}

// Saved counts requests and bytes that S3 did not have to serve. It ignores an unknown
// way.
func (a *Account) Saved(by By, requests, bytes int64) {
	if by < 0 || int(by) >= len(a.saved) {
		return
	}
	a.begin()
	a.saved[by].add(requests, bytes)
}

// Worked counts transformations, the time for which workers were busy with them, rounded up to
// milliseconds, and the bytes by which their results are smaller than their sources. It ignores
// times and bytes that are negative.
func (a *Account) Worked(jobs int64, busy time.Duration, saved int64) {
	a.begin()
	a.work.jobs.Add(jobs)
	if ms := int64((busy + time.Millisecond - 1) / time.Millisecond); ms > 0 {
		a.work.ms.Add(ms)
	}
	if saved > 0 {
		a.work.saved.Add(saved)
	}
}

// begin records the time of the first count.
func (a *Account) begin() {
	if a.since.Load() == 0 {
		a.since.CompareAndSwap(0, time.Now().UnixMicro())
	}
}

func (a *Account) started() time.Time {
	if n := a.since.Load(); n != 0 {
		return time.UnixMicro(n).UTC()
	}
	return time.Time{}
}

// load returns the usage that was counted and not taken yet.
func (a *Account) load() alias.Usage {
	return alias.Usage{
		Since: a.started(), Spent: a.spent.load(),
		Hit: a.saved[Hit].load(), Collapsed: a.saved[Collapsed].load(), NotModified: a.saved[NotModified].load(),
		Transforms: a.work.load(),
	}
}

func (a *Account) take() alias.Usage {
	return alias.Usage{
		Spent: a.spent.take(),
		Hit:   a.saved[Hit].take(), Collapsed: a.saved[Collapsed].take(), NotModified: a.saved[NotModified].take(),
		Transforms: a.work.take(),
		Since:      a.started(), // read after the counters, because a count sets it first
	}
}
