package proxy

import (
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/proxy/origin"
)

func TestNewObjectETag(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("a", 5000) + `"`
	for tag, want := range map[string]string{
		`"0123456789abcdef0123456789abcdef"`: `"0123456789abcdef0123456789abcdef"`,
		`"0123-4"`:                           `"0123-4"`,
		`W/"a"`:                              `W/"a"`,
		`""`:                                 `""`,
		long:                                 long,

		"": "", "a": "", `"a`: "", `a"`: "", `"a" `: "", ` "a"`: "", `"a""b"`: "", `"a" x`: "", `w/"a"`: "", `'a'`: "",
		"\"a\r\nX: y\"": "", "\"a\nb\"": "", "\"a\rb\"": "", "\"a\x00b\"": "", "\"a\x7f\"": "", "\"a\tb\"": "", `"a b"`: "",
		"\"\xe9\"": "", "\"é\"": "", "*": "", "\"a\"\r\nSet-Cookie: x": "",
	} {
		obj := newObject(&origin.Object{ETag: tag}, &alias.Alias{TTL: time.Hour}, "image/png")
		if obj.etag != want || string(obj.etagLine) != want {
			t.Errorf("%.60q: got %.60q and the line %.60q, want %.60q", tag, obj.etag, obj.etagLine, want)
		}
		if (obj.etagLine == nil) != (want == "") {
			t.Errorf("%.60q: no entity tag, and a line for it", tag)
		}
	}
}

func TestNewObjectModified(t *testing.T) {
	t.Parallel()
	cet := time.FixedZone("CET", 3600)
	for name, tc := range map[string]struct {
		at   time.Time
		want string
	}{
		"unknown":      {time.Time{}, ""},
		"whole second": {atNoon, noon},
		"other zone":   {atNoon.In(cet), noon},
		"fractions":    {atNoon.Add(999 * time.Millisecond), noon},
	} {
		obj := newObject(&origin.Object{LastModified: tc.at}, &alias.Alias{}, "image/png")
		if string(obj.modifiedLine) != tc.want {
			t.Errorf("%s: got %q, want %q", name, obj.modifiedLine, tc.want)
		}
		// What we send must count as the same when it comes back.
		if date, ok := parseDate(tc.want); ok && !date.Equal(obj.modified) {
			t.Errorf("%s: %s is compared with %s", name, tc.want, obj.modified)
		}
	}
}

func TestNewObjectFreshness(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		header string
		ttl    time.Duration
		fresh  time.Duration
		line   string
	}{
		{"", time.Minute, time.Minute, "public, max-age=60"},
		{"", 1500 * time.Millisecond, 1500 * time.Millisecond, "public, max-age=1"},
		{"", 0, 0, "public, max-age=0"},
		{"max-age=5", time.Minute, 5 * time.Second, "max-age=5"},
		{"no-store", time.Minute, 0, "no-store"},
		{"a\r\nb, max-age=5", time.Minute, 5 * time.Second, "max-age=5"},
	} {
		obj := newObject(&origin.Object{CacheControl: tc.header}, &alias.Alias{TTL: tc.ttl}, "image/png")
		if obj.lifetimes.fresh != tc.fresh || string(obj.cacheControl) != tc.line {
			t.Errorf("%q with ttl %s: got %s, %q; want %s, %q", tc.header, tc.ttl, obj.lifetimes.fresh, obj.cacheControl, tc.fresh, tc.line)
		}
	}
}

// The budget of the cache counts what an object's metadata holds.
func TestObjectBytes(t *testing.T) {
	t.Parallel()
	small := newObject(&origin.Object{}, &alias.Alias{}, "image/png").bytes()
	long := newObject(&origin.Object{ETag: `"` + strings.Repeat("a", 10_000) + `"`, CacheControl: "x=" + strings.Repeat("b", 10_000)},
		&alias.Alias{}, "image/png").bytes()
	if small < 400 || long-small < 2*10_000+10_000-100 {
		t.Errorf("a small one holds %d bytes, one with 10 KB of each header %d", small, long)
	}
}

func TestHitLines(t *testing.T) {
	t.Parallel()
	obj := newObject(&origin.Object{}, &alias.Alias{TTL: time.Minute}, "image/png")
	expires := atNoon.Add(time.Minute)
	var first *hitLines
	for _, tc := range []struct {
		after       time.Duration
		age, status string
	}{
		{0, "0", "ixmage; hit; ttl=60"},
		{100 * time.Millisecond, "0", "ixmage; hit; ttl=60"},
		{999 * time.Millisecond, "0", "ixmage; hit; ttl=60"},
		{time.Second, "1", "ixmage; hit; ttl=59"},
		{59 * time.Second, "59", "ixmage; hit; ttl=1"},
		{61 * time.Second, "61", "ixmage; hit; ttl=-1"},
		{0, "0", "ixmage; hit; ttl=60"},
	} {
		l := obj.lines(atNoon, expires, atNoon.Add(tc.after))
		if string(l.age) != tc.age || string(l.status) != tc.status {
			t.Errorf("after %s: got Age %s and %q, want %s and %q", tc.after, l.age, l.status, tc.age, tc.status)
		}
		if tc.after == 100*time.Millisecond && l != first {
			t.Error("the lines are made anew within a second")
		}
		first = l
	}
}

// A 304 that says more of freshness than was said before must not make the object
// larger: the cache would let it go.
func TestObjectBytesAfterNotModified(t *testing.T) {
	t.Parallel()
	a := &alias.Alias{TTL: time.Hour}
	o := newObject(&origin.Object{ETag: `"a"`, CacheControl: "max-age=1"}, a, "image/png")
	long := "public, max-age=3600, s-maxage=86400, stale-if-error=86400"
	if got, want := o.updatedBy(&origin.Object{CacheControl: long}, a).bytes(), o.bytes(); got != want {
		t.Errorf("%d bytes, before it were %d", got, want)
	}
	if got := o.updatedBy(&origin.Object{CacheControl: long + strings.Repeat(", x", 300)}, a).bytes(); got < o.bytes()+900 {
		t.Errorf("%d bytes do not hold what is said", got)
	}
}
