package e2e

import (
	"net/http"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestUnchangedOtherVersion: a 304 that speaks of another version than the stored one
// tells nobody what the object is now. What is stored is served where that is allowed,
// and the object comes without a condition, however often S3 answers like that.
func TestUnchangedOtherVersion(t *testing.T) {
	t.Parallel()
	for name, header := range map[string]func(http.Header){
		"by its ETag": func(h http.Header) { h.Set("Etag", `"another"`) },
		"by its date": func(h http.Header) {
			h.Del("Etag")
			h.Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		},
	} {
		for policy, staleFirst := range map[string]bool{"no-cache": false, "max-age=0": true} {
			t.Run(name+", "+policy, func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.patch("shop", `{"stale_if_error":"1h"}`)
				old, young := fakePNG(100), fakePNG(200)
				s.put("a.png", s3.Object{Body: old, ETag: `"v1"`, CacheControl: policy})
				wantPicture(t, s.get("/shop/a.png"), old)
				s.put("a.png", s3.Object{Body: young, ETag: `"v2"`, CacheControl: policy})
				s.s3.Hook(func(r *s3.Request) *s3.Fault {
					if r.Header.Get("If-None-Match") == `"v1"` {
						return &s3.Fault{Status: http.StatusNotModified, Header: header}
					}
					return nil
				})
				first := s.get("/shop/a.png")
				if !staleFirst {
					wantPicture(t, first, young)
					return
				}
				wantPicture(t, first, old)
				if got := first.Header.Get("Cache-Status"); !strings.HasPrefix(got, "ixmage; hit; ttl=-") {
					t.Errorf("Cache-Status is %q", got)
				}
				eventually(t, "it is new", func() bool { return len(s.get("/shop/a.png").body) == len(young) })
			})
		}
	}
}
