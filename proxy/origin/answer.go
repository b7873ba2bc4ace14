package origin

import (
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// Answer is S3's answer to a call for an alias, for operators. It contains no key, bucket
// or object.
type Answer struct {
	At        time.Time
	Operation string // GetObject or HeadObject
	Outcome   string // the label in metrics
	OK        bool   // S3 answered the request with a 2xx or 304, 412 or 416
	Status    int    // 0: there was no reply
	Code      string // S3's error code, as S3 sent it; empty without one
	RequestID string // S3's request id; empty without one
}

// LastAnswer is the answer to the newest call for an alias that reached S3; while its
// body is read, the answer so far. It is kept in memory, for the aliases that were read
// last. A call that its caller aborted does not count.
func (o *Origin) LastAnswer(aliasID int64) (Answer, bool) { return o.answers.get(aliasID, false) }

// LastFailure is the newest answer that was not OK.
func (o *Origin) LastFailure(aliasID int64) (Answer, bool) { return o.answers.get(aliasID, true) }

// maxAnswers bounds the aliases whose answers are kept, half a KiB each at most.
const maxAnswers = 4096

// answers keeps the last answers of the aliases that were read last.
type answers struct {
	mu  sync.Mutex // guards lru and its values
	lru *simplelru.LRU[int64, *lastAnswers]
}

type lastAnswers struct{ last, failed Answer }

func newAnswers() *answers { return &answers{lru: newLRU[int64, *lastAnswers](maxAnswers, nil)} }

func (s *answers) put(aliasID int64, a Answer) {
	// The texts are parts of a reply's header: a copy lets the header be freed.
	a.Code, a.RequestID = strings.Clone(a.Code), strings.Clone(a.RequestID)
	s.mu.Lock()
	defer s.mu.Unlock()
	l, ok := s.lru.Get(aliasID)
	if !ok {
		l = &lastAnswers{}
		s.lru.Add(aliasID, l)
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
