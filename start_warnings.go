package main

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// startWarnings is a log handler that also keeps the warnings of the start, for operators who do
// not see the log.
type startWarnings struct {
	slog.Handler

	kept *keptWarnings // of all handlers that were derived from the first
}

type keptWarnings struct {
	mu    sync.Mutex // guards the fields below
	lines []string
	over  bool // the start is over
}

func keepWarnings(h slog.Handler) startWarnings { return startWarnings{h, &keptWarnings{}} }

// end returns the warnings. Later ones are not kept.
func (h startWarnings) end() []string {
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	h.kept.over = true
	return h.kept.lines
}

func (h startWarnings) Handle(ctx context.Context, r slog.Record) error {
	if r.Level >= slog.LevelWarn {
		h.kept.add(r)
	}
	return h.Handler.Handle(ctx, r)
}

func (k *keptWarnings) add(r slog.Record) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return
	}
	var attrs []string
	r.Attrs(func(a slog.Attr) bool {
		attrs = append(attrs, fmt.Sprintf("%s: %s", a.Key, a.Value))
		return true
	})
	line := r.Message
	if len(attrs) > 0 {
		line += " (" + strings.Join(attrs, ", ") + ")"
	}
	k.lines = append(k.lines, line)
}

func (h startWarnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return startWarnings{h.Handler.WithAttrs(attrs), h.kept}
}

func (h startWarnings) WithGroup(name string) slog.Handler {
	return startWarnings{h.Handler.WithGroup(name), h.kept}
}
