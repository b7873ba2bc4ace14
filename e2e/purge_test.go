package e2e

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// purged is the answer to a purge.
type purged struct {
	Entries, Flights, Negative int
	Bytes                      int64
	Hint                       string
}

// purge purges the cache.
func (s *env) purge(body string) (p purged) {
	s.t.Helper()
	r := s.api(http.MethodPost, "/api/v1/purge", body)
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("purge: %s: %s", r.Status, r.body)
	}
	if err := json.Unmarshal(r.body, &p); err != nil {
		s.t.Fatal(err)
	}
	return p
}

// replaceKey gives a credential another key pair.
func (s *env) replaceKey(name string) {
	s.t.Helper()
	r := s.api(http.MethodPut, "/api/v1/credentials/"+name, `{"access_key_id":"AKIAIOSFODNN7OTHER00","secret_access_key":"another-secret-key"}`)
	if r.StatusCode != http.StatusOK {
		s.t.Fatalf("replace: %s: %s", r.Status, r.body)
	}
}

// otherCredential changes the credential of an alias.
func (s *env) otherCredential(name string) {
	s.t.Helper()
	r := s.api(http.MethodPost, "/api/v1/credentials", `{"name":"other","access_key_id":"AKIAIOSFODNN7OTHER00","secret_access_key":"another-secret-key"}`)
	if r.StatusCode != http.StatusCreated {
		s.t.Fatalf("register: %s: %s", r.Status, r.body)
	}
	s.patch(name, `{"credential":"other"}`)
}

// TestPurge: purged objects are requested from S3 again, and no others. After a soft
// purge the old object may be served once more meanwhile.
func TestPurge(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		body    string
		entries int
		gone    []string // of what is cached
	}{
		"key":         {`"key":"a/1.png"`, 1, []string{"a/1.png"}},
		"no such key": {`"key":"a/3.png"`, 0, nil},
		"prefix":      {`"prefix":"a/"`, 2, []string{"a/1.png", "a/2.png"}},
		"part":        {`"prefix":"a"`, 3, []string{"a/1.png", "a/2.png", "ab.png"}},
		"alias":       {``, 4, []string{"a/1.png", "a/2.png", "ab.png", "b.png"}},
	} {
		for _, hard := range []bool{false, true} {
			t.Run(name+map[bool]string{false: "/soft", true: "/hard"}[hard], func(t *testing.T) {
				t.Parallel()
				s := newEnv(t)
				s.open("other", "media", "web/", nil)
				keys := []string{"a/1.png", "a/2.png", "ab.png", "b.png"}
				old, young := png(100, ""), png(200, "")
				for _, key := range keys {
					s.put(key, s3.Object{Body: old})
					wantPicture(t, s.get("/shop/"+key), old)
					wantPicture(t, s.get("/other/"+key), old)
					s.put(key, s3.Object{Body: young})
				}
				body := strings.TrimSuffix(`{"alias":"shop",`+tc.body, ",")
				if hard {
					body += `,"hard":true`
				}
				did := s.purge(body + "}")
				if did.Entries != tc.entries || (did.Bytes > 0) != (tc.entries > 0) {
					t.Errorf("dropped %+v, want %d entries", did, tc.entries)
				}
				for _, key := range keys {
					wantPicture(t, s.get("/other/"+key), old)
					r := s.get("/shop/" + key)
					fresh := strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; ttl=3")
					switch gone := slices.Contains(tc.gone, key); {
					case !gone:
						wantPicture(t, r, old)
						if !fresh {
							t.Errorf("%s is no hit any more", key)
						}
					case hard:
						wantPicture(t, r, young)
					default:
						if !strings.HasPrefix(r.Header.Get("Cache-Status"), "ixmage; hit; ttl=-") {
							t.Errorf("%s: Cache-Status is %q", key, r.Header.Get("Cache-Status"))
						}
						wantPicture(t, r, old)
						eventually(t, key+" is new", func() bool { return len(s.get("/shop/"+key).body) == len(young) })
					}
				}
			})
		}
	}
}

// TestPurgeUnderWay: a fetch that began before a purge completes for its client, and
// stores nothing.
func TestPurgeUnderWay(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"key": `{"alias":"shop","key":"a.png"}`, "prefix": `{"alias":"shop","prefix":"a"}`, "alias": `{"alias":"shop"}`,
		"hard": `{"alias":"shop","key":"a.png","hard":true}`, "all": `{"alias":"shop","hard":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			old, young := png(100_000, ""), png(100_001, "")
			s.put("a.png", s3.Object{Body: old})
			release := make(chan struct{})
			s.s3.Next("media", "web/a.png", s3.StallAfter(50_000, release))
			first := make(chan *response, 1)
			go func() { first <- s.get("/shop/a.png") }()
			eventually(t, "the fetch is under way", func() bool { return s.s3.OpenBodies() == 1 })
			if did := s.purge(body); did.Flights != 1 && name != "all" {
				t.Errorf("purged %+v, want a flight", did)
			}
			s.put("a.png", s3.Object{Body: young})
			wantPicture(t, s.get("/shop/a.png"), young)
			close(release)
			wantPicture(t, <-first, old)
			wantPicture(t, s.get("/shop/a.png"), young)
		})
	}
}

// TestPurgeRefreshesMetadata: after a soft purge the new metadata of an object replace
// the old ones, although its bytes and ETag are the same.
func TestPurgeRefreshesMetadata(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{"key": `{"alias":"shop","key":"a.png"}`, "alias": `{"alias":"shop"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t)
			picture := png(100, "")
			s.put("a.png", s3.Object{Body: picture, CacheControl: "max-age=31536000"})
			wantPicture(t, s.get("/shop/a.png"), picture)
			s.put("a.png", s3.Object{Body: picture, CacheControl: "max-age=60"})
			s.purge(body)
			eventually(t, "the new header is seen", func() bool {
				return s.get("/shop/a.png").Header.Get("Cache-Control") == "max-age=60"
			})
		})
	}
}

// TestPurgeHints: a purge in the spelling of a URL purges nothing, and its hint names the key
// or prefix that is cached.
func TestPurgeHints(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	body := png(100, "")
	for _, key := range []string{"a b.jpg", "logos/Größe.PNG", "c.png"} {
		s.put(key, s3.Object{Body: body})
		wantPicture(t, s.get("/shop/"+(&url.URL{Path: key}).EscapedPath()), body)
	}
	s.patch("shop", `{"negative_ttl":"1h"}`)
	s.get("/shop/never%20there.png") // a negative entry
	for _, tc := range []struct{ body, want string }{
		{`"key":"a%20b.jpg"`, `"a b.jpg"`},
		{`"key":"a%20b.jpg","hard":true`, `"a b.jpg"`},
		{`"key":"a+b.jpg"`, `"a b.jpg"`},
		{`"key":"c.png?v=2"`, `"c.png"`},
		{`"key":"shop/c.png"`, `"c.png"`},
		{`"key":"web/c.png"`, `"c.png"`},
		{`"key":"logos/gr%C3%B6%C3%9Fe.png"`, `"logos/Größe.PNG"`},
		{`"key":"logos/Gro\u0308ße.PNG"`, `"logos/Größe.PNG"`},
		{`"key":"logos"`, `"logos/"`},
		{`"key":"never%20there.png"`, `"never there.png"`},
		{`"prefix":"/shop/logos/"`, `"logos/"`},
		{`"prefix":"http://` + s.public + `/shop/logos/?x"`, `"logos/"`},
		{`"prefix":"LOGOS/"`, `"logos/`},
		{`"prefix":"nothing"`, ""},
		{`"key":"none.png"`, ""},
		{`"key":"c.png"`, ""},
		{`"prefix":"logos/"`, ""},
	} {
		p := s.purge(`{"alias":"shop",` + tc.body + `}`)
		if tc.want == "" != (p.Hint == "") || !strings.Contains(p.Hint, tc.want) || tc.want != "" && p.Entries+p.Negative != 0 {
			t.Errorf("%s: got %+v, want a hint with %s", tc.body, p, tc.want)
		}
	}
	if n := s.calls("a b.jpg"); n != 1 {
		t.Errorf("S3 was asked %d times", n)
	}
	wantPicture(t, s.get("/shop/a%20b.jpg"), body)
	if n := s.calls("a b.jpg"); n != 1 {
		t.Errorf("a purge of another key has purged it: S3 was asked %d times", n)
	}
	r := s.api(http.MethodPost, "/api/v1/purge", `{"alias":"shop","key":"/shop/a%20b.jpg"}`)
	if r.StatusCode != http.StatusBadRequest || !strings.Contains(string(r.body), `did you mean \"a b.jpg\"?`) {
		t.Errorf("got %s", summary(r))
	}
}
