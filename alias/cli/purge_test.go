package cli

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
)

// sharedPurger purges on the node a, and waits for b in vain.
type sharedPurger struct{ waits chan time.Duration }

func (p sharedPurger) Purge(_ context.Context, r admin.PurgeRequest) (admin.PurgeResult, error) {
	end, _ := r.Wait.Deadline()
	p.waits <- time.Until(end)
	return admin.PurgeResult{Entries: 1, Bytes: 2048, Confirmed: []string{"a", "c"}, Pending: []string{"b"}}, nil
}

func (sharedPurger) Stored(*alias.Alias, string) bool            { return false }
func (sharedPurger) Search(*alias.Alias, int, func(string) bool) {}

// TestPurgeWait: --wait becomes the preference, and the output names the nodes.
func TestPurgeWait(t *testing.T) {
	t.Parallel()
	p := sharedPurger{make(chan time.Duration, 1)}
	e := newEnv(t, func(c *admin.Config) { c.Purger = p })
	e.call(http.MethodPost, map[string]any{"name": "shop", "bucket": "acme-media", "region": "eu-west-1", "credential": nil}, "aliases")
	for _, tt := range []struct {
		wait        *time.Duration
		code        int
		least, most time.Duration
	}{
		{nil, exitOK, time.Second, 2 * time.Second},
		{new(90 * time.Second), exitOK, 80 * time.Second, 90 * time.Second},
		{new(time.Hour), exitOK, 290 * time.Second, 300 * time.Second},
		{new(time.Millisecond), exitUsage, 0, 0},
		{new(-time.Second), exitUsage, 0, 0},
	} {
		got := e.run(&purgeCmd{Alias: "shop", Wait: tt.wait}, formatTable, "")
		if got.code != tt.code {
			t.Fatalf("%v: %+v", tt.wait, got)
		}
		if tt.code != exitOK {
			if !strings.Contains(got.err, "--wait: ") {
				t.Errorf("got %q", got.err)
			}
			continue
		}
		if left := <-p.waits; left < tt.least || left > tt.most {
			t.Errorf("the server waits for %v, want %v", left, tt.most)
		}
		for _, line := range []string{"confirmed by      a,c\n", "pending on        b\n"} {
			if !strings.Contains(got.out, line) {
				t.Errorf("no line %q in\n%s", line, got.out)
			}
		}
	}
}
