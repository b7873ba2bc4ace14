package main

import (
	"context"
	"time"

	"ixmage/alias"
	"ixmage/alias/usage"
	"ixmage/metrics"
	"ixmage/proxy"
)

// keep runs the accounts until stop is called, which waits for the last flush. It
// outlives ctx: requests are counted until the listeners have drained.
func keep(ctx context.Context, books *usage.Accounts) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = books.Run(ctx) // it has none
	}()
	return func() {
		cancel()
		<-ended
	}
}

// recorder counts requests in metrics and in the usage of the alias; neither knows the proxy.
type recorder struct {
	*metrics.Metrics

	registry *alias.Registry
	books    *usage.Accounts
}

func (r recorder) Series(name string) proxy.Series {
	s := series{Series: r.Metrics.Series(name)}
	if route, ok := r.registry.Lookup(name); ok {
		s.account = r.books.Of(route.Alias.ID)
	}
	return s
}

type series struct {
	*metrics.Series

	account *usage.Account // nil for names that are not in the registry
}

func (s series) Request(o proxy.Outcome) { s.Series.Request(metrics.Request(o)) }

func (s series) Saved(by proxy.Saving, requests, bytes int64) {
	s.Series.Saved(savings[by].String(), requests, bytes)
	if s.account != nil {
		s.account.Saved(savings[by], requests, bytes)
	}
}

var savings = [...]usage.By{
	proxy.SavedByHit: usage.Hit, proxy.SavedByCollapsed: usage.Collapsed, proxy.SavedByNotModified: usage.NotModified,
}

// spending counts calls of S3 in metrics and in the usage of the alias.
type spending struct {
	*metrics.Metrics

	registry *alias.Registry
	books    *usage.Accounts
}

func (s spending) OriginRequest(name, outcome string, d time.Duration) {
	s.Metrics.OriginRequest(name, outcome, d)
	s.spent(name, 1, 0)
}

func (s spending) OriginRetries(name string, n int) {
	s.Metrics.OriginRetries(name, n)
	s.spent(name, int64(n), 0)
}

func (s spending) OriginBytes(name string, n int64) {
	s.Metrics.OriginBytes(name, n)
	s.spent(name, 0, n)
}

func (s spending) spent(name string, requests, bytes int64) {
	if route, ok := s.registry.Lookup(name); ok {
		s.books.Of(route.Alias.ID).Spent(requests, bytes)
	}
}
