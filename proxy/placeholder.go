package proxy

import (
	"net/http"
	"strconv"
	"time"

	"ixmage/alias"
)

// brokenMaxAge is how long clients may keep what stands in for a picture that could
// not be had.
const brokenMaxAge = 5 * time.Second

// placeholderFor is the path of the object that stands in for a problem, if the alias
// has one: for a picture that is not there, or an origin that cannot be asked.
func placeholderFor(prob problem, a *alias.Alias) string {
	switch prob.status {
	case http.StatusNotFound:
		return a.Fallback.Missing
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return a.Fallback.Broken
	}
	return ""
}

// placeholderMaxAge is how long clients may keep the answer to a problem.
func placeholderMaxAge(prob problem, a *alias.Alias) time.Duration {
	if prob.status == http.StatusNotFound {
		return a.NegativeTTL
	}
	return brokenMaxAge
}

// warmPlaceholder has the object at hand that stands in for pictures which cannot be had:
// when S3 fails it is too late to fetch it.
func (p *Proxy) warmPlaceholder(r alias.Route) {
	if path := r.Alias.Fallback.Broken; path != "" {
		p.cache.Warm(keyOf(r.Alias, path), p.load(r, path))
	}
}

// servePlaceholder sends the object of path with the status of prob, or reports that it
// cannot be had either. It bears no validator: it is not what was asked for.
func (p *Proxy) servePlaceholder(x *exchange, path string, prob problem) bool {
	a := x.route.Alias
	ck := keyOf(a, path)
	var f *representation
	e, ok := p.cache.Keep(ck)
	if ok && prob.status < http.StatusInternalServerError && !e.Fresh(x.start) {
		e.Release()
		ok = false
	}
	switch {
	case ok:
		x.entry, f = e, &representation{obj: e.Meta.(*object), whole: e.Bytes()}
	case prob.status >= http.StatusInternalServerError:
		return false // the origin has kept the client waiting once
	default:
		r, err := p.cache.Get(p.base, ck, p.load(x.route, path))
		if err != nil {
			return false
		}
		x.reader, f = r, representationOf(r, time.Now())
	}
	x.code = prob.status
	h := &x.fc.Response.Header
	x.common(h)
	x.allowOrigin(h)
	h.SetCanonical(nameCacheControl, shortLife(placeholderMaxAge(prob, a)))
	if prob.status == http.StatusServiceUnavailable {
		h.SetCanonical(nameRetryAfter, []byte(retryAfter(x.err)))
	}
	x.send(f, byteRange{0, f.obj.size - 1})
	h.DelBytes(nameAcceptRanges)
	return true
}

func shortLife(d time.Duration) []byte {
	if d < time.Second {
		return noStore
	}
	return strconv.AppendInt([]byte("public, max-age="), int64(d/time.Second), 10)
}
