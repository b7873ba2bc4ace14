package alias

import "time"

// Tally counts requests to S3 and the bytes of their bodies.
type Tally struct {
	Requests int64
	Bytes    int64
}

// Plus is the sum of two tallies.
func (t Tally) Plus(o Tally) Tally { return Tally{t.Requests + o.Requests, t.Bytes + o.Bytes} }

// Usage counts the requests and bytes that an alias has cost at S3, and those that
// the cache saved.
type Usage struct {
	// Since is when the first of it was counted; zero when nothing was.
	Since time.Time
	// Spent went to S3.
	Spent Tally
	// Saved by answers from the cache, by requests that joined a fetch under way,
	// and by a 304 from S3, whose request is spent and only its bytes are saved.
	Hit, Collapsed, NotModified Tally
}

// Plus is the sum of two usages, since the earlier of both.
func (u Usage) Plus(o Usage) Usage {
	if u.Since.IsZero() || !o.Since.IsZero() && o.Since.Before(u.Since) {
		u.Since = o.Since
	}
	u.Spent, u.Hit = u.Spent.Plus(o.Spent), u.Hit.Plus(o.Hit)
	u.Collapsed, u.NotModified = u.Collapsed.Plus(o.Collapsed), u.NotModified.Plus(o.NotModified)
	return u
}

// UsageDelta is what is to be added for one alias.
type UsageDelta struct {
	AliasID int64
	Usage
}

// UsageBatch is a number of deltas that are added together, and once only: a
// writer whose answer was lost gives the same batch again.
type UsageBatch struct {
	// Writer is the random id of one run of one process; Number counts its
	// batches, from 1.
	Writer string
	Number int64
	At     time.Time
	Deltas []UsageDelta
}

// UsageMemory is how long a Store remembers at least which batches a writer has
// added. One that is given again later than that is counted twice.
const UsageMemory = 30 * 24 * time.Hour
