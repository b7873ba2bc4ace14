package origin

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/alias"
)

// Answer is S3's answer to a call for an alias, for operators. It contains no bucket, no
// access key id and no secret.
type Answer struct {
	At        time.Time
	Key       string // in the bucket
	Operation string // GetObject or HeadObject
	Outcome   string // the label in metrics
	OK        bool   // S3 answered with a 2xx or 304, or with a 412 or 416 to a condition or range
	Status    int    // 0: there was no reply
	Code      string // S3's error code, as S3 sent it; empty without one
	RequestID string // S3's request id; empty without one
	// Err is nil if OK. It is an *Error without its cause, or the error given to Reject.
	Err error
}

// LastAnswer is the answer to the newest call for an alias that reached S3; while its
// body is read, the answer so far. It is kept in memory, for the aliases that were read
// last. A call that its caller aborted does not count.
func (o *Origin) LastAnswer(aliasID int64) (Answer, bool) { return o.answers.get(aliasID, false) }

// LastFailure is the newest answer that was not OK.
func (o *Origin) LastFailure(aliasID int64) (Answer, bool) { return o.answers.get(aliasID, true) }

// ObjectFailure is the newest failure of an object under the current version of its
// credential. Among them are bodies that broke off or had a wrong checksum. It is
// forgotten when a GET shows that it is over, or when newer failures of other objects
// take its place. It is not kept that an object does not exist, nor what concerns all
// objects (a refused credential, throttling). A wrong signature is kept: something on the
// way to S3 may change the escapes of this key.
func (o *Origin) ObjectFailure(r alias.Route, key string) (Answer, bool) {
	return o.answers.ofObject(objectIDOf(Request{Route: r, Key: key}))
}

// Reject keeps an error as the newest failure of an object: S3 sent the object, and
// the caller found that it cannot be served. err stays in memory and must be small.
func (o *Origin) Reject(r Request, err error) {
	o.answers.failed(objectIDOf(r), Answer{
		At: time.Now(), Key: r.Key, Operation: opGet, Outcome: string(OutcomeOK), Status: http.StatusOK, Err: err,
	})
}

const (
	// maxAnswers bounds the aliases whose answers are kept, 4 KiB each at most.
	maxAnswers = 2048
	// maxFailures bounds the objects whose failures are kept, 3 KiB each at most.
	maxFailures = 1024
	// maxDenied is the same for refusals, which are kept apart: S3 refuses missing objects
	// too, and clients can ask for any number of those.
	maxDenied = 256
)

// objectID names an object as one version of a credential sees it.
type objectID struct {
	alias, epoch, credential, version int64
	key                               string
}

func objectIDOf(r Request) objectID {
	a, c := r.Route.Alias, r.Route.Credential
	return objectID{a.ID, a.Epoch, c.ID, c.Version, r.Key}
}

// answers keeps the last answers of the aliases that were read last, and the last
// failures of objects.
type answers struct {
	mu       sync.Mutex // guards the rest
	lru      *simplelru.LRU[int64, *lastAnswers]
	failures *simplelru.LRU[objectID, Answer]
	denied   *simplelru.LRU[objectID, Answer]
}

type lastAnswers struct{ last, failed Answer }

func newAnswers() *answers {
	return &answers{
		lru:      newLRU[int64, *lastAnswers](maxAnswers, nil),
		failures: newLRU[objectID, Answer](maxFailures, nil),
		denied:   newLRU[objectID, Answer](maxDenied, nil),
	}
}

// put keeps an answer to a call for an object as its alias's last one.
func (s *answers) put(a Answer, of objectID) {
	// The texts are parts of a reply's header: a copy lets the header be freed.
	a.Code, a.RequestID, a.Key = strings.Clone(a.Code), strings.Clone(a.RequestID), of.key
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lru.Get(of.alias)
	if !ok {
		l = &lastAnswers{}
		s.lru.Add(of.alias, l)
	}
	l.last = a
	if !a.OK {
		l.failed = a
	}
}

func (s *answers) get(aliasID int64, failed bool) (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lru.Peek(aliasID)
	if !ok {
		return Answer{}, false
	}
	a := l.last
	if failed {
		a = l.failed
	}
	return a, !a.At.IsZero()
}

// failed keeps the failure of an object.
func (s *answers) failed(of objectID, a Answer) {
	a.Code, a.RequestID, a.Key = strings.Clone(a.Code), strings.Clone(a.RequestID), of.key
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures.Remove(of)
	s.denied.Remove(of)
	if a.Outcome == string(OutcomeDenied) {
		s.denied.Add(of, a)
	} else {
		s.failures.Add(of, a)
	}
}

// succeeded forgets the failure of an object.
func (s *answers) succeeded(of objectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures.Remove(of)
	s.denied.Remove(of)
}

// accepted forgets that S3 refused an object or did not answer. A body that broke, or was
// rejected, is forgotten only when the whole object has been read; so is a request that S3
// does not implement, because one for a range is another request.
func (s *answers) accepted(of objectID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied.Remove(of)
	if a, ok := s.failures.Peek(of); ok && !a.isOfBody() && !isUnimplemented(a.Err) {
		s.failures.Remove(of)
	}
}

// isOfBody reports whether S3 gave the object and its bytes were wrong.
func (a Answer) isOfBody() bool {
	_, ours := errors.AsType[*Error](a.Err)
	return !ours || errors.Is(a.Err, ErrTruncated) || errors.Is(a.Err, ErrCorrupt) || errors.Is(a.Err, ErrChanged) ||
		a.Status/100 == 2
}

func (s *answers) ofObject(id objectID) (Answer, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a, ok := s.failures.Peek(id); ok {
		return a, true
	}
	return s.denied.Peek(id)
}
