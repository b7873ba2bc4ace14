package e2e

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// killTTL is the lifetime of the objects of the alias short. Those of the alias long live for an hour, so
// that only a purge brings a newer version.
const killTTL = 2 * time.Second

// TestDiskKilled kills the program at random moments while objects are requested, changed and
// purged, and starts it again with its cache on disk. No answer may have a wrong byte, a
// version from before a purge that was answered, or one that was replaced longer than its
// lifetime ago. IXMAGE_KILLS is the number of kills, or all.
func TestDiskKilled(t *testing.T) {
	t.Parallel()
	kills := 5
	if n, err := strconv.Atoi(os.Getenv("IXMAGE_KILLS")); err == nil {
		kills = n
	} else if os.Getenv("IXMAGE_KILLS") == "all" {
		kills = 200
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	w := newKillWorld(t, filepath.Join(t.TempDir(), "data"))
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range kills {
		if round > 0 {
			w.server = startIn(t, w.data, killArgs...)
		}
		for _, o := range w.objects {
			w.compare(o, w.server)
		}
		if t.Failed() {
			t.Fatalf("after %d kills", round)
		}
		w.load(rng, time.Duration(rng.IntN(800))*time.Millisecond, func() bool {
			return round < kills-1 || w.fromDisk.Load() > 0 && w.purges.Load() > 0 // a busy machine does little in a round
		})
	}
	t.Logf("%d answers, %d of them from disk, %d cut, %d purges", w.answers.Load(), w.fromDisk.Load(), w.cut.Load(), w.purges.Load())
}

var killArgs = []string{
	"--cache-memory", "4MiB", "--cache-object-max", "256KiB", "--cache-disk", "64MiB", "--cache-disk-object-max", "2MiB",
}

// killWorld is a server that is killed and started again.
type killWorld struct {
	*env

	client                         *http.Client
	objects                        []*killObject
	answers, fromDisk, cut, purges atomic.Int64
}

// killObject is an object with all its versions.
type killObject struct {
	alias, name string
	size        int
	ttl         time.Duration

	changing sync.Mutex // held while it is changed or purged

	mu       sync.Mutex // guards the rest
	version  int
	bodies   map[int][]byte
	replaced map[int]time.Time // when a newer version was there for certain
	floor    int               // older versions were purged

	// These are for freshSince.
	asking  map[*time.Time]bool // when the requests under way began
	fetched map[int]time.Time   // by version: when a client last got an answer of S3 with it
	cut     time.Time           // when a request that had been sent last failed
}

// freshSince returns the latest time at which the lifetime of a version in the cache can have begun.
// This may be later than the time at which the version was replaced:
//
//  1. A client requests the object, and ixmage requests it from S3.
//  2. S3 reads the version, and a busy machine holds the answer.
//  3. The object is changed.
//  4. ixmage receives the answer of S3, and the lifetime begins.
//  5. The client receives the whole answer (fetched), or the kill cuts it (cut).
//
// ok is false if a request that started before began is under way, because it may be between 4 and 5.
func (o *killObject) freshSince(version int, began time.Time) (at time.Time, ok bool) {
	for other := range o.asking {
		if other.Before(began) {
			return at, false
		}
	}
	at = o.cut
	for _, t := range []time.Time{o.replaced[version], o.fetched[version]} {
		if t.After(at) {
			at = t
		}
	}
	return at, true
}

func newKillWorld(t *testing.T, data string) *killWorld {
	t.Helper()
	w := &killWorld{env: &env{server: startIn(t, data, killArgs...), s3: s3.New(t)}, client: client(t)}
	w.s3.CreateBucket("media", "")
	sizes := []int{3 << 10, 20 << 10, 150 << 10, 1 << 20}
	for alias, ttl := range map[string]time.Duration{"short": killTTL, "long": time.Hour} {
		w.open(alias, "media", alias+"/", map[string]any{
			"ttl": ttl.String(), "stale_while_revalidate": "0s", "stale_if_error": "0s", "negative_ttl": "0s",
		})
		for i := range 16 {
			o := &killObject{
				alias: alias, name: fmt.Sprintf("%d/%d.png", i%3, i), size: sizes[i%len(sizes)], ttl: ttl,
				bodies: map[int][]byte{}, replaced: map[int]time.Time{}, asking: map[*time.Time]bool{}, fetched: map[int]time.Time{},
			}
			w.objects = append(w.objects, o)
			w.change(o)
		}
	}
	return w
}

// change gives o a new version.
func (w *killWorld) change(o *killObject) {
	next := o.version + 1
	body := png(o.size, fmt.Sprint(o.alias, o.name, next))
	o.mu.Lock()
	o.bodies[next] = body
	o.mu.Unlock()
	w.s3.Put("media", o.alias+"/"+o.name, s3.Object{Body: body, ContentType: "image/png"})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.replaced[o.version] = time.Now()
	o.version = next
	delete(o.bodies, next-40)
}

// load lets clients work for a time and until enough returns true, and kills the server.
func (w *killWorld) load(rng *rand.Rand, d time.Duration, enough func() bool) {
	var wg sync.WaitGroup
	s, stop := w.server, make(chan struct{})
	defer wg.Wait()
	defer close(stop) // also if eventually ends the test, which the clients must not outlive
	for range 4 {
		own := rand.New(rand.NewPCG(rng.Uint64(), 0))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					w.act(own, s)
				}
			}
		})
	}
	time.Sleep(d) //nolint:forbidigo // the moment of the cut is the test's input
	eventually(w.t, "the disk is used, and something is purged", enough)
	s.kill()
}

// act does one thing.
func (w *killWorld) act(rng *rand.Rand, s *server) {
	o := w.objects[rng.IntN(len(w.objects))]
	switch n := rng.IntN(40); n {
	case 0, 1:
		o.changing.Lock()
		defer o.changing.Unlock()
		w.change(o)
	case 2, 3, 4, 5:
		w.purge(s, o, n%2 == 0, n < 4)
	default:
		w.compare(o, s)
	}
}

// purge purges o, or all objects in its folder. Once the answer has come, the versions from before
// may not be served any more.
func (w *killWorld) purge(s *server, o *killObject, hard, one bool) {
	call := map[string]any{"alias": o.alias, "hard": hard}
	all := []*killObject{o}
	if folder, _, _ := strings.Cut(o.name, "/"); !one {
		call["prefix"] = folder + "/"
		all = nil
		for _, other := range w.objects {
			if other.alias == o.alias && strings.HasPrefix(other.name, folder+"/") {
				all = append(all, other)
			}
		}
	} else {
		call["key"] = o.name
	}
	versions := make([]int, len(all))
	for i, o := range all {
		o.mu.Lock()
		versions[i] = o.version
		o.mu.Unlock()
	}
	resp, err := w.client.Do(s.request(http.MethodPost, "/api/v1/purge", call))
	if err != nil {
		return
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		w.t.Errorf("purge: %s", resp.Status)
		return
	}
	w.purges.Add(1)
	for i, o := range all {
		o.mu.Lock()
		o.floor = max(o.floor, versions[i])
		o.mu.Unlock()
	}
}

// get also returns whether the request may have reached the server. The error does not tell this: a
// request that was cut on an idle connection is sent again, and its error is that the second connection
// was refused.
func (w *killWorld) get(url string) (resp *http.Response, sent bool, err error) {
	var connected atomic.Bool
	ctx := httptrace.WithClientTrace(w.t.Context(), &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false, err
	}
	resp, err = w.client.Do(req)
	return resp, connected.Load(), err
}

// compare requests o and checks the answer, if there is one.
func (w *killWorld) compare(o *killObject, s *server) {
	o.mu.Lock()
	floor, began := o.floor, time.Now()
	o.asking[&began] = true
	o.mu.Unlock()
	resp, sent, err := w.get("http://" + s.public + "/" + o.alias + "/" + o.name)
	var body []byte
	if err == nil {
		defer resp.Body.Close()
		body, err = io.ReadAll(resp.Body)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.asking, &began)
	if err != nil && sent {
		o.cut = time.Now()
	}
	switch {
	case resp == nil:
		return // it was killed
	case err != nil:
		select {
		case <-s.process.Done():
		case <-time.After(time.Minute): // the kill may come first, and its end is seen late on a busy machine
			w.t.Errorf("%s/%s was cut: %v", o.alias, o.name, err)
		}
		w.cut.Add(1)
		return
	case resp.StatusCode != http.StatusOK:
		w.t.Errorf("%s/%s: %s", o.alias, o.name, resp.Status)
		return
	}
	w.answers.Add(1)
	status := resp.Header.Get("Cache-Status")
	if strings.Contains(status, "detail=disk") {
		w.fromDisk.Add(1)
	}
	version := 0
	for v, b := range o.bodies {
		if bytes.Equal(b, body) {
			version = v
		}
	}
	replaced, old := o.replaced[version]
	since, known := replaced, true
	if !strings.Contains(status, "fwd-status") { // it is not the answer of S3 to this request
		since, known = o.freshSince(version, began)
	}
	if !strings.HasPrefix(status, "ixmage; hit") {
		o.fetched[version] = time.Now()
	}
	switch {
	case version == 0:
		w.t.Errorf("%s/%s: %d wrong bytes; %s", o.alias, o.name, len(body), status)
	case version < floor:
		w.t.Errorf("%s/%s: version %d, though those before %d were purged; %s", o.alias, o.name, version, floor, status)
	case old && known && began.After(since.Add(o.ttl+time.Second)): // ages are in whole seconds
		w.t.Errorf("%s/%s: version %d, which was replaced %s ago; %s", o.alias, o.name, version, began.Sub(replaced), status)
	}
}
