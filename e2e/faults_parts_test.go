package e2e

import (
	"net/http"
	"testing"

	"ixmage/internal/awstest/s3"
)

// partRows: parts of an object that is too large for the cache. S3 is asked what
// the object is, and then for the part.
func partRows() []fault {
	large := func(name string, s script, want *verdict) fault {
		return fault{name: name, object: s3.Object{Body: png(largeSize, name)}, script: s, unstored: true, part: want}
	}
	bad := func(name, value string) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set(name, value) }}
	}
	right := s3.DelayHeaders(0)
	senseless := func() *verdict { return fails(502, "origin-error", 2, "") }
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
		// Of a server that does not heed If-Match.
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

// parts is the table of parts of large objects.
func (f *faulty) parts() {
	f.t.Helper()
	f.load("p", partRows())
	before := f.gauge()
	// That it is too large is learnt with the first request for it.
	f.all(func(tr *trial) {
		tr.well.Store(true)
		(&given{method: "get", want: whole(1), body: tr.body, got: f.fetch(tr.path())}).check(f.t)
		tr.well.Store(false)
	})
	f.all(func(tr *trial) { tr.got = f.ask(tr) })
	f.settle()
	log := f.output()
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
	f.heal()
	f.checkCache(before, gauge{})
}
