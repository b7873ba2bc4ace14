package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// No answer may contain the place of the pictures, or testPair, the key pair that
// reads them.
const (
	faultBucket = "hidden-bucket"
	faultPrefix = "hidden-prefix/"
)

// faultSize is larger than the position of every fault of the table. largeSize is
// more than the cache stores of one object.
const (
	faultSize = 200 << 10
	largeSize = 1<<20 + 1
)

// quickOrigin has short deadlines, for tables that wait until two of them have passed. A busy machine may
// hold a right answer for some seconds, hence they are not shorter.
var quickOrigin = []string{
	"--origin-first-byte-timeout", "8s", "--origin-call-timeout", "30s", "--origin-idle-timeout", "8s",
	"--origin-queue-timeout", "1m", "--cache-object-max", "1MiB",
}

// TestFaults requests pictures that S3 fails to deliver, in every way in which it
// can fail. No client gets a wrong picture or learns where it is stored, and nothing
// is left: no cache entry, goroutine, body or connection. When S3 works again, so
// does the server. Each table has its own server, because the tables wait for
// deadlines. With IXMAGE_FAULTS=all, each runs a second time with a disk tier.
func TestFaults(t *testing.T) {
	t.Parallel()
	patient := []string{"--origin-queue-timeout", "1m", "--cache-object-max", "1MiB"}
	for name, table := range map[string]struct {
		run  func(*faultEnv)
		args []string // short deadlines where they have to pass
	}{
		"bodies": {(*faultEnv).bodies, patient}, "headers": {(*faultEnv).headers, patient},
		"slow bodies": {(*faultEnv).slowBodies, quickOrigin},
		"parts":       {(*faultEnv).parts, slices.Concat(patient, []string{"--origin-idle-timeout", "8s"})},
		"crowd":       {(*faultEnv).crowd, quickOrigin},
		"network":     {(*faultEnv).network, quickOrigin},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runFaults(t, table.run, table.args...)
		})
		if name == "headers" || os.Getenv("IXMAGE_FAULTS") == "all" {
			t.Run(name+" with a disk tier", func(t *testing.T) {
				t.Parallel()
				runFaults(t, table.run, slices.Concat(table.args, []string{"--cache-disk", "64MiB", "--cache-disk-object-max", "1MiB"})...)
			})
		}
	}
}

func runFaults(t *testing.T, table func(*faultEnv), args ...string) {
	t.Helper()
	ca := newAuthority(t)
	f := newFaultEnv(t, startTrusting(t, ca, args...))
	f.ca = ca
	before := f.gauge()
	table(f)
	f.checkLeft(before)
}

// bodies is the table of faults of bodies and statuses.
func (f *faultEnv) bodies() { f.bodiesOf("b", bodyRows()) }

// slowBodies is the table of those that exceed a deadline.
func (f *faultEnv) slowBodies() { f.bodiesOf("w", slowRows()) }

// bodiesOf compares the bytes that the cache accounts for with its entries.
func (f *faultEnv) bodiesOf(letter string, rows []fault) {
	f.t.Helper()
	f.load(letter, rows)
	costs := f.calibrate()
	before := f.gauge()
	f.askBroken()
	f.checkCache(before, f.stored((*trial).stores, costs))
	f.askRepaired()
	f.checkCache(before, f.stored((*trial).storesLater, costs))
}

// headers is the table of wrong headers.
func (f *faultEnv) headers() {
	f.t.Helper()
	f.load("h", headerRows())
	f.askBroken()
	f.askRepaired()
}

// askBroken sends the requests while S3 fails, and checks the answers, the metrics
// and the log.
func (f *faultEnv) askBroken() {
	f.t.Helper()
	f.all(func(tr *trial) { tr.got = f.ask(tr) })
	f.waitQuiet()
	counts, log := f.samples(), f.wholeLog()
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
	// Some tries fail on idle connections that are closed already.
	if tries > 1.1*asked {
		f.t.Errorf("%v tries are counted, S3 was asked %v times", tries, asked)
	}
}

// askRepaired sends the requests again when S3 works. It purges negative entries
// first, since they stay for some seconds.
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

// faultEnv is a server in front of a scripted S3, and the trials of its tables.
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

// load creates the trials of a table. letter begins their names.
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

// addAlias registers an alias for the place that answers must not contain.
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
	if tr.method == "part" && r.Method == http.MethodHead && len(tr.body) < largeSize {
		tr.looks.Add(1) // a cold range begins with a HEAD; the fault is that of the GET
		return nil
	}
	n := int(tr.asked.Add(1))
	if n == 2 && tr.replaced != nil {
		f.s3.Put(r.Bucket, r.Key, s3.Object{Body: tr.replaced, ContentType: "image/png"})
	}
	return tr.script.at(n)
}

// ask sends the request of a trial.
func (f *faultEnv) ask(tr *trial) *response {
	f.sent.Add(1)
	return tr.ask(f.public, tr.path())
}

func (f *faultEnv) fetch(path string, lines ...string) *response {
	f.sent.Add(1)
	return single(f.public, http.MethodGet, path, lines...)
}

// all calls do for every trial, many at a time, so that their deadlines pass
// together.
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

// expectation is the right answer to a request that meets a fault, and what must be
// counted and logged.
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
	isWhole   expectationKind = iota // all bytes, and right
	isCut                            // right bytes, and a connection that ends early
	isProblem                        // a problem document
	isFailed                         // cut or a problem, depending on when the bytes arrive
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

// orMore allows more requests to S3: net/http repeats a request on each idle
// connection that is closed before the answer, and a busy machine may miss a
// deadline.
func (v *expectation) orMore() *expectation {
	v.further = true
	return v
}

// script lists what S3 does with the requests for one object, in order. A nil fault
// is a right answer.
type script struct {
	faults []*s3.Fault
	always bool // the last fault repeats; else right answers follow
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

// fault is a row of a table: what S3 does wrong, and the expectation for each way
// to request the object. A nil expectation means that this way is not tried.
type fault struct {
	name     string
	object   s3.Object // without a body it gets a unique one
	script   script
	replaced []byte // replaces the body before the second request to S3
	unstored bool   // the cache does not store it

	get, head, part *expectation
}

// trial is one row requested in one way, through its own alias.
type trial struct {
	*fault
	given
	alias string
	key   string

	well  atomic.Bool  // the fault is over
	asked atomic.Int64 // of S3, until then
	looks atomic.Int64 // HEADs before that
}

func (tr *trial) path() string { return "/" + tr.alias + "/" + tr.key }

// stores reports whether the object is in the cache although S3 failed.
func (tr *trial) stores() bool {
	return tr.want.kind == isWhole && tr.method != "head" && !tr.unstored
}

// storesLater reports whether the object is in the cache when S3 works again. An
// object that could not be stored is not tried for a minute, which may have passed
// on a busy machine.
func (tr *trial) storesLater() bool {
	return tr.method == "head" || !tr.unstored || tr.got.Response != nil && strings.HasSuffix(tr.got.Header.Get("Cache-Status"), "; stored")
}

// calibrate fetches an object of each size of the trials, and returns the bytes that
// the cache accounts for each.
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

// stored is the sum of the cache entries of those trials for which in returns true.
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

// gauge holds the amounts of everything in the server that may leak.
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
	// A fetch that has failed may give its bytes back a moment after its body is closed.
	eventually(f.t, fmt.Sprintf("the cache has %v entries of %v bytes more than before", stored.entries, stored.bytes), func() bool {
		now := f.gauge()
		return now.entries-before.entries == stored.entries && now.bytes-before.bytes == stored.bytes
	})
}

// checkLeft checks that all resources are released. Each idle connection to S3 may
// keep one descriptor and two goroutines.
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
