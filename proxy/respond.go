package proxy

import (
	"net/http"
	"slices"
	"strconv"

	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

// Headers of every answer. The policy lets an SVG use inline styles and embedded data and
// nothing else: no script, no request, no form, and an origin of its own. Ordinary SVG
// files need style-src and img-src; sandbox alone would still let one load from another
// host.
var (
	nameRequestID = []byte("X-Request-Id")
	nameNosniff   = []byte("X-Content-Type-Options")
	nosniff       = []byte("nosniff")
	nameCSP       = []byte("Content-Security-Policy")
	csp           = []byte("default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox")

	nameETag         = []byte("ETag")
	nameModified     = []byte("Last-Modified")
	nameAcceptRanges = []byte("Accept-Ranges")
	unitBytes        = []byte("bytes")
	nameCacheControl = []byte("Cache-Control")
	noStore          = []byte("no-store")
	nameAge          = []byte("Age")
	ageZero          = []byte("0")
	nameCacheStatus  = []byte("Cache-Status")
	nameContentRange = []byte("Content-Range")
	nameRetryAfter   = []byte("Retry-After")
	nameAllow        = []byte("Allow")
	allowed          = []byte("GET, HEAD")

	typeProblem = []byte("application/problem+json")
	typeText    = []byte("text/plain; charset=utf-8")
)

// Sizes of bodies in memory. Up to bufferedMax a body fits into fasthttp's write buffer
// after its header, and both go out with one system call. Larger ones are sent by conn.
// If there is no conn, fasthttp writes up to rawMax under one deadline, and larger ones
// are sent by body, under a deadline that moves with progress.
const (
	bufferedMax = WriteBufferSize - 2<<10
	rawMax      = 256 << 10
)

// common sets the headers of every answer.
func (x *exchange) common(h *fasthttp.ResponseHeader) {
	h.SetCanonical(nameRequestID, x.id[:])
	h.SetCanonical(nameNosniff, nosniff)
	h.SetCanonical(nameCSP, csp)
}

// describe sets the headers of an object in a 200, 206 or 304.
func (x *exchange) describe(h *fasthttp.ResponseHeader, f *representation) {
	x.common(h)
	if f.obj.etagLine != nil {
		h.SetCanonical(nameETag, f.obj.etagLine)
	}
	if f.obj.modifiedLine != nil {
		h.SetCanonical(nameModified, f.obj.modifiedLine)
	}
	if own := x.route.Alias.CacheControl; own != "" {
		// The alias's lifetime begins with this answer. Counted from S3's answer, it
		// could be over before clients get it.
		h.SetCanonical(nameCacheControl, []byte(own))
		h.SetCanonical(nameAge, ageZero)
	} else {
		h.SetCanonical(nameCacheControl, f.obj.cacheControlFor(x.route.Alias))
		h.SetCanonical(nameAge, f.age)
	}
	x.limit(h)
	h.SetCanonical(nameCacheStatus, f.status)
	x.allowOrigin(h)
}

// limit adds what the query says about the answer.
func (x *exchange) limit(h *fasthttp.ResponseHeader) {
	if x.terms.negotiated {
		h.SetCanonical(nameVary, varyAccept)
	}
	if own := x.route.Alias.CacheControl; x.terms.signed && own == "" || !x.terms.until.IsZero() {
		age, _ := strconv.ParseInt(string(h.PeekBytes(nameAge)), 10, 64)
		t := x.terms
		t.signed = t.signed && own == ""
		h.SetCanonical(nameCacheControl, t.limit(h.PeekBytes(nameCacheControl), age, x.start))
	}
}

// answer sends an object, or a 206, 304, 412 or 416 by the request's preconditions and
// range.
func (x *exchange) answer(f *representation, c *conditions) {
	if c.any {
		switch c.evaluate(f.obj.validators) {
		case notModified:
			x.describe(&x.fc.Response.Header, f)
			x.code = http.StatusNotModified
			x.fc.Response.SetStatusCode(x.code)
			x.fc.Response.Header.SetNoDefaultContentType(true)
			x.stamp()
			return
		case preconditionFailed:
			x.fail(probPrecondition, nil)
			x.allowOrigin(&x.fc.Response.Header)
			return
		case proceed:
		}
	}
	x.code = http.StatusOK
	part := byteRange{0, f.obj.size - 1}
	if c.byteRange != "" && f.obj.size >= 0 && x.fc.IsGet() {
		r, kind := c.selectRange(f.obj.validators, f.obj.size)
		switch kind {
		case rangeUnsatisfiable:
			x.unsatisfiable(f.obj.size)
			return
		case rangeSatisfiable:
			x.setContentRange(r, f.obj.size)
			part = r
		case rangeNone:
		}
	}
	x.describe(&x.fc.Response.Header, f)
	x.send(f, part)
}

// setContentRange makes the answer a 206 of an object of size bytes.
func (x *exchange) setContentRange(r byteRange, size int64) {
	x.code = http.StatusPartialContent
	b := append(make([]byte, 0, 48), "bytes "...)
	b = strconv.AppendInt(b, r.first, 10)
	b = strconv.AppendInt(append(b, '-'), r.last, 10)
	b = strconv.AppendInt(append(b, '/'), size, 10)
	x.fc.Response.Header.SetCanonical(nameContentRange, b)
}

func (x *exchange) unsatisfiable(size int64) {
	b := strconv.AppendInt([]byte("bytes */"), size, 10)
	x.fail(probRange, nil)
	x.allowOrigin(&x.fc.Response.Header)
	x.fc.Response.Header.SetCanonical(nameContentRange, b)
}

// send hands the body to fasthttp, as a slice or as a stream.
func (x *exchange) send(f *representation, part byteRange) {
	// HTTP/1.0 has no chunks: its client cannot tell the end of a body of unknown
	// length from a cut connection.
	if f.obj.size < 0 && x.fc.IsGet() && !x.fc.Request.Header.IsHTTP11() {
		x.fail(problemOf(errNoLength), errNoLength)
		return
	}
	resp := &x.fc.Response
	resp.SetStatusCode(x.code)
	resp.Header.SetContentTypeBytes(f.obj.contentType)
	resp.Header.SetCanonical(nameAcceptRanges, unitBytes)
	switch length := part.length(); {
	case x.fc.IsHead():
		resp.SkipBody = true
		if f.obj.size >= 0 {
			resp.Header.SetContentLength(int(length))
		}
	case f.whole != nil && x.sendWhole(f, part), x.sendFromDisk(f, part):
		return
	default:
		resp.ImmediateHeaderFlush = true
		resp.SetBodyStream(newBody(x, f, part), bodySize(f, length))
		return // stamped when the body begins
	}
	x.stamp()
}

// sendWhole hands over a body in memory, unless it must be sent by body.
func (x *exchange) sendWhole(f *representation, part byteRange) bool {
	resp, data := &x.fc.Response, f.whole[part.first:part.last+1]
	c, ours := x.fc.Conn().(*conn)
	switch {
	case ours && len(data) > bufferedMax:
		x.memory = memoryBody{x: x, conn: c, obj: f.obj, data: data, file: -1}
		if x.entry != nil && len(data) >= fileMin {
			if fd, off, ok := x.entry.File(); ok {
				x.memory.file, x.memory.offset = fd, off+part.first
			}
		}
		x.sendMemory(len(data))
		return true
	case len(data) <= rawMax:
		if ours {
			c.begin(x)
		}
		x.bytes = int64(len(data))
		resp.SetBodyRaw(data)
		x.stamp()
		return true
	}
	return false
}

// sendFromDisk hands over a body on disk, if the connection is ours.
func (x *exchange) sendFromDisk(f *representation, part byteRange) bool {
	c, ours := x.fc.Conn().(*conn)
	r := f.diskReader()
	if !ours || r == nil || part.length() == 0 {
		return false
	}
	x.memory = memoryBody{x: x, conn: c, obj: f.obj, disk: r, offset: part.first, size: part.length(), key: f.key}
	x.sendMemory(int(part.length()))
	return true
}

// sendMemory hands over x.memory, of size bytes. It is stamped when it begins.
func (x *exchange) sendMemory(size int) {
	c := x.memory.conn
	c.begin(x)
	c.bufferHeader()
	x.fc.Response.ImmediateHeaderFlush = true
	x.fc.Response.SetBodyStream(&x.memory, size)
}

// bodySize is the size for fasthttp: -1 makes it send chunks.
func bodySize(f *representation, length int64) int {
	if f.obj.size < 0 {
		return -1
	}
	return int(length)
}

// stamp records the time to the first byte.
func (x *exchange) stamp() {
	if x.first == 0 {
		x.first = sinceStart(x)
	}
}

// fail answers with a problem (RFC 9457). err is for the log, and for detailOf: else all answers with one
// problem differ in the request id alone.
func (x *exchange) fail(p problem, err error) {
	x.code, x.prob, x.err = p.status, p, err
	if x.memory.conn != nil {
		x.memory.conn.drop(x.id[:])
		x.memory = memoryBody{}
	}
	resp := &x.fc.Response
	resp.Reset()
	x.common(&resp.Header)
	resp.SetStatusCode(p.status)
	resp.Header.SetContentTypeBytes(typeProblem)
	resp.Header.SetCanonical(nameCacheControl, noStore)
	switch p.status {
	case http.StatusServiceUnavailable, http.StatusTooManyRequests:
		resp.Header.SetCanonical(nameRetryAfter, []byte(retryAfter(err)))
	case http.StatusMethodNotAllowed:
		resp.Header.SetCanonical(nameAllow, allowed)
	}
	body := make([]byte, 0, 256)
	body = append(body, `{"type":"https://ixmage.dev/problems/`...)
	body = append(append(body, p.code...), `","title":"`...)
	body = append(append(body, p.title...), `","status":`...)
	body = strconv.AppendInt(body, int64(p.status), 10)
	if detail := detailOf(err); detail != "" {
		body = append(body, `,"detail":`...)
		body = strconv.AppendQuote(body, detail)
	}
	body = append(append(body, `,"request_id":"`...), x.id[:]...)
	body = append(body, "\"}\n"...)
	x.bytes = int64(len(body))
	if x.fc.IsHead() {
		x.bytes = 0
	}
	resp.SetBodyRaw(body)
	x.stamp()
}

var (
	nameAllowOrigin   = []byte("Access-Control-Allow-Origin")
	nameExposeHeaders = []byte("Access-Control-Expose-Headers")
	nameAllowMethods  = []byte("Access-Control-Allow-Methods")
	nameAllowHeaders  = []byte("Access-Control-Allow-Headers")
	nameMaxAge        = []byte("Access-Control-Max-Age")
	preflightMaxAge   = []byte("86400") // seconds
	nameCORP          = []byte("Cross-Origin-Resource-Policy")
	crossOrigin       = []byte("cross-origin")
	nameVary          = []byte("Vary")
	varyOrigin        = []byte("Origin")
	varyAccept        = []byte("Accept")
	varyBoth          = []byte("Accept, Origin")
	anyOrigin         = []byte(alias.AnyOrigin)
	// exposed are the headers of a picture that a page cannot read without this list.
	exposed = []byte("Accept-Ranges, Age, Cache-Status, Content-Range, ETag, X-Request-Id")
)

// allowOrigin lets pages of the alias's origins read the answer (the Fetch standard, CORS
// protocol). If the answer depends on the Origin, every answer says so in Vary, for caches
// on the way. A page of any origin may embed the picture, even one that asks for that in
// Cross-Origin-Embedder-Policy: without it, the picture can be embedded too. Errors have
// none of these headers, because they would show that an alias exists.
func (x *exchange) allowOrigin(h *fasthttp.ResponseHeader) {
	origins := x.route.Alias.CORSOrigins
	if len(origins) == 0 {
		return
	}
	h.SetCanonical(nameCORP, crossOrigin)
	if origins[0] == alias.AnyOrigin {
		h.SetCanonical(nameAllowOrigin, anyOrigin)
	} else {
		if x.terms.negotiated {
			h.SetCanonical(nameVary, varyBoth)
		} else {
			h.SetCanonical(nameVary, varyOrigin)
		}
		origin := x.fc.Request.Header.Peek(fasthttp.HeaderOrigin)
		if !slices.Contains(origins, string(origin)) {
			return
		}
		h.SetCanonical(nameAllowOrigin, origin)
	}
	h.SetCanonical(nameExposeHeaders, exposed)
}
