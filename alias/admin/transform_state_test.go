package admin

import (
	"errors"
	"strings"
	"testing"
)

// TestTransformState: readiness stays up and says why transforms are off, without a path, and
// /api/v1/server says it to programs; only a token of all buckets sees the error.
func TestTransformState(t *testing.T) {
	t.Parallel()
	failed := errors.New("start /opt/ixmage-worker: Landlock is missing")
	const off = `"transforms":{"on":false,"workers":0,"libvips":"","landlock":0,"detail":"transforms are off: `
	for _, c := range []struct {
		name                      string
		state                     *Transforms // nil: the server knows nothing
		ready, server, restricted string
	}{
		{"nothing known", nil, "ok\n", `"warnings":[]}`, `"warnings":[]}`},
		{
			"not configured", &Transforms{}, "ok\ntransforms are off: --transform-worker is not set\n",
			off + `--transform-worker is not set"}`, off + `--transform-worker is not set"}`,
		},
		{
			"no worker", &Transforms{Configured: true, Err: failed},
			"ok\ntransforms are off: no worker of --transform-worker runs in its sandbox, and the log and ixmage doctor say why\n",
			off + `start /opt/ixmage-worker: Landlock is missing"}`, off + `no worker of --transform-worker runs in its sandbox, and the log`,
		},
		{
			"on", &Transforms{Configured: true, Workers: 2, Library: "8.18.7", Landlock: 7}, "ok\n",
			`"transforms":{"on":true,"workers":2,"libvips":"8.18.7","landlock":7,"detail":""}`,
			`"transforms":{"on":true,"workers":2,"libvips":"8.18.7","landlock":7,"detail":""}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t, func(cfg *Config) {
				if c.state != nil {
					cfg.Transforms = func() Transforms { return *c.state }
				}
			})
			if got := a.do("GET", "/-/readyz", "").want(200, "").body; got != c.ready {
				t.Errorf("readiness: got %q, want %q", got, c.ready)
			}
			if got := a.do("GET", "/api/v1/server", "").want(200, "").body; !strings.Contains(got, c.server) {
				t.Errorf("server: got %s\nwant %s in it", got, c.server)
			}
			token := a.makeToken("team", `["read"]`, `["acme-*"]`)
			if got := a.do("GET", "/api/v1/server", "", "Authorization", token).want(200, "").body; !strings.Contains(got, c.restricted) {
				t.Errorf("with a token of some buckets: got %s\nwant %s in it", got, c.restricted)
			}
		})
	}
}
