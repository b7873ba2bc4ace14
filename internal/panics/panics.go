// Package panics keeps a panic in background work from ending the process: pictures
// are served whatever becomes of provisioning, canaries and counts.
package panics

import (
	"fmt"
	"log/slog"
	"runtime/debug"
)

// Error is a panic that was caught.
type Error struct {
	Task  string // what was under way
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
