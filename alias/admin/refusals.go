package admin

import (
	"log/slog"
	"sync"
	"time"
)

// refusalLines is how many refused requests have a log line of their own in a second.
const refusalLines = 5

// refusalLog bounds the log lines of requests that anyone can send without the token: the
// first few in a second have a line each, and the others one line with their number at
// the end of that second.
type refusalLog struct {
	log *slog.Logger

	mu     sync.Mutex // guards the rest
	start  time.Time  // of the second that lines and silent count
	lines  int
	silent int
	timer  *time.Timer // runs flush if silent is not 0
}

// admit reports whether the caller may log a line for a refused request now. If not, it
// has counted the request.
func (l *refusalLog) admit() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if now.Sub(l.start) >= time.Second && l.silent == 0 {
		l.start, l.lines = now, 0
	}
	if l.lines < refusalLines {
		l.lines++
		return true
	}
	if l.silent++; l.silent == 1 {
		l.timer = time.AfterFunc(time.Second-now.Sub(l.start), l.flush)
	}
	return false
}

// flush logs the number of requests without a line.
func (l *refusalLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.silent == 0 {
		return
	}
	l.timer.Stop()
	l.log.Warn("admin requests refused", "count", l.silent)
	l.silent = 0
}
