package alias

import "time"

// Tally counts requests to S3 and the bytes of their bodies.
type Tally struct {
	Requests int64
	Bytes    int64
}

// Plus returns the sum of two tallies.
func (t Tally) Plus(o Tally) Tally { return Tally{t.Requests + o.Requests, t.Bytes + o.Bytes} }

// Work counts transformations, the milliseconds in which workers were busy with them, and the
// bytes by which their results were smaller than their sources.
type Work struct{ Jobs, Milliseconds, SavedBytes int64 }

// Plus returns the sum of two.
func (w Work) Plus(o Work) Work {
	return Work{w.Jobs + o.Jobs, w.Milliseconds + o.Milliseconds, w.SavedBytes + o.SavedBytes}
}

// Usage counts the requests and bytes that an alias has cost at S3, and those that
// the cache saved.
type Usage struct {
	// Since is the time of the first count; zero if nothing was counted.
	Since time.Time
	// Spent counts the requests to S3.
	Spent Tally
	// These counts were saved by answers from the cache, by requests that joined a
	// running fetch, and by a 304 from S3, which saves the bytes but not the request.
	Hit, Collapsed, NotModified Tally
	// Transforms are those that were not in the cache.
	Transforms Work
}

// Plus returns the sum of two usages, with the earlier Since.
func (u Usage) Plus(o Usage) Usage {
	if u.Since.IsZero() || !o.Since.IsZero() && o.Since.Before(u.Since) {
		u.Since = o.Since
	}
	u.Spent, u.Hit = u.Spent.Plus(o.Spent), u.Hit.Plus(o.Hit)
	u.Collapsed, u.NotModified = u.Collapsed.Plus(o.Collapsed), u.NotModified.Plus(o.NotModified)
	u.Transforms = u.Transforms.Plus(o.Transforms)
	return u
}

// UsageDelta is an addition to the usage of one alias.
type UsageDelta struct {
	AliasID int64
	Usage
}

// UsageBatch is a set of deltas that a Store adds all or none, and only once: a writer
// that lost the answer sends the same batch again.
type UsageBatch struct {
	// Writer is the random id of one run of one process; Number counts its
	// batches, from 1.
	Writer string
	Number int64
	At     time.Time
	Deltas []UsageDelta
}

// UsageMemory is the least time for which a Store remembers the batches of a writer. A
// batch that is sent again later is counted twice.
const UsageMemory = 30 * 24 * time.Hour

// Period is the length of the points of a usage series. Periods begin on the hour or at
// midnight, in UTC.
type Period string

// The periods that a Store keeps.
const (
	Hourly Period = "hour"
	Daily  Period = "day"
)

// Periods lists them.
func Periods() []Period { return []Period{Hourly, Daily} }

// Length returns the duration of one period.
func (p Period) Length() time.Duration {
	if p == Daily {
		return 24 * time.Hour
	}
	return time.Hour
}

// Kept returns how many periods a Store keeps, the current one included: three days of
// hours, 90 days.
func (p Period) Kept() int {
	if p == Daily {
		return 90
	}
	return 72
}

// Begin returns the begin of the period that t is in.
func (p Period) Begin(t time.Time) time.Time { return t.UTC().Truncate(p.Length()) }

// Oldest returns the begin of the oldest period that a Store keeps at t.
func (p Period) Oldest(t time.Time) time.Time {
	return p.Begin(t).Add(-time.Duration(p.Kept()-1) * p.Length())
}

// UsageQuery selects the usage of aliases: their sums, and a series if By is set.
type UsageQuery struct {
	AliasIDs []int64
	By       Period // empty: no series
	Last     int    // periods of a series; the last one is that of Now
	Now      time.Time
}

// Times returns the begins of the periods of a series, the oldest first.
func (q UsageQuery) Times() []time.Time {
	if q.By == "" {
		return nil
	}
	list := make([]time.Time, q.Last)
	for i := range list {
		list[i] = q.By.Begin(q.Now).Add(-time.Duration(q.Last-1-i) * q.By.Length())
	}
	return list
}

// UsageHistory is the usage of one alias: the sum, and what was added in each period that
// a query selects, by its begin in UTC. Periods without usage are absent.
type UsageHistory struct {
	Usage

	Periods map[time.Time]Usage
}
