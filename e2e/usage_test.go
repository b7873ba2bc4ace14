package e2e

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/alias/sqlstore"
	"ixmage/alias/usage"
	"ixmage/internal/awstest/s3"
)

// TestUsageSurvivesRestart: the next process shows the stored usage of an alias, and
// deletes it with the alias.
func TestUsageSurvivesRestart(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.createOn("shop", "http://127.0.0.1:1", "media")
	const usagePath = "/api/v1/aliases/shop/usage"
	if r := s.api("GET", usagePath, nil); r.StatusCode != 200 || !strings.Contains(string(r.body), `"since":null`) {
		t.Fatalf("at first: got %d %s", r.StatusCode, r.body)
	}
	if code := s.stop(); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	store, err := sqlstore.OpenSQLite(t.Context(), filepath.Join(s.data, "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	a, err := store.Alias(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	accounts := usage.New(usage.Config{Store: store, Log: slog.New(slog.DiscardHandler)})
	accounts.Of(a.ID).Spent(3, 4096)
	if err := errors.Join(accounts.Flush(t.Context()), store.Close()); err != nil {
		t.Fatal(err)
	}
	s = startIn(t, s.data)
	if r := s.api("GET", usagePath, nil); r.StatusCode != 200 || !strings.Contains(string(r.body), `"spent":{"requests":3,"bytes":4096}`) {
		t.Errorf("after the restart: got %d %s", r.StatusCode, r.body)
	}
	if r := s.api("DELETE", "/api/v1/aliases/shop", nil); r.StatusCode != 204 {
		t.Fatalf("delete: got %d %s", r.StatusCode, r.body)
	}
	s.createOn("shop", "http://127.0.0.1:1", "media")
	if r := s.api("GET", usagePath, nil); r.StatusCode != 200 || !strings.Contains(string(r.body), `"since":null`) {
		t.Errorf("of a new alias of the same name: got %d %s", r.StatusCode, r.body)
	}
}

// TestUsage: the requests and bytes that an alias costs and saves are counted.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := newEnv(t)
	s.patch("shop", `{"negative_ttl":"1h"}`)
	body := png(1000, "")
	s.put("a.png", s3.Object{Body: body})
	s.put("each.png", s3.Object{Body: body, CacheControl: "no-cache"})
	for range 3 {
		wantPicture(t, s.get("/shop/a.png"), body)
		wantPicture(t, s.get("/shop/each.png"), body)
	}
	s.head("/shop/a.png")
	for range 2 {
		s.get("/shop/none.png")
	}
	want := `"spent":{"requests":5,"bytes":2000},"saved":{"hit":{"requests":4,"bytes":2000},` +
		`"collapsed":{"requests":0,"bytes":0},"not_modified":{"requests":0,"bytes":2000}}`
	var got string
	eventually(t, "the usage is right", func() bool {
		got = string(s.api("GET", "/api/v1/aliases/shop/usage", nil).body)
		return strings.Contains(got, want)
	})
	s.waitInFlight(0)
	for _, path := range []string{"/api/v1/aliases/shop/usage?by=hour&last=2", "/api/v1/aliases/shop/usage?by=day", "/api/v1/usage?by=hour"} {
		// The test may run at the begin of an hour.
		if r := s.api("GET", path, nil); r.StatusCode != 200 || !strings.Contains(string(r.body), `"series":[{"at":"20`) {
			t.Errorf("%s: got %d %s", path, r.StatusCode, r.body)
		}
	}
	for by, n := range map[string]float64{"hit": 2000, "not_modified": 2000} {
		if v := s.metric(`ixmage_saved_bytes_total{alias="shop",by="` + by + `"}`); v != n {
			t.Errorf("%v bytes saved by %s, want %v", v, by, n)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}
