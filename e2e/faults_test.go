package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// What no answer may tell: where the pictures lie. What they are read with is
// testPair.
const (
	faultBucket = "hidden-bucket"
	faultPrefix = "hidden-prefix/"
)

// faultSize is above every place where a fault of the table strikes, and
// largeSize above what the cache takes.
const (
	faultSize = 200 << 10
	largeSize = 1<<20 + 1
)

// quickOrigin makes deadlines short, but not so short that a right answer would
// miss them on a busy machine.
var quickOrigin = []string{
	"--origin-connect-timeout", "2s", "--origin-first-byte-timeout", "4s",
	"--origin-call-timeout", "15s", "--origin-idle-timeout", "4s", "--origin-queue-timeout", "1m",
	"--cache-object-max", "1MiB",
}

// TestFaults asks for pictures that S3 fails to deliver, in every way that it
// can fail. Nobody gets a wrong picture for a right one, nobody learns where it
// lies, and nothing of it stays: not in the cache, and not as a goroutine, a body
// or a connection. When S3 is well again, so are we. Each table has a server of
// its own, because the tables wait for deadlines.
func TestFaults(t *testing.T) {
	t.Parallel()
	for name, table := range map[string]func(*faultEnv){
		"bodies": (*faultEnv).bodies, "headers": (*faultEnv).headers, "parts": (*faultEnv).parts,
		"crowd": (*faultEnv).crowd, "network": (*faultEnv).network,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca := newAuthority(t)
			f := newFaultEnv(t, startTrusting(t, ca, quickOrigin...))
			f.ca = ca
			before := f.gauge()
			table(f)
			f.checkLeft(before)
		})
	}
}

// bodies is the table of what S3 may do wrong. The cache is held to account for
// each byte.
func (f *faultEnv) bodies() {
	f.t.Helper()
	f.load("b", bodyRows())
	costs := f.calibrate()
	before := f.gauge()
	f.askBroken()
	f.checkCache(before, f.stored((*trial).stores, costs))
	f.askRepaired()
	f.checkCache(before, f.stored((*trial).storesLater, costs))
}

// headers is the table of headers that are not what they should be.
func (f *faultEnv) headers() {
	f.t.Helper()
	f.load("h", headerRows())
	f.askBroken()
	f.askRepaired()
}

// askBroken asks while S3 fails, and checks what comes of it.
func (f *faultEnv) askBroken() {
	f.t.Helper()
	f.all(func(tr *trial) { tr.got = f.ask(tr) })
	f.waitQuiet()
	counts, log := f.samples(), f.output()
	var tries, asked float64
	for _, tr := range f.trials {
		f.t.Run(tr.name+"/"+tr.method, func(t *testing.T) {
			tr.check(t)
			checkCounted(t, tr, counts)
			checkLogged(t, tr, log)
		})
		tries += 1 + counts[retriesOf(tr.alias)]
		asked += float64(tr.asked.Load())
	}
	// Some tries are lost on connections that are dead already.
	if tries > 1.1*asked {
		f.t.Errorf("%v tries are counted, S3 was asked %v times", tries, asked)
	}
}

// askRepaired asks again when S3 is well. An object that was not there is remembered as
// missing for some seconds, and a purge ends that at once.
func (f *faultEnv) askRepaired() {
	f.t.Helper()
	for _, tr := range f.trials {
		if tr.want.code == "not-found" {
			f.adminCall(http.MethodPost, "/api/v1/purge", map[string]any{"alias": tr.alias, "key": tr.key}, http.StatusOK)
		}
	}
	f.all(func(tr *trial) {
		tr.well.Store(true)
		tr.got = f.fetch(tr.path())
	})
	f.waitQuiet()
	for _, tr := range f.trials {
		f.t.Run(tr.name+"/"+tr.method+"/and then", func(t *testing.T) { checkAgain(t, tr) })
	}
}

// faultEnv is a server in front of a scripted S3, and the trials on it.
type faultEnv struct {
	*server
	t      *testing.T
	s3     *s3.Server
	ca     *authority        // that the server trusts
	trials []*trial          // of the table at hand
	byKey  map[string]*trial // of all
	sent   atomic.Int64      // requests

	closers []func() // of servers beside s3
}

func newFaultEnv(t *testing.T, s *server) *faultEnv {
	t.Helper()
	f := &faultEnv{server: s, t: t, s3: s3.New(t), byKey: map[string]*trial{}}
	f.s3.Hook(f.hook)
	return f
}

// load makes the trials of a table. Names begin with a letter of the table's own.
func (f *faultEnv) load(letter string, rows []fault) {
	f.t.Helper()
	f.trials = nil
	for i := range rows {
		row := &rows[i]
		for _, way := range []struct {
			method string
			want   *expectation
		}{{"get", row.get}, {"head", row.head}, {"part", row.part}} {
			if way.want != nil {
				f.add(row, way.method, way.want, fmt.Sprintf("%s%03d-%s", letter, i, way.method))
			}
		}
	}
}

func (f *faultEnv) add(row *fault, method string, want *expectation, name string) {
	f.t.Helper()
	obj := row.object
	if obj.Body == nil {
		obj.Body = png(faultSize, name)
	}
	if obj.ContentType == "" {
		obj.ContentType = "image/png"
	}
	tr := &trial{
		given: given{method: method, want: want, body: obj.Body},
		fault: row, alias: name, key: name + ".png",
	}
	f.s3.Put(faultBucket, faultPrefix+tr.key, obj)
	f.addAlias(name)
	f.trials = append(f.trials, tr)
	f.byKey[faultPrefix+tr.key] = tr
}

// addAlias registers an alias for the place that must not be told.
func (f *faultEnv) addAlias(name string) {
	f.t.Helper()
	f.addAliasAt(name, f.s3.URL)
}

func (f *faultEnv) addAliasAt(name, endpoint string) {
	f.t.Helper()
	f.adminCall(http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": name, "bucket": faultBucket, "prefix": faultPrefix, "endpoint": endpoint, "path_style": true,
		"credential": map[string]string{
			"access_key_id": testPair.AccessKeyID, "secret_access_key": testPair.SecretAccessKey.Reveal(),
		},
	}, http.StatusCreated)
}

func (f *faultEnv) hook(r *s3.Request) *s3.Fault {
	tr := f.byKey[r.Key]
	if tr == nil || tr.well.Load() {
		return nil
	}
	n := int(tr.asked.Add(1))
	if n == 2 && tr.replaced != nil {
		f.s3.Put(r.Bucket, r.Key, s3.Object{Body: tr.replaced, ContentType: "image/png"})
	}
	return tr.script.at(n)
}

// ask asks for a trial's object in its way.
func (f *faultEnv) ask(tr *trial) *response {
	f.sent.Add(1)
	return tr.ask(f.public, tr.path())
}

func (f *faultEnv) fetch(path string, lines ...string) *response {
	f.sent.Add(1)
	return single(f.public, http.MethodGet, path, lines...)
}

// all does something with every trial, many at a time: those that wait for a
// deadline must not wait for one another.
func (f *faultEnv) all(do func(*trial)) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, 48)
	for _, tr := range f.trials {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			do(tr)
		})
	}
	wg.Wait()
}

// waitQuiet waits until no request is in progress, so that all are counted and
// logged.
func (f *faultEnv) waitQuiet() {
	f.t.Helper()
	eventually(f.t, "nothing is under way", func() bool {
		now := f.samples()
		return now["ixmage_http_requests_in_flight"] == 0 && now["ixmage_origin_open_bodies"] == 0 && f.s3.InFlight() == 0
	})
}

// expectation is what a client must see of a fault, and what is counted.
type expectation struct {
	kind    expectationKind
	status  int    // of a problem
	code    string // of a problem
	asked   int    // how often S3 is asked
	further bool   // or more often, as the connections happened to be
	outcome string // the label of ixmage_origin_requests_total, or several
	says    string // what the log line says
}

type expectationKind int

const (
	isWhole   expectationKind = iota // the right bytes, to the last
	isCut                            // right bytes, and a connection that breaks off
	isProblem                        // a problem document
	isFailed                         // cut or a problem, as the bytes happened to arrive
)

func whole(asked int) *expectation { return &expectation{asked: asked, outcome: "ok"} }

func cut(asked int, outcome string) *expectation {
	return &expectation{kind: isCut, asked: asked, outcome: outcome}
}

func fails(status int, code string, asked int, outcome string) *expectation {
	return &expectation{kind: isProblem, status: status, code: code, asked: asked, outcome: outcome}
}

func (v *expectation) logged(text string) *expectation {
	v.says = text
	return v
}

// orMore is for connections that end before an answer: net/http then tries its
// idle ones, however many there are; or before a deadline that a busy machine misses.
func (v *expectation) orMore() *expectation {
	v.further = true
	return v
}

// script is what S3 does with the requests of one client, one after the other. A
// nil fault is a right answer.
type script struct {
	faults []*s3.Fault
	always bool // the last one goes on; else right answers follow
}

func first(faults ...*s3.Fault) script { return script{faults: faults} }

func always(faults ...*s3.Fault) script { return script{faults: faults, always: true} }

func (s script) at(n int) *s3.Fault {
	switch {
	case n <= len(s.faults):
		return s.faults[n-1]
	case s.always:
		return s.faults[len(s.faults)-1]
	}
	return nil
}

// fault is a row of the table: what is wrong at S3, and what the three ways of
// asking must give. A nil way is not tried.
type fault struct {
	name     string
	object   s3.Object // with a body of its own unless there is one
	script   script
	replaced []byte // takes the body's place as the second request comes to S3
	unstored bool   // not an object for the cache

	get, head, part *expectation
}

// trial is one row asked for in one way, over an alias of its own.
type trial struct {
	*fault
	given
	alias string
	key   string

	well  atomic.Bool  // the fault is over
	asked atomic.Int64 // of S3, until then
}

func (tr *trial) path() string { return "/" + tr.alias + "/" + tr.key }

// stores reports whether the object is in the cache although S3 failed.
func (tr *trial) stores() bool {
	return tr.want.kind == isWhole && tr.method != "head" && !tr.unstored
}

// storesLater reports whether it is there when S3 is well. What could not be
// stored once is not tried for a minute; on a busy machine that may be over.
func (tr *trial) storesLater() bool {
	return tr.method == "head" || !tr.unstored || tr.got.Response != nil && strings.HasSuffix(tr.got.Header.Get("Cache-Status"), "; stored")
}

// calibrate fetches an object of each size that the trials have, and returns
// what it costs in the cache.
func (f *faultEnv) calibrate() map[int]float64 {
	f.t.Helper()
	f.addAlias("calibrate")
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
		f.waitQuiet()
		costs[size] = f.samples()[cacheBytes] - before
	}
	return costs
}

const (
	cacheBytes   = `ixmage_cache_bytes{tier="memory"}`
	cacheEntries = `ixmage_cache_entries{tier="memory"}`
)

// stored is what the cache must hold of the trials for which in is true.
func (f *faultEnv) stored(in func(*trial) bool, costs map[int]float64) gauge {
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

func (f *faultEnv) gauge() gauge {
	f.t.Helper()
	f.waitQuiet()
	now := f.samples()
	return gauge{
		entries: now[cacheEntries], bytes: now[cacheBytes], goroutines: now["go_goroutines"],
		files: f.openFiles(), conns: f.s3.Conns(),
	}
}

func (f *faultEnv) checkCache(before, stored gauge) {
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
func (f *faultEnv) checkLeft(before gauge) {
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
