// Package canary reads, for each alias that names one, an object that must be
// readable, so that the refusal of another object can be told from a broken
// bucket, key or grant.
package canary

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"ixmage/alias"
	"ixmage/internal/awserr"
	"ixmage/internal/panics"
)

// Recorder is told about every reading of a canary. Calls come from many
// goroutines.
type Recorder interface {
	CanaryResult(alias string, ok bool)
}

// Config is what a Canary works with. Zero durations and a zero
// Concurrency take their defaults.
type Config struct {
	// Routes yields every alias, as alias.Registry.Routes does.
	Routes func(func(alias.Route) bool)
	// Read reads the first byte of a route's canary with the key that serves it,
	// and returns the SDK's error.
	Read func(context.Context, alias.Route) error

	Every       time.Duration // between two readings of an alias; 5 min
	Fresh       time.Duration // how long Refused believes a result; 5 s
	Timeout     time.Duration // of one reading, waiting for a turn included; 5 s
	Concurrency int           // readings at a time; 8

	Recorder Recorder     // nil: none
	Log      *slog.Logger // nil discards
}

func (cfg *Config) fill() {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Concurrency <= 0 {
		cfg.Concurrency = 8
	}
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&cfg.Every, 5 * time.Minute}, {&cfg.Fresh, 5 * time.Second}, {&cfg.Timeout, 5 * time.Second}} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
}

// Canary reads, for each alias that names one, an object that must be readable.
// It tells a refusal of one object from a bucket, key or KMS grant that is
// broken: S3 says AccessDenied for both. It is safe for concurrent use.
type Canary struct {
	cfg Config
	// slots bounds the readings under way.
	slots chan struct{}
	// base ends with Run, and every reading with it.
	base context.Context //nolint:containedctx // a reading is shared by callers and outlives each of them
	end  context.CancelFunc

	// readings are under way. None begins after ended is set, so that Run can
	// wait for all of them.
	readings sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ended  bool
	states map[int64]*state // by alias id
}

// New makes a Canary that reads nothing by itself until it Runs, and does
// answer Refused.
func New(cfg Config) *Canary {
	cfg.fill()
	base, end := context.WithCancel(context.Background())
	return &Canary{
		cfg: cfg, slots: make(chan struct{}, cfg.Concurrency), base: base, end: end, states: map[int64]*state{},
	}
}

// subject is all that a result depends on. One about another key or place says
// nothing.
type subject struct {
	alias, epoch        int64
	credential, version int64
	canary, owner       string
	pathStyle           bool
}

func subjectOf(r alias.Route) subject {
	s := subject{
		alias: r.Alias.ID, epoch: r.Alias.Epoch, canary: r.Alias.Canary,
		owner: r.Alias.BucketOwner, pathStyle: r.Alias.PathStyle,
	}
	if r.Credential != nil {
		s.credential, s.version = r.Credential.ID, r.Credential.Version
	}
	return s
}

// state is what is known about one subject.
type state struct {
	subject
	revision int64 // of the alias, the newest seen

	tried time.Time // end of the last reading, whatever came of it
	// answered is the end of the last reading that S3 had an answer to, and ok
	// whether that was the object.
	answered time.Time
	ok       bool
	// refused is the last definite answer to the question of Refused.
	refused      bool
	inconclusive bool          // the last reading had none
	inFlight     chan struct{} // closed at the end of the reading under way; nil: none
}

// Refused reports whether the alias's canary is refused, so that a refusal of
// another of its objects means a broken bucket, key or grant. It believes a
// result for a short time and else reads the canary now, once for all who ask,
// and returns within the Timeout or when ctx ends. Where S3 has no answer, the
// last one stands. An alias without a canary is not refused.
func (c *Canary) Refused(ctx context.Context, r alias.Route) bool {
	if r.Alias.Canary == "" {
		return false
	}
	b, inFlight := c.join(r) //nolint:contextcheck // what it starts is for all who ask, and outlives this one
	if inFlight != nil {
		select {
		case <-inFlight:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return b.refused
}

// join finds what is known about a route, and the reading to wait for, if there
// is need of one.
func (c *Canary) join(r alias.Route) (*state, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b, current := c.stateLocked(r)
	if current && b.inFlight == nil && (b.tried.IsZero() || time.Since(b.tried) >= c.cfg.Fresh) {
		c.startLocked(b, r, c.acquire)
	}
	return b, b.inFlight
}

// stateLocked is the state of a route. What was known about another subject of the
// same alias is dropped; a reading of that goes on for those who wait for it. A
// request that began before the latest change gets what is known since, and
// current is false: it must not read for others, with an old key.
func (c *Canary) stateLocked(r alias.Route) (b *state, current bool) {
	s := subjectOf(r)
	b = c.states[s.alias]
	switch {
	case b == nil:
	case b.subject == s:
		b.revision = max(b.revision, r.Alias.Revision)
		return b, true
	case r.Alias.Revision < b.revision, s.credential == b.credential && s.version < b.version:
		return b, false
	}
	b = &state{subject: s, revision: r.Alias.Revision}
	c.states[s.alias] = b
	return b, true
}

// startLocked begins a reading, unless Run has ended. turn waits for a slot,
// and gives it back; it runs within the reading's time.
func (c *Canary) startLocked(b *state, r alias.Route, acquire func(context.Context) (release func())) {
	if c.ended {
		return
	}
	inFlight := make(chan struct{})
	b.inFlight = inFlight
	c.readings.Go(func() {
		defer close(inFlight)
		ctx, cancel := context.WithTimeout(c.base, c.cfg.Timeout)
		defer cancel()
		release := acquire(ctx)
		if release == nil {
			c.record(b, r, awserr.Reply{Code: awserr.Silence(ctx.Err())})
			return
		}
		err := panics.Catch(c.cfg.Log, "reading of a canary", func() error { return c.cfg.Read(ctx, r) })
		release()
		c.record(b, r, awserr.ReplyOf(err))
	})
}

// acquire waits for a slot; nil when ctx ends first.
func (c *Canary) acquire(ctx context.Context) (release func()) {
	select {
	case c.slots <- struct{}{}:
		return c.release
	case <-ctx.Done():
		return nil
	}
}

func (c *Canary) release() { <-c.slots }

// record keeps a result and tells about it.
func (c *Canary) record(b *state, r alias.Route, rep awserr.Reply) {
	seen := resultOf(rep)
	first, before, current := c.store(b, rep, seen)
	if !current || rep.Code == awserr.Canceled {
		return // the alias has changed or gone meanwhile; or Run has ended, which says nothing
	}
	if c.cfg.Recorder != nil {
		c.cfg.Recorder.CanaryResult(string(r.Alias.Name), seen.ok)
	}
	switch {
	case !seen.answered:
		c.cfg.Log.Debug("no answer of S3 about a canary", "alias", string(r.Alias.Name), "code", rep.Code)
	case !seen.ok && (first || before):
		c.cfg.Log.Warn("canary cannot be read",
			"alias", string(r.Alias.Name), "code", rep.Code, "refused", seen.refused)
	case seen.ok && !first && !before:
		c.cfg.Log.Info("canary can be read again", "alias", string(r.Alias.Name))
	}
}

// store ends a reading and says what was known before: whether this is the first
// answer, and whether the canary could be read. current is false when nobody
// will ask about this state again.
func (c *Canary) store(b *state, rep awserr.Reply, seen result) (first, before, current bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	first, before, current = b.answered.IsZero(), b.ok, c.states[b.alias] == b
	b.inFlight = nil
	if rep.Code != awserr.Canceled {
		b.tried = now
	}
	b.inconclusive = !seen.definite
	if seen.definite {
		b.refused = seen.refused
	}
	if seen.answered {
		b.ok, b.answered = seen.ok, now
	}
	return first, before, current
}

// result is what one reading says.
type result struct {
	ok       bool // the canary can be read
	answered bool // S3 had an answer about the key or the object
	refused  bool // it is refused
	definite bool // refused stands, either way
}

// resultOf reads an answer. A missing object is red and not refused: the
// bucket, the key and the grant are as they should be. A key that is not known
// is red; whether it is refused is left as it was, since requests for other
// objects are told the same and do not need to ask.
func resultOf(rep awserr.Reply) result {
	s := result{answered: !rep.Passing() || rep.Status == http.StatusForbidden}
	switch {
	case rep.OK(), rep.Code == "InvalidRange": // an empty object has no first byte
		s.ok, s.definite = true, true
	case rep.Denied():
		// AWS may say what was missing: the right to list, to somebody who may
		// read an object that is not there.
		s.refused, s.definite = rep.Action != "s3:ListBucket", true
	case rep.Code == "NoSuchBucket", rep.Code == "AllAccessDisabled", strings.HasPrefix(rep.Code, "KMS."):
		s.refused, s.definite = true, true
	case rep.Code == "NoSuchKey", rep.Code == "404", rep.Code == "InvalidObjectState":
		s.definite = true
	}
	return s
}

// State is the last reading of an alias's canary that S3 had an answer to;
// known is false before there is one, also since a change of the alias's place
// or key. It looks through all routes.
func (c *Canary) State(aliasID int64) (ok bool, at time.Time, known bool) {
	var now subject
	c.cfg.Routes(func(r alias.Route) bool {
		if r.Alias.ID == aliasID {
			now = subjectOf(r)
		}
		return r.Alias.ID != aliasID
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.states[aliasID]
	if b == nil || b.subject != now || b.answered.IsZero() {
		return false, time.Time{}, false
	}
	return b.ok, b.answered, true
}

// Inconclusive reports whether the last reading of an alias's canary left open if it is
// refused, so that what Refused says is older.
func (c *Canary) Inconclusive(aliasID int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.states[aliasID]
	return b != nil && b.inconclusive
}

// Forget drops what is known about an alias.
func (c *Canary) Forget(aliasID int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.states, aliasID)
}
