// Package logging makes the program's logger. A log call never waits: one goroutine writes
// the lines, so a reader of stderr that stalls or leaves, or a full disk, cannot hold up
// requests. Lines that a stranger or a broken S3 can cause at the rate of requests are
// limited; the rest is counted.
package logging

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"time"
)

// Config has the parameters of Open.
type Config struct {
	Out   io.Writer
	JSON  bool // one JSON object a line, instead of key=value
	Level slog.Level
	// Limited are the messages that are limited to LinesPerSecond. At debug level none is,
	// because every request has a line then.
	Limited map[string]Kind
}

// Log is a logger and what it has left out. Its methods are safe for concurrent use.
type Log struct {
	*slog.Logger

	writer  *writer
	limiter *limiter // nil at debug level
}

// Open makes a Log. The caller must call Close.
func Open(cfg Config) *Log {
	opts := &slog.HandlerOptions{Level: cfg.Level}
	handler := func(out io.Writer) slog.Handler {
		if cfg.JSON {
			return slog.NewJSONHandler(out, opts)
		}
		return slog.NewTextHandler(out, opts)
	}
	l := &Log{writer: newWriter(cfg.Out, func(lost int64) []byte {
		var line bytes.Buffer
		r := slog.NewRecord(time.Now(), slog.LevelWarn, "log lines dropped", 0)
		r.AddAttrs(slog.Int64("count", lost))
		_ = handler(&line).Handle(context.Background(), r) // to memory
		return line.Bytes()
	})}
	h := handler(l.writer)
	if cfg.Level > slog.LevelDebug {
		l.limiter = newLimiter(h, cfg.Limited)
		h = limited{h, l.limiter}
	}
	l.Logger = slog.New(h)
	return l
}

// Dropped is how many lines were lost because the output did not take them.
func (l *Log) Dropped() int64 { return l.writer.dropped.Load() }

// Suppressed is how many lines were left out because their kind came too often.
func (l *Log) Suppressed() int64 {
	if l.limiter == nil {
		return 0
	}
	return l.limiter.suppressed.Load()
}

// Print queues text between the lines of the log, as it is. It ends in a newline.
func (l *Log) Print(text string) { _, _ = l.writer.Write([]byte(text)) }

// Close writes what is queued, and waits for it at most for timeout. It reports whether
// everything was written. Later lines are dropped.
func (l *Log) Close(timeout time.Duration) bool {
	if l.limiter != nil {
		l.limiter.close()
	}
	return l.writer.close(timeout)
}
