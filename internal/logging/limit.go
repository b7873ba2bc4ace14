package logging

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// LinesPerSecond is how many lines of a kind are written in a second. One line at the
	// end of the second says how many more there were.
	LinesPerSecond = 5
	// window is that second. It begins with the first limited line after the last window.
	window = time.Second
	// maxKinds bounds the kinds of a window. Beyond it, only the first attribute of
	// Kind.By tells kinds apart.
	maxKinds = 100
)

// Kind says how the lines of a message are limited.
type Kind struct {
	// More is the message of the line that counts the others.
	More string
	// By are the attributes whose values tell kinds apart. If there are any, a line
	// without the first one is not limited.
	By []string
}

// limited is a slog.Handler that passes lines through a limiter.
type limited struct {
	slog.Handler
	limiter *limiter
}

func (h limited) Handle(ctx context.Context, r slog.Record) error {
	if !h.limiter.allow(ctx, r) {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h limited) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limited{h.Handler.WithAttrs(attrs), h.limiter}
}

func (h limited) WithGroup(name string) slog.Handler {
	return limited{h.Handler.WithGroup(name), h.limiter}
}

// limiter counts the lines of each kind.
type limiter struct {
	out        slog.Handler // for the lines that count
	kinds      map[string]Kind
	suppressed atomic.Int64

	mu   sync.Mutex // guards the fields below
	end  time.Time  // of the window
	seen map[string]*tally

	begun chan struct{} // has a value if a kind of the window has suppressed lines
	stop  chan struct{}
	done  chan struct{}
}

// tally are the lines of one kind in a window.
type tally struct {
	level      slog.Level
	more       string
	attrs      []slog.Attr
	written    int
	suppressed int64
}

func newLimiter(out slog.Handler, kinds map[string]Kind) *limiter {
	l := &limiter{
		out: out, kinds: kinds, seen: make(map[string]*tally),
		begun: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// allow reports whether a line is to be written, and counts it if not.
func (l *limiter) allow(ctx context.Context, r slog.Record) bool {
	kind, ok := l.kinds[r.Message]
	if !ok {
		return true
	}
	attrs := attrsOf(r, kind.By)
	if len(kind.By) > 0 && (len(attrs) == 0 || attrs[0].Key != kind.By[0]) {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); !now.Before(l.end) {
		l.report(ctx)
		l.end = now.Add(window)
	}
	t := l.tally(r, kind, attrs)
	if t.written < LinesPerSecond {
		t.written++
		return true
	}
	t.suppressed++
	l.suppressed.Add(1)
	select {
	case l.begun <- struct{}{}:
	default: // run will look anyway
	}
	return false
}

// tally returns the tally of a line's kind.
func (l *limiter) tally(r slog.Record, kind Kind, attrs []slog.Attr) *tally {
	key := keyOf(r.Message, attrs)
	t := l.seen[key]
	if t == nil && len(l.seen) >= maxKinds && len(attrs) > 1 {
		attrs = attrs[:1]
		key = keyOf(r.Message, attrs)
		t = l.seen[key]
	}
	if t == nil {
		t = &tally{level: r.Level, more: kind.More, attrs: attrs}
		l.seen[key] = t
	}
	return t
}

// attrsOf returns the attributes of a line with the given names, in the order of names.
func attrsOf(r slog.Record, names []string) []slog.Attr {
	if len(names) == 0 {
		return nil
	}
	found := make([]slog.Attr, 0, len(names))
	for _, name := range names {
		r.Attrs(func(a slog.Attr) bool {
			if a.Key != name {
				return true
			}
			found = append(found, a)
			return false
		})
	}
	return found
}

// keyOf names a kind. Neither codes nor names of aliases contain a NUL.
func keyOf(message string, attrs []slog.Attr) string {
	var key strings.Builder
	key.WriteString(message)
	for _, a := range attrs {
		key.WriteByte(0)
		key.WriteString(a.Value.String())
	}
	return key.String()
}

// report writes a line for each kind with suppressed lines, and forgets all kinds.
func (l *limiter) report(ctx context.Context) {
	for _, key := range slices.Sorted(maps.Keys(l.seen)) {
		t := l.seen[key]
		if t.suppressed == 0 {
			continue
		}
		r := slog.NewRecord(time.Now(), t.level, t.more, 0)
		r.AddAttrs(t.attrs...)
		r.AddAttrs(slog.Int64("count", t.suppressed))
		_ = l.out.Handle(ctx, r) // to the queue
	}
	clear(l.seen)
}

// run reports at the end of each window in which lines were suppressed. Without it the
// report would wait for the next limited line.
func (l *limiter) run() {
	defer close(l.done)
	for {
		select {
		case <-l.begun:
		case <-l.stop:
			return
		}
		l.mu.Lock()
		timer := time.NewTimer(time.Until(l.end))
		l.mu.Unlock()
		select {
		case <-timer.C:
		case <-l.stop:
			timer.Stop()
			return
		}
		l.mu.Lock()
		if !time.Now().Before(l.end) { // else allow has begun another window
			l.report(context.Background())
		}
		l.mu.Unlock()
	}
}

// close ends run and reports what was suppressed in the last window.
func (l *limiter) close() {
	close(l.stop)
	<-l.done
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report(context.Background())
}
