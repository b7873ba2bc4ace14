package panics_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"ixmage/internal/panics"
)

func TestCatch(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log, failed := slog.New(slog.NewTextHandler(&out, nil)), errors.New("failed")
	if err := panics.Catch(log, "a task", func() error { return failed }); !errors.Is(err, failed) || out.Len() > 0 {
		t.Errorf("got %v, logged %q", err, out.String())
	}
	err := panics.Catch(log, "a task", func() error {
		var list []int
		_ = list[len(out.String())]
		return nil
	})
	caught, ok := errors.AsType[*panics.Error](err)
	if !ok || caught.Task != "a task" || !strings.Contains(err.Error(), "a task panicked: runtime error: index out of range") {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"level=ERROR", "a task", "index out of range", "panics_test.go"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("log %q, want %s in it", out.String(), want)
		}
	}
}
