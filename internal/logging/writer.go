package logging

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// queueBytes bounds the lines that wait for the output.
	queueBytes = 1 << 20
	// retryInterval is the time between two attempts on an output that fails.
	retryInterval = time.Second
	// keepBytes is the largest buffer that is kept for later lines.
	keepBytes = 64 << 10
)

// writer queues lines for one goroutine that writes them. Write never waits for the output.
// Lines beyond queueBytes are dropped, and a line that says how many takes their place.
// After a failed write the goroutine tries again, and continues where it stopped, so that
// no line is cut.
type writer struct {
	out     io.Writer
	notice  func(lost int64) []byte // the line in the place of lost lines
	dropped atomic.Int64

	mu      sync.Mutex // guards the fields below
	queue   []byte     // whole lines
	writing int        // bytes that run has taken from queue and not yet written
	lost    int64      // lines dropped since the last notice
	closed  bool

	wake chan struct{} // has a value if queue may have lines
	stop chan struct{} // closed by close
	done chan struct{} // closed when run ends
}

func newWriter(out io.Writer, notice func(lost int64) []byte) *writer {
	w := &writer{
		out: out, notice: notice,
		wake: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}),
	}
	go w.run()
	return w
}

// Write queues one line or several. It returns no error, because slog ignores it.
func (w *writer) Write(line []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := int64(bytes.Count(line, []byte{'\n'}))
	if w.closed || !w.enqueue(line) {
		w.lost += n
		w.dropped.Add(n)
		return len(line), nil
	}
	select {
	case w.wake <- struct{}{}:
	default: // run will look anyway
	}
	return len(line), nil
}

// enqueue adds a line to the queue, after a notice if lines were lost before it. It adds
// nothing if they do not fit.
func (w *writer) enqueue(line []byte) bool {
	var notice []byte
	if w.lost > 0 {
		notice = w.notice(w.lost)
	}
	if w.writing+len(w.queue)+len(notice)+len(line) > queueBytes {
		return false
	}
	w.queue = append(append(w.queue, notice...), line...)
	w.lost = 0
	return true
}

// run writes the queue until the writer is closed.
func (w *writer) run() {
	defer close(w.done)
	var spare []byte
	for {
		batch := w.take(spare)
		if len(batch) == 0 {
			select {
			case <-w.wake:
				continue
			case <-w.stop:
			}
			if batch = w.take(spare); len(batch) == 0 { // a line may have come before the stop
				return
			}
		}
		if !w.write(batch) {
			return
		}
		spare = batch[:0]
		if cap(spare) > keepBytes {
			spare = nil
		}
	}
}

// take returns the queued lines, and queues into spare from now on. It leaves spare to the
// caller if there are none.
func (w *writer) take(spare []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.writing = 0
	if len(w.queue) == 0 && w.lost > 0 {
		w.enqueue(nil)
	}
	if len(w.queue) == 0 {
		return nil
	}
	batch := w.queue
	w.queue, w.writing = spare, len(batch)
	return batch
}

// write writes a batch. While the output fails, it tries again until the writer is closed:
// a disk may get room, and lines that the output has taken in part must be completed. It
// reports whether it wrote everything.
func (w *writer) write(batch []byte) bool {
	for {
		n, _ := w.out.Write(batch) // a short write is an error
		if batch = batch[n:]; len(batch) == 0 {
			return true
		}
		retry := time.NewTimer(retryInterval)
		select {
		case <-retry.C:
		case <-w.stop:
			retry.Stop()
			n, _ = w.out.Write(batch) // the last attempt
			return n == len(batch)
		}
	}
}

// close writes what is queued, and waits at most for timeout, since the output may block
// for ever. It reports whether everything was written.
func (w *writer) close(timeout time.Duration) bool {
	w.mu.Lock()
	if !w.closed {
		w.closed = true
		close(w.stop)
	}
	w.mu.Unlock()
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-w.done:
	case <-timer.C:
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writing == 0 && len(w.queue) == 0
}
