package main

import (
	"bytes"
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/alias"
	"ixmage/alias/usage"
)

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

// TestAccountOfDeletedAlias: an account that is asked for while its alias is
// deleted does not stay in memory.
func TestAccountOfDeletedAlias(t *testing.T) {
	t.Parallel()
	for _, after := range []struct {
		name string
		now  func() (alias.Route, bool)
	}{
		{"deleted", func() (alias.Route, bool) { return alias.Route{}, false }},
		{"made again", func() (alias.Route, bool) { return alias.Route{Alias: &alias.Alias{ID: 2}}, true }},
	} {
		t.Run(after.name, func(t *testing.T) {
			t.Parallel()
			all := usage.New(usage.Config{Store: &usageStore{}})
			deleted := false
			account := accounts{all, func(string) (alias.Route, bool) {
				if deleted {
					return after.now()
				}
				deleted = true
				all.Forget(1) // as the registry has it done, before the account is asked for
				return alias.Route{Alias: &alias.Alias{ID: 1}}, true
			}}.of("shop")
			if account == nil || all.Of(1) == account {
				t.Error("the account of the deleted alias is still there")
			}
		})
	}
}
