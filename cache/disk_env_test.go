package cache

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/cache/disk"
)

const testDir = "/disk"

// object is what the source has of a key at a time. It is the Meta of its entries.
type object struct {
	Version             int
	Size                int64
	Fresh, While, Fault time.Duration
	ByDefault, Unshared bool // of While; Fresh is 0 and must be validated
	Unknown             bool `json:"-"` // the source does not tell the size
}

// content is the body of o.
func (o object) content(key Key) []byte {
	key.Object = fmt.Sprint(key.Object, "#", o.Version)
	return content(key, o.Size)
}

func (o object) source() *Source {
	src := &Source{
		Meta: o, MetaBytes: 64, Size: o.Size, Fresh: o.Fresh, Validate: o.Unshared,
		StaleWhileRevalidate: o.While, StaleIfError: o.Fault, DefaultStaleWhileRevalidate: o.ByDefault,
	}
	if o.Unknown {
		src.Size = -1
	}
	return src
}

// diskEnv is a cache with a disk tier on a file system in memory. It can be started again on
// what is there.
type diskEnv struct {
	*env

	fs      *memFS
	cfg     Config
	limit   int64
	openMax int // OpenFiles
	blocked atomic.Bool
	disk    *diskRecorder

	mu      sync.Mutex
	origins map[spaceID][16]byte
	ttl     time.Duration // of all objects, in place of their own, if it is set
	badMeta bool          // the codec refuses all
	bare    bool          // and encodes nothing
}

// onDisk is a configuration in which objects of 100 kB are large.
var onDisk = Config{Memory: 4 << 20, ObjectMax: 100_000}

func newDiskEnv(t testing.TB, cfg Config) *diskEnv {
	t.Helper()
	w := &diskEnv{
		fs: newMemFS(), cfg: cfg, limit: 1 << 30, openMax: 100,
		disk: &diskRecorder{n: map[string]int{}}, origins: map[spaceID][16]byte{},
	}
	w.start(t)
	t.Cleanup(w.stop)
	return w
}

// start starts a cache on what is in the file system, as a new process does.
func (w *diskEnv) start(t testing.TB) {
	t.Helper()
	store, err := disk.Open(disk.Config{Dir: testDir, Limit: w.limit, ObjectMax: 8 << 20, Recorder: w.disk, FS: w.fs})
	if err != nil {
		t.Fatal(err)
	}
	cfg := w.cfg
	cfg.Disk = &Disk{Store: store, cfg: DiskConfig{
		Dir: testDir, Limit: w.limit, ObjectMax: 8 << 20, OpenFiles: w.openMax, Codec: w, Origin: w.origin, Recorder: w.disk,
	}}
	w.env = &env{t: t, rec: &recorder{n: make(map[string]int)}}
	w.Cache = New(cfg, w.rec)
}

// stop ends the cache well. It does nothing after the first time.
func (w *diskEnv) stop() {
	if w.env != nil {
		end(w.env, w.fs)
		w.env = nil
	}
}

func end(e *env, fs *memFS) {
	fs.setHook(nil)
	e.end()
	if n := fs.openFiles(); n != 0 {
		e.t.Errorf("%d files are open after Close", n)
	}
}

// restart stops the cache and starts another one.
func (w *diskEnv) restart() {
	t := w.t
	w.stop()
	w.start(t)
	synctest.Wait()
}

// crash starts a cache on what the present one has written, and then ends that.
func (w *diskEnv) crash() {
	old, fs := w.env, w.fs
	w.fs = fs.clone()
	w.start(old.t)
	end(old, fs)
	synctest.Wait()
}

// Origin and Codec.

func (w *diskEnv) origin(space, epoch int64) (origin [16]byte, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	origin, changed := w.origins[spaceID{space, epoch}]
	return origin, !changed || origin != [16]byte{}
}

func (w *diskEnv) setOrigin(space, epoch int64, origin byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.origins[spaceID{space, epoch}] = [16]byte{origin}
}

func (w *diskEnv) Encode(meta any) []byte {
	if w.bare {
		return nil
	}
	b, err := json.Marshal(meta)
	if err != nil {
		panic(err)
	}
	return b
}

func (w *diskEnv) Decode(_, _ int64, b []byte) (*Source, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.badMeta {
		return nil, errBoom
	}
	var o object
	if err := json.Unmarshal(b, &o); err != nil {
		return nil, err
	}
	if w.ttl > 0 {
		o.Fresh = w.ttl
	}
	return o.source(), nil
}

// load fetches o.
func (w *diskEnv) load(key Key, o object) Load {
	e := w.env
	return func(context.Context, *Entry) (*Source, error) {
		e.loads.Add(1)
		return e.open(o, bytes.NewReader(o.content(key))), nil
	}
}

// open returns the source of o, whose bytes come from r.
func (w *env) open(o object, r io.Reader) *Source {
	w.opened.Add(1)
	src := o.source()
	src.Body = &testBody{Reader: r, w: w}
	return src
}

// same confirms that o is what is stored, and fails if nothing is.
func (w *diskEnv) same(o object) Load {
	e := w.env
	return func(_ context.Context, old *Entry) (*Source, error) {
		e.loads.Add(1)
		if old == nil {
			return nil, errors.New("there is no stored entry to confirm")
		}
		src := o.source()
		src.Same = true
		return src, nil
	}
}

// fails is a Load that ends with err.
func (w *diskEnv) fails(err error) Load {
	e := w.env
	return func(context.Context, *Entry) (*Source, error) {
		e.loads.Add(1)
		return nil, err
	}
}

// want gets key and checks what comes and how. load runs if runs is set, and must not
// otherwise.
func (w *diskEnv) want(key Key, o object, status Status, load Load) *Reader {
	w.t.Helper()
	got := w.all(w.t.Context(), key, load)
	switch {
	case got.err != nil:
		w.t.Errorf("%s: error %v, want version %d", key.Object, got.err, o.Version)
	case !bytes.Equal(got.data, o.content(key)):
		w.t.Errorf("%s: %d bytes that are not version %d; they say they are %+v", key.Object, len(got.data), o.Version, got.r.Meta)
	case got.r.Status != status:
		w.t.Errorf("%s: status %d, want %d", key.Object, got.r.Status, status)
	}
	w.settle()
	return got.r
}

// wantErr gets key, which must fail with err.
func (w *diskEnv) wantErr(key Key, err error, load Load) {
	w.t.Helper()
	if got := w.all(w.t.Context(), key, load); !errors.Is(got.err, err) {
		w.t.Errorf("%s: got %d bytes, error %v, want %v", key.Object, len(got.data), got.err, err)
	}
	w.settle()
}

// put lets o be stored in both tiers.
func (w *diskEnv) put(key Key, o object) {
	w.t.Helper()
	w.want(key, o, Miss, w.load(key, o))
	if o.Size > w.cfg.ObjectMax { // the second request fills the file
		w.want(key, o, Miss, w.load(key, o))
	} else {
		w.wantEntry(key, true)
		synctest.Wait()
	}
	w.wantFile(key, true)
}

// putFile lets o be stored on disk alone: in a new process.
func (w *diskEnv) putFile(key Key, o object) {
	w.t.Helper()
	w.put(key, o)
	w.restart()
}

// wantFile checks whether key has a file, by what the store says.
func (w *diskEnv) wantFile(key Key, want bool) {
	w.t.Helper()
	obj, err := w.Cache.disk.Get(disk.Key(key))
	if err == nil {
		obj.Close()
	}
	if (err == nil) != want {
		w.t.Errorf("%s has a file: %t, want %t", key.Object, err == nil, want)
	}
}

// tier is where the entry of key is; empty if it has none.
func (w *diskEnv) tier(key Key) string { return w.Inspect(key, time.Now()).Tier }

func (w *diskEnv) wantTier(key Key, want string) {
	w.t.Helper()
	if got := w.tier(key); got != want {
		w.t.Errorf("%s is in tier %q, want %q", key.Object, got, want)
	}
}

// gate stops operations on files.
type gate struct {
	w       *diskEnv
	reached chan struct{} // closed when the first operation is stopped
	open    chan struct{}
}

// block lets operations op on names that contain part wait until the gate is opened; first says
// that only one waits. A mutex that the waiting goroutine holds keeps synctest.Wait from
// returning: until then settle does nothing.
func (w *diskEnv) block(op, part string, first bool) *gate {
	g := &gate{w, make(chan struct{}), make(chan struct{})}
	var once sync.Once
	w.blocked.Store(true)
	w.fs.setHook(func(o, name string) error {
		if o != op && op != "" || !strings.Contains(name, part) {
			return nil
		}
		mine := false
		once.Do(func() { mine = true; close(g.reached) })
		if mine || !first {
			<-g.open
		}
		return nil
	})
	return g
}

func (g *gate) release() {
	if g.w.blocked.CompareAndSwap(true, false) {
		close(g.open)
	}
}

// settle waits until everything that was started in the background has ended.
func (w *diskEnv) settle() {
	if !w.blocked.Load() {
		synctest.Wait()
	}
}

// diskRecorder counts the events of a disk tier.
type diskRecorder struct {
	mu sync.Mutex
	n  map[string]int
}

func (r *diskRecorder) add(what string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.n[what] += n
}

func (r *diskRecorder) Evicted(_, reason string, n int)         { r.add(reason, n) }
func (r *diskRecorder) DiskError(op string, n int)              { r.add("error-"+op, n) }
func (r *diskRecorder) DiskWrite(result string, n int, _ int64) { r.add(result, n) }
func (r *diskRecorder) Promoted(n int)                          { r.add("promoted", n) }

func (r *diskRecorder) count(what string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.n[what]
}
