package transform

import (
	"runtime"
	"sync"
)

// forker starts processes from one thread that lives as long as the pool. The kernel kills a
// worker (PR_SET_PDEATHSIG) when the thread that started it ends, and not only when the process
// does; threads of other goroutines may end at any time.
type forker struct {
	calls chan func()
	done  chan struct{}
	once  sync.Once
}

func newForker() *forker {
	f := &forker{calls: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(f.done)
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		for call := range f.calls {
			call()
		}
	}()
	return f
}

// do calls start on the thread.
func (f *forker) do(start func() error) error {
	result := make(chan error)
	f.calls <- func() { result <- start() }
	return <-result
}

// close ends the thread. All workers must have ended.
func (f *forker) close() {
	f.once.Do(func() { close(f.calls) })
	<-f.done
}
