package e2e

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// intermediary starts an HTTP proxy in front of an S3 server. change gets the headers of
// each request before they go on; the host stays.
func intermediary(t *testing.T, origin string, change func(http.Header)) string {
	t.Helper()
	target, err := url.Parse(origin)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableCompression: true}
	proxy := httptest.NewServer(&httputil.ReverseProxy{Transport: transport, Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host
		change(r.Out.Header)
	}})
	t.Cleanup(func() {
		proxy.Close()
		transport.CloseIdleConnections()
	})
	return proxy.URL
}

// TestIntermediaries has proxies change headers between ixmage and an S3 server that
// verifies signatures. Every header that intermediaries are known to change may change.
func TestIntermediaries(t *testing.T) {
	t.Parallel()
	s := start(t)
	store := s3.New(t)
	body := png(40_000, "")
	for _, tc := range []struct {
		name   string
		change func(http.Header)
	}{
		{"google-front-end", func(h http.Header) { h.Set("Accept-Encoding", h.Get("Accept-Encoding")+",gzip(gfe)") }},
		{"tunnel", func(h http.Header) { h.Set("Accept-Encoding", "gzip, br") }},
		{"no-accept-encoding", func(h http.Header) { h.Del("Accept-Encoding") }},
		{"sdk-headers-dropped", func(h http.Header) {
			for name := range h {
				if strings.HasPrefix(name, "Amz-Sdk-") {
					delete(h, name)
				}
			}
		}},
		{"sdk-headers-changed", func(h http.Header) {
			h.Set("Amz-Sdk-Invocation-Id", "of-the-proxy")
			h.Set("Amz-Sdk-Request", "attempt=7; max=9")
		}},
		{"user-agent-changed", func(h http.Header) { h.Set("User-Agent", "proxy/1.0") }},
		{"user-agent-dropped", func(h http.Header) { h.Set("User-Agent", "") }},
		{"forwarded-added", func(h http.Header) {
			h.Set("X-Forwarded-For", "192.0.2.1")
			h.Set("X-Forwarded-Proto", "https")
			h.Set("Forwarded", "for=192.0.2.1")
			h.Set("Via", "1.1 proxy")
			h.Set("X-Amzn-Trace-Id", "Root=1-5")
			h.Set("Cdn-Loop", "cdn")
			h.Set("Cache-Control", "no-cache")
			h.Set("Pragma", "no-cache")
			h.Set("Accept", "*/*")
			h.Set("Connection", "close")
		}},
		{"cache-drops-conditions", func(h http.Header) {
			h.Del("If-None-Match")
			h.Del("If-Modified-Since")
		}},
	} {
		kp := alias.KeyPair{AccessKeyID: "AKIAINTERMEDIARY", SecretAccessKey: alias.NewSecret("a-secret-that-is-not-real")}
		store.Allow(kp, "media", "")
		store.Put("media", tc.name+"/a.png", s3.Object{Body: body, ContentType: "image/png"})
		s.create(map[string]any{
			"name": tc.name, "bucket": "media", "prefix": tc.name + "/", "path_style": true, "ttl": "1ns", "canary": "a.png",
			"stale_while_revalidate": "0s", "stale_if_error": "0s", "endpoint": intermediary(t, store.URL, tc.change),
			"credential": map[string]string{"access_key_id": kp.AccessKeyID, "secret_access_key": kp.SecretAccessKey.Reveal()},
		})
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := "/" + tc.name + "/a.png"
			if r := single(s.public, http.MethodHead, path); r.err != nil || r.StatusCode != http.StatusOK {
				t.Errorf("HEAD: %v", r.Response)
			}
			for range 2 { // the second asks S3 whether the first is still current
				wantPicture(t, s.get(path), body)
			}
			if r := s.get("/" + tc.name + "/missing.png"); r.StatusCode != http.StatusNotFound {
				t.Errorf("a missing object: %s: %s", r.Status, r.body)
			}
		})
	}
}
