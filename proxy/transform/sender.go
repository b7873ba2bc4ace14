package transform

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"

	"ixmage/internal/panics"
)

// sender sends a job to its worker.
type sender struct {
	log     *slog.Logger
	reading atomic.Bool   // a picture is being read
	done    chan struct{} // closed when the job's pictures are not used any more
	err     error         // set before done is closed
}

// run sends j. If a picture cannot be read, the worker ends: it waits for the rest, and cannot be
// told.
func (s *sender) run(w *worker, j *Job) {
	defer close(s.done)
	s.err = panics.Catch(s.log, "read a picture for a transform", func() error { return s.send(w, j) })
	if panicked := (*panics.Error)(nil); errors.As(s.err, &panicked) {
		s.err = fmt.Errorf("%w: %w", ErrSource, s.err)
	}
	if errors.Is(s.err, ErrSource) {
		w.end(EndSource)
	}
}

// wait waits until all has been sent. If the worker ends, it waits no longer for a picture that is
// being read: a read and the end of the worker each look for the other after they have been
// noted, so that at most one read is under way.
func (s *sender) wait(w *worker) error {
	select {
	case <-s.done:
		return s.err
	case <-w.ending:
	}
	if s.reading.Load() {
		return io.ErrClosedPipe
	}
	<-s.done
	return s.err
}

func (s *sender) send(w *worker, j *Job) error {
	if _, err := w.stdin.Write(appendRequest(make([]byte, 0, requestLen), j, w.number)); err != nil {
		return errUntouched // it had died before
	}
	if err := s.sendBlob(w, &j.Source); err != nil || j.Mark == nil {
		return err
	}
	return s.sendBlob(w, j.Mark)
}

func (s *sender) sendBlob(w *worker, b *Blob) error {
	r := &blobReader{sender: s, worker: w, r: io.LimitReader(b.Reader, b.Size)}
	n, err := io.Copy(w.stdin, r)
	switch {
	case r.err != nil:
		return fmt.Errorf("%w: %w", ErrSource, r.err)
	case err == nil && n < b.Size:
		return fmt.Errorf("%w: it ended after %d of %d bytes", ErrSource, n, b.Size)
	default:
		return err
	}
}

// blobReader tells errors of reading from those of writing, and reads nothing for a worker
// that has ended.
type blobReader struct {
	sender *sender
	worker *worker
	r      io.Reader
	err    error
}

func (r *blobReader) Read(b []byte) (int, error) {
	r.sender.reading.Store(true)
	defer r.sender.reading.Store(false)
	select {
	case <-r.worker.ending:
		return 0, io.ErrClosedPipe
	default:
	}
	n, err := r.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
