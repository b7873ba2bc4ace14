package doctor

import (
	"fmt"

	"ixmage/alias"
)

// Workers describes the processes that transform pictures.
type Workers struct {
	Configured bool  // whether a worker was named
	Err        error // why none runs; nil if they do
	Library    string
	Landlock   int
	Count      int
	Memory     int64 // the most that one may take
	Beside     int64 // what the rest of the server may take
	Available  int64 // what all of them may take together; 0 if it is not known
}

const workerFlag = "--transform-worker"

// transforms examines the workers, and names the aliases that need them.
func (e *examination) transforms() {
	if e.cfg.Workers == nil {
		return
	}
	w := e.cfg.Workers()
	wanted, urgent := e.transformed()
	aliases := ""
	if len(wanted) > 0 {
		aliases = "; a query changes nothing for the aliases " + list(wanted)
	}
	switch {
	case w.Err != nil:
		e.add(Finding{Transforms, Bad, workerFlag, "transforms are off: " + w.Err.Error() + aliases,
			"correct what the detail says, and restart; docs/operations.md, section Transforms, has what a worker needs"})
	case !w.Configured && urgent:
		e.add(Finding{Transforms, Warning, workerFlag, "transforms are off: it is not set" + aliases,
			"build the worker with make worker and name it, or set transforms of these aliases to off"})
	case !w.Configured:
		e.good(Transforms, workerFlag, "transforms are off: it is not set"+aliases)
	case w.Available > 0 && int64(w.Count)*w.Memory+w.Beside > w.Available:
		e.add(Finding{Transforms, Warning, workerFlag, w.describe() + fmt.Sprintf(
			". If all took as much as they may, they and the server (%s) would need %s, and there is %s",
			mebibytes(w.Beside), mebibytes(int64(w.Count)*w.Memory+w.Beside), mebibytes(w.Available)),
			"give --transform-workers or --transform-memory less, or the server more memory"})
	default:
		e.good(Transforms, workerFlag, w.describe())
	}
}

func (w Workers) describe() string {
	return fmt.Sprintf("transforms are on: libvips %s, Landlock ABI %d; %d workers of at most %s each",
		w.Library, w.Landlock, w.Count, mebibytes(w.Memory))
}

// transformed returns the aliases whose transforms are not off. It is urgent if one of them was
// given more than the default.
func (e *examination) transformed() (names []string, urgent bool) {
	for _, r := range e.routes {
		if mode := r.Alias.Transforms; mode != alias.TransformsOff && mode != "" {
			names = append(names, string(r.Alias.Name))
			urgent = urgent || mode != alias.TransformsTemplates || len(r.Alias.Templates) > 0
		}
	}
	return names, urgent
}

func mebibytes(n int64) string { return fmt.Sprintf("%d MiB", n>>20) }
