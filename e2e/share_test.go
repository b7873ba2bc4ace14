package e2e

import (
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	"ixmage/internal/awstest/s3"
)

// TestShares: the scan of one alias evicts neither the floor of another, nor anything of others
// while it is at its ceiling, whenever the shares were set. Without shares it evicts all.
func TestShares(t *testing.T) {
	t.Parallel()
	const (
		size  = 1 << 20
		kept  = 8
		scans = 44
	)
	floor, ceiling := map[string]any{"cache_min": "12MiB"}, map[string]any{"cache_max": "8MiB"}
	for _, tc := range []struct {
		name        string
		shop, other map[string]any // shares at registration
		patch       [2]string      // alias and shares, set later
		restart     bool
		protected   bool
	}{
		{name: "none"},
		{name: "floor", shop: floor, protected: true},
		{name: "ceiling", other: ceiling, protected: true},
		{name: "floor set later", patch: [2]string{"shop", `{"cache_min":"12MiB"}`}, protected: true},
		{name: "ceiling set later", patch: [2]string{"other", `{"cache_max":8388608}`}, protected: true},
		{name: "floor removed", shop: floor, patch: [2]string{"shop", `{"cache_min":null}`}},
		{name: "floor from before a restart", shop: floor, restart: true, protected: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			args := []string{"--cache-memory", "40MiB", "--log-level", "warn"}
			e := &env{server: startIn(t, data, args...), s3: s3.New(t)}
			e.s3.CreateBucket("media", "")
			e.open("shop", "media", "web/", tc.shop)
			e.open("other", "media", "web/", tc.other)
			for i := range scans {
				e.put(fmt.Sprintf("%d.png", i), s3.Object{Body: bytesOf(size, "share")})
			}
			if tc.restart {
				e.stop()
				e.server = startIn(t, data, args...)
			}
			get := func(alias string, n, rounds int) {
				for range rounds {
					for i := range n {
						if r := e.get(fmt.Sprintf("/%s/%d.png", alias, i)); r.StatusCode != http.StatusOK || len(r.body) != size {
							t.Fatal(summary(r))
						}
					}
				}
			}
			get("shop", kept, 1)
			if tc.patch[0] != "" {
				e.patch(tc.patch[0], tc.patch[1])
			}
			get("other", scans, 4) // more often than what it may evict
			hits := func() float64 {
				e.waitInFlight(0) // then all are counted
				return e.metric(`ixmage_cache_requests_total{alias="shop",cache="hit"}`)
			}
			before := hits()
			for i := range kept {
				e.get(fmt.Sprintf("/shop/%d.png", i))
			}
			if got := hits() - before; (got == kept) != tc.protected {
				t.Errorf("%v of %d pictures are still cached", got, kept)
			}
			lost := e.metric(`ixmage_cache_alias_evictions_total{alias="shop",role="lost"}`)
			pushed := e.metric(`ixmage_cache_alias_evictions_total{alias="other",role="pushed"}`)
			if (lost == 0) != tc.protected || (pushed == 0) != tc.protected {
				t.Errorf("shop lost %v entries, other pushed %v out", lost, pushed)
			}
			if own := e.metric(`ixmage_cache_alias_evictions_total{alias="other",role="own"}`); own == 0 {
				t.Error("other evicted nothing of its own")
			}
		})
	}
}
