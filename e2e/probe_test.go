package e2e

import (
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// probedFault is something that only a GET shows, or may show.
type probedFault struct {
	fault  func(*s3.Request) *s3.Fault
	object s3.Object // a PNG of 1,000 bytes where it has no body
	remedy string    // a part of it
}

// onGet applies a fault to GETs alone.
func onGet(f *s3.Fault) func(*s3.Request) *s3.Fault {
	return func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodGet {
			return f
		}
		return nil
	}
}

// onRange applies a fault to requests for a range alone, onWhole to all other GETs.
func onRange(f *s3.Fault) func(*s3.Request) *s3.Fault {
	return func(r *s3.Request) *s3.Fault {
		if r.Header.Get("Range") != "" {
			return f
		}
		return nil
	}
}

func onWhole(f *s3.Fault) func(*s3.Request) *s3.Fault {
	return func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodGet && r.Header.Get("Range") == "" {
			return f
		}
		return nil
	}
}

func probedFaults() map[string]probedFault {
	const long = 100_000
	html := []byte("<!DOCTYPE html><html><body>Sign in</body></html>")
	onHead := func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodHead {
			return &s3.Fault{Status: http.StatusForbidden, Body: []byte{}}
		}
		return nil
	}
	rows := map[string]probedFault{
		"small":              {remedy: "whole object, 1000 bytes"},
		"small without sum":  {fault: onGet(s3.CompositeChecksum()), remedy: "no checksum"},
		"large":              {object: s3.Object{Body: png(long, "")}, remedy: "first 3072 of 100000 bytes"},
		"as long as decides": {object: s3.Object{Body: png(3072, "")}, remedy: "whole object, 3072 bytes"},
		"one byte longer":    {object: s3.Object{Body: png(3073, "")}, remedy: "first 3072 of 3073 bytes"},
		"empty":              {object: s3.Object{Body: []byte{}}, remedy: "empty"},
		"empty, no type":     {object: s3.Object{Body: []byte{}, ContentType: "binary/octet-stream"}, remedy: "not a picture"},
		"no type":            {object: s3.Object{Body: png(long, ""), ContentType: "binary/octet-stream"}, remedy: "image/png"},
		"archived":           {fault: onGet(s3.Fail("InvalidObjectState")), remedy: "archived"},
		"GET denied":         {fault: onGet(s3.Fail("AccessDenied")), remedy: "AccessDenied"},
		"HEAD denied":        {fault: onHead, remedy: "whole object"},
		"a page":             {object: s3.Object{Body: html}, remedy: "with a page"},
		"a page, no type":    {object: s3.Object{Body: html, ContentType: "application/octet-stream"}, remedy: "not a picture"},
		"text":               {object: s3.Object{Body: []byte("hello"), ContentType: "text/html"}, remedy: "not a picture"},
		"an error document":  {fault: onGet(s3.XML200())},
		"encoded":            {object: s3.Object{Body: []byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), ContentEncoding: "gzip"}, remedy: "Content-Encoding"},
		"wrong sum, small":   {fault: onGet(s3.WrongChecksum()), remedy: "checksum"},
		"wrong sum, large":   {fault: onGet(s3.WrongChecksum()), object: s3.Object{Body: png(long, "")}, remedy: "checksum of the whole was not checked"},
		"short":              {fault: onGet(s3.DeclareMore(10)), remedy: "more bytes than it has"},
		"nothing arrives":    {fault: onWhole(s3.ResetAfter(0)), remedy: "whole object"}, // the rest is requested as a range
		"large, cut at once": {fault: onGet(s3.ResetAfter(0)), object: s3.Object{Body: png(long, "")}, remedy: "fewer bytes"},
		"ranges are ignored": {fault: onRange(&s3.Fault{Status: http.StatusOK}), object: s3.Object{Body: png(long, "")}, remedy: "first 3073 of 100000"},
		"no ranges":          {fault: onRange(s3.FailStatus(http.StatusNotImplemented, "NotImplemented")), remedy: "whole object"},
		"no GET":             {fault: onGet(s3.FailStatus(http.StatusNotImplemented, "NotImplemented")), remedy: "NotImplemented"},
		"no HTTP":            {fault: onGet(s3.NoHTTP()), remedy: "made no sense"},
		"reset":              {fault: onGet(s3.ResetAfter(s3.BeforeHeaders)), remedy: "cannot be reached"},
		"not shared":         {object: s3.Object{CacheControl: "private"}, remedy: "whole object"},
	}
	for _, code := range []string{"KMS.DisabledException", "KMS.NotFoundException", "KMS.KMSInvalidStateException"} {
		rows[code] = probedFault{fault: onGet(s3.FailStatus(http.StatusBadRequest, code)), remedy: code}
	}
	for code := range maps.Keys(s3.Codes()) {
		if code != "InvalidRange" && code != "PreconditionFailed" { // answers to conditions, which explain does not apply
			rows["code "+code] = probedFault{fault: onGet(s3.Fail(code))}
		}
	}
	return rows
}

// TestProbeAsGet: the probe of explain asks what a GET asks. The status and code that
// it gives are those that a GET then gets, and it claims nothing that it did not see.
func TestProbeAsGet(t *testing.T) {
	t.Parallel()
	s := newEnv(t, "--breaker-failures", "0")
	rows, byPrefix := probedFaults(), map[string]probedFault{}
	for name, row := range rows {
		if row.object.Body == nil {
			row.object.Body = png(1000, "")
		}
		if row.object.ContentType == "" {
			row.object.ContentType = "image/png"
		}
		name = keyOf(name)
		byPrefix[name] = row
		s.put(name, row.object)
	}
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if row := byPrefix[strings.TrimPrefix(r.Key, "web/")]; row.fault != nil {
			return row.fault(r)
		}
		return nil
	})
	for name, row := range rows {
		t.Run(name, func(t *testing.T) { s.wantProbed(t, "/shop/"+url.PathEscape(keyOf(name)), row) })
	}
}

// keyOf makes a key from the name of a row.
func keyOf(name string) string {
	return strings.ReplaceAll(strings.ReplaceAll(name, " ", "-"), ",", "")
}

func (s *env) wantProbed(t *testing.T, path string, row probedFault) {
	t.Helper()
	e := s.explain(path, "&probe=true")
	if strings.Contains(e.Remedy, "Nothing is") {
		t.Errorf("it claims what it cannot know: %q", e.Remedy)
	}
	if !strings.Contains(e.Remedy, row.remedy) {
		t.Errorf("remedy %q, want %q in it", e.Remedy, row.remedy)
	}
	r := s.ask(path)
	code := ""
	if _, after, ok := strings.Cut(string(r.body), "https://ixmage.dev/problems/"); ok {
		code, _, _ = strings.Cut(after, `"`)
	}
	if e.Status != r.StatusCode || e.Code != code {
		t.Errorf("explained: %d %q, a GET gets %d %q: %s", e.Status, e.Code, r.StatusCode, code, e.Remedy)
	}
	if broken := strings.Contains(e.Remedy, "breaks off"); broken != (r.err != nil) && row.object.Body == nil {
		t.Errorf("explained as broken: %t; a GET ends with %v: %s", broken, r.err, e.Remedy)
	}
}

// TestProbeReadsLittle: a probe of a large object costs its first bytes and no more.
func TestProbeReadsLittle(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("large.png", s3.Object{Body: png(8<<20, "")})
	if e := s.explain("/shop/large.png", "&probe=true"); e.Status != http.StatusOK {
		t.Fatalf("explained: %d %s", e.Status, e.Remedy)
	}
	var sent int64
	for _, r := range s.s3.Requests() {
		sent += r.Sent
	}
	if sent > 4<<10 {
		t.Errorf("S3 sent %d bytes", sent)
	}
}

// TestKeyFailure: what S3 last said of one key is not forgotten when other keys succeed. It
// is gone when the key succeeds.
func TestKeyFailure(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.put("good.png", s3.Object{Body: png(1000, "")})
	var fault atomic.Pointer[s3.Fault]
	s.s3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Key == "web/good.png" {
			return nil
		}
		return fault.Load()
	})
	for name, tc := range map[string]struct {
		fault  *s3.Fault
		remedy string
	}{
		"archived": {s3.Fail("InvalidObjectState"), "archived"},
		"denied":   {s3.Fail("AccessDenied"), "AccessDenied"},
		"corrupt":  {s3.WrongChecksum(), "checksum"},
		"short":    {s3.ResetAfter(100), "fewer bytes"},
		"a page":   {&s3.Fault{Body: []byte("<html>")}, "with a page"},
		"broken":   {s3.Fail("InternalError"), "S3 itself fails"},
	} {
		key := keyOf(name) + ".png"
		path := "/shop/" + key
		s.patch("shop", `{"negative_ttl":"0s"}`)
		s.put(key, s3.Object{Body: png(50_000, "")})
		fault.Store(tc.fault)
		if r := s.ask(path); r.StatusCode == http.StatusOK && r.err == nil {
			t.Fatalf("%s: the fault was not seen", name)
		}
		wantPicture(t, s.get("/shop/good.png"), png(1000, ""))
		s.purge(`{"alias":"shop","key":"good.png","hard":true}`)
		wantPicture(t, s.get("/shop/good.png"), png(1000, ""))
		e := s.explain(path, "")
		if f := e.KeyFailure; f == nil || f.Key != "web/"+key || !strings.Contains(e.Remedy, tc.remedy) {
			t.Errorf("%s: failure %+v, remedy %q", name, f, e.Remedy)
		}
		if e.LastAnswer == nil || e.LastAnswer.Key != "web/good.png" {
			t.Errorf("%s: last answer %+v, want that of good.png", name, e.LastAnswer)
		}
		if e := s.explain("/shop/good.png", ""); e.KeyFailure != nil || strings.Contains(e.Remedy, tc.remedy) {
			t.Errorf("%s: told of another key: %+v, %q", name, e.KeyFailure, e.Remedy)
		}
		fault.Store(nil)
		wantPicture(t, s.get(path), png(50_000, ""))
		if e := s.explain(path, ""); e.KeyFailure != nil {
			t.Errorf("%s: kept after a success: %+v", name, e.KeyFailure)
		}
	}
}

// TestProbeLongProlog: the probe reads on where a GET reads on, to find the root of an XML
// document behind a long comment.
func TestProbeLongProlog(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	svg := "<!--" + strings.Repeat(" a licence", 1000) + "--><svg xmlns=\"http://www.w3.org/2000/svg\">" + strings.Repeat("<g/>", 20_000) + "</svg>"
	html := strings.Replace(svg, "<svg", "<html", 1)
	for key, body := range map[string]string{"a.svg": svg, "a.html": html} {
		s.put(key, s3.Object{Body: []byte(body), ContentType: "binary/octet-stream"})
		s.wantProbed(t, "/shop/"+key, probedFault{object: s3.Object{Body: []byte(body)}})
	}
}
