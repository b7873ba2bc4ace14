package cachetests_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"ixmage/e2e/cachetests"
	"ixmage/internal/awstest/s3"
)

func TestScope(t *testing.T) {
	t.Parallel()
	tests, err := cachetests.Suite()
	if err != nil {
		t.Fatal(err)
	}
	byID := map[string]*cachetests.Test{}
	for _, x := range tests {
		byID[x.ID] = x
	}
	if len(byID) != 334 || len(tests) != 334 {
		t.Errorf("%d tests by %d names, want the 334 of version 0.4.5", len(tests), len(byID))
	}
	out := map[string]string{}
	for _, e := range cachetests.Excluded() {
		for _, id := range e.IDs {
			switch x := byID[id]; {
			case x == nil:
				t.Errorf("%s: there is no test %s", e.Name, id)
			case out[id] != "":
				t.Errorf("%s is excluded twice, by %s and %s", id, out[id], e.Name)
			case x.Corrected():
				t.Errorf("%s is both excluded and corrected", id)
			case !e.Holds(x):
				t.Errorf("%s is excluded by %q, which is not true of it", id, e.Name)
			}
			out[id] = e.Name
		}
	}
	if got := len(cachetests.Applicable(tests)); got != len(tests)-len(out) {
		t.Errorf("%d tests apply, want %d", got, len(tests)-len(out))
	}
}

// A server without a cache and a cache that keeps everything for ever must each
// fail the right tests.
func TestEngine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cache        func(*s3.Server) http.Handler
		fails, holds []string
	}{
		"none": {
			cache: proxyTo,
			fails: []string{"freshness-max-age", "other-age-gen", "freshness-s-maxage-shared", "cc-resp-no-cache-revalidate", "age-parse-prefix"},
			holds: []string{"freshness-max-age-0", "cc-resp-no-store", "status-200-stale", "vary-star", "stale-close-no-cache"},
		},
		"all": {
			cache: func(fakeS3 *s3.Server) http.Handler { return &keepAll{next: proxyTo(fakeS3)} },
			fails: []string{"freshness-max-age-0", "cc-resp-no-store", "status-200-stale", "vary-star", "stale-close-no-cache", "cc-resp-no-cache-revalidate", "other-age-gen"},
			holds: []string{"freshness-max-age", "freshness-s-maxage-shared", "age-parse-prefix", "other-set-cookie"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			fakeS3 := s3.New(t)
			cache := httptest.NewServer(tc.cache(fakeS3))
			t.Cleanup(cache.Close)
			runner := cachetests.New(cachetests.Config{
				S3: fakeS3, Bucket: "suite", URL: func(*cachetests.Test) string { return cache.URL + "/suite" },
			})
			all, err := cachetests.Suite()
			if err != nil {
				t.Fatal(err)
			}
			tests := slices.DeleteFunc(all, func(x *cachetests.Test) bool {
				return !slices.Contains(tc.fails, x.ID) && !slices.Contains(tc.holds, x.ID)
			})
			for i, r := range runner.Run(t.Context(), tests) {
				if want := slices.Contains(tc.holds, tests[i].ID); (r.Outcome == cachetests.Passed) != want {
					t.Errorf("%s %s: %s", tests[i].ID, r.Outcome, r.Reason)
				}
			}
		})
	}
}

func proxyTo(fakeS3 *s3.Server) http.Handler {
	target, _ := url.Parse(fakeS3.URL)
	p := httputil.NewSingleHostReverseProxy(target)
	p.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	return p
}

// keepAll answers every request after the first with the answer to the first.
type keepAll struct {
	next http.Handler
	kept sync.Map
}

func (k *keepAll) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	found, ok := k.kept.Load(r.URL.Path)
	if !ok {
		rec := httptest.NewRecorder()
		k.next.ServeHTTP(rec, r)
		k.kept.Store(r.URL.Path, rec)
		found = rec
	}
	rec := found.(*httptest.ResponseRecorder)
	for name, values := range rec.Header() {
		if !strings.EqualFold(name, "Content-Length") {
			w.Header()[name] = values
		}
	}
	w.WriteHeader(rec.Code)
	w.Write(rec.Body.Bytes())
}
