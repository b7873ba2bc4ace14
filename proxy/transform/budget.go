package transform

import (
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Rate is worker time: PerSecond is added each second, and at most Burst is kept.
type Rate struct{ PerSecond, Burst time.Duration }

// budget limits worker time by key. A job may start while time is left, and its time
// is taken when it has ended, because nobody knows it before: the rest may become
// negative. The key that was quiet for the longest time is forgotten first.
type budget[K comparable] struct {
	rate    Rate
	mu      sync.Mutex // guards buckets and their values
	buckets *simplelru.LRU[K, *bucket]
}

type bucket struct {
	left time.Duration
	at   time.Time
}

func newBudget[K comparable](rate Rate) *budget[K] {
	buckets, _ := simplelru.NewLRU[K, *bucket](bucketCount, nil) // only a size below 1 is an error
	rate.Burst = max(rate.Burst, rate.PerSecond)
	return &budget[K]{rate: rate, buckets: buckets}
}

// wait returns how long key has no time left, 0 if it has some.
func (b *budget[K]) wait(key K, now time.Time) time.Duration {
	if b.rate.PerSecond <= 0 {
		return 0
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.buckets.Get(key)
	if !known {
		return 0
	}
	if k.refill(b.rate, now); k.left > 0 {
		return 0
	}
	return max(1, time.Duration(float64(1-k.left)/float64(b.rate.PerSecond)*float64(time.Second)))
}

// charge takes d from key.
func (b *budget[K]) charge(key K, d time.Duration, now time.Time) {
	if b.rate.PerSecond <= 0 || d <= 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	k, known := b.buckets.Get(key)
	if !known {
		k = &bucket{b.rate.Burst, now}
		b.buckets.Add(key, k)
	}
	k.refill(b.rate, now)
	k.left -= d
}

func (k *bucket) refill(rate Rate, now time.Time) {
	passed := now.Sub(k.at)
	if passed <= 0 {
		return
	}
	k.at = now
	added := float64(passed) * rate.PerSecond.Seconds()
	if added >= float64(rate.Burst-k.left) { // also what does not fit in a Duration
		k.left = rate.Burst
		return
	}
	k.left += time.Duration(added)
}

// killers are pictures that killed their worker lately.
type killers struct {
	mu    sync.Mutex // guards until
	until *simplelru.LRU[killer, time.Time]
}

// killer is a picture of an owner, with its watermark. One owner's pictures say nothing about
// another's: an ETag can be made.
type killer struct {
	owner        int64
	source, mark string
}

func newKillers() *killers {
	until, _ := simplelru.NewLRU[killer, time.Time](killerCount, nil) // only a size below 1 is an error
	return &killers{until: until}
}

func (j *Job) killer() killer {
	k := killer{owner: j.Owner, source: j.Source.ID}
	if j.Mark != nil {
		k.mark = j.Mark.ID
	}
	return k
}

func (k *killers) add(id killer, now time.Time) {
	if id.source == "" {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.until.Add(id, now.Add(killerTime))
}

func (k *killers) has(id killer, now time.Time) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	until, known := k.until.Get(id)
	return known && now.Before(until)
}
