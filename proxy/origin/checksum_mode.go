package origin

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/internal/awserr"
)

const (
	// maxUnchecked bounds the endpoints that are remembered, 200 bytes each.
	maxUnchecked = 1024
	// uncheckedFor is how long an endpoint is asked for no checksums, until it may have
	// been upgraded.
	uncheckedFor = 10 * time.Minute
)

// uncheckedEndpoints are those whose server refuses x-amz-checksum-mode.
type uncheckedEndpoints struct {
	mu  sync.Mutex // guards lru
	lru *simplelru.LRU[variant, time.Time]
}

func newUncheckedEndpoints() *uncheckedEndpoints {
	return &uncheckedEndpoints{lru: newLRU[variant, time.Time](maxUnchecked, nil)}
}

func (u *uncheckedEndpoints) has(at variant) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	until, ok := u.lru.Get(at)
	if ok && !time.Now().Before(until) {
		u.lru.Remove(at)
		return false
	}
	return ok
}

func (u *uncheckedEndpoints) add(at variant) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.lru.Add(at, time.Now().Add(uncheckedFor))
}

// isUnimplemented reports whether S3 answered that it does not know something that the
// request asked for. That says nothing about its health.
func isUnimplemented(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || e.Status == http.StatusMethodNotAllowed {
		return false
	}
	message := strings.ToLower(e.Message)
	return e.Status == http.StatusNotImplemented || awserr.Unimplemented(e.Code) ||
		e.Status == http.StatusBadRequest &&
			(strings.Contains(message, "not implemented") || strings.Contains(message, "checksum-mode"))
}
