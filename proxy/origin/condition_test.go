package origin

import (
	"bytes"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

func TestGetNotModified(t *testing.T) {
	t.Parallel()
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tc := range []struct {
		name    string
		request func(*Request)
		changed bool
		sent    map[string]string
	}{
		{
			"by its ETag", func(r *Request) { r.IfNoneMatch = `"e"` }, false,
			map[string]string{"If-None-Match": `"e"`},
		},
		{
			"by its date", func(r *Request) { r.IfModifiedSince = modified }, false,
			map[string]string{"If-Modified-Since": modified.Format(http.TimeFormat)},
		},
		{
			"both known, the ETag counts", func(r *Request) { r.IfNoneMatch, r.IfModifiedSince = `"e"`, modified.Add(-time.Hour) }, false,
			map[string]string{"If-None-Match": `"e"`},
		},
		{
			"another ETag, the date alike", func(r *Request) { r.IfNoneMatch, r.IfModifiedSince = `"old"`, modified }, true,
			map[string]string{"If-None-Match": `"old"`},
		},
		{
			"an older date", func(r *Request) { r.IfModifiedSince = modified.Add(-time.Second) }, true,
			map[string]string{"If-Modified-Since": modified.Add(-time.Second).Format(http.TimeFormat)},
		},
		{"no condition", func(*Request) {}, true, nil},
		{
			"a range of it", func(r *Request) { r.IfNoneMatch, r.Range = `"e"`, &Range{0, 9} }, false,
			map[string]string{"If-None-Match": `"e"`, "Range": "bytes=0-9"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{
				Body: noise(100), ETag: `"e"`, LastModified: modified, CacheControl: "max-age=60", ContentType: "image/png",
			})
			tc.request(&r)
			obj, err := k.Get(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			if obj.NotModified == tc.changed || (obj.Body == nil) == tc.changed {
				t.Fatalf("got %+v", obj)
			}
			if obj.ETag != `"e"` || obj.CacheControl != "max-age=60" || !obj.LastModified.Equal(modified) || obj.Date.IsZero() {
				t.Errorf("the answer says %+v", obj)
			}
			want := "not_modified"
			if tc.changed {
				want = "ok"
				if got, err := readAll(t, obj); err != nil || len(got) != 100 {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			}
			k.rec.wantCounts(t, map[string]int{want: 1})
			q := k.s3.Requests()[0]
			for _, name := range []string{"If-None-Match", "If-Modified-Since", "Range", "If-Match"} {
				if got := q.Header.Get(name); got != tc.sent[name] {
					t.Errorf("sent %s %q, want %q", name, got, tc.sent[name])
				}
			}
		})
	}
}

// A 304 says of each header whether it is there: what is missing leaves what is
// stored as it was (RFC 9111, section 3.2).
func TestNotModifiedHeaders(t *testing.T) {
	t.Parallel()
	set := func(pairs ...string) func(http.Header) {
		return func(h http.Header) {
			for i := 0; i < len(pairs); i += 2 {
				h[pairs[i]] = []string{pairs[i+1]}
			}
		}
	}
	for _, tc := range []struct {
		name   string
		header func(http.Header)
		want   Object
		fails  bool
	}{
		{"all", set("Cache-Control", "no-cache", "Expires", "0"), Object{ETag: `"e"`, CacheControl: "no-cache", Expires: "0"}, false},
		{"two lines of Vary", func(h http.Header) { h["Vary"] = []string{"Origin", "*"} }, Object{ETag: `"e"`, Vary: "Origin, *"}, false},
		{"an empty Expires", set("Expires", ""), Object{ETag: `"e"`, Expires: "0"}, false},
		{"none", func(h http.Header) { clear(h) }, Object{}, false},
		{"a weak one of the same", set("Etag", `W/"e"`), Object{ETag: `W/"e"`}, false},
		{"a tag without its quotes", set("Etag", `e`), Object{ETag: `e`}, false},
		{"another version's tag", set("Etag", `"f"`), Object{}, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100), ETag: `"e"`})
			r.IfNoneMatch = `"e"`
			k.next(r, &s3.Fault{Status: http.StatusNotModified, Header: tc.header})
			obj, err := k.Get(t.Context(), r)
			if tc.fails {
				if e := wantOutcome(t, err, OutcomeError); !errors.Is(e, ErrOtherVersion) {
					t.Errorf("got %v", e)
				}
				k.rec.wantCounts(t, map[string]int{"error": 1})
				return
			}
			if err != nil || !obj.NotModified || obj.Body != nil || obj.Size != -1 {
				t.Fatalf("got %+v, %v", obj, err)
			}
			if obj.ETag != tc.want.ETag || obj.CacheControl != tc.want.CacheControl || obj.Expires != tc.want.Expires {
				t.Errorf("got %+v, want %+v", obj, tc.want)
			}
			k.rec.wantCounts(t, map[string]int{"not_modified": 1})
		})
	}
}

// Nobody asked whether it has changed.
func TestNotModifiedUnasked(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(100), ETag: `"e"`})
	k.next(r, &s3.Fault{Status: http.StatusNotModified})
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeNotModified)
}

// The rest of a body is asked for by its ETag alone: with the conditions of the
// first request, S3 would answer 304 for ever.
func TestResumeWithoutCondition(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(bodySize)
	r := k.put("shop", "a.png", s3.Object{Body: want, ETag: `"new"`})
	r.IfNoneMatch = `"old"`
	k.next(r, s3.ResetAfter(bodySize/2))
	if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	rest := k.s3.Requests()[1].Header
	if rest.Get("If-None-Match") != "" || rest.Get("If-Match") != `"new"` {
		t.Errorf("the rest was asked for with %v", rest)
	}
}

func TestExpiresAndDate(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	line := at.Format(http.TimeFormat)
	for _, tc := range []struct {
		name          string
		expires, date []string
		wantExpires   string
		wantDate      time.Time
	}{
		{"neither", nil, nil, "", time.Time{}},
		{"both", []string{line}, []string{line}, line, at},
		{"an Expires of 0", []string{"0"}, []string{line}, "0", at},
		{"an empty Expires", []string{""}, []string{line}, "0", at},
		{"two Expires", []string{line, line}, []string{line}, line + ", " + line, at},
		{"nonsense", []string{"tomorrow"}, []string{"yesterday"}, "tomorrow", time.Time{}},
		{"obsolete forms", []string{line}, []string{at.Format(time.ANSIC)}, line, at},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			lines := s3.Fault{Header: func(h http.Header) { h["Expires"], h["Date"] = tc.expires, tc.date }}
			refused := s3.Fault{Status: http.StatusForbidden, Body: []byte{}}
			k.next(r, &lines, &lines, &refused, &lines)
			check := func(way string, obj *Object, err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
				if obj.Expires != tc.wantExpires || !obj.Date.Equal(tc.wantDate) {
					t.Errorf("%s: got %q and %s", way, obj.Expires, obj.Date)
				}
			}
			obj, err := k.Get(t.Context(), r)
			check("GET", obj, err)
			obj.Body.Close()
			obj, err = k.Head(t.Context(), r)
			check("HEAD", obj, err)
			obj, err = k.Head(t.Context(), r)
			check("GET after a HEAD that was refused", obj, err)
		})
	}
}

func TestInitialAge(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const s = time.Second
	for _, tc := range []struct {
		name      string
		age, via  string
		date      time.Time
		delay     time.Duration
		initially time.Duration
	}{
		{"S3 itself", "", "", now, 0, 0},
		{"the delay counts", "", "", now, 2 * s, 2 * s},
		{"an age", "60", "", now, 0, 60 * s},
		{"an age and a delay", "60", "", now, 2 * s, 62 * s},
		{"an apparent age behind a cache", "60", "", now.Add(-90 * s), 2 * s, 90 * s},
		{"behind a cache without Age", "", "1.1 cache", now.Add(-90 * s), 0, 90 * s},
		{"behind one that says 0", "0", "", now.Add(-90 * s), 0, 90 * s},
		{"the greater one counts", "60", "1.1 cache", now.Add(-50 * s), 0, 60 * s},

		{"our clock is ahead of S3's", "", "", now.Add(-time.Hour), 0, 0},
		{"our clock is behind S3's", "", "", now.Add(time.Hour), s, s},
		{"behind a cache, the clock behind", "5", "1.1 cache", now.Add(time.Hour), 0, 5 * s},
		{"no Date", "5", "1.1 cache", time.Time{}, s, 6 * s},
		{"Age is no number", "old", "", now, s, s},
		{"Age is too large", "99999999999", "", now, 0, (1<<31 - 1) * s},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{}
			if tc.age != "" {
				h.Set("Age", tc.age)
			}
			if tc.via != "" {
				h.Set("Via", tc.via)
			}
			if got := initialAge(h, tc.date, now, tc.delay); got != tc.initially {
				t.Errorf("got %s, want %s", got, tc.initially)
			}
		})
	}
}

// What an answer took counts for its age, and what the attempts before it took
// does not.
func TestBorn(t *testing.T) {
	t.Parallel()
	const slow = 300 * time.Millisecond
	for name, tc := range map[string]struct {
		faults []*s3.Fault
		age    time.Duration
	}{
		"slow":                {[]*s3.Fault{s3.DelayHeaders(slow)}, slow},
		"slow, then at once":  {[]*s3.Fault{{Delay: time.Second, Code: "InternalError"}, nil}, 0},
		"behind a cache":      {[]*s3.Fault{s3.RawHeader("Age: 60")}, time.Minute},
		"behind one and slow": {[]*s3.Fault{{Delay: slow, Raw: []string{"Age: 60"}}}, time.Minute + slow},
		"304 of a cache":      {[]*s3.Fault{{Status: http.StatusNotModified, Header: func(h http.Header) { h.Set("Age", "60") }}}, time.Minute},
		"a Date of last year": {[]*s3.Fault{{Header: func(h http.Header) {
			h.Set("Date", time.Now().AddDate(-1, 0, 0).UTC().Format(http.TimeFormat))
		}}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newBubbleEnv(t, nil)
				r := k.put("shop", "a.png", s3.Object{Body: noise(100), ETag: `"e"`})
				r.IfNoneMatch = `"e"`
				if len(tc.faults) == 0 || tc.faults[0] == nil || tc.faults[0].Status != http.StatusNotModified {
					r.IfNoneMatch = ""
				}
				k.next(r, tc.faults...)
				obj, err := k.Get(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if obj.Body != nil {
					obj.Body.Close()
				}
				if age := obj.Received.Sub(obj.Born); age != tc.age {
					t.Errorf("%s old when it came, want %s", age, tc.age)
				}
			})
		})
	}
}

// The real server's 304, through a scoped key. It compares ETags only: its files
// are newer by fractions of a second than any date says.
func TestGatewayNotModified(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	k := newEnv(t, nil)
	ctx := t.Context()
	if err := g.CreateBucket(ctx, "media"); err != nil {
		t.Fatal(err)
	}
	put := func(body []byte) {
		t.Helper()
		obj := s3.Object{Body: body, ContentType: "image/png", CacheControl: "max-age=60"}
		if err := g.PutObject(ctx, "media", "web/a.png", obj); err != nil {
			t.Fatal(err)
		}
	}
	put(noise(1000))
	kp, err := g.ReadOnlyUser(ctx, "reader", "media", "web/")
	if err != nil {
		t.Fatal(err)
	}
	k.secrets.put(1, 1, kp)
	r := Request{Key: "web/a.png", Route: alias.Route{
		Alias:      &alias.Alias{ID: 1, Name: "web", Location: alias.Location{Bucket: "media", Region: g.Region, Endpoint: g.S3URL, PathStyle: true}},
		Credential: &alias.Credential{ID: 1, Version: 1, Provider: alias.Static{AccessKeyID: kp.AccessKeyID}},
	}}
	first, err := k.Get(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t, first); err != nil {
		t.Fatal(err)
	}
	known := r
	known.IfNoneMatch = first.ETag
	obj, err := k.Get(ctx, known)
	if err != nil {
		t.Fatal(err)
	}
	if !obj.NotModified || obj.Body != nil || obj.Date.IsZero() || obj.ETag != "" && obj.ETag != first.ETag {
		t.Errorf("got %+v", obj)
	}
	k.rec.wantCounts(t, map[string]int{"ok": 1, "not_modified": 1})
	put(noise(1001))
	if got, err := k.read(t, known); err != nil || len(got) != 1001 {
		t.Errorf("after a change: %d bytes, %v", len(got), err)
	}
}
