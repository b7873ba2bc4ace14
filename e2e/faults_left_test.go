package e2e

import (
	"fmt"
	"strings"

	"ixmage/internal/awstest/s3"
)

// calibrate fetches an object of each size that the trials have, and returns
// what it costs in the cache.
func (f *faulty) calibrate() map[int]float64 {
	f.t.Helper()
	f.hide("calibrate")
	costs := map[int]float64{}
	for _, tr := range f.trials {
		size := len(tr.body)
		if _, known := costs[size]; known || tr.unstored {
			continue
		}
		key := fmt.Sprintf("of-%06d.png", size) // as long as that of a trial
		body := png(size, key)
		f.s3.Put(faultBucket, faultPrefix+key, s3.Object{Body: body, ContentType: "image/png"})
		before := f.samples()[cacheBytes]
		if r := f.fetch("/calibrate/" + key); r.err != nil || len(r.body) != size {
			f.t.Fatalf("got %d bytes, error %v", len(r.body), r.err)
		}
		f.settle()
		costs[size] = f.samples()[cacheBytes] - before
	}
	return costs
}

const (
	cacheBytes   = `ixmage_cache_bytes{tier="memory"}`
	cacheEntries = `ixmage_cache_entries{tier="memory"}`
)

// stored is what the cache must hold of the trials for which in is true.
func (f *faulty) stored(in func(*trial) bool, costs map[int]float64) gauge {
	var g gauge
	for _, tr := range f.trials {
		if in(tr) {
			g.entries++
			g.bytes += costs[len(tr.body)]
		}
	}
	return g
}

// gauge is how much the server holds of things that may leak.
type gauge struct {
	entries, bytes, goroutines float64
	files, conns               int
}

func (f *faulty) gauge() gauge {
	f.t.Helper()
	f.settle()
	now := f.samples()
	return gauge{
		entries: now[cacheEntries], bytes: now[cacheBytes], goroutines: now["go_goroutines"],
		files: f.openFiles(), conns: f.s3.Conns(),
	}
}

func (f *faulty) checkCache(before, stored gauge) {
	f.t.Helper()
	now := f.gauge()
	if got := now.entries - before.entries; got != stored.entries {
		f.t.Errorf("the cache has %v entries more than before, want %v", got, stored.entries)
	}
	if got := now.bytes - before.bytes; got != stored.bytes {
		f.t.Errorf("the cache holds %v bytes more than before, its entries make %v", got, stored.bytes)
	}
}

// checkLeft checks that what was taken has been given back, idle connections to
// S3 excepted, each of which has a descriptor and two goroutines.
func (f *faulty) checkLeft(before gauge) {
	f.t.Helper()
	var now gauge
	eventually(f.t, "goroutines and files are as before", func() bool {
		now = f.gauge()
		idle := now.conns - before.conns
		return now.goroutines <= before.goroutines+float64(2*idle)+8 && now.files <= before.files+idle+2
	})
	f.t.Logf("%+v before, %+v after, %d requests", before, now, f.sent.Load())
	var answered, aborted float64
	for series, n := range f.samples() {
		if strings.HasPrefix(series, "ixmage_http_requests_total{") {
			answered += n
		}
		if strings.HasPrefix(series, "ixmage_http_client_aborts_total{") {
			aborted += n
		}
	}
	if int64(answered) != f.sent.Load() || aborted != 0 {
		f.t.Errorf("%v answers and %v departed clients are counted, want %d and none", answered, aborted, f.sent.Load())
	}
	if n := f.s3.OpenBodies(); n != 0 {
		f.t.Errorf("S3 is still sending %d bodies", n)
	}
	for line := range strings.Lines(f.output()) {
		if strings.Contains(line, testPair.SecretAccessKey.Reveal()) {
			f.t.Errorf("the log has the secret key: %s", line)
		}
		if !strings.HasPrefix(line, "time=") {
			f.t.Errorf("somebody else writes to the log: %s", line)
		}
	}
	for _, r := range f.s3.Requests() {
		if r.Bucket != faultBucket {
			f.t.Errorf("a redirect was followed to %s", r.Target)
		}
	}
}
