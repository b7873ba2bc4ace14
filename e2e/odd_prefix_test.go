package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// oddPrefixes are prefixes that S3 has and that need care in a URL, a shell, JSON or an
// IAM policy.
var oddPrefixes = []string{
	"Product Images/", " leading and trailing /", "Größe/", "Gro\u0308ße/", "日本語/", "💥/", "a+b/", "(x)/", "100%/", "50%25/", "a&b/",
	"~home/", "it's/", "#1/", "a;b/", "a:b/", "u@x/", "a=b,c/", `"quoted"/`, "[x]{y}/", "<a>|b^c`id`/", "a..b/", "!history/", "-o/x/",
}

// pathURL percent-encodes every byte of a path that is neither a letter nor a digit.
func pathURL(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c == '/' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// TestOddPrefixes reads a picture under each odd prefix from the real server: the key is
// signed as S3 reads it.
func TestOddPrefixes(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := unique("odd-prefixes")
	if err := g.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	const name = "Größe+1 & (2)/ä%20b.png"
	for i, prefix := range oddPrefixes {
		body := bytesOf(2000, prefix)
		if err := g.PutObject(t.Context(), bucket, prefix+name, s3.Object{Body: body, ContentType: "image/png"}); err != nil {
			t.Fatal(err)
		}
		alias := fmt.Sprint("a", i)
		r := s.api(http.MethodPost, "/api/v1/aliases", map[string]any{
			"name": alias, "bucket": bucket, "prefix": strings.TrimSuffix(prefix, "/"), "region": g.Region, "endpoint": g.S3URL,
			"path_style": true, "canary": name,
			"credential": map[string]string{"access_key_id": g.Root.AccessKeyID, "secret_access_key": g.Root.SecretAccessKey.Reveal()},
		})
		if r.StatusCode != http.StatusCreated {
			t.Errorf("prefix %q: %s: %s", prefix, r.Status, r.body)
			continue
		}
		if r := s.get("/" + alias + "/" + pathURL(name)); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, body) {
			t.Errorf("prefix %q: %s", prefix, summary(r))
		}
		if r := s.get("/" + alias + "/none.png"); r.StatusCode != http.StatusNotFound {
			t.Errorf("prefix %q, no object: %s", prefix, summary(r))
		}
	}
}

// TestProvisionOddPrefix provisions an alias under a folder whose name needs every kind
// of escape, and uses it: verification, canary, explain, purge, placeholder and removal.
func TestProvisionOddPrefix(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	const (
		prefix = "Größe & Co (100%25)/a+b ~'\"#;:@=,!<$>{|}`id`/💥 日本/"
		folder = "Größe & Co (100%25)/a+b ~'\"#;:@=,!<>{|}`id`/💥 日本/"
	)
	bucket := unique("prov-odd-prefix")
	if err := g.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	body := bytesOf(20_000, "odd")
	for _, key := range []string{folder + "ä b+c.png", folder + "none found.png", "Größe & Co (100%)/b.png"} {
		if err := g.PutObject(t.Context(), bucket, key, s3.Object{Body: body, ContentType: "image/png"}); err != nil {
			t.Fatal(err)
		}
	}
	s := startProvisioning(t, g, append(quickWaits, "--canary-interval", "100ms")...)
	request := map[string]any{
		"alias": "shop", "bucket": bucket, "prefix": prefix, "region": g.Region, "endpoint": g.S3URL, "path_style": true,
		"probe": map[string]any{"inside": folder + "ä b+c.png", "outside": "Größe & Co (100%)/b.png"},
	}
	if r := s.api(http.MethodPost, "/api/v1/provision", request); r.StatusCode != http.StatusBadRequest ||
		!bytes.Contains(r.body, []byte(`prefix: must not have *, ? or $`)) {
		t.Errorf("a dollar sign: %s: %s", r.Status, r.body)
	}
	request["prefix"] = folder
	s.operateWell(http.MethodPost, "/api/v1/provision", request)
	if r := s.get("/shop/" + pathURL("ä b+c.png")); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, body) {
		t.Errorf("inside: %s", summary(r))
	}
	r := s.api(http.MethodPost, "/api/v1/aliases/shop/verify", nil)
	if r.StatusCode != http.StatusOK || !bytes.Contains(r.body, []byte("proven")) || bytes.Contains(r.body, []byte("violated")) {
		t.Errorf("verify: %s: %s", r.Status, r.body)
	}
	s.patchOK("shop", `{"fallback":{"missing":"none found.png","broken":""},"cors_origins":["*"]}`)
	if r := s.get("/shop/missing.png"); r.StatusCode != http.StatusNotFound || !bytes.Equal(r.body, body) {
		t.Errorf("the placeholder: %s", summary(r))
	}
	r = s.api(http.MethodGet, "/api/v1/explain?probe=true&path="+url.QueryEscape("/shop/"+pathURL("ä b+c.png")), nil)
	if r.StatusCode != http.StatusOK || !bytes.Contains(r.body, []byte("日本/ä b+c.png")) || !bytes.Contains(r.body, []byte(`"read":3072`)) {
		t.Errorf("explain: %s: %s", r.Status, r.body)
	}
	eventually(t, "the canary is read", func() bool { return s.metric(`ixmage_canary_success{alias="shop"}`) == 1 })
	r = s.api(http.MethodPost, "/api/v1/purge", `{"alias":"shop","prefix":"ä b"}`)
	if r.StatusCode != http.StatusOK || !bytes.Contains(r.body, []byte(`"entries":1`)) {
		t.Errorf("purge: %s: %s", r.Status, r.body)
	}
	if r := s.api(http.MethodDelete, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusNoContent {
		t.Errorf("%s: %s", r.Status, r.body)
	}
	s.operateWell(http.MethodDelete, "/api/v1/credentials/shop", nil)
}

// patchOK changes an alias.
func (s *server) patchOK(name, body string) {
	s.t.Helper()
	if r := s.api(http.MethodPatch, "/api/v1/aliases/"+name, body); r.StatusCode != http.StatusOK {
		s.t.Fatalf("patch: %s: %s", r.Status, r.body)
	}
}
