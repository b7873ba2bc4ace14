package cache

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// badCloser is a body whose Close panics.
type badCloser struct{ *testBody }

func (b badCloser) Close() error {
	_ = b.testBody.Close()
	panic("close panics")
}

// TestPanicIsLogged: a panic is logged once, with its stack, for any number of waiters.
func TestPanicIsLogged(t *testing.T) {
	t.Parallel()
	rows := map[string]struct {
		load func(w *env) Load
		want string // what the line says; empty: there is none
	}{
		"load": {func(*env) Load {
			return func(context.Context, *Entry) (*Source, error) { panic("load panics") }
		}, "load panics"},
		"read": {func(w *env) Load {
			f := newFeed()
			f.panics()
			return f.load(w, 10, time.Hour)
		}, "read panics"},
		"read of a stream": {func(w *env) Load {
			return func(ctx context.Context, old *Entry) (*Source, error) {
				if w.loads.Load() > 0 {
					return nil, errBoom
				}
				f := newFeed()
				f.panics()
				return f.load(w, 10, 0)(ctx, old)
			}
		}, "read panics"},
		"close": {func(w *env) Load {
			return func(ctx context.Context, old *Entry) (*Source, error) {
				src, err := w.good(keyA, 10)(ctx, old)
				src.Body = badCloser{src.Body.(*testBody)}
				return src, err
			}
		}, "close panics"},
		"an error": {func(*env) Load {
			return func(context.Context, *Entry) (*Source, error) { return nil, errBoom }
		}, ""},
		"nothing": {func(w *env) Load { return w.good(keyA, 10) }, ""},
	}
	for name, row := range rows {
		bubble(t, name, func(t *testing.T) {
			var log bytes.Buffer
			cfg := roomy
			cfg.Log = slog.New(slog.NewJSONHandler(&log, nil))
			w, gate := newEnv(t, cfg), make(chan struct{})
			load := row.load(w)
			var waiting []<-chan result
			for range 3 {
				waiting = append(waiting, w.start(t.Context(), keyA, func(ctx context.Context, old *Entry) (*Source, error) {
					<-gate
					return load(ctx, old)
				}))
			}
			synctest.Wait()
			close(gate)
			for _, c := range waiting {
				if got := <-c; got.err != nil && strings.Contains(got.err.Error(), "guard_test") {
					t.Errorf("the error has the stack: %v", got.err)
				} else if (got.err == nil) != (name == "nothing") && !errors.Is(got.err, errBoom) && !isError(got.err, &PanicError{}) {
					t.Errorf("got error %v", got.err)
				}
			}
			synctest.Wait()
			lines := strings.Count(log.String(), "\n")
			switch {
			case row.want == "" && lines != 0, row.want != "" && lines != 1:
				t.Errorf("%d lines: %s", lines, log.String())
			case row.want != "" && (!strings.Contains(log.String(), row.want) || !strings.Contains(log.String(), "_test.go")):
				t.Errorf("the line does not tell where it panics: %s", log.String())
			}
		})
	}
}
