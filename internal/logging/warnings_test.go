package logging

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
)

func TestStartWarnings(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	warned := KeepWarnings(slog.NewTextHandler(&out, nil))
	log := slog.New(warned)
	log.Info("listening")
	log.Warn("there is no boundary")
	log.With("x", 1).WithGroup("g").Error("a row is damaged", "alias", "shop", "id", 7)
	want := []string{"there is no boundary", "a row is damaged (alias: shop, id: 7)"}
	if got := warned.End(); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	log.Warn("later")
	if got := warned.End(); !slices.Equal(got, want) {
		t.Errorf("after the start: got %q, want %q", got, want)
	}
	if lines := strings.Count(out.String(), "\n"); lines != 4 || !strings.Contains(out.String(), "x=1 g.alias=shop") {
		t.Errorf("the log has %d lines:\n%s", lines, &out)
	}
}
