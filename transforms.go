package main

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"time"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/transform"
)

// burst is for how long an alias or a client that was idle may have all of its share at once.
const burst = 30 * time.Second

// Bounds of the settings of the workers.
const (
	maxWorkers         = 256
	minTransformTime   = 100 * time.Millisecond
	maxTransformTime   = 10 * time.Second
	minTransformMemory = 256 << 20
)

func (s *serveCmd) checkTransforms(errs *configErrors) {
	if s.TransformWorkers > maxWorkers {
		errs.addf("transform-workers", "%d must be from 0 to %d", s.TransformWorkers, maxWorkers)
	}
	if t := s.TransformTimeout; t < minTransformTime || t > maxTransformTime {
		errs.addf("transform-timeout", "%s must be from %s to %s", t, minTransformTime, maxTransformTime)
	}
	if s.TransformMemory < minTransformMemory {
		errs.addf("transform-memory", "%d bytes must be at least 256MiB", s.TransformMemory)
	}
}

// transformWorkers returns how many workers may be busy at once.
func (s *serveCmd) transformWorkers() int { return cmp.Or(s.TransformWorkers, runtime.GOMAXPROCS(0)) }

// openTransforms starts the workers. Without --transform-worker there are none; neither are there if
// no worker stands, and the log says why: pictures are served as they are stored. The function tells
// operators which it is.
func (s *serveCmd) openTransforms(
	ctx context.Context, log *slog.Logger, rec transform.Recorder,
) (*transform.Pool, func() admin.Transforms) {
	if s.TransformWorker == "" {
		log.Info("transforms off", "reason", "--transform-worker is not set")
		return nil, func() admin.Transforms { return admin.Transforms{} }
	}
	workers := s.transformWorkers()
	pool, err := transform.Start(ctx, transform.Config{
		Path: s.TransformWorker, Workers: workers, Timeout: s.TransformTimeout, Memory: int64(s.TransformMemory),
		AliasTime: share(s.TransformAliasShare, workers), ClientTime: share(s.TransformClientShare, workers),
		Log: log, Recorder: rec,
	})
	if err != nil {
		log.Error("transforms off", "reason", err)
		return nil, func() admin.Transforms { return admin.Transforms{Configured: true, Err: err} }
	}
	log.Info("transforms on", "workers", workers, "libvips", pool.Version())
	return pool, func() admin.Transforms {
		return admin.Transforms{
			Configured: true, Err: pool.Err(), Workers: workers, Library: pool.Version(), Landlock: pool.Landlock(),
		}
	}
}

// share is a percentage of the time of all workers; 100 is no limit.
func share(percent, workers int) transform.Rate {
	if percent >= 100 {
		return transform.Rate{}
	}
	each := time.Duration(percent) * time.Duration(workers) * time.Second / 100
	return transform.Rate{PerSecond: each, Burst: each * time.Duration(burst/time.Second)}
}

// transformRecorder counts what the workers do.
type transformRecorder struct {
	*metrics.Metrics

	registry *alias.Registry
}

func (r transformRecorder) TransformJob(j transform.Report) {
	name := ""
	if route, ok := r.registry.ByID(j.Owner); ok {
		name = string(route.Alias.Name)
	}
	r.Metrics.TransformJob(name, metrics.TransformJob{
		Outcome: j.Outcome, Format: j.Output.String(), Queue: j.Queue, Worker: j.Wall, Decode: j.Decode, Encode: j.Encode,
		Saved: j.BytesIn - j.BytesOut,
	})
}

func (r transformRecorder) TransformWorkerStarted(ok bool, _ time.Duration) { r.WorkerStarted(ok) }
func (r transformRecorder) TransformWorkerEnded(reason string)              { r.WorkerEnded(reason) }

// transformer is nil for no pool, as proxy.Config wants it.
func transformer(p *transform.Pool) proxy.Transformer {
	if p == nil {
		return nil
	}
	return p
}
