package main

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/doctor"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/transform"
)

// burst is how many seconds of its share an alias or a client may have at once after it was idle.
const burst = 30

// Bounds of the settings of the workers.
const (
	maxWorkers         = 256
	minTransformTime   = 100 * time.Millisecond
	maxTransformTime   = 10 * time.Second
	minTransformMemory = 256 << 20
	maxTransformMemory = 1 << 30 // that of the worker itself
)

func (s *serveCmd) checkTransforms(errs *configErrors) {
	if s.TransformWorkers > maxWorkers {
		errs.addf("transform-workers", "%d must be from 0 to %d", s.TransformWorkers, maxWorkers)
	}
	if t := s.TransformTimeout; t < minTransformTime || t > maxTransformTime {
		errs.addf("transform-timeout", "%s must be from %s to %s", t, minTransformTime, maxTransformTime)
	}
	if m := s.TransformMemory; m < minTransformMemory || m > maxTransformMemory {
		errs.addf("transform-memory", "%d bytes must be from 256MiB to 1GiB", m)
	}
	for name, percent := range map[string]int{
		"transform-alias-share": s.TransformAliasShare, "transform-client-share": s.TransformClientShare,
	} {
		if percent > 100 {
			errs.addf(name, "%d must be from 1 to 100", percent)
		}
	}
}

// transformWorkers returns how many workers may be busy at once.
func (s *serveCmd) transformWorkers() int { return cmp.Or(s.TransformWorkers, runtime.GOMAXPROCS(0)) }

// workers are the processes that transform pictures, or say why there are none.
type workers struct {
	pool       *transform.Pool // nil: transforms are off
	err        error           // why, if a worker was named
	configured bool
	count      int
	memory     int64 // that one may take
	beside     int64 // that the rest of the process may take
}

// openTransforms starts the workers. Without --transform-worker there are none. If none can be started,
// the log says why, and pictures are served as they are stored. beside is the memory that the rest of
// the process may take.
func (s *serveCmd) openTransforms(
	ctx context.Context, log *slog.Logger, rec transform.Recorder, beside int64,
) *workers {
	w := &workers{
		configured: s.TransformWorker != "", count: s.transformWorkers(),
		memory: int64(s.TransformMemory), beside: beside,
	}
	if !w.configured {
		log.Info("transforms off", "reason", "--transform-worker is not set")
		return w
	}
	// A program that is no worker, such as a wrong path, keeps the server from listening until then.
	waiting := time.AfterFunc(time.Second, func() {
		log.Warn("waiting for the transform worker; the server listens when it is ready, or after 10s without it",
			"path", s.TransformWorker)
	})
	defer waiting.Stop()
	w.pool, w.err = transform.Start(ctx, transform.Config{
		Path: s.TransformWorker, Workers: w.count, Timeout: s.TransformTimeout, Memory: w.memory,
		AliasTime: share(s.TransformAliasShare, w.count), ClientTime: share(s.TransformClientShare, w.count),
		Log: log, Recorder: rec,
	})
	if w.err != nil {
		w.pool = nil
		log.Error("transforms off", "reason", w.err)
		return w
	}
	log.Info("transforms on", "workers", w.count, "libvips", w.pool.Version(), "landlock", w.pool.Landlock())
	return w
}

func (w *workers) close() {
	if w.pool != nil {
		w.pool.Close()
	}
}

// failure is why no worker runs or can be started; nil if one can, or if none was named.
func (w *workers) failure() error {
	if w.pool == nil {
		return w.err
	}
	return w.pool.Err()
}

// about describes the workers for the admin API.
func (w *workers) about() admin.Transforms {
	t := admin.Transforms{Configured: w.configured, Err: w.failure(), Workers: w.count}
	if w.pool != nil {
		t.Library, t.Landlock = w.pool.Version(), w.pool.Landlock()
	}
	return t
}

// examined describes the workers for the doctor.
func (w *workers) examined() doctor.Workers {
	t := w.about()
	return doctor.Workers{
		Configured: t.Configured, Err: t.Err, Library: t.Library, Landlock: t.Landlock, Count: t.Workers,
		Memory: w.memory, Beside: w.beside, Available: readAvailable(slog.New(slog.DiscardHandler)).bytes,
	}
}

// state is that in the metrics.
func (w *workers) state() metrics.TransformState {
	var s metrics.TransformState
	switch {
	case !w.configured:
		s.Off = "not_configured"
	case w.failure() != nil:
		s.Off = "worker"
	}
	if w.pool != nil {
		now := w.pool.Stats()
		s.Busy, s.Idle, s.QueueLength = now.Busy, now.Workers-now.Busy, now.Queued
	}
	return s
}

// share is a percentage of the time of all workers; 100 is no limit.
func share(percent, workers int) transform.Rate {
	if percent >= 100 {
		return transform.Rate{}
	}
	each := time.Duration(percent) * time.Duration(workers) * time.Second / 100
	return transform.Rate{PerSecond: each, Burst: burst * each}
}

// transformRecorder counts what the workers do, in metrics and in the usage of the alias.
type transformRecorder struct {
	*metrics.Metrics

	registry *alias.Registry
	accounts aliasAccounts
}

func (r transformRecorder) TransformJob(j transform.Report) {
	name, saved := "_other", int64(0) // of an alias that was deleted
	if j.Outcome == transform.OutcomeOK && j.Output != transform.Raw {
		saved = j.BytesIn - j.BytesOut
	}
	if route, ok := r.registry.ByID(j.Owner); ok {
		name = string(route.Alias.Name)
		if account := r.accounts.of(name); account != nil {
			account.Worked(1, j.Wall, saved)
		}
	}
	r.Metrics.TransformJob(name, metrics.TransformJob{
		Outcome: j.Outcome, Format: j.Output.String(), Queue: j.Queue, Worker: j.Wall, Decode: j.Decode, Encode: j.Encode,
		Saved: saved,
	})
}

func (r transformRecorder) TransformWorkerStarted(ok bool)     { r.WorkerStarted(ok) }
func (r transformRecorder) TransformWorkerEnded(reason string) { r.WorkerEnded(reason) }

// transformer is nil for no pool, as proxy.Config wants it.
func (w *workers) transformer() proxy.Transformer { //nolint:ireturn // nil is not a nil *transform.Pool
	if w.pool == nil {
		return nil
	}
	return w.pool
}
