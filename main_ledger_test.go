package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/alias/sqlstore"
	"ixmage/alias/usage"
	"ixmage/internal/awstest"
)

// TestUsageSurvivesRestart: what was stored for an alias is shown by the next
// process, and goes with the alias.
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
	books := usage.New(usage.Config{Store: store, Log: slog.New(slog.DiscardHandler)})
	books.Of(a.ID).Spent(3, 4096)
	if err := errors.Join(books.Flush(t.Context()), store.Close()); err != nil {
		t.Fatal(err)
	}
	s = startIn(t, program, s.data)
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

// usageStore notes what is added.
type usageStore struct{ added []alias.UsageBatch }

func (s *usageStore) AddUsage(_ context.Context, b alias.UsageBatch) error {
	s.added = append(s.added, b)
	return nil
}

func (*usageStore) Usage(context.Context, int64) (alias.Usage, error) { return alias.Usage{}, nil }

// TestKeepOutlivesSignal: what is counted while the listeners drain is stored,
// on time and at the end.
func TestKeepOutlivesSignal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		store := &usageStore{}
		books := usage.New(usage.Config{Store: store, Every: time.Minute, Log: slog.New(slog.NewTextHandler(&logs, nil))})
		ctx, signal := context.WithCancel(t.Context())
		stop := keep(ctx, books)
		signal()
		books.Of(1).Spent(1, 1)
		<-time.After(time.Minute)
		synctest.Wait()
		if len(store.added) != 1 {
			t.Errorf("while draining: got %v", store.added)
		}
		books.Of(1).Spent(2, 2)
		stop()
		if len(store.added) != 2 || store.added[1].Deltas[0].Spent.Requests != 2 || logs.Len() > 0 {
			t.Errorf("at the end: got %v; log %s", store.added, logs.String())
		}
	})
}

// TestUsage: what an alias costs and spares is counted as it happens.
func TestUsage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	body := fakePNG(1000)
	s.put("a.png", awstest.Object{Body: body})
	s.put("each.png", awstest.Object{Body: body, CacheControl: "no-cache"})
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
	eventually(t, "the books are right", func() bool {
		got = string(s.api("GET", "/api/v1/aliases/shop/usage", nil).body)
		return strings.Contains(got, want)
	})
	for by, n := range map[string]float64{"hit": 2000, "not_modified": 2000} {
		if v := s.metric(`ixmage_saved_bytes_total{alias="shop",by="` + by + `"}`); v != n {
			t.Errorf("%v bytes saved by %s, want %v", v, by, n)
		}
	}
	if t.Failed() {
		t.Log(got)
	}
}
