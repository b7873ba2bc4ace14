package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// s3ID is the part of a log line that names the request id of S3.
const s3ID = ", S3 request id AWSTESTREQUEST01"

// bodyRows has all faults except those of headers, and of an S3 that is slow.
func bodyRows() []fault {
	return slices.Concat(breakRows(), lengthRows(), resumeRows(), checksumRows(), pageRows(), statusRows(), codeRows())
}

// slowRows: S3 answers late.
func slowRows() []fault {
	silent := s3.StallAfter(s3.BeforeHeaders, nil)
	late := func() *expectation { return fails(504, "origin-timeout", 2, "timeout").logged("timeout") }
	slow := func() *expectation { return cut(2, "timeout").logged("no answer in time") }
	return []fault{
		{
			name: "slow, within the deadline", script: first(s3.DelayHeaders(300 * time.Millisecond)),
			get: whole(1), head: whole(1), part: whole(1),
		},
		{name: "silent before the headers, once", script: first(silent), get: whole(2), head: whole(2), part: whole(2)},
		{name: "silent before the headers", script: always(silent), get: late(), head: late(), part: late()},
		{name: "silent before the body, once", script: first(s3.StallAfter(0, nil)), get: whole(2), part: whole(2)},
		{name: "silent before the body", script: always(s3.StallAfter(0, nil)), get: late(), part: late()},
		{name: "silent in the body, once", script: first(s3.StallAfter(50_000, nil)), get: whole(2), part: whole(2)},
		{name: "silent in the body", script: always(s3.StallAfter(50_000, nil)), get: slow(), part: slow()},
		{
			name: "silent before the last byte", script: always(s3.StallAfter(faultSize-1, nil), s3.StallAfter(0, nil)),
			get: slow(), part: slow(),
		},
		{name: "trickling in the body", script: always(s3.Trickle(100, 300*time.Millisecond)), get: slow(), part: slow()},
		{
			name: "large, silent", object: s3.Object{Body: png(largeSize, "large")}, unstored: true,
			script: always(s3.StallAfter(largeSize-1, nil), s3.StallAfter(0, nil)), get: cut(2, "timeout"),
		},
		{ // on a busy machine its hundred pauses may exceed a deadline before the first bytes arrive
			name: "trickle", object: s3.Object{Body: png(100, "trickle")}, script: always(s3.Trickle(1, time.Millisecond)),
			get: whole(1).orMore(),
		},
		{
			name: "an error document that does not end", script: always(&s3.Fault{Code: "InternalError", Stall: &s3.Stall{After: 20}}),
			get: fails(504, "origin-timeout", 1, "timeout"),
		},
	}
}

// breakRows: the connection ends, by FIN or RST.
func breakRows() []fault {
	type end struct {
		name  string
		after func(int64) *s3.Fault
	}
	closed, reset := end{"closed", s3.CloseAfter}, end{"reset", s3.ResetAfter}
	var rows []fault
	for _, e := range []end{closed, reset} {
		before := e.after(s3.BeforeHeaders)
		twice := func() *expectation { return whole(2).orMore() }
		gone := func() *expectation { return fails(502, "origin-unreachable", 2, "network").logged("network").orMore() }
		rows = append(
			rows,
			fault{name: e.name + " before the headers, once", script: first(before), get: twice(), head: twice(), part: twice()},
			fault{name: e.name + " before the headers", script: always(before), get: gone(), head: gone(), part: gone()},
		)
		for _, at := range []int64{0, 1, 4095, 4096, 64 << 10, faultSize - 1} {
			// A reset may discard the headers; then it counts as a break before them.
			broken := func() *expectation {
				v := fails(502, "origin-unreachable", 2, "network")
				v.kind, v.further = isFailed, e.name == "reset"
				if e.name == "closed" && at > 0 {
					v.kind, v.says = isCut, "body ended before its last byte"
				}
				return v
			}
			again := func() *expectation {
				v := whole(2)
				v.further = e.name == "reset"
				return v
			}
			rows = append(
				rows,
				fault{name: fmt.Sprintf("%s after %d bytes, once", e.name, at), script: first(e.after(at)), get: again(), part: again()},
				fault{name: fmt.Sprintf("%s after %d bytes", e.name, at), script: always(e.after(at), e.after(0)), get: broken(), part: broken()},
			)
		}
	}
	return rows
}

// lengthRows: the body is longer or shorter than declared, or has no length.
func lengthRows() []fault {
	large := s3.Object{Body: png(largeSize, "large")}
	return []fault{
		{name: "shorter than declared", script: always(s3.DeclareMore(10)), get: cut(2, "error"), part: cut(2, "error")},
		{name: "longer than declared", script: always(s3.DeclareLess(10)), get: cut(1, "error").logged("differs"), part: cut(1, "error")},
		{name: "in chunks", script: always(s3.Chunked()), get: whole(1), part: whole(1), head: whole(1)},
		{name: "in chunks, cut once", script: first(s3.ChunkedCut(50_000)), get: whole(2), part: whole(2)},
		{name: "in chunks, cut", script: always(s3.ChunkedCut(50_000), s3.CloseAfter(0)), get: cut(2, "network"), part: cut(2, "network")},
		{name: "in chunks, without the last", script: always(s3.ChunkedCut(faultSize), s3.CloseAfter(0)), get: cut(2, "error")},
		{name: "large", object: large, script: always(nil), unstored: true, get: whole(1)},
		{name: "large, cut once", object: large, script: first(s3.CloseAfter(1_000_000)), unstored: true, get: whole(2)},
		{name: "large, cut", object: large, script: always(s3.CloseAfter(largeSize-1), s3.CloseAfter(0)), unstored: true, get: cut(2, "network")},
		{name: "large, wrong checksum", object: large, script: always(s3.WrongChecksum()), unstored: true, get: cut(1, "error")},
	}
}

// resumeRows: the body breaks, and S3 cannot send the rest.
func resumeRows() []fault {
	broken := s3.CloseAfter(50_000)
	bad := func(name, value string) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set(name, value) }}
	}
	changed := func() *expectation { return cut(2, "error").logged("object changed while its body was read") }
	return []fault{
		{name: "replaced between break and resume", script: first(broken), replaced: png(faultSize, "replaced"), get: changed(), part: changed()},
		{name: "gone between break and resume", script: first(broken, s3.Fail("NoSuchKey")), get: changed()},
		{
			name: "refused between break and resume", script: first(broken, s3.Fail("InvalidAccessKeyId")),
			get: cut(2, "bad_credential").logged("InvalidAccessKeyId: status 403" + s3ID),
		},
		{name: "resumed with a 200", script: first(broken, &s3.Fault{Status: 200}), get: cut(2, "error")},
		{name: "resumed elsewhere", script: first(broken, bad("Content-Range", "bytes 50001-204799/204800")), get: cut(2, "error")},
		{name: "resumed with another ETag", script: first(broken, bad("ETag", `"another"`)), get: changed()},
		{name: "206 to a request for all", script: always(&s3.Fault{Status: 206}), get: fails(502, "origin-error", 1, "error"), part: fails(502, "origin-error", 1, "error")},
	}
}

func checksumRows() []fault {
	wrong := func() *expectation { return cut(1, "error").logged("differs") }
	var rows []fault
	for _, sum := range s3.Checksums() {
		obj := s3.Object{Checksum: sum}
		rows = append(
			rows,
			fault{name: string(sum), object: obj, script: always(nil), get: whole(1)},
			fault{name: string(sum) + ", wrong", object: obj, script: always(s3.WrongChecksum()), get: wrong(), part: wrong()},
			fault{name: string(sum) + ", of the parts of an upload", object: obj, script: always(s3.CompositeChecksum()), get: whole(1), part: whole(1)},
		)
	}
	small := s3.Object{Body: png(100, "small")}
	untyped := s3.Object{Body: png(108, "untyped"), ContentType: "binary/octet-stream"}
	return append(
		rows,
		fault{name: "no checksum", object: s3.Object{Checksum: s3.NoChecksum}, script: always(nil), get: whole(1)},
		fault{name: "wrong checksum across the joint", script: first(&s3.Fault{BadSum: true, Cut: &s3.Cut{After: 50_000}}), get: cut(2, "error").logged("differs")},
		fault{name: "wrong checksum in chunks", script: always(&s3.Fault{BadSum: true, Chunked: true}), get: wrong(), part: wrong()},
		fault{name: "wrong checksum of a small object", object: small, script: always(s3.WrongChecksum()), get: wrong()},
		// A small object is read completely before the answer begins.
		fault{name: "wrong checksum of an untyped object", object: untyped, script: always(s3.WrongChecksum()), get: fails(502, "origin-error", 1, "error").logged("differs")},
	)
}

// pageRows: S3, or a proxy before it, sends a document that is neither a picture nor
// an error document.
func pageRows() []fault {
	xml200 := func(contentType string) script {
		f := s3.XML200()
		f.Header = func(h http.Header) { h.Set("Content-Type", contentType) }
		return always(f)
	}
	missing := func() *expectation { return fails(404, "not-found", 1, "not_found") }
	// The fault is found before the body is read, or with all of it.
	refused := func(outcome string) *expectation { return fails(415, "not-an-image", 1, outcome) }
	return []fault{
		{name: "404 in HTML", script: always(s3.HTML404()), get: missing(), head: missing(), part: missing()},
		{name: "200 with an error in XML", script: always(s3.XML200()), get: refused("ok"), part: refused("ok")},
		{name: "200 with an error in XML, untyped", script: xml200("binary/octet-stream"), get: refused("ok"), part: refused("ok")},
		{name: "200 with an error in XML, as a picture", script: xml200("image/png"), get: refused("ok"), part: refused("ok")},
		{name: "200 with an error in XML, as SVG", script: xml200("image/svg+xml"), get: refused("ok"), part: refused("ok")},
		{name: "403 with half a document", script: always(&s3.Fault{Status: 403, Body: []byte("<Error><Code>Access")}), get: fails(404, "not-found", 1, "denied")},
		{name: "500 with half a document", script: always(&s3.Fault{Code: "InternalError", Cut: &s3.Cut{After: 30}}), get: fails(502, "origin-error", 2, "error")},
		{name: "500 with a document of 4 MiB", script: always(&s3.Fault{Status: 500, Body: make([]byte, 4<<20)}), get: fails(502, "origin-error", 2, "error")},
	}
}

// statusRows: a status without a document.
func statusRows() []fault {
	bare := func(status int) *s3.Fault { return &s3.Fault{Status: status, Body: []byte{}} }
	away := bare(302)
	away.Header = func(h http.Header) { h.Set("Location", "/redirected/evil") }
	rows := []fault{
		{name: "302", script: always(away), get: fails(502, "origin-error", 1, "error").logged("status 302" + s3ID), head: fails(502, "origin-error", 2, "error")},
		{name: "304 unasked", script: always(bare(304)), get: fails(502, "origin-error", 1, "not_modified"), part: fails(502, "origin-error", 1, "not_modified")},
		{name: "429", script: always(bare(429)), get: fails(503, "origin-throttled", 1, "throttled"), head: fails(503, "origin-throttled", 1, "throttled")},
	}
	for _, status := range []int{500, 502, 503, 504} {
		broken := func(asked int) *expectation {
			return fails(502, "origin-error", asked, "error").logged(fmt.Sprintf("status %d", status) + s3ID)
		}
		rows = append(
			rows,
			fault{name: fmt.Sprintf("%d, once", status), script: first(bare(status)), get: whole(2), head: whole(2), part: whole(2)},
			fault{name: fmt.Sprintf("%d", status), script: always(bare(status)), get: broken(2), head: broken(4), part: broken(2)},
		)
	}
	return rows
}

// codeRows: S3 sends an error code. An error to HEAD has no document, so the server
// sends a GET after it.
func codeRows() []fault {
	rows := []fault{
		{name: "SlowDown, once", script: first(s3.Fail("SlowDown")), get: whole(2), head: whole(2), part: whole(2)},
		{name: "InternalError, once", script: first(s3.Fail("InternalError")), get: whole(2), head: whole(2), part: whole(2)},
		{name: "NoSuchBucket to HEAD", script: always(s3.Fail("NoSuchBucket")), head: fails(404, "not-found", 1, "not_found")},
		{name: "NoSuchKey to HEAD", script: always(s3.Fail("NoSuchKey")), head: fails(404, "not-found", 1, "not_found").logged("status 404" + s3ID)},
	}
	for _, c := range []struct {
		code    string
		status  int
		problem string
		outcome string
		get     int // how often S3 is asked
		head    int // 0: not tried
	}{
		{"InternalError", 502, "origin-error", "error", 2, 4},
		{"ServiceUnavailable", 502, "origin-error", "error", 2, 4},
		{"SlowDown", 503, "origin-throttled", "throttled", 2, 4},
		{"RequestTimeout", 504, "origin-timeout", "timeout", 2, 3},
		{"AccessDenied", 404, "not-found", "denied", 1, 2},
		{"NoSuchKey", 404, "not-found", "not_found", 1, 0},
		{"NoSuchBucket", 502, "origin-error", "error", 1, 0},
		{"InvalidAccessKeyId", 502, "origin-credential", "bad_credential", 1, 2},
		{"SignatureDoesNotMatch", 502, "origin-credential", "bad_credential", 1, 2},
		{"ExpiredToken", 502, "origin-credential", "bad_credential", 1, 2},
		{"InvalidToken", 502, "origin-credential", "bad_credential", 1, 2},
		{"RequestTimeTooSkewed", 502, "origin-error", "error", 1, 2},
		{"PermanentRedirect", 502, "origin-error", "error", 1, 2},
		{"TemporaryRedirect", 502, "origin-error", "error", 1, 2},
		{"AuthorizationHeaderMalformed", 502, "origin-error", "error", 1, 2},
		{"InvalidObjectState", 502, "origin-error", "error", 1, 2},
		{"KMS.DisabledException", 502, "origin-error", "error", 1, 2},
		{"MethodNotAllowed", 502, "origin-error", "error", 1, 2},
	} {
		v := func(asked int) *expectation {
			return fails(c.status, c.problem, asked, c.outcome).logged(fmt.Sprintf("%s: status %d", c.code, s3.Codes()[c.code]) + s3ID)
		}
		row := fault{name: c.code, script: always(s3.Fail(c.code)), get: v(c.get), part: v(c.get)}
		if c.head > 0 {
			row.head = v(c.head)
		}
		rows = append(rows, row)
	}
	return rows
}

// headerRows: headers of an object with bytes that no server should send. They are
// refused or left out, never passed on.
func headerRows() []fault {
	refused := func() *expectation { return fails(502, "origin-error", 2, "error") }
	var rows []fault
	for _, name := range []string{"Content-Type", "ETag", "Last-Modified", "Cache-Control", "Content-Disposition", "x-amz-meta-note"} {
		for _, payload := range []struct {
			name, value string
			broken      bool // an invalid header (RFC 9110, section 5.5), or one that is too long
		}{
			{"CR", "a\rSet-Cookie: evil=1", true},
			{"LF", "a\nSet-Cookie: evil=1", false},
			{"CR LF", "a\r\nSet-Cookie: evil=1", false},
			{"a folded line", "a\r\n Set-Cookie: evil=1", false},
			{"NUL", "a\x00b", true},
			{"a control byte", "a\x01b", true},
			{"eight bits", "\xe9\xff", false},
			{"20 KiB", strings.Repeat("a", 20<<10), false},
			{"64 KiB", strings.Repeat("a", 64<<10), true},
		} {
			row := fault{name: payload.name + " in " + name, script: with(name, payload.value), get: whole(1), head: whole(1)}
			switch {
			case payload.broken:
				row.get, row.head = refused(), refused()
			case name == "Content-Type":
				row.script = with(name, "image/png;"+payload.value)
			}
			rows = append(rows, row)
		}
	}
	return slices.Concat(rows, []fault{
		{name: "a type that is none", script: with("Content-Type", "image/png\xff"), get: fails(415, "not-an-image", 1, "aborted")},
		{name: "two types", script: with("Content-Type", "text/html\r\nContent-Type: image/png"), get: fails(415, "not-an-image", 1, "aborted")},
		{name: "two lengths", script: with("Content-Length", "1\r\nContent-Length: 2"), get: fails(502, "origin-error", 2, "error")},
		{name: "a length below zero", script: with("Content-Length", "-1"), get: fails(502, "origin-error", 2, "error")},
		{name: "a length and chunks", script: with("Transfer-Encoding", "chunked"), get: fails(502, "origin-error", 2, "error")},
		{name: "a line without a colon", script: with("x-amz-meta-note", "a\r\nevil"), get: fails(502, "origin-error", 2, "error")},
		{name: "no headers but the length", script: bareHeaders(), get: whole(1)},
	})
}

// with sends a header line in place of the right one, byte for byte.
func with(name, value string) script {
	return always(&s3.Fault{
		Header: func(h http.Header) { h.Del(name) }, Raw: []string{name + ": " + value},
	})
}

func bareHeaders() script {
	return always(&s3.Fault{Header: func(h http.Header) {
		length := h.Get("Content-Length")
		clear(h)
		h.Set("Content-Length", length)
	}})
}

// partRows: ranges of an object that is too large for the cache. S3 gets a HEAD, and
// then a GET of the range.
func partRows() []fault {
	large := func(name string, s script, want *expectation) fault {
		return fault{name: name, object: s3.Object{Body: png(largeSize, name)}, script: s, unstored: true, part: want}
	}
	bad := func(name, value string) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set(name, value) }}
	}
	right := s3.DelayHeaders(0)
	senseless := func() *expectation { return fails(502, "origin-error", 2, "") }
	replaced := large("replaced after the look", first(right), senseless())
	replaced.replaced = png(largeSize, "replaced")
	weak := large("right, with a weak ETag", always(right), whole(2))
	weak.object.ETag = `W/"1"`
	return []fault{
		large("right", always(right), whole(2)),
		large("closed in the part, once", first(right, s3.CloseAfter(4000)), whole(3)),
		large("closed in the part", always(right, s3.CloseAfter(4000), s3.CloseAfter(0)), cut(3, "")),
		large("closed before the last byte", always(right, s3.CloseAfter(4999), s3.CloseAfter(0)), cut(3, "")),
		large("silent in the part", always(right, s3.StallAfter(4000, nil), s3.StallAfter(0, nil)), cut(3, "")),
		large("reset in the part, once", first(right, s3.ResetAfter(4000)), whole(3).orMore()),
		large("shorter than declared", always(right, s3.DeclareMore(10)), senseless()),
		large("longer than declared", always(right, s3.DeclareLess(10)), senseless()),
		large("all instead of the part", always(right, &s3.Fault{Status: 200}), senseless()),
		large("another part", always(right, bad("Content-Range", "bytes 101-5100/1048577")), senseless()),
		large("a part of another size", always(right, bad("Content-Range", "bytes 100-5098/1048577")), senseless()),
		large("a part of nothing", always(right, bad("Content-Range", "evil")), senseless()),
		replaced, weak,
		// These come from a server that ignores If-Match.
		large("of another version, by its ETag", always(right, bad("ETag", `"another"`)), senseless()),
		large("of another version, by its date", always(right, bad("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")), senseless()),
		large("of another version, by its size", always(right, bad("Content-Range", "bytes 100-5099/1048578")), senseless()),
		large("without an ETag", always(right, bad("ETag", "")), senseless()),
		large("of any size", always(right, bad("Content-Range", "bytes 100-5099/*")), whole(2)),
		large("gone after the look", first(right, s3.Fail("NoSuchKey")), fails(404, "not-found", 2, "")),
		large("throttled at the look", always(s3.Fail("SlowDown")), fails(503, "origin-throttled", 4, "")),
		large("refused at the look", always(s3.Fail("InvalidAccessKeyId")), fails(502, "origin-credential", 2, "")),
		large("no picture at the look", always(bad("Content-Type", "text/html")), fails(415, "not-an-image", 1, "")),
	}
}

// parts is the table of ranges of large objects.
func (f *faultEnv) parts() {
	f.t.Helper()
	f.load("p", partRows())
	before := f.gauge()
	// The first request shows that the object is too large.
	f.all(func(tr *trial) {
		tr.well.Store(true)
		(&given{method: "get", want: whole(1), body: tr.body, got: f.fetch(tr.path())}).check(f.t)
		tr.well.Store(false)
	})
	f.all(func(tr *trial) { tr.got = f.ask(tr) })
	f.waitQuiet()
	log := f.wholeLog()
	for _, tr := range f.trials {
		f.t.Run("a part/"+tr.name, func(t *testing.T) {
			tr.check(t)
			if tr.want.kind == isWhole && tr.got.StatusCode != http.StatusPartialContent {
				t.Errorf("got %s, want a part", tr.got.Status)
			}
			checkAsked(t, tr)
			checkLogged(t, tr, log)
		})
	}
	f.askRepaired()
	f.checkCache(before, gauge{})
}

// TestTrickledFront has S3 send the first bytes, which decide the type, one at a
// time. The answer waits for headers and first bytes together for --origin-call-timeout.
func TestTrickledFront(t *testing.T) {
	t.Parallel()
	trickle := func(contentType string) script {
		return always(&s3.Fault{
			Chunk: 1, Pace: 300 * time.Millisecond, Header: func(h http.Header) { h.Set("Content-Type", contentType) },
		})
	}
	late := func() *expectation { return fails(504, "origin-timeout", 1, "timeout").logged("timeout") }
	f := newFaultEnv(t, start(t, "--origin-call-timeout", "8s", "--origin-idle-timeout", "5m", "--cache-object-max", "1MiB"))
	before := f.gauge()
	f.load("t", []fault{
		{
			name: "generic", script: trickle("binary/octet-stream"), get: late(), part: late(),
			// HeadObject answers at once, and does not decide the type.
			head: fails(504, "origin-timeout", 2, "ok timeout").logged("timeout"),
		},
		{name: "SVG", script: trickle("image/svg+xml"), get: late(), part: late()},
		{name: "small", object: s3.Object{Body: png(60, "small")}, script: trickle("binary/octet-stream"), get: late()},
	})
	f.askBroken()
	f.askRepaired()
	f.checkLeft(before)
}
