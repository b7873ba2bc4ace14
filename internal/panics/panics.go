// Package panics keeps a panic in background work from ending the process, so that
// pictures are served even if provisioning, canaries or usage counts panic.
package panics

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Error is a panic that was caught.
type Error struct {
	Task  string // the task that panicked
	Value any
}

func (e *Error) Error() string { return fmt.Sprintf("%s panicked: %v", e.Task, e.Value) }

// Catch calls fn. A panic in it is logged with its stack and returned as an *Error.
func Catch(log *slog.Logger, task string, fn func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic in the background", "task", task, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
			err = &Error{Task: task, Value: v}
		}
	}()
	return fn()
}
