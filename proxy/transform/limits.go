package transform

import "time"

// Limits of one job. The worker gets them in its request, and checks them again.
const (
	// SourceMax is how many bytes a source or a watermark may have.
	SourceMax     = 40 << 20
	maxSourceSide = 16384      // pixels
	maxPixels     = 50_000_000 // of a source over all frames that are read
	maxPixelsAVIF = 16_000_000 // the same: an AVIF needs much more time and memory for a pixel
	maxFrames     = 100
	maxBody       = 32 << 20 // bytes of a result
)

// Limits of one worker.
const (
	defaultTimeout = 5 * time.Second
	defaultMemory  = 1 << 30
	workerJobs     = 500              // after these a worker is replaced
	startTimeout   = 10 * time.Second // until a worker is ready
	maxStderr      = 4 << 10          // bytes kept of what a worker writes there
	// residentShare of its address space is how much memory a worker may have after a job.
	residentShare = 2
)

// Limits of a pool.
const (
	queueFactor = 2 // waiting jobs for each worker
	// maxSpares bounds the workers that are ready without an owner. They use 20 to 50 MB each.
	maxSpares = 4
	// turnTime is for how long a worker goes on with its owner while others wait. A change
	// of owner costs the start of a process.
	turnTime = 500 * time.Millisecond
	// retryStart and maxRetryStart are the first and the longest time after a failed start
	// of a worker until the next one.
	retryStart    = time.Second
	maxRetryStart = time.Minute
	killerTime    = 5 * time.Minute // a picture that killed its worker is not tried again for so long
	killerCount   = 4096
	bucketCount   = 4096 // of aliases, and of clients
)

// pixelsOf returns how many pixels a source of a format may have.
func pixelsOf(f Format) int64 {
	if f == AVIF {
		return maxPixelsAVIF
	}
	return maxPixels
}

// keepsFrames reports whether the result may have more than one frame.
func (t *Task) keepsFrames() bool { return t.Animate && t.Output.animates() }

// maxFrames returns how many frames the result may have.
func (t *Task) maxFrames() int {
	if t.keepsFrames() {
		return maxFrames
	}
	return 1
}

// check refuses a job that no worker would do, before one is taken for it.
func (j *Job) check() error {
	frames := 1
	if j.Task.keepsFrames() {
		frames = max(1, j.Source.Frames)
	}
	if err := j.Source.check(frames); err != nil {
		return err
	}
	if j.Mark == nil {
		return nil
	}
	if err := j.Mark.check(1); err != nil {
		err.Mark = true
		return err
	}
	return nil
}

// check returns why a picture of which frames are read is beyond the limits, or nil.
func (b *Blob) check(frames int) *RefusedError {
	switch {
	case b.Type < JPEG || b.Type > AVIF:
		return &RefusedError{Why: Unsupported}
	case b.Size <= 0:
		return &RefusedError{Why: Broken}
	case b.Size > SourceMax, b.Width > maxSourceSide, b.Height > maxSourceSide, frames > maxFrames,
		int64(b.Width)*int64(b.Height)*int64(frames) > pixelsOf(b.Type):
		return &RefusedError{Why: TooLarge}
	default:
		return nil
	}
}
