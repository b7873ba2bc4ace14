// Package s3 is a scripted S3 server inside the process of a test: it records
// each request and misbehaves on demand, down to single bytes.
package s3

import (
	"context"
	"crypto/md5" //nolint:gosec // S3's ETag is one
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
)

// recordsKept bounds the memory that the records of a load test take; Count
// goes on counting.
const maxRecords = 10_000

// Server is a scripted S3 server (path style, GetObject and HeadObject) inside the
// test's process. It is safe for concurrent use.
//
// Without a call of Allow everyone may read everything; from the first call on
// signatures are checked and only what was allowed may be read.
type Server struct {
	URL string // http://127.0.0.1:port

	ln     net.Listener
	closed chan struct{} // ends every wait
	conns  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	open     map[*conn]struct{}
	accepted int
	inFlight int
	bodies   int
	changed  chan struct{} // closed and replaced when a count or record changes

	objects     map[Location]*Stored
	buckets     map[string]string // owner's account id by bucket
	grants      []grant           // never changed in place: answers read it without the lock
	checking    bool              // whether Allow was called
	hideMissing bool              // see HideMissing

	hook    func(*Request) *Fault
	queued  map[Location][]*Fault
	records []*Request
	counts  map[Location]int
	total   int
}

// Location is a bucket and a key.
type Location struct{ Bucket, Key string }

// Stored is an object with what Put filled in; never changed.
type Stored struct {
	Object
	sum string // the value of its checksum header
}

// Request is a request that a Server has received.
type Request struct {
	N           int // from 1, in order of arrival
	Conn        int // number of its connection, from 1
	Method      string
	Target      string // request target, byte for byte as it came
	Host        string
	Bucket, Key string // Target decoded once
	Header      http.Header
	AccessKeyID string // empty when the request was not signed

	// The answer. Requests has these fields when the answer has ended.
	Status int   // 0 while it runs and if no status line was sent
	Sent   int64 // bytes of the body
	Done   bool
}

// New starts a Server that ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s, err := Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start starts a Server on a free port of 127.0.0.1. The caller must Close it.
func Start() (*Server, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return Serve(ln), nil
}

// Serve starts a Server on a listener of the caller, such as one with TLS. URL
// begins with http in any case. Close closes the listener.
func Serve(ln net.Listener) *Server {
	s := &Server{
		URL: "http://" + ln.Addr().String(), ln: ln,
		closed: make(chan struct{}), changed: make(chan struct{}),
		open: map[*conn]struct{}{}, objects: map[Location]*Stored{}, buckets: map[string]string{},
		queued: map[Location][]*Fault{}, counts: map[Location]int{},
	}
	s.conns.Go(s.accept)
	return s
}

func (s *Server) accept() {
	for n := 1; ; n++ {
		nc, err := s.ln.Accept()
		if err != nil {
			return // closed, or there are no descriptors left for the test either
		}
		c := newConn(s, nc, n)
		s.mu.Lock()
		s.open[c] = struct{}{}
		s.accepted = n
		s.mu.Unlock()
		s.conns.Go(c.serve)
		select {
		case <-s.closed: // Close may have looked before c was there
			c.nc.Close()
		default:
		}
	}
}

// Close cuts all connections and waits for its goroutines. It may be called more
// than once.
func (s *Server) Close() {
	s.mu.Lock()
	select {
	case <-s.closed:
	default:
		close(s.closed)
	}
	for c := range s.open {
		c.nc.Close()
	}
	s.mu.Unlock()
	s.ln.Close()
	s.conns.Wait()
}

// CreateBucket makes a bucket; so does Put. A request that expects another owner
// than this account id is denied; an empty owner matches any.
func (s *Server) CreateBucket(bucket, owner string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.buckets[bucket] = owner
}

// Put stores an object and replaces an earlier one. Answers under way continue
// with the old one.
func (s *Server) Put(bucket, key string, obj Object) {
	st := NewStored(obj)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.buckets[bucket]; !ok {
		s.buckets[bucket] = ""
	}
	s.objects[Location{bucket, key}] = st
}

// NewStored fills in the fields that obj leaves out.
func NewStored(obj Object) *Stored {
	if obj.ETag == "" {
		sum := md5.Sum(obj.Body) //nolint:gosec // as above
		obj.ETag = `"` + hex.EncodeToString(sum[:]) + `"`
	}
	if obj.LastModified.IsZero() {
		obj.LastModified = time.Now()
	}
	if obj.Checksum == "" {
		obj.Checksum = CRC64NVME
	}
	return &Stored{Object: obj, sum: obj.Checksum.of(obj.Body)}
}

// Delete removes an object, if it exists.
func (s *Server) Delete(bucket, key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.objects, Location{bucket, key})
}

// HideMissing makes S3 answer AccessDenied for a missing object, as AWS does to
// callers without the right to list the bucket.
func (s *Server) HideMissing() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hideMissing = true
}

// Allow allows a key pair to read the keys of bucket that begin with prefix. The
// zero KeyPair stands for unsigned requests. Signatures of a key pair without a
// secret are not verified.
func (s *Server) Allow(kp alias.KeyPair, bucket, prefix string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants = append(slices.Clip(s.grants), grant{kp, bucket, prefix})
	s.checking = true
}

// Revoke makes an access key unknown. Answers under way continue.
func (s *Server) Revoke(accessKeyID string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.grants = slices.DeleteFunc(slices.Clone(s.grants), func(g grant) bool { return g.keys.AccessKeyID == accessKeyID })
}

// Hook makes fn choose the fault of each request for which Next has queued none;
// nil is no fault. fn is called before the object is looked up, by many
// goroutines at once, and may call any method but Close. A nil fn removes it.
func (s *Server) Hook(fn func(*Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = fn
}

// Next queues faults for the next requests for one object, one each, in
// preference to the hook; nil is no fault.
func (s *Server) Next(bucket, key string, faults ...*Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := Location{bucket, key}
	s.queued[at] = append(s.queued[at], faults...)
}

// Requests are the requests so far, oldest first, at most the last 10,000.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]Request, len(s.records))
	for i, r := range s.records {
		out[i] = *r
	}
	return out
}

// Total counts all requests.
func (s *Server) Total() int { return s.read(&s.total) }

// Count counts the requests for one object, of either method.
func (s *Server) Count(bucket, key string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[Location{bucket, key}]
}

// InFlight counts the requests whose answers have not ended.
func (s *Server) InFlight() int { return s.read(&s.inFlight) }

// OpenBodies counts the answers whose headers were sent and whose bodies have not
// ended.
func (s *Server) OpenBodies() int { return s.read(&s.bodies) }

// Conns counts the open connections.
func (s *Server) Conns() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// Accepted counts all connections so far.
func (s *Server) Accepted() int { return s.read(&s.accepted) }

func (s *Server) read(n *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return *n
}

// Wait returns when cond is true. It calls cond again when a request comes, an
// answer begins or ends, or a connection closes. It fails if ctx or the server
// ends first.
func (s *Server) Wait(ctx context.Context, cond func() bool) error {
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-s.closed:
			return errors.New("the scripted S3 is closed")
		}
	}
}

// update changes counts or records and wakes the waiters.
func (s *Server) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

// record records a request and returns its fault.
func (s *Server) record(r *Request) *Fault {
	var fault *Fault
	var hook func(*Request) *Fault
	s.update(func() {
		s.total++
		s.inFlight++
		r.N = s.total
		at := Location{r.Bucket, r.Key}
		s.counts[at]++
		if s.records = append(s.records, r); len(s.records) > maxRecords {
			s.records = slices.Clone(s.records[maxRecords/10:])
		}
		if queue := s.queued[at]; len(queue) > 0 {
			fault, s.queued[at] = queue[0], queue[1:]
			return
		}
		hook = s.hook
	})
	if hook == nil {
		return fault
	}
	seen := *r // the hook may keep it; r changes under the lock
	return hook(&seen)
}
