package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"ixmage/alias"
)

// TestParseAmount: sizes and whole percentages are read, and anything else is refused.
func TestParseAmount(t *testing.T) {
	t.Parallel()
	const total = 1000 << 20
	for _, tc := range []struct {
		text string
		want int64 // of total; negative: refused
	}{
		{"0", 0},
		{"256MiB", 256 << 20},
		{"3GiB", 3 << 30},
		{"0%", 0},
		{"25%", 250 << 20},
		{"100%", total},
		{"101%", -1},
		{"256%", -1}, // above a byte
		{"-1%", -1},
		{"+1%", -1},
		{"12.5%", -1},
		{"%", -1},
		{"25 %", -1},
		{"25%%", -1},
		{"25MiB%", -1},
		{"25", 25},
		{"25p", -1},
		{"", -1},
	} {
		a, err := parseAmount(tc.text, nil)
		if got := a.of(total); (err != nil) != (tc.want < 0) || err == nil && got != tc.want {
			t.Errorf("%q: got %d, %v, want %d", tc.text, got, err, tc.want)
		}
		if err != nil && !strings.Contains(err.Error(), "as in 25%") {
			t.Errorf("%q: %v does not show a percentage", tc.text, err)
		}
	}
}

// TestMemoryBudget: a budget that fits is taken as it is, and one that does not is replaced
// by one that leaves room, with a warning that has both numbers.
func TestMemoryBudget(t *testing.T) {
	t.Parallel()
	const mib, gib = 1 << 20, 1 << 30
	for _, tc := range []struct {
		name            string
		flag            amount
		available, want int64 // of want: negative: refused
	}{
		{"fits", amount{bytes: 256 * mib}, 4 * gib, 256 * mib},
		{"fits as documented", amount{bytes: 256 * mib}, 384 * mib, 256 * mib},
		{"a byte more", amount{bytes: 256*mib + 1}, 384 * mib, 256 * mib},
		{"all there is", amount{bytes: 4 * gib}, 4 * gib, 3 * gib},
		{"far above", amount{bytes: 1 << 44}, 4 * gib, 3 * gib},
		{"default in a small group", amount{bytes: 256 * mib}, 256 * mib, 128 * mib},
		{"half of a small group", amount{bytes: 64 * mib}, 128 * mib, 64 * mib},
		{"more than half of a small group", amount{bytes: 65 * mib}, 128 * mib, 64 * mib},
		{"nothing", amount{}, 4 * gib, 0},
		{"percentage", amount{percent: 25}, 1000 * mib, 250 * mib},
		{"a percentage that fits", amount{percent: 75}, 4000 * mib, 3000 * mib},
		{"all of it", amount{percent: 100}, 4000 * mib, 3000 * mib},
		{"percentage of a small group", amount{percent: 75}, 128 * mib, 64 * mib},
		{"not known", amount{bytes: 1 << 44}, 0, 1 << 44},
		{"percentage of what is not known", amount{percent: 25}, 0, -1},
	} {
		var log bytes.Buffer
		s := serveCmd{CacheMemory: tc.flag}
		got, err := s.memoryBudget(available{tc.available, "cgroup"}, slog.New(slog.NewTextHandler(&log, nil)))
		if (err != nil) != (tc.want < 0) || err == nil && got != tc.want {
			t.Errorf("%s: got %d, %v, want %d", tc.name, got, err, tc.want)
		}
		asked := tc.flag.of(tc.available)
		if warned := strings.Contains(log.String(), "level=WARN"); warned != (tc.want >= 0 && tc.want != asked) {
			t.Errorf("%s: the log is %q", tc.name, log.String())
		}
	}
}

// TestWorkerMemory: the start warns of workers that may take more than there is beside the cache,
// with what would help, and of no others.
func TestWorkerMemory(t *testing.T) {
	t.Parallel()
	const mib, gib = 1 << 20, 1 << 30
	for _, tc := range []struct {
		name              string
		path              string
		workers           int
		each              alias.Size
		budget, available int64
		warns             bool
	}{
		{"fits exactly", "w", 2, gib, 256 * mib, 2*gib + 384*mib, false},
		{"a byte more", "w", 2, gib, 256*mib + 1, 2*gib + 384*mib, true},
		{"a third worker", "w", 3, gib, 256 * mib, 2*gib + 384*mib, true},
		{"smaller workers", "w", 3, 512 * mib, 256 * mib, 2*gib + 384*mib, false},
		{"a worker for each processor", "w", 0, 1 << 40, 256 * mib, 24 * gib, true},
		{"no workers", "", 3, gib, 256 * mib, 384 * mib, false},
		{"memory that is not known", "w", 3, gib, 256 * mib, 0, false},
	} {
		var log bytes.Buffer
		s := serveCmd{TransformWorker: tc.path, TransformWorkers: tc.workers, TransformMemory: tc.each}
		s.checkWorkerMemory(available{tc.available, "cgroup"}, tc.budget, slog.New(slog.NewTextHandler(&log, nil)))
		got := log.String()
		if (got != "") != tc.warns || tc.warns && (!strings.Contains(got, "level=WARN") || !strings.Contains(got, "--transform-memory")) {
			t.Errorf("%s: the log is %q", tc.name, got)
		}
	}
}

// TestGCRoom: Go's heap gets what it has on a large machine, and less in a small group.
func TestGCRoom(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	for _, tc := range []struct{ available, budget, want int64 }{
		{0, 256 * mib, gcRoom},
		{24 << 30, 256 * mib, gcRoom},
		{384 * mib, 256 * mib, gcRoom}, // as documented
		{128 * mib, 64 * mib, gcRoom / 2},
		{128 * mib, 0, gcRoom},
	} {
		if got := (available{tc.available, "cgroup"}).gcRoomOf(tc.budget); got != tc.want {
			t.Errorf("%+v: got %d", tc, got)
		}
	}
}
