package proxy

import (
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"
)

// hasPreflight reports whether a request is OPTIONS of a valid path of an alias that has
// CORS origins. Any other OPTIONS is refused like an unknown method: that answer does not
// tell an unknown alias from one without origins.
func (p *Proxy) hasPreflight(h *fasthttp.RequestHeader) bool {
	if !h.IsOptions() {
		return false
	}
	t, err := resolve(h.RequestURI())
	route, ok := p.registry.Lookup(t.alias)
	return err == nil && ok && route.Alias.Serves() && len(route.Alias.CORSOrigins) > 0
}

// preflight answers a CORS preflight request (the Fetch standard), which a browser sends
// before a page's request that has headers of its own. It does not ask S3 and does not look
// for the object. Without an allowed origin the browser ignores the rest of the answer.
func (p *Proxy) preflight(x *exchange) {
	t, _ := resolve(x.fc.Request.Header.RequestURI())
	route, ok := p.attribute(x, t.alias)
	if !ok { // it was deleted since refuse found it
		x.fail(probMethod, errNoAlias)
		return
	}
	x.route = route
	h := &x.fc.Response.Header
	x.common(h)
	x.allowOrigin(h)
	h.SetCanonical(nameAllowMethods, allowed)
	if names := route.Alias.CORSHeaders; len(names) > 0 {
		h.SetCanonical(nameAllowHeaders, []byte(strings.Join(names, ", ")))
	}
	h.SetCanonical(nameMaxAge, preflightMaxAge)
	h.SetNoDefaultContentType(true)
	x.code = http.StatusNoContent
	x.fc.Response.SetStatusCode(x.code)
	x.stamp()
}
