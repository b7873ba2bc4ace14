package proxy

import (
	"net/http"
	"strconv"
	"time"

	"ixmage/alias"
)

// brokenMaxAge is how long clients may keep the placeholder of a picture that S3 could not
// deliver.
const brokenMaxAge = 5 * time.Second

// placeholderFor returns the path of the alias's placeholder for a problem: one for a
// missing picture, one for a failing S3, or "".
func placeholderFor(prob problem, a *alias.Alias) string {
	switch prob.status {
	case http.StatusNotFound:
		return a.Fallback.Missing
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return a.Fallback.Broken
	}
	return ""
}

// placeholderMaxAge is how long clients may keep the placeholder for a problem.
func placeholderMaxAge(prob problem, a *alias.Alias) time.Duration {
	if prob.status == http.StatusNotFound {
		return a.NegativeTTL
	}
	return brokenMaxAge
}

// warmPlaceholder caches the placeholder for a failing S3, because it cannot be fetched
// when S3 fails.
func (p *Proxy) warmPlaceholder(r alias.Route) {
	if path := r.Alias.Fallback.Broken; path != "" {
		p.cache.Prefetch(keyOf(r.Alias, path), p.load(r, path, nil))
	}
}

// servePlaceholder sends the object of path with the status of prob, and reports whether it
// could. The answer has no validator, because it is not the requested object.
func (p *Proxy) servePlaceholder(x *exchange, path string, prob problem) bool {
	a := x.route.Alias
	ck := keyOf(a, path)
	var f *representation
	p.cache.Open(p.base, ck)
	e, ok := p.cache.GetStale(ck)
	if ok && prob.status < http.StatusInternalServerError && !e.Fresh(x.start) {
		e.Release()
		ok = false
	}
	switch {
	case ok:
		x.entry, f = e, &representation{obj: e.Meta.(*object), whole: e.Bytes(), key: ck}
		if e.OnDisk() {
			r := e.NewReader()
			x.closeReader() // of the requested object
			x.reader, f.reader = r, r
		}
	case prob.status >= http.StatusInternalServerError:
		return false // the client has already waited for S3 once
	default:
		r, err := p.cache.Get(p.base, ck, p.load(x.route, path, x.span))
		if err != nil {
			return false
		}
		x.closeReader()
		x.reader = r
		if f, err = p.representationFor(x, r, ck); err != nil {
			return false
		}
	}
	x.code = prob.status
	h := &x.fc.Response.Header
	x.common(h)
	h.SetCanonical(nameCacheControl, maxAgeHeader(placeholderMaxAge(prob, a)))
	x.limit(h)
	x.allowOrigin(h)
	if prob.status == http.StatusServiceUnavailable {
		h.SetCanonical(nameRetryAfter, []byte(retryAfter(x.err)))
	}
	x.send(f, byteRange{0, f.obj.size - 1})
	h.DelBytes(nameAcceptRanges)
	return true
}

func maxAgeHeader(d time.Duration) []byte {
	if d < time.Second {
		return noStore
	}
	return strconv.AppendInt([]byte("public, max-age="), int64(d/time.Second), 10)
}
