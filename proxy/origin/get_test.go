package origin

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

func TestGet(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, size := range []int{0, 1, 4096, 16 << 10, 1 << 20} {
		want := noise(size)
		r := k.put("shop", "p/a.png", s3.Object{
			Body: want, ContentType: "image/png", CacheControl: "max-age=60", ETag: `"e"`, LastModified: modified,
		})
		obj, err := k.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if obj.Size != int64(size) || obj.ETag != `"e"` || obj.ContentType != "image/png" ||
			obj.CacheControl != "max-age=60" || !obj.LastModified.Equal(modified) {
			t.Errorf("got %+v", obj)
		}
		if got, err := readAll(t, obj); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes: got %d and %v", size, len(got), err)
		}
	}
	if k.rec.bytes != 1+4096+16<<10+1<<20 {
		t.Errorf("recorded %d bytes", k.rec.bytes)
	}
	k.rec.wantCounts(t, map[string]int{"ok": 5})
}

func TestGetRange(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(1000)
	r := k.put("shop", "a.png", s3.Object{Body: want})
	for _, tc := range []struct{ asked, got Range }{
		{Range{0, 0}, Range{0, 0}},
		{Range{0, 999}, Range{0, 999}},
		{Range{999, 999}, Range{999, 999}},
		{Range{500, 5000}, Range{500, 999}},
	} {
		r.Range = &tc.asked
		obj, err := k.Get(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if obj.Size != 1000 {
			t.Errorf("%s: size of the object is %d", tc.asked, obj.Size)
		}
		if got, err := readAll(t, obj); err != nil || !bytes.Equal(got, want[tc.got.First:tc.got.Last+1]) {
			t.Errorf("%s: %d bytes, %v", tc.asked, len(got), err)
		}
	}
	r.Range = &Range{1000, 1001}
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeRange)
}

// A reply that is not the range that was asked for, whatever else it is.
func TestGetRangeWrong(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]*s3.Fault{
		"whole object":     {Status: 200},
		"no Content-Range": {Header: func(h http.Header) { h.Del("Content-Range") }},
		"starts elsewhere": {Header: func(h http.Header) { h.Set("Content-Range", "bytes 11-21/1000") }},
		"ends early":       {Header: func(h http.Header) { h.Set("Content-Range", "bytes 10-19/1000") }},
		"ends late":        {Header: func(h http.Header) { h.Set("Content-Range", "bytes 10-21/1000") }},
		"beyond the end":   {Header: func(h http.Header) { h.Set("Content-Range", "bytes 10-20/20") }},
		"other length":     {Header: func(h http.Header) { h.Set("Content-Length", "12") }},
		"nonsense":         {Header: func(h http.Header) { h.Set("Content-Range", "bytes ten-twenty/1000") }},
	} {
		k := newEnv(t, nil)
		r := k.put("shop", "a.png", s3.Object{Body: noise(1000)})
		r.Range = &Range{10, 20}
		k.next(r, fault)
		_, err := k.Get(t.Context(), r)
		if e := wantOutcome(t, err, OutcomeError); e.Error() == "" {
			t.Error(name)
		}
	}
}

func TestGetIfMatch(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10), ETag: `"e"`})
	r.IfMatch = `"e"`
	if _, err := k.read(t, r); err != nil {
		t.Error(err)
	}
	r.IfMatch = `"other"`
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomePrecondition)
	_, err = k.Head(t.Context(), r)
	wantOutcome(t, err, OutcomePrecondition)
}

// Faults of every kind at random, many callers at once: a body either arrives
// whole or is an error, and env finds nothing left.
func TestGetUnderFaults(t *testing.T) {
	t.Parallel()
	k := newEnv(t, func(c *Config) { c.Concurrency, c.AliasConcurrency, c.IdleTimeout = 8, 4, 200*time.Millisecond })
	content := map[string][]byte{}
	var requests []Request
	for i := range 8 {
		key := fmt.Sprintf("%d.png", i)
		content[key] = noise((i + 1) * 20_000)
		requests = append(requests, k.put([]string{"shop", "press", "a"}[i%3], key, s3.Object{Body: content[key]}))
	}
	k.s3.Hook(func(q *s3.Request) *s3.Fault {
		// Within the body: what comes behind it is no fault of this answer,
		// and a server that is silent there keeps its connection.
		at := int64(q.N*7919) % int64(len(content[q.Key]))
		if q.N%20 == 5 && q.Header.Get("Range") != "" {
			return nil
		}
		return map[int]*s3.Fault{
			0: s3.ResetAfter(at), 1: s3.CloseAfter(at), 2: s3.ChunkedCut(at), 3: s3.WrongChecksum(),
			4: s3.Fail("SlowDown"), 5: s3.StallAfter(at, nil), 6: s3.DeclareMore(5), 7: s3.DeclareLess(5),
			8: s3.RawHeader("x: \x00"), 9: s3.Fail("AccessDenied"),
		}[q.N%20]
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	whole, failed := 0, 0
	for i := range 200 {
		r := requests[i%len(requests)]
		wg.Go(func() {
			got, err := k.read(t, r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				return
			}
			whole++
			if !bytes.Equal(got, content[r.Key]) {
				t.Errorf("%s: wrong body called complete", r.Key)
			}
		})
	}
	wg.Wait()
	if whole == 0 || failed == 0 {
		t.Errorf("%d whole and %d failed: not both were tested", whole, failed)
	}
}

// An object of S3's maximum of headers and a slow trickle are fine.
func TestGetTrickle(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(300)
	r := k.put("shop", "a.png", s3.Object{Body: want, Metadata: map[string]string{"note": string(bytes.Repeat([]byte{'x'}, 2048))}})
	k.next(r, s3.Trickle(7, time.Millisecond))
	if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

func TestParseContentRange(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]struct {
		r     Range
		total int64
		ok    bool
	}{
		"bytes 0-0/1":                    {Range{0, 0}, 1, true},
		"bytes 5-9/10":                   {Range{5, 9}, 10, true},
		"bytes 5-9/*":                    {Range{5, 9}, -1, true},
		"bytes 5-9/9":                    {},
		"bytes 9-5/10":                   {},
		"bytes */10":                     {},
		"bytes 5-9":                      {},
		"bytes -5-9/10":                  {},
		"bytes +5-9/10":                  {},
		"bytes 5-9/-10":                  {},
		"items 5-9/10":                   {},
		"bytes=5-9/10":                   {},
		"5-9/10":                         {},
		"":                               {},
		"bytes 0-9223372036854775807/*":  {},
		"bytes 0-9/9223372036854775808":  {},
		"bytes 0-99999999999999999999/*": {},
	} {
		r, total, ok := parseContentRange(s)
		if ok != want.ok || ok && (r != want.r || total != want.total) {
			t.Errorf("%q: got %v %d %t", s, r, total, ok)
		}
	}
}

func FuzzContentRange(f *testing.F) {
	for _, s := range []string{"bytes 0-0/1", "bytes 5-9/*", "bytes 18446744073709551615-0/0", "bytes  1-2/3"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, total, ok := parseContentRange(s)
		if !ok {
			return
		}
		if r.First < 0 || r.Last < r.First || r.Last-r.First+1 <= 0 || total != -1 && total <= r.Last {
			t.Errorf("%q: %v of %d", s, r, total)
		}
		want := fmt.Sprintf("bytes %d-%d/", r.First, r.Last)
		if total < 0 {
			want += "*"
		} else {
			want += strconv.FormatInt(total, 10)
		}
		if back, n, ok := parseContentRange(want); !ok || back != r || n != total {
			t.Errorf("%q reads as %q, which reads as %v of %d", s, want, back, n)
		}
	})
}

// The real server: scoped keys, ranges, resumption's conditions, HEAD.
func TestGateway(t *testing.T) {
	t.Parallel()
	g := gateway.New(t)
	k := newEnv(t, nil)
	ctx := t.Context()
	if err := g.CreateBucket(ctx, "media"); err != nil {
		t.Fatal(err)
	}
	want := noise(300_000)
	for _, key := range []string{"web/a b+ü.png", "private/a.png"} {
		if err := g.PutObject(ctx, "media", key, s3.Object{Body: want, ContentType: "image/png"}); err != nil {
			t.Fatal(err)
		}
	}
	kp, err := g.ReadOnlyUser(ctx, "reader", "media", "web/")
	if err != nil {
		t.Fatal(err)
	}
	k.secrets.put(1, 1, kp)
	route := alias.Route{
		Alias:      &alias.Alias{ID: 1, Name: "web", Location: alias.Location{Bucket: "media", Region: g.Region, Endpoint: g.S3URL, PathStyle: true}},
		Credential: &alias.Credential{ID: 1, Version: 1, Provider: alias.Static{AccessKeyID: kp.AccessKeyID}},
	}
	r := Request{Route: route, Key: "web/a b+ü.png"}
	if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	head, err := k.Head(ctx, r)
	if err != nil || head.Size != int64(len(want)) || head.ContentType != "image/png" {
		t.Errorf("HEAD: %+v, %v", head, err)
	}
	ranged := r
	ranged.Range, ranged.IfMatch = &Range{1000, 1999}, head.ETag
	if got, err := k.read(t, ranged); err != nil || !bytes.Equal(got, want[1000:2000]) {
		t.Errorf("range: %d bytes, %v", len(got), err)
	}
	ranged.IfMatch = `"other"`
	_, err = k.Get(ctx, ranged)
	wantOutcome(t, err, OutcomePrecondition)
	for key, outcome := range map[string]Outcome{"web/none.png": OutcomeNotFound, "private/a.png": OutcomeDenied} {
		r := Request{Route: route, Key: key}
		_, err := k.Get(ctx, r)
		wantOutcome(t, err, outcome)
		_, err = k.Head(ctx, r)
		wantOutcome(t, err, outcome)
	}
	if err := g.SetKeyStatus(ctx, "reader", kp.AccessKeyID, gateway.KeyInactive); err != nil {
		t.Fatal(err)
	}
	_, err = k.Get(ctx, r)
	wantOutcome(t, err, OutcomeBadCredential)
	_, err = k.Head(ctx, r)
	wantOutcome(t, err, OutcomeBadCredential)
}

// No name of the shared registry of algorithms in the SDK, no environment and
// no chain of providers is imported here.
func TestNoConfigPackage(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(`"github.com/aws/aws-sdk-go-v2/`+`config"`)) {
			t.Errorf("%s imports the SDK's config, which reads the environment", file)
		}
	}
}
