package main

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// Each part of the end of the process is waited for until its time, and named if it
// still runs.
func TestShutdownTimes(t *testing.T) {
	t.Parallel()
	const timeout = 30 * time.Second
	failed := errors.New("failed")
	for _, tc := range []struct {
		name string
		end  func(d *shutdown, hang func() error) error
		took time.Duration
		err  error
		left []string
	}{
		{"quick", func(d *shutdown, _ func() error) error {
			d.begin()
			return d.await("cache", d.cut, func() error { return failed })
		}, 0, failed, nil},
		{"cut", func(d *shutdown, hang func() error) error {
			d.begin()
			return d.await("servers", d.cut, hang)
		}, timeout + 500*time.Millisecond, nil, []string{"servers"}},
		{"each part", func(d *shutdown, hang func() error) error {
			for _, part := range []struct {
				name  string
				until chan struct{}
			}{{"servers", d.cut}, {"cache", d.cut}, {"usage", d.store}, {"registry", d.store}, {"server", d.end}} {
				d.finish(part.name, part.until, func() { _ = hang() })
			}
			return nil
		}, timeout + 1250*time.Millisecond, nil, []string{"cache", "registry", "server", "servers", "usage"}},
		{"begun twice", func(d *shutdown, hang func() error) error {
			d.begin()
			time.Sleep(time.Second) //nolint:forbidigo // on the bubble's clock
			d.begin()
			return d.await("server", d.end, hang)
		}, timeout + 1250*time.Millisecond, nil, []string{"server"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, release := newShutdown(timeout), make(chan struct{})
				begin := time.Now()
				if err := tc.end(d, func() error { <-release; return nil }); !errors.Is(err, tc.err) {
					t.Errorf("the error is %v, want %v", err, tc.err)
				}
				if took := time.Since(begin); took != tc.took {
					t.Errorf("it took %v, want %v", took, tc.took)
				}
				if left := d.left(); !slices.Equal(left, tc.left) {
					t.Errorf("%q are left, want %q", left, tc.left)
				}
				close(release)
				synctest.Wait()
				if left := d.left(); len(left) > 0 {
					t.Errorf("%q are left after they have ended", left)
				}
			})
		})
	}
	if endAfter+logTimeout >= 2*time.Second || cutAfter >= storeAfter || storeAfter >= endAfter {
		t.Errorf("the bounds are %v, %v, %v and %v", cutAfter, storeAfter, endAfter, logTimeout)
	}
}
