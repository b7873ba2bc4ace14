package e2e

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestPicture is the product in one test: a picture from a private bucket, with
// the key of its alias, from S3 and then from memory.
func TestPicture(t *testing.T) {
	t.Parallel()
	gw := realS3(t)
	ctx := t.Context()
	if err := gw.CreateBucket(ctx, "picture"); err != nil {
		t.Fatal(err)
	}
	body := bytes.Repeat([]byte("\x89PNG\r\n\x1a\n picture "), 4096)
	if err := gw.PutObject(ctx, "picture", "web/a.png", s3.Object{Body: body, ContentType: "image/png"}); err != nil {
		t.Fatal(err)
	}
	pair, err := gw.ReadOnlyUser(ctx, "picture", "picture", "web/")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t)
	s.create(map[string]any{
		"name": "shop", "bucket": "picture", "prefix": "web/", "endpoint": gw.S3URL, "path_style": true,
		"credential": map[string]string{"access_key_id": pair.AccessKeyID, "secret_access_key": pair.SecretAccessKey.Reveal()},
	})
	for _, want := range []string{"ixmage; fwd=uri-miss; fwd-status=200; stored", "ixmage; hit; ttl=35"} {
		r := s.get("/shop/a.png")
		if r.StatusCode != http.StatusOK || r.err != nil || !bytes.Equal(r.body, body) {
			t.Fatalf("got %s, %d bytes, error %v; want 200 and the picture", r.Status, len(r.body), r.err)
		}
		if got := r.Header.Get("Cache-Status"); !strings.HasPrefix(got, want) {
			t.Errorf("Cache-Status is %q, want %q…", got, want)
		}
	}
	if got := s.metric(`ixmage_cache_requests_total{alias="shop",cache="hit"}`); got != 1 {
		t.Errorf("Prometheus counts %v hits, want 1", got)
	}
	if got := s.stop(); got != 0 {
		t.Errorf("exit status after SIGTERM is %d", got)
	}
	if _, err := os.Stat(filepath.Join(s.data, "registry.db")); err != nil {
		t.Error(err)
	}
}

// A rate over a counter misses the first step of a series that was not there
// before it: those that have no alias are there before anything happens.
func TestMetricsBeforeTheFirstRequest(t *testing.T) {
	t.Parallel()
	s := start(t)
	text := "\n" + string(s.do(http.MethodGet, "http://"+s.admin+"/metrics", nil).body)
	for _, reason := range []string{"capacity", "expired", "replaced", "purged", "gone"} {
		if want := "\nixmage_cache_evictions_total{reason=\"" + reason + "\",tier=\"memory\"} 0\n"; !strings.Contains(text, want) {
			t.Errorf("no line %q", want)
		}
	}
	if n := strings.Count(text, "\nixmage_cache_evictions_total{"); n != 5 {
		t.Errorf("%d series of evictions, want 5", n)
	}
}
