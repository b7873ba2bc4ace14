package alias

import "time"

// Tally counts requests to S3 and the bytes of their bodies.
type Tally struct {
	Requests int64
	Bytes    int64
}

// Plus returns the sum of two tallies.
func (t Tally) Plus(o Tally) Tally { return Tally{t.Requests + o.Requests, t.Bytes + o.Bytes} }

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
}

// Plus returns the sum of two usages, with the earlier Since.
func (u Usage) Plus(o Usage) Usage {
	if u.Since.IsZero() || !o.Since.IsZero() && o.Since.Before(u.Since) {
		u.Since = o.Since
	}
	u.Spent, u.Hit = u.Spent.Plus(o.Spent), u.Hit.Plus(o.Hit)
	u.Collapsed, u.NotModified = u.Collapsed.Plus(o.Collapsed), u.NotModified.Plus(o.NotModified)
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
