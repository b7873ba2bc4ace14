// Package canary reads, for each alias that names one, an object that must be readable.
// The result distinguishes the refusal of a single object from a broken bucket, key or
// grant.
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

// Recorder gets the result of every reading of a canary that this node has to read. It must be
// safe for concurrent use.
type Recorder interface {
	CanaryResult(alias string, ok bool)
	// ForgetCanary is called when another node has to read the canary.
	ForgetCanary(alias string)
}

// Config configures a Canary. Zero durations and a zero Concurrency mean the defaults.
type Config struct {
	// Routes yields every alias, as alias.Registry.Routes does.
	Routes func(func(alias.Route) bool)
	// Read reads the first byte of a route's canary with the route's key, and returns
	// the SDK's error.
	Read func(context.Context, alias.Route) error

	Every       time.Duration // between two readings of an alias; 5 min
	Fresh       time.Duration // how long Refused uses a result; 5 s
	Timeout     time.Duration // of one reading, with the wait for a slot; 5 s
	Concurrency int           // concurrent readings; 8

	// Nodes returns the name of this node, and those of all live nodes that share the registry.
	// Nil: this process reads all canaries.
	Nodes func() (own string, live []string)

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

// Canary reads, for each alias that names one, an object that must be readable. S3
// answers AccessDenied both for one refused object and for a broken bucket, key or KMS
// grant; the canary distinguishes the two. It is safe for concurrent use.
type Canary struct {
	cfg Config
	// slots bounds the concurrent readings.
	slots chan struct{}
	// base is the parent context of every reading, and ends with Run.
	base context.Context //nolint:containedctx // callers share a reading, which outlives each of them
	end  context.CancelFunc

	// readings counts the running readings. None begins after ended is set, so that
	// Run can wait for all of them.
	readings sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	ended  bool
	states map[int64]*state // by alias id
}

// New makes a Canary. Before Run it reads canaries only for Refused.
func New(cfg Config) *Canary {
	cfg.fill()
	base, end := context.WithCancel(context.Background())
	return &Canary{
		cfg: cfg, slots: make(chan struct{}, cfg.Concurrency), base: base, end: end, states: map[int64]*state{},
	}
}

// subject is everything that a result depends on. A result for another subject, such as
// the alias with its previous key, does not apply.
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

// state holds the results for one subject.
type state struct {
	subject
	revision int64 // the newest known revision of the alias

	tried time.Time // end of the last reading, with any result
	// answered is the end of the last reading that S3 answered. ok reports whether the
	// answer was the object.
	answered time.Time
	ok       bool
	// refused is the last definite result for Refused.
	refused      bool
	inconclusive bool          // the last reading had no definite result
	inFlight     chan struct{} // closed at the end of the current reading; nil: none
}

// Refused reports whether the alias's canary is refused, so that a refusal of another
// object means a broken bucket, key or grant. If the last result is older than Fresh, it
// reads the canary; concurrent callers share that reading. It returns within Timeout or
// when ctx ends. Without an answer of S3, the previous result remains. An alias without
// a canary is not refused.
func (c *Canary) Refused(ctx context.Context, r alias.Route) bool {
	if r.Alias.Canary == "" {
		return false
	}
	s, inFlight := c.join(r, c.cfg.Fresh) //nolint:contextcheck // callers share the reading, which outlives this call
	if inFlight != nil {
		select {
		case <-inFlight:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.refused
}

// join returns the state of a route. It starts a reading if the last one is older than fresh, and
// returns the channel of the current reading, or nil.
func (c *Canary) join(r alias.Route, fresh time.Duration) (*state, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s, current := c.stateLocked(r)
	if current && s.inFlight == nil && (s.tried.IsZero() || time.Since(s.tried) >= fresh) {
		c.startLocked(s, r, c.acquire)
	}
	return s, s.inFlight
}

// stateLocked returns the state of a route. It replaces the state of an older subject of
// the same alias; a reading of that continues for its callers. For a route from before
// the latest change it returns the newer state, and current is false: a reading with the
// old key must not be shared.
func (c *Canary) stateLocked(r alias.Route) (s *state, current bool) {
	now := subjectOf(r)
	s = c.states[now.alias]
	switch {
	case s == nil:
	case s.subject == now:
		s.revision = max(s.revision, r.Alias.Revision)
		return s, true
	case r.Alias.Revision < s.revision, now.credential == s.credential && now.version < s.version:
		return s, false
	}
	s = &state{subject: now, revision: r.Alias.Revision}
	c.states[now.alias] = s
	return s, true
}

// startLocked starts a reading, unless Run has ended. acquire waits for a slot, within
// the timeout of the reading.
func (c *Canary) startLocked(s *state, r alias.Route, acquire func(context.Context) (release func())) {
	if c.ended {
		return
	}
	inFlight := make(chan struct{})
	s.inFlight = inFlight
	c.readings.Go(func() {
		defer close(inFlight)
		ctx, cancel := context.WithTimeout(c.base, c.cfg.Timeout)
		defer cancel()
		release := acquire(ctx)
		if release == nil {
			c.record(s, r, awserr.Reply{Code: awserr.Silence(ctx.Err())})
			return
		}
		err := panics.Catch(c.cfg.Log, "reading of a canary", func() error { return c.cfg.Read(ctx, r) })
		release()
		c.record(s, r, awserr.ReplyOf(err))
	})
}

// acquire waits for a slot. It returns nil if ctx ends first.
func (c *Canary) acquire(ctx context.Context) (release func()) {
	select {
	case c.slots <- struct{}{}:
		return c.release
	case <-ctx.Done():
		return nil
	}
}

func (c *Canary) release() { <-c.slots }

// record stores a result, counts it and logs a change.
func (c *Canary) record(s *state, r alias.Route, rep awserr.Reply) {
	res := resultOf(rep)
	first, before, current := c.store(s, rep, res)
	if !current || rep.Code == awserr.Canceled {
		return // the alias was changed or deleted meanwhile, or Run has ended
	}
	if c.cfg.Recorder != nil && c.share().has(r.Alias.ID) {
		c.cfg.Recorder.CanaryResult(string(r.Alias.Name), res.ok)
	}
	switch {
	case !res.answered:
		c.cfg.Log.Debug("canary check inconclusive", "alias", string(r.Alias.Name), "code", rep.Code)
	case !res.ok && (first || before):
		c.cfg.Log.Warn("canary cannot be read",
			"alias", string(r.Alias.Name), "code", rep.Code, "refused", res.refused)
	case res.ok && !first && !before:
		c.cfg.Log.Info("canary can be read again", "alias", string(r.Alias.Name))
	}
}

// store stores the result of a reading. first reports whether it is the first answer,
// before whether the previous one was ok. current is false if the alias has another
// state now.
func (c *Canary) store(s *state, rep awserr.Reply, res result) (first, before, current bool) {
	now := time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	first, before, current = s.answered.IsZero(), s.ok, c.states[s.alias] == s
	s.inFlight = nil
	if rep.Code != awserr.Canceled {
		s.tried = now
	}
	s.inconclusive = !res.definite
	if res.definite {
		s.refused = res.refused
	}
	if res.answered {
		s.ok, s.answered = res.ok, now
	}
	return first, before, current
}

// result is the result of one reading.
type result struct {
	ok       bool // the canary can be read
	answered bool // S3 had an answer about the key or the object
	refused  bool // S3 refused the canary
	definite bool // refused is known
}

// resultOf interprets an answer. A missing canary is not readable, but S3 did not refuse
// it: the bucket, the key and the grant work. With an unknown key the canary is not
// readable, and refused remains as it was, because requests for other objects get the
// same answer and do not need the canary.
func resultOf(rep awserr.Reply) result {
	res := result{answered: !rep.Passing() || rep.Status == http.StatusForbidden}
	switch {
	case rep.OK(), rep.Code == "InvalidRange": // an empty object has no first byte
		res.ok, res.definite = true, true
	case rep.Denied():
		// AWS may name the missing permission: it is s3:ListBucket for a missing
		// object that the key may read.
		res.refused, res.definite = rep.Action != "s3:ListBucket", true
	case rep.Code == "NoSuchBucket", rep.Code == "AllAccessDisabled", strings.HasPrefix(rep.Code, "KMS."):
		res.refused, res.definite = true, true
	case rep.Code == "NoSuchKey", rep.Code == "404", rep.Code == "InvalidObjectState":
		res.definite = true
	}
	return res
}

// State is the last reading of an alias's canary that S3 answered. known is false before
// the first one, and after a change of the alias's location or key. It iterates over all
// routes. If another node has to read the canary, and the last reading here is older than Every,
// it reads the canary, within Timeout.
func (c *Canary) State(aliasID int64) (ok bool, at time.Time, known bool) {
	var now subject
	var route alias.Route
	c.cfg.Routes(func(r alias.Route) bool {
		if r.Alias.ID == aliasID {
			now, route = subjectOf(r), r
		}
		return r.Alias.ID != aliasID
	})
	if route.Alias != nil && route.Alias.Canary != "" && !c.share().has(aliasID) {
		if _, inFlight := c.join(route, c.cfg.Every); inFlight != nil {
			<-inFlight
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.states[aliasID]
	if s == nil || s.subject != now || s.answered.IsZero() {
		return false, time.Time{}, false
	}
	return s.ok, s.answered, true
}

// Inconclusive reports whether the last reading of an alias's canary had no definite
// result, so that Refused returns an older one.
func (c *Canary) Inconclusive(aliasID int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.states[aliasID]
	return s != nil && s.inconclusive
}

// Forget deletes the state of an alias.
func (c *Canary) Forget(aliasID int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.states, aliasID)
}
