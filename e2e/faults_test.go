package e2e

import (
	"fmt"
	"net/http"
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
// or a connection. When S3 is well again, so are we.
func TestFaults(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	f := newFaulty(t, startTrusting(t, ca, quickOrigin...))
	before := f.gauge()
	f.bodies()
	f.headers()
	f.parts()
	f.crowd()
	f.network(ca)
	f.checkLeft(before)
}

// bodies is the table of what S3 may do wrong. The cache is held to account for
// each byte.
func (f *faulty) bodies() {
	f.t.Helper()
	f.load("b", bodyRows())
	costs := f.calibrate()
	before := f.gauge()
	f.strike()
	f.checkCache(before, f.stored((*trial).stores, costs))
	f.heal()
	f.checkCache(before, f.stored((*trial).storesLater, costs))
}

// headers is the table of headers that are not what they should be.
func (f *faulty) headers() {
	f.t.Helper()
	f.load("h", headerRows())
	f.strike()
	f.heal()
}

// strike asks while S3 fails, and checks what comes of it.
func (f *faulty) strike() {
	f.t.Helper()
	f.all(func(tr *trial) { tr.got = f.ask(tr) })
	f.settle()
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

// heal asks again when S3 is well.
func (f *faulty) heal() {
	f.t.Helper()
	f.all(func(tr *trial) {
		tr.well.Store(true)
		tr.got = f.fetch(tr.path())
	})
	f.settle()
	for _, tr := range f.trials {
		f.t.Run(tr.name+"/"+tr.method+"/and then", func(t *testing.T) { checkAgain(t, tr) })
	}
}

// faulty is a server in front of a scripted S3, and the trials on it.
type faulty struct {
	*server
	t      *testing.T
	s3     *s3.Server
	trials []*trial          // of the table at hand
	byKey  map[string]*trial // of all
	sent   atomic.Int64      // requests

	closers []func() // of servers beside s3
}

func newFaulty(t *testing.T, s *server) *faulty {
	t.Helper()
	f := &faulty{server: s, t: t, s3: s3.New(t), byKey: map[string]*trial{}}
	f.s3.Hook(f.hook)
	return f
}

// load makes the trials of a table. Names begin with a letter of the table's own.
func (f *faulty) load(letter string, rows []fault) {
	f.t.Helper()
	f.trials = nil
	for i := range rows {
		row := &rows[i]
		for _, way := range []struct {
			method string
			want   *verdict
		}{{"get", row.get}, {"head", row.head}, {"part", row.part}} {
			if way.want != nil {
				f.add(row, way.method, way.want, fmt.Sprintf("%s%03d-%s", letter, i, way.method))
			}
		}
	}
}

func (f *faulty) add(row *fault, method string, want *verdict, name string) {
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
	f.hide(name)
	f.trials = append(f.trials, tr)
	f.byKey[faultPrefix+tr.key] = tr
}

// hide registers an alias for the place that must not be told.
func (f *faulty) hide(name string) {
	f.t.Helper()
	f.hideAt(name, f.s3.URL)
}

func (f *faulty) hideAt(name, endpoint string) {
	f.t.Helper()
	f.admit(http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": name, "bucket": faultBucket, "prefix": faultPrefix, "endpoint": endpoint, "path_style": true,
		"credential": map[string]string{
			"access_key_id": testPair.AccessKeyID, "secret_access_key": testPair.SecretAccessKey.Reveal(),
		},
	}, http.StatusCreated)
}

func (f *faulty) hook(r *s3.Request) *s3.Fault {
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
func (f *faulty) ask(tr *trial) *response {
	f.sent.Add(1)
	return tr.ask(f.public, tr.path())
}

func (f *faulty) fetch(path string, lines ...string) *response {
	f.sent.Add(1)
	return single(f.public, http.MethodGet, path, lines...)
}

// all does something with every trial, many at a time: those that wait for a
// deadline must not wait for one another.
func (f *faulty) all(do func(*trial)) {
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

// settle waits until nothing is under way, so that all has been counted and
// logged.
func (f *faulty) settle() {
	f.t.Helper()
	eventually(f.t, "nothing is under way", func() bool {
		now := f.samples()
		return now["ixmage_http_requests_in_flight"] == 0 && now["ixmage_origin_open_bodies"] == 0 && f.s3.InFlight() == 0
	})
}
