package canary

import (
	"context"
	"maps"
	"math/rand/v2"
	"time"

	"ixmage/alias"
	"ixmage/internal/panics"
)

// Run reads the canaries of all served aliases periodically, or those of its share if other nodes
// read the rest, until ctx ends. It returns
// when all readings have ended; no reading begins after that. It may be called once.
func (c *Canary) Run(ctx context.Context) error {
	defer c.close()
	next := map[int64]time.Time{} // by alias id
	for ctx.Err() == nil {
		_ = panics.Catch(c.cfg.Log, "readings of canaries", func() error { // Catch logs it
			c.readDue(ctx, c.due(next))
			return nil
		})
		if !sleep(ctx, c.pause(next)) {
			break
		}
	}
	return nil
}

func (c *Canary) close() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.end()
	c.readings.Wait()
}

// due returns the routes that are due. It sets the next time of each alias and deletes
// the entries of aliases that no longer have a canary or are not served.
func (c *Canary) due(next map[int64]time.Time) []alias.Route {
	now, ours := time.Now(), c.share()
	var routes []alias.Route
	live := map[int64]bool{}
	c.cfg.Routes(func(r alias.Route) bool {
		if r.Alias.Canary == "" || !r.Alias.Serves() {
			return true
		}
		live[r.Alias.ID] = true
		at, known := next[r.Alias.ID]
		if !ours.has(r.Alias.ID) {
			if delete(next, r.Alias.ID); known && c.cfg.Recorder != nil {
				c.cfg.Recorder.ForgetCanary(string(r.Alias.Name))
			}
			return true
		}
		if known && !now.Before(at) {
			routes = append(routes, r)
		}
		if !known || !now.Before(at) {
			next[r.Alias.ID] = c.next(r.Alias.ID, now)
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(next, func(id int64, _ time.Time) bool { return !live[id] })
	maps.DeleteFunc(c.states, func(id int64, s *state) bool { return !live[id] && s.inFlight == nil })
	return routes
}

// next is the time of the next reading of an alias: at about the same point of every
// interval, which is different for each alias.
func (c *Canary) next(id int64, now time.Time) time.Time {
	at := now.Truncate(c.cfg.Every).Add(time.Duration(spread(uint64(id)) % uint64(c.cfg.Every)))
	if !at.After(now) {
		at = at.Add(c.cfg.Every)
	}
	return at.Add(rand.N(c.cfg.Every/10 + 1)) //nolint:gosec // a jitter is not a secret
}

// spread distributes ids evenly (the finalizer of MurmurHash3).
func spread(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// pause is the time until the next reading, and at most Every/30, so that new aliases
// are found in time.
func (c *Canary) pause(next map[int64]time.Time) time.Duration {
	now := time.Now()
	pause := max(c.cfg.Every/30, time.Millisecond)
	for _, at := range next {
		pause = min(pause, max(at.Sub(now), time.Millisecond))
	}
	return pause
}

// readDue starts the due readings, each when a slot is free, until ctx ends.
func (c *Canary) readDue(ctx context.Context, routes []alias.Route) {
	for _, r := range routes {
		release := c.acquire(ctx)
		if release == nil {
			return
		}
		c.mu.Lock()
		if s, current := c.stateLocked(r); current && s.inFlight == nil {
			//nolint:contextcheck // a reading has a timeout of its own
			c.startLocked(s, r, func(context.Context) func() { return release })
		} else { // a request started a reading just now, or the alias has changed
			release()
		}
		c.mu.Unlock()
	}
}

// sleep reports whether d has passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
