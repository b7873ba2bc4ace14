package main

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
)

// until is a log that calls found once it has a text.
type until struct {
	text  string
	found context.CancelFunc
	all   bytes.Buffer
}

func (u *until) Write(line []byte) (int, error) {
	if u.all.Write(line); strings.Contains(string(line), u.text) {
		u.found()
	}
	return len(line), nil
}

// TestWaitingForWorker: a start that waits for a program that is no worker says so.
func TestWaitingForWorker(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := &until{text: "waiting for the transform worker", found: cancel}
	s := serveCmd{TransformWorker: "/bin/cat"} // which says nothing
	w := s.openTransforms(ctx, slog.New(slog.NewTextHandler(lines, nil)), nil, 0)
	defer w.close()
	if w.pool != nil || ctx.Err() == nil || !strings.Contains(lines.all.String(), "path=/bin/cat") {
		t.Errorf("%v: %s", w.err, &lines.all)
	}
}
