package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// sequences is how many random sequences TestProperty plays; make test-long plays more.
func sequences(t *testing.T, few int) int {
	if v := os.Getenv("IXMAGE_DISK_SEQUENCES"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return few
}

var firstSeed = flag.Uint64("seed", 0, "the first seed of TestProperty")

// model is what a store may answer.
type model struct {
	t     *testing.T
	r     *rand.Rand
	fs    *memFS
	rec   *counts
	cfg   Config
	store *Store

	clock    uint64 // generations
	versions map[Key][]*version
	marks    []Mark         // that Purge has confirmed
	crashed  bool           // older versions may be back
	dead     map[int64]bool // spaces that Keep has dropped
	wide     bool           // the budget holds everything: nothing may be missing
	gets     int
	hits     int
	log      []string
}

// version is an object that was stored.
type version struct {
	header  Header
	seed    uint64
	current bool // the last one, and nothing has dropped it
	fuzzy   bool // it may be there or not
}

func (m *model) open() {
	s, err := Open(m.cfg)
	if err != nil {
		m.t.Fatal(err)
	}
	m.store = s
	m.clock = s.Generation()
	synctest.Wait()
}

func (m *model) key() Key {
	return Key{Space: int64(1 + m.r.IntN(2)), Epoch: int64(m.r.IntN(2)), Object: fmt.Sprintf("%c/%d", 'a'+m.r.IntN(2), m.r.IntN(3))}
}

func (m *model) size() int {
	switch m.r.IntN(4) {
	case 0:
		return m.r.IntN(5000)
	case 1:
		return m.r.IntN(5) * blockSize
	}
	return m.r.IntN(150_000)
}

// meta holds the seed of the body.
func meta(seed uint64, n int) []byte {
	return append(binary.LittleEndian.AppendUint64(nil, seed), make([]byte, n)...)
}

func (m *model) header(k Key, size int, seed uint64) Header {
	now := time.Now()
	m.clock++
	h := Header{
		Key: k, Generation: m.clock, Origin: [16]byte{1}, Stored: now, Expires: now.Add(time.Hour),
		Meta: meta(seed, m.r.IntN(2)*m.r.IntN(5000)), Size: int64(size),
	}
	if m.r.IntN(8) == 0 { // fetched before something that has happened meanwhile
		h.Generation -= min(h.Generation-m.store.Generation(), m.r.Uint64N(10))
	}
	return h
}

// stored remembers a version.
func (m *model) stored(h Header, seed uint64, err error) {
	if errors.Is(err, ErrNoRoom) || errors.Is(err, ErrPurged) {
		if errors.Is(err, ErrPurged) && !m.purged(h) {
			m.failf("an object that no purge covers is refused: %v", h.Key)
		}
		if m.wide && errors.Is(err, ErrNoRoom) && !m.crashed {
			m.failf("no room")
		}
		return
	}
	if err != nil {
		m.failf("put: %v", err)
	}
	m.drop(h.Key)
	m.versions[h.Key] = append(m.versions[h.Key], &version{header: h, seed: seed, current: true})
}

func (m *model) drop(k Key) {
	for _, v := range m.versions[k] {
		v.current = false
	}
}

func (m *model) purged(h Header) bool {
	for _, p := range m.marks {
		if p.Space == h.Key.Space && p.Epoch == h.Key.Epoch && h.Generation < p.Generation &&
			(p.Object == h.Key.Object || p.Prefix && strings.HasPrefix(h.Key.Object, p.Object)) {
			return true // also soft: the mark may have been forgotten
		}
	}
	return false
}

func (m *model) put() {
	k, size, seed := m.key(), m.size(), m.r.Uint64()
	h := m.header(k, size, seed)
	m.notef("put %v gen %d size %d", k, h.Generation, size)
	m.stored(h, seed, m.store.Put(h, body(seed, size)))
}

func (m *model) create() {
	k, size, seed := m.key(), m.size(), m.r.Uint64()
	h := m.header(k, size, seed)
	m.notef("create %v gen %d size %d", k, h.Generation, size)
	w, err := m.store.Create(h)
	if err != nil {
		m.stored(h, seed, err)
		return
	}
	b := body(seed, size)
	stop := -1
	if m.r.IntN(4) == 0 {
		stop = m.r.IntN(size + 1)
	}
	for at := 0; at < size; {
		if stop >= 0 && at >= stop {
			w.Abort()
			return
		}
		n := min(1+m.r.IntN(100_000), size-at)
		if _, err := w.Write(b[at : at+n]); err != nil {
			m.failf("write: %v", err)
		}
		at += n
		p := make([]byte, 1+m.r.IntN(1000))
		off := m.r.IntN(at)
		got, err := w.ReadAt(p, int64(off))
		if err != nil && !errors.Is(err, io.EOF) || !bytes.Equal(p[:got], b[off:min(off+len(p), at)]) {
			m.failf("read of what is being written: %d, %v", got, err)
		}
		if m.r.IntN(10) == 0 {
			m.purge()
		}
	}
	o, err := w.Commit()
	w.Abort()
	m.stored(h, seed, err)
	if err == nil {
		m.check(o, h.Key)
	}
}

func (m *model) get() {
	k := m.key()
	m.notef("get %v", k)
	m.gets++
	o, err := m.store.Get(k)
	if err != nil {
		if !errors.Is(err, ErrNotFound) {
			m.failf("get: %v", err)
		}
		for _, v := range m.versions[k] {
			if m.wide && !m.crashed && v.current && !v.fuzzy && !m.purged(v.header) {
				m.failf("%v is lost", k)
			}
		}
		return
	}
	m.hits++
	if !m.store.Has(k) { // removed in the background since, or else there is a file that the index does not know
		synctest.Wait()
		if again, err := m.store.Get(k); err == nil {
			again.Close()
			if !m.store.Has(k) {
				m.failf("Has is false for %v", k)
			}
		}
	}
	m.check(o, k)
}

// check reads an object and closes it.
func (m *model) check(o *Object, k Key) {
	defer o.Close()
	if o.Key != k {
		m.failf("got %v, want %v", o.Key, k)
	}
	var v *version
	for _, c := range m.versions[k] {
		if c.seed == binary.LittleEndian.Uint64(o.Meta) && c.header.Generation == o.Generation {
			v = c
		}
	}
	if v == nil && m.dead[k.Space] {
		return // a power cut has undone its removal, and nobody asks for it
	}
	if v == nil {
		m.failf("%v of generation %d was never stored", k, o.Generation)
	}
	if !v.current && !m.crashed {
		m.failf("%v: an older object", k)
	}
	for _, p := range m.marks {
		if p.Space != k.Space || p.Epoch != k.Epoch || o.Generation >= p.Generation ||
			p.Object != k.Object && (!p.Prefix || !strings.HasPrefix(k.Object, p.Object)) {
			continue
		}
		if p.Hard {
			m.failf("%v of generation %d came back after %+v", k, o.Generation, p)
		}
		if o.Mark == nil || o.Mark.Generation < p.Generation {
			m.failf("%v: mark %+v, want %+v", k, o.Mark, p)
		}
	}
	b := body(v.seed, int(v.header.Size))
	if m.r.IntN(3) == 0 {
		if err := o.Verify(); err != nil || !o.Verified() {
			m.bad(err)
			return
		}
	}
	for range 3 {
		p := make([]byte, 1+m.r.IntN(200_000))
		off := m.r.IntN(len(b) + 1)
		n, err := o.ReadAt(p, int64(off))
		if err != nil && !errors.Is(err, io.EOF) {
			m.bad(err)
			return
		}
		if !bytes.Equal(p[:n], b[off:min(off+len(p), len(b))]) {
			m.failf("%v: wrong bytes", k)
		}
	}
}

// bad accepts an error only after a crash.
func (m *model) bad(err error) {
	if !m.crashed || !errors.Is(err, ErrCorrupt) {
		m.failf("read: %v", err)
	}
}

func (m *model) purge() {
	k := m.key()
	m.clock++
	p := Mark{Space: k.Space, Epoch: k.Epoch, Object: k.Object, Hard: m.r.IntN(2) == 0, Generation: m.clock, At: time.Now()}
	switch m.r.IntN(6) {
	case 0:
		p.Object, p.Prefix = "", true
	case 1, 2:
		p.Object, p.Prefix = p.Object[:2], true
	}
	m.notef("purge %+v", p)
	if _, _, err := m.store.Purge(p); err != nil {
		m.failf("purge: %v", err)
	}
	m.marks = append(m.marks, p)
}

func (m *model) update() {
	k := m.key()
	o, err := m.store.Get(k)
	if err != nil {
		return
	}
	h := o.Header
	marked := o.Mark != nil
	o.Close()
	m.clock++
	h.Generation, h.Expires = m.clock, h.Expires.Add(time.Minute)
	h.Meta = append(h.Meta[:8:8], make([]byte, m.r.IntN(6000))...)
	m.notef("update %v to %d", k, h.Generation)
	err = m.store.Update(h)
	switch {
	case errors.Is(err, ErrNoRoom):
		m.drop(k)
	case errors.Is(err, ErrNotFound): // removed in the background since
		synctest.Wait()
		if again, err := m.store.Get(k); err == nil {
			again.Close()
			m.failf("update of %v: not found, and it is there", k)
		}
		m.drop(k)
	case errors.Is(err, ErrPurged) == marked && (err == nil || marked):
		if err == nil {
			v := *m.versions[k][len(m.versions[k])-1]
			for _, c := range m.versions[k] {
				if c.seed == binary.LittleEndian.Uint64(h.Meta) {
					v = *c
				}
			}
			m.drop(k)
			v.header, v.current = h, true
			m.versions[k] = append(m.versions[k], &v)
		}
	default:
		m.failf("update of %v (marked: %v): %v", k, marked, err)
	}
}

func (m *model) remove() {
	k := m.key()
	m.notef("remove %v", k)
	m.store.Remove(k, "expired")
	m.drop(k)
}

func (m *model) keep() {
	dead := int64(1 + m.r.IntN(2))
	m.notef("keep all but %d", dead)
	m.store.Keep(func(space, _ int64) bool { return space != dead })
	synctest.Wait()
	for k := range m.versions {
		if k.Space == dead {
			m.versions[k] = nil
		}
	}
	m.dead[dead] = true
	// The marks go too: an id of a space never returns, so that nobody asks for what is stored there later.
	m.marks = slices.DeleteFunc(m.marks, func(p Mark) bool { return p.Space == dead })
}

func (m *model) reopen() {
	m.notef("reopen")
	m.store.Close()
	m.fs.mu.Lock()
	m.fs.names = nil
	m.fs.flatten() // the system has had time to write
	m.fs.mu.Unlock()
	m.open()
}

// crash ends the store in the middle, with what a power cut leaves.
func (m *model) crash() {
	m.notef("crash")
	after := m.fs.powerCut(m.r)
	m.fs.mu.Lock()
	m.fs.fault = func(string, string) error { return errors.New("no power") }
	m.fs.mu.Unlock()
	m.store.Close()
	m.fs = after
	m.cfg.FS = after
	m.crashed = true
	m.open()
	if _, peak := after.usage(); peak > m.cfg.Limit { // removals were lost
		m.settled()
		after.mu.Lock()
		after.peak = after.used
		after.mu.Unlock()
	}
}

// settled compares the counters with the files.
func (m *model) settled() {
	time.Sleep(time.Minute) //nolint:forbidigo // of the bubble: pauses of the walk
	synctest.Wait()
	st := m.store.Stats()
	var sum int64
	n := 0
	for path, node := range m.fs.files("/cache/objects") {
		sum += (int64(len(node.data))+page-1)/page*page + entryOverhead
		n++
		if node.dir {
			m.failf("%s", path)
		}
	}
	if n != st.Entries {
		m.failf("%d files, %d entries", n, st.Entries)
	}
	sum += int64(m.fs.folders("/cache/objects")) * folderCost
	if sum+baseCost != st.Bytes {
		m.failf("files take %d, the counter says %d", sum+baseCost, st.Bytes)
	}
	used, _ := m.fs.usage()
	if st.Bytes > st.Capacity || used > st.Capacity {
		m.failf("%d of %d bytes, %d counted", used, st.Capacity, st.Bytes)
	}
}

func (m *model) notef(format string, args ...any) {
	m.log = append(m.log, fmt.Sprintf(format, args...))
}

func (m *model) failf(format string, args ...any) {
	m.t.Helper()
	m.t.Fatalf("%s\n%s", fmt.Sprintf(format, args...), strings.Join(m.log[max(0, len(m.log)-60):], "\n"))
}

func (m *model) play(steps int) {
	m.open()
	for range steps {
		switch n := m.r.IntN(100); {
		case n < 28:
			m.put()
		case n < 34:
			m.create()
		case n < 70:
			m.get()
		case n < 76:
			m.purge()
		case n < 86:
			m.update()
		case n < 92:
			m.remove()
		case n < 93:
			m.keep()
		case n < 96:
			m.reopen()
		case n < 98:
			m.crash()
		default:
			m.settled()
		}
		if _, peak := m.fs.usage(); peak > m.store.EffectiveLimit() {
			m.failf("the files took %d of %d bytes", peak, m.store.EffectiveLimit())
		}
	}
	m.settled()
	m.store.Close()
}

// TestProperty plays random operations, restarts and power cuts against a model.
func TestProperty(t *testing.T) {
	t.Parallel()
	gets, hits := 0, 0
	for seed := *firstSeed; seed < *firstSeed+uint64(sequences(t, 40)); seed++ {
		synctest.Test(t, func(t *testing.T) {
			defer func() {
				if t.Failed() {
					t.Logf("seed %d", seed)
				}
			}()
			r := rand.New(rand.NewPCG(seed, 7))
			m := &model{
				t: t, r: r, fs: newMemFS(), rec: new(counts),
				versions: map[Key][]*version{}, dead: map[int64]bool{}, wide: r.IntN(2) == 0,
			}
			m.cfg = Config{Dir: "/cache", Limit: 1 << 20, ObjectMax: 1 << 20, Recorder: m.rec, FS: m.fs}
			if m.wide {
				m.cfg.Limit = 64 << 20
			}
			defer func() { // a failure must not hide behind goroutines that are left
				m.fs.mu.Lock()
				m.fs.fault = func(string, string) error { return errors.New("the end") }
				m.fs.mu.Unlock()
				m.store.Close()
			}()
			m.play(100)
			gets, hits = gets+m.gets, hits+m.hits
		})
	}
	t.Logf("%d of %d requests hit", hits, gets)
	if hits < gets/10 {
		t.Errorf("%d of %d requests hit: the test is about nothing", hits, gets)
	}
}
