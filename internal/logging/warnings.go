package logging

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// Warnings is a log handler that also keeps the warnings of the start, for operators who do
// not see the log.
type Warnings struct {
	slog.Handler

	kept *keptWarnings // of all handlers that were derived from the first
}

type keptWarnings struct {
	mu    sync.Mutex // guards the fields below
	lines []string
	over  bool // the start is over
}

// KeepWarnings makes the handler over h.
func KeepWarnings(h slog.Handler) Warnings { return Warnings{h, &keptWarnings{}} }

// End returns the warnings so far. Later ones are not kept.
func (h Warnings) End() []string {
	h.kept.mu.Lock()
	defer h.kept.mu.Unlock()
	h.kept.over = true
	return h.kept.lines
}

// Handle passes a record on, and keeps a warning or an error.
func (h Warnings) Handle(ctx context.Context, r slog.Record) error {
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

// WithAttrs makes a handler that keeps into the same place.
func (h Warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return Warnings{h.Handler.WithAttrs(attrs), h.kept}
}

// WithGroup is like WithAttrs.
func (h Warnings) WithGroup(name string) slog.Handler {
	return Warnings{h.Handler.WithGroup(name), h.kept}
}
