package cache

import (
	"bytes"
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

var ten = []byte("0123456789")

// endings are the ways in which a body of ten declared bytes can end.
var endings = []struct {
	name string
	feed func(f *feed)
	want error // nil: complete
	exit bool  // ends the reading goroutine
}{
	{name: "whole, then the end", feed: func(f *feed) { f.give(ten, nil); f.give(nil, io.EOF) }},
	{name: "whole, with the end", feed: func(f *feed) { f.give(ten, io.EOF) }},
	{name: "byte by byte", feed: func(f *feed) {
		for i := range ten {
			f.give(ten[i:i+1], nil)
		}
		f.give(nil, io.EOF)
	}},
	{name: "empty reads between", feed: func(f *feed) {
		f.give(nil, nil)
		f.give(ten[:5], nil)
		f.give(nil, nil)
		f.give(ten[5:], nil)
		f.give(nil, nil)
		f.give(nil, io.EOF)
	}},
	{name: "nothing at all", feed: func(f *feed) { f.give(nil, io.EOF) }, want: io.ErrUnexpectedEOF},
	{name: "short", feed: func(f *feed) { f.give(ten[:9], nil); f.give(nil, io.EOF) }, want: io.ErrUnexpectedEOF},
	{name: "short, with the end", feed: func(f *feed) { f.give(ten[:9], io.EOF) }, want: io.ErrUnexpectedEOF},
	{name: "long", feed: func(f *feed) { f.give(ten, nil); f.give(ten[:1], nil); f.give(nil, io.EOF) }, want: ErrTooLong},
	{name: "long, at once", feed: func(f *feed) { f.give([]byte("0123456789X"), io.EOF) }, want: ErrTooLong},
	{name: "error first", feed: func(f *feed) { f.give(nil, errBoom) }, want: errBoom},
	{name: "error in the middle", feed: func(f *feed) { f.give(ten[:5], nil); f.give(nil, errBoom) }, want: errBoom},
	{name: "error with the last byte", feed: func(f *feed) { f.give(ten, errBoom) }, want: errBoom},
	{name: "error at the end", feed: func(f *feed) { f.give(ten, nil); f.give(nil, errBoom) }, want: errBoom},
	{name: "panic in the middle", feed: func(f *feed) { f.give(ten[:5], nil); f.panics() }, want: &PanicError{}},
	{name: "panic at the end", feed: func(f *feed) { f.give(ten, nil); f.panics() }, want: &PanicError{}},
	{name: "exit in the middle", feed: func(f *feed) { f.give(ten[:5], nil); f.exits() }, want: errExited, exit: true},
	{name: "exit at the end", feed: func(f *feed) { f.give(ten, nil); f.exits() }, want: errExited, exit: true},
	{name: "no progress in the middle", feed: func(f *feed) { f.give(ten[:5], nil); f.stalls() }, want: io.ErrNoProgress},
	{name: "no progress at the end", feed: func(f *feed) { f.give(ten, nil); f.stalls() }, want: io.ErrNoProgress},
}

// stalls makes every read from now on give nothing.
func (f *feed) stalls() {
	go func() {
		for {
			select {
			case f.pieces <- func() ([]byte, error) { return nil, nil }:
			case <-f.ctx.Done():
				return
			}
		}
	}()
}

// TestEnding reads bodies that end in every way: only a complete one is seen whole or
// becomes an entry, and no reader hangs.
func TestEnding(t *testing.T) {
	t.Parallel()
	for _, row := range endings {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, f := newEnv(t, roomy), newFeed()
				first := w.start(t.Context(), keyA, f.load(w, 10, time.Hour))
				synctest.Wait()
				second := w.start(t.Context(), keyA, w.forbidden)
				synctest.Wait()
				row.feed(f)
				checkEnding(t, <-first, row.want)
				checkEnding(t, <-second, row.want)
				w.wantEntry(keyA, row.want == nil)
				if f.ctx.Err() == nil {
					t.Error("the load's context has not ended after the fetch")
				}
				want := Miss
				if row.want == nil {
					want = Hit
				}
				again := w.all(t.Context(), keyA, func(context.Context, *Entry) (*Source, error) {
					return w.source(bytes.NewReader(ten), 10, time.Hour), nil
				})
				checkEnding(t, again, nil)
				if again.r != nil && again.r.Status != want {
					t.Errorf("status %d afterwards, want %d", again.r.Status, want)
				}
			})
		})
	}
}

// TestEndingExclusive does the same for a stream past the cache.
func TestEndingExclusive(t *testing.T) {
	t.Parallel()
	for _, row := range endings {
		if row.exit {
			continue // it ends the reader's own goroutine
		}
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, f := newEnv(t, roomy), newFeed()
				got := w.start(t.Context(), keyA, f.load(w, 10, 0))
				synctest.Wait()
				row.feed(f)
				checkEnding(t, <-got, row.want)
				w.wantEntry(keyA, false)
				if f.ctx.Err() == nil {
					t.Error("the load's context has not ended after the fetch")
				}
			})
		})
	}
}

func checkEnding(t *testing.T, got result, want error) {
	t.Helper()
	switch {
	case want == nil && (got.err != nil || !bytes.Equal(got.data, ten)):
		t.Errorf("got %q, %v; want it whole", got.data, got.err)
	case want != nil && (len(got.data) == len(ten) || !bytes.HasPrefix(ten, got.data)):
		t.Errorf("got %q of a broken object, want a part of %q", got.data, ten)
	case want != nil && !isError(got.err, want):
		t.Errorf("got error %v, want %v", got.err, want)
	}
}

// isError is errors.Is, for which any PanicError is like another.
func isError(err, want error) bool {
	if _, ok := errors.AsType[*PanicError](want); ok {
		_, ok = errors.AsType[*PanicError](err)
		return ok
	}
	return errors.Is(err, want)
}

// TestEndingUnknownSize: without a declared length only the source knows.
func TestEndingUnknownSize(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]error{"complete": io.EOF, "broken": errBoom} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, f := newEnv(t, roomy), newFeed()
				got := w.start(t.Context(), keyA, f.load(w, -1, time.Hour))
				f.give(ten, nil)
				f.give(nil, end)
				want := end
				if isEnd(end) {
					want = nil
				}
				res := <-got
				checkEnding(t, res, want)
				if res.r.Status != Miss || res.r.Size != -1 || !res.r.Stores {
					t.Errorf("got %+v, want a stored Miss of unknown size", res.r)
				}
				w.wantEntry(keyA, want == nil)
			})
		})
	}
}

// TestLastByteWithheld: all bytes have arrived, but no reader gets the last one before the
// source has reported that they are complete.
func TestLastByteWithheld(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		size  int64
		fresh time.Duration
	}{
		"shared": {10, time.Hour}, "exclusive": {10, 0},
		"shared, of unknown size": {-1, time.Hour}, "exclusive, of unknown size": {-1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, f := newEnv(t, roomy), newFeed()
				r, err := w.Get(t.Context(), keyA, f.load(w, tc.size, tc.fresh))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Close()
				f.give(ten, nil)
				p, err := r.Next(0)
				if string(p) != "012345678" || err != nil {
					t.Fatalf("Next = %q, %v; want all but the last byte", p, err)
				}
				rest := make(chan string)
				go func() {
					p, err := r.Next(9)
					rest <- string(p)
					if err != nil {
						t.Error(err)
					}
				}()
				synctest.Wait()
				select {
				case p := <-rest:
					t.Fatalf("got %q before the end", p)
				default:
				}
				if _, ok := r.Complete(); ok {
					t.Error("Complete before the end")
				}
				w.wantEntry(keyA, false)
				f.give(nil, io.EOF)
				if p := <-rest; p != "9" {
					t.Errorf("got %q at the end, want the last byte", p)
				}
				if _, err := r.Next(10); !isEnd(err) {
					t.Errorf("got %v after the end, want EOF", err)
				}
				w.wantEntry(keyA, tc.fresh > 0)
			})
		})
	}
}

// TestTinyBodies: there is no byte to keep back, or nothing else.
func TestTinyBodies(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{0, 1} {
		for name, fresh := range map[string]time.Duration{"shared": time.Hour, "exclusive": 0} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newEnv(t, roomy)
				w.all(t.Context(), keyA, w.goodFor(keyA, size, fresh)).want(t, keyA, size, Miss)
				w.wantEntry(keyA, fresh > 0)
				tooLong := func(context.Context, *Entry) (*Source, error) {
					return w.source(bytes.NewReader(ten), size, fresh), nil
				}
				if got := w.all(t.Context(), keyB, tooLong); !errors.Is(got.err, ErrTooLong) || len(got.data) > 0 {
					t.Errorf("got %q, %v; want nothing and ErrTooLong", got.data, got.err)
				}
			})
		}
	}
}

// TestLoadFails: every waiter gets the error, nothing is stored, and the next request
// fetches again.
func TestLoadFails(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		load Load
		want error
	}{
		"error":     {func(context.Context, *Entry) (*Source, error) { return nil, errBoom }, errBoom},
		"panic":     {func(context.Context, *Entry) (*Source, error) { panic("load panics") }, &PanicError{}},
		"nil panic": {func(context.Context, *Entry) (*Source, error) { panic(nil) }, &PanicError{}},
		"exit":      {func(context.Context, *Entry) (*Source, error) { runtime.Goexit(); return nil, nil }, errExited}, //nolint:nilnil // not reached
		"nothing":   {func(context.Context, *Entry) (*Source, error) { return nil, nil }, errNoSource},                 //nolint:nilnil // the mistake to notice
		"no body":   {func(context.Context, *Entry) (*Source, error) { return &Source{Size: 1, Fresh: time.Hour}, nil }, errNoSource},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, gate := newEnv(t, roomy), make(chan struct{})
				var ended func() error
				var waiting []<-chan result
				for range 3 {
					waiting = append(waiting, w.start(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
						w.loads.Add(1)
						ended = ctx.Err
						<-gate
						return row.load(ctx, old)
					}))
				}
				synctest.Wait()
				close(gate)
				for _, c := range waiting {
					if got := <-c; !isError(got.err, row.want) {
						t.Errorf("got error %v, want %v", got.err, row.want)
					}
				}
				if n := w.loads.Load(); n != 1 {
					t.Errorf("%d loads, want 1", n)
				}
				if ended() == nil {
					t.Error("the load's context has not ended after the fetch")
				}
				w.all(t.Context(), keyA, w.good(keyA, 10)).want(t, keyA, 10, Miss)
			})
		})
	}
}
