package proxy

import (
	"slices"

	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

var (
	nameAllowOrigin   = []byte("Access-Control-Allow-Origin")
	nameExposeHeaders = []byte("Access-Control-Expose-Headers")
	nameVary          = []byte("Vary")
	varyOrigin        = []byte("Origin")
	anyOrigin         = []byte(alias.AnyOrigin)
	// exposed are the headers of a picture that a page may not read otherwise.
	exposed = []byte("Accept-Ranges, Age, Cache-Status, Content-Range, ETag, X-Request-Id")
)

// allowOrigin lets pages of the alias's origins read the answer (the Fetch standard,
// CORS protocol). Where the answer depends on who asks, a cache on the way is told
// so, with every answer. Errors bear no such header: one would tell an alias that
// exists from one that does not.
func (x *exchange) allowOrigin(h *fasthttp.ResponseHeader) {
	origins := x.route.Alias.CORSOrigins
	switch {
	case len(origins) == 0:
		return
	case origins[0] == alias.AnyOrigin:
		h.SetCanonical(nameAllowOrigin, anyOrigin)
	default:
		h.SetCanonical(nameVary, varyOrigin)
		origin := x.fc.Request.Header.Peek(fasthttp.HeaderOrigin)
		if !slices.Contains(origins, string(origin)) {
			return
		}
		h.SetCanonical(nameAllowOrigin, origin)
	}
	h.SetCanonical(nameExposeHeaders, exposed)
}
