package proxy

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"ixmage/cache"
)

// TestHeadAfterPurge: a HEAD that begins after a purge does not join one from before it,
// and the answer to that one leaves no negative entry.
func TestHeadAfterPurge(t *testing.T) {
	t.Parallel()
	for name, invalidate := range map[string]func(p *Proxy, key cache.Key){
		"purge":    func(p *Proxy, key cache.Key) { p.cache.Purge(key, false) },
		"space":    func(p *Proxy, key cache.Key) { p.cache.PurgeSpace(key.Space, key.Epoch) },
		"key pair": func(p *Proxy, key cache.Key) { p.cache.ForgetNegative(key.Space) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			arrived, gate := make(chan struct{}, 2), make(chan struct{})
			first := true
			s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				stalls := first
				first = false
				arrived <- struct{}{}
				if stalls {
					<-gate
				}
				w.Header().Set("Content-Type", "image/png")
				w.Header().Set("ETag", `"0123456789abcdef0123456789abcdef"`)
				w.Header().Set("Content-Length", "7")
			}))
			t.Cleanup(s3.Close)
			p := newProxyBefore(t, s3.URL, nil)
			route, _ := p.registry.Lookup("shop")
			key := keyOf(route.Alias, "a.png")
			ended := make(chan error)
			go func() {
				_, _, err := p.stat(t.Context(), route, key, false)
				ended <- err
			}()
			<-arrived
			invalidate(p, key)
			// If it joined the first one, it would wait for it without end.
			if _, joined, err := p.stat(t.Context(), route, key, false); err != nil || joined {
				t.Errorf("joined: %t, %v; want an answer of its own", joined, err)
			}
			close(gate)
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}
