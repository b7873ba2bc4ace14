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
type sharedPurger struct{ waits chan time.Time }

func (p sharedPurger) Purge(_ context.Context, r admin.PurgeRequest) (admin.PurgeResult, error) {
	end, _ := r.Wait.Deadline()
	p.waits <- end
	return admin.PurgeResult{Entries: 1, Bytes: 2048, Confirmed: []string{"a", "c"}, Pending: []string{"b"}}, nil
}

func (sharedPurger) Stored(*alias.Alias, string) bool            { return false }
func (sharedPurger) Search(*alias.Alias, int, func(string) bool) {}

// TestPurgeWait: --wait becomes the preference, and the output names the nodes.
func TestPurgeWait(t *testing.T) {
	t.Parallel()
	p := sharedPurger{make(chan time.Time, 1)}
	e := newEnv(t, func(c *admin.Config) { c.Purger = p })
	e.call(http.MethodPost, map[string]any{"name": "shop", "bucket": "acme-media", "region": "eu-west-1", "credential": nil}, "aliases")
	for _, tt := range []struct {
		wait  *time.Duration
		code  int
		lasts time.Duration
	}{
		{nil, exitOK, 2 * time.Second},
		{new(90 * time.Second), exitOK, 90 * time.Second},
		{new(time.Hour), exitOK, 300 * time.Second},
		{new(time.Millisecond), exitUsage, 0},
		{new(-time.Second), exitUsage, 0},
	} {
		before := time.Now()
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
		if end := <-p.waits; end.Before(before.Add(tt.lasts)) || end.After(time.Now().Add(tt.lasts)) {
			t.Errorf("the server waits until %v after the call, want %v", end.Sub(before), tt.lasts)
		}
		for _, line := range []string{"confirmed by      a,c\n", "pending on        b\n"} {
			if !strings.Contains(got.out, line) {
				t.Errorf("no line %q in\n%s", line, got.out)
			}
		}
	}
}
