package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
)

// noon is a photograph of 640 x 400.
func noon(t testing.TB) s3.Object {
	t.Helper()
	samples := picture.Samples()
	i := slices.IndexFunc(samples, func(p picture.Sample) bool { return p.Name == "noon.jpg" })
	return s3.Object{Body: samples[i].Body, ContentType: samples[i].ContentType}
}

// TestTransformCache: a variant is an entry of its own, with all that an object has: one request to
// S3 for all variants of an object, ranges, preconditions, HEAD, and an entity tag of its own.
func TestTransformCache(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.put("a.jpg", noon(t))
	tags := map[string]bool{}
	for _, w := range []string{"w=100", "w=200", "w=200&f=webp"} {
		cold := s.variant("a.jpg", w)
		warm := s.variant("a.jpg", w+"&utm_source=mail")
		tags[cold.Header.Get("ETag")] = true
		if got := warm.Header.Get("Cache-Status"); cold.StatusCode != http.StatusOK || !strings.HasPrefix(got, "ixmage; hit; ttl=") || !bytes.Equal(cold.body, warm.body) {
			t.Errorf("%s: %s, %q and then %q", w, cold.Status, cold.Header.Get("Cache-Status"), got)
		}
	}
	tags[s.get("/free/a.jpg").Header.Get("ETag")] = true
	if len(tags) != 4 || s.calls("a.jpg") != 1 {
		t.Errorf("%d entity tags, %d requests to S3", len(tags), s.calls("a.jpg"))
	}
	whole := s.variant("a.jpg", "w=200")
	tag := whole.Header.Get("ETag")
	part := s.variant("a.jpg", "w=200", "Range", "bytes=10-19")
	if part.StatusCode != http.StatusPartialContent || !bytes.Equal(part.body, whole.body[10:20]) || part.Header.Get("ETag") != tag {
		t.Errorf("range: %s %q", part.Status, part.Header)
	}
	for _, cold := range []bool{false, true} {
		query := map[bool]string{false: "w=200", true: "w=210"}[cold]
		var head *response
		eventually(t, "the variant is made", func() bool {
			head = s.head("/free/a.jpg?" + query)
			return head.StatusCode != http.StatusServiceUnavailable
		})
		got := s.variant("a.jpg", query)
		if head.StatusCode != http.StatusOK || head.ContentLength != int64(len(got.body)) || head.Header.Get("ETag") != got.Header.Get("ETag") || head.Header.Get("Vary") != "Accept" {
			t.Errorf("HEAD: %s %v", head.Status, head.Header)
		}
	}
	same := s.variant("a.jpg", "w=200", "If-None-Match", tag)
	if same.StatusCode != http.StatusNotModified || same.Header.Get("Vary") != "Accept" || same.Header.Get("ETag") != tag {
		t.Errorf("If-None-Match: %s %v", same.Status, same.Header)
	}
	if r := s.variant("a.jpg", "w=77", "If-None-Match", `"other"`); r.StatusCode != http.StatusOK || len(r.body) == 0 {
		t.Errorf("a cold precondition: %s", r.Status)
	}
	if r := s.variant("a.jpg", "w=78", "Range", "bytes=0-1"); r.StatusCode != http.StatusPartialContent || string(r.body) != "\xff\xd8" {
		t.Errorf("a cold range: %s %q", r.Status, r.body)
	}
}

// TestTransformPurge: a purge of an object, a prefix or an alias reaches the variants, and those of
// other objects stay.
func TestTransformPurge(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	for _, purge := range []string{`"key":"a/1.png"`, `"key":"a/1.png","hard":true`, `"prefix":"a/","hard":true`, `"hard":true`} {
		s.put("a/1.png", s3.Object{Body: picture.Blank(300, 200), ContentType: "image/png"})
		s.put("b.png", s3.Object{Body: picture.Blank(300, 200), ContentType: "image/png"})
		s.purge(`{"alias":"free","hard":true}`)
		first := s.variant("a/1.png", "w=100&f=png")
		s.variant("b.png", "w=100&f=png")
		s.put("a/1.png", s3.Object{Body: picture.Blank(200, 300), ContentType: "image/png"})
		if got := s.variant("a/1.png", "w=100&f=png"); !bytes.Equal(got.body, first.body) {
			t.Fatal("the variant is not cached")
		}
		s.purge(`{"alias":"free",` + purge + `}`)
		if !strings.Contains(purge, "hard") {
			eventually(t, "the variant is made again", func() bool {
				return s.variant("a/1.png", "w=100&f=png").Header.Get("ETag") != first.Header.Get("ETag")
			})
		}
		if got := shape(s.variant("a/1.png", "w=100&f=png").body); got != "png 100x150" {
			t.Errorf("after %s: %s", purge, got)
		}
		before := s.calls("b.png")
		s.variant("b.png", "w=100&f=png")
		if asked := s.calls("b.png") != before; asked != (purge == `"hard":true`) {
			t.Errorf("after %s: another object was fetched: %t", purge, asked)
		}
	}
}

// TestTransformDisk: variants are on disk too, and a purge reaches them there, before and after a
// restart. Another server makes the same variant with the same entity tag.
func TestTransformDisk(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	args := append(transforming(t), "--cache-disk", "64MiB")
	s := &studio{newEnvOn(t, startIn(t, data, args...))}
	s.open("free", "media", "web/", map[string]any{"transforms": "open"})
	s.put("a.png", s3.Object{Body: picture.Blank(300, 200), ContentType: "image/png"})
	first := s.variant("a.png", "w=100&f=png")
	s.variant("a.png", "w=100&f=png")
	eventually(t, "the variant is on disk", func() bool { return s.metric(`ixmage_cache_entries{tier="disk"}`) >= 1 })
	again := func() *response {
		s.stop()
		s.server = startIn(t, data, args...)
		return s.variant("a.png", "w=100&f=png")
	}
	if got := again(); !strings.Contains(got.Header.Get("Cache-Status"), "detail=disk") || !bytes.Equal(got.body, first.body) || got.Header.Get("ETag") != first.Header.Get("ETag") {
		t.Errorf("after a restart: %v", got.Header)
	}
	s.put("a.png", s3.Object{Body: picture.Blank(200, 300), ContentType: "image/png"})
	s.stop()
	s.server = startIn(t, data, args...)
	s.purge(`{"alias":"free","key":"a.png","hard":true}`) // the variant has not been opened by this process
	if got := shape(again().body); got != "png 100x150" {
		t.Errorf("after a purge: %s", got)
	}
	other := newStudio(t)
	other.put("a.png", s3.Object{Body: picture.Blank(200, 300), ContentType: "image/png"})
	if a, b := s.variant("a.png", "w=100&f=png"), other.variant("a.png", "w=100&f=png"); a.Header.Get("ETag") != b.Header.Get("ETag") {
		t.Errorf("two servers: %s and %s", a.Header.Get("ETag"), b.Header.Get("ETag"))
	}
}

// TestTransformAccept: a client gets what it can read, and caches on the way learn of it.
func TestTransformAccept(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.put("a.jpg", noon(t))
	for _, row := range []struct{ accept, query, want string }{
		{"", "w=100", "image/jpeg"},
		{"*/*", "w=100", "image/jpeg"},
		{"image/*", "w=100", "image/jpeg"},
		{"image/webp,*/*;q=0.8", "w=100", "image/webp"},
		{"image/avif,image/webp,*/*", "w=100", "image/avif"},
		{"image/avif;q=0, image/webp", "w=100", "image/webp"},
		{"image/avif,image/webp", "w=100&f=jpeg", "image/jpeg"},
	} {
		r := s.variant("a.jpg", row.query, "Accept", row.accept)
		if got := r.Header.Get("Content-Type"); got != row.want || (r.Header.Get("Vary") == "Accept") != (row.query == "w=100") {
			t.Errorf("%q %s: %s, Vary %q", row.accept, row.query, got, r.Header.Get("Vary"))
		}
	}
	// The original depends on nothing.
	if r := s.get("/free/a.jpg", "Accept", "image/webp"); r.Header.Get("Vary") != "" {
		t.Errorf("the original varies by %q", r.Header.Get("Vary"))
	}
	s.patch("free", `{"cors_origins":["https://a.example"]}`)
	if r := s.variant("a.jpg", "w=100", "Origin", "https://a.example"); r.Header.Get("Vary") != "Accept, Origin" {
		t.Errorf("with CORS: Vary %q", r.Header.Get("Vary"))
	}
}

// TestTransformOff: without a worker, and where an alias has no transforms, a query changes nothing.
func TestTransformOff(t *testing.T) {
	t.Parallel()
	body := png(500, "")
	for name, args := range map[string][]string{"none": nil, "missing": {"--transform-worker", "/nonexistent/worker"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, args...)
			s.open("free", "media", "web/", map[string]any{"transforms": "open"})
			s.put("a.png", s3.Object{Body: body})
			for _, query := range []string{"?w=100", "?w=bad", "?info=1", "?sig=x&w=1&w=2"} {
				r := s.get("/free/a.png" + query)
				wantPicture(t, r, body)
				if r.Header.Get("Vary") != "" {
					t.Errorf("%s: Vary %q", query, r.Header.Get("Vary"))
				}
			}
			if s.calls("a.png") != 1 {
				t.Errorf("%d requests to S3", s.calls("a.png"))
			}
			if !strings.Contains(s.wholeLog(), `msg="transforms off"`) {
				t.Error("the log does not say that transforms are off")
			}
		})
	}
	s := newStudio(t)
	s.patch("free", `{"transforms":"off"}`)
	s.put("a.png", s3.Object{Body: body})
	wantPicture(t, s.get("/free/a.png?w=bad&sig=x"), body)
}

// TestTransformTerms: what an alias allows without a signature, in the built program; docs/transforms.md
// has the rules.
func TestTransformTerms(t *testing.T) {
	t.Parallel()
	s := newStudio(t)
	s.open("new", "media", "web/", nil)
	s.patch("new", `{"templates":{"thumb":"w=50&h=40&fit=cover","tall":{"h":77}}}`)
	s.put("a.png", s3.Object{Body: picture.Blank(600, 400), ContentType: "image/png"})
	for query, want := range map[string]string{
		"w=101":          "200 jpeg 120x80",
		"w=120":          "200 jpeg 120x80",
		"t=thumb":        "200 jpeg 50x40",
		"t=thumb&w=3000": "200 jpeg 50x40",
		"t=tall":         "200 jpeg 116x77",
		"w=3841":         "400",
		"t=no-such":      "400",
		"t=":             "400",
		"w=0":            "400",
		"w=1&w=1":        "400",
		"h=10":           "403",
		"w=120&f=webp":   "403",
		"t=thumb&q=90":   "403",
		"info=1":         "403",
		"lqip=1":         "403",
		"dpr=2&w=20":     "403",
	} {
		r := s.patiently("/new/a.png?" + query)
		got := fmt.Sprint(r.StatusCode)
		if r.StatusCode == http.StatusOK {
			got += " " + shape(r.body)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	var bodies []string
	for _, query := range []string{"h=10", "h=10&sig=AAAA&kid=none", "w=120&sig=%00"} {
		r := s.get("/new/a.png?" + query)
		bodies = append(bodies, strings.ReplaceAll(string(r.body), r.Header.Get("X-Request-Id"), ""))
	}
	if len(slices.Compact(bodies)) != 1 {
		t.Errorf("refusals differ: %q", bodies)
	}
}
