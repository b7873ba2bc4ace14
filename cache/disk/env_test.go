package disk

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// counts is a Recorder.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func (c *counts) add(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = make(map[string]int)
	}
	c.n[name] += n
}

func (c *counts) Evicted(tier, reason string, n int) { c.add(tier+" "+reason, n) }
func (c *counts) DiskError(op string, n int)         { c.add("error "+op, n) }

func (c *counts) get(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

func (c *counts) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.n)
}

type env struct {
	*Store

	t   testing.TB
	cfg Config
	rec *counts
}

// open opens a store in a new folder of the real file system.
func open(t testing.TB, change ...func(*Config)) *env {
	t.Helper()
	e := &env{t: t, rec: new(counts)}
	e.cfg = Config{Dir: t.TempDir(), Limit: 64 << 20, ObjectMax: 16 << 20, Recorder: e.rec}
	for _, c := range change {
		c(&e.cfg)
	}
	e.reopen()
	t.Cleanup(func() { e.Close() })
	return e
}

// reopen closes the store, if it is open, and opens it again.
func (e *env) reopen() {
	e.t.Helper()
	if e.Store != nil {
		e.Close()
	}
	s, err := Open(e.cfg)
	if err != nil {
		e.t.Fatal(err)
	}
	e.Store = s
}

// body is different for each seed.
func body(seed uint64, size int) []byte {
	b := make([]byte, 0, size+8)
	r := rand.NewPCG(seed, 1)
	for len(b) < size {
		b = binary.LittleEndian.AppendUint64(b, r.Uint64())
	}
	return b[:size]
}

func key(object string) Key { return Key{Space: 7, Epoch: 2, Object: object} }

func (e *env) header(k Key, size int) Header {
	now := time.Now()
	return Header{
		Key: k, Generation: e.Generation() + 1, Origin: [16]byte{1},
		Stored: now, Expires: now.Add(time.Hour),
		Meta: []byte("meta of " + k.Object), Size: int64(size),
	}
}

func (e *env) put(k Key, b []byte) Header {
	e.t.Helper()
	h := e.header(k, len(b))
	if err := e.Put(h, b); err != nil {
		e.t.Fatal(err)
	}
	return h
}

// want gets an object and compares its bytes.
func (e *env) want(k Key, b []byte) Header {
	e.t.Helper()
	o, err := e.Get(k)
	if err != nil {
		e.t.Fatalf("%v: %v", k, err)
	}
	defer o.Close()
	got := make([]byte, o.Size)
	if _, err := o.ReadAt(got, 0); err != nil && len(got) > 0 {
		e.t.Fatalf("%v: %v", k, err)
	}
	if string(got) != string(b) {
		e.t.Fatalf("%v: got other bytes", k)
	}
	return o.Header
}

func (e *env) wantNone(k Key) {
	e.t.Helper()
	if o, err := e.Get(k); !errors.Is(err, ErrNotFound) {
		if err == nil {
			o.Close()
		}
		e.t.Fatalf("%v: got %v, want %v", k, err, ErrNotFound)
	}
}

func numbered(i int) Key { return key(fmt.Sprint("object ", i)) }
