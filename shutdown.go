package main

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// How long after the listeners have drained the end of the process waits. The last of
// these and logTimeout are less than 2 s.
const (
	cutAfter   = 500 * time.Millisecond  // for requests, background work and calls to S3
	storeAfter = 1000 * time.Millisecond // for the last usage counts and the registry
	endAfter   = 1250 * time.Millisecond // for anything else
)

// shutdown bounds the waits at the end of the process, whatever S3, IAM, clients, disks and
// stderr do. Its channels are closed one after the other, after begin. Work that is not
// waited for ends with the process, and is named in the log: an operation on IAM goes on
// at the next start, because its steps are durable.
type shutdown struct {
	timeout time.Duration // --shutdown-timeout
	once    sync.Once
	cut     chan struct{}
	store   chan struct{}
	end     chan struct{}

	mu      sync.Mutex // guards running
	running map[string]struct{}
}

func newShutdown(timeout time.Duration) *shutdown {
	return &shutdown{
		timeout: timeout, cut: make(chan struct{}), store: make(chan struct{}), end: make(chan struct{}),
		running: make(map[string]struct{}),
	}
}

// begin starts the time. Further calls do nothing.
func (d *shutdown) begin() {
	d.once.Do(func() {
		time.AfterFunc(d.timeout+cutAfter, func() { close(d.cut) })
		time.AfterFunc(d.timeout+storeAfter, func() { close(d.store) })
		time.AfterFunc(d.timeout+endAfter, func() { close(d.end) })
	})
}

// track runs fn as part of the process that left can name. The name is unique.
func (d *shutdown) track(name string, fn func() error) error {
	d.mu.Lock()
	d.running[name] = struct{}{}
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		delete(d.running, name)
		d.mu.Unlock()
	}()
	return fn()
}

// await tracks fn and waits for it, at most until the channel is closed. A panic in fn
// ends the process as everywhere.
func (d *shutdown) await(name string, until <-chan struct{}, fn func() error) error {
	done := make(chan error, 1)
	go func() { done <- d.track(name, fn) }()
	select {
	case err := <-done:
		return err
	case <-until:
		return nil
	}
}

// finish begins the shutdown, and waits for a part to close as await does.
func (d *shutdown) finish(name string, until <-chan struct{}, closePart func()) {
	d.begin()
	_ = d.await(name, until, func() error { closePart(); return nil })
}

// left names what still runs.
func (d *shutdown) left() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.running))
}
