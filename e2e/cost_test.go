package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"

	"ixmage/internal/awstest/s3"
)

// counts are counters of a process. Unlike times they do not depend on a quiet machine.
type counts struct {
	calls  float64 // system calls that read or write
	faults float64 // page faults without I/O
	allocs float64 // on Go's heap
}

// countsOf reads the kernel's counts of a process: proc(5), /proc/[pid]/io and
// /proc/[pid]/stat.
func countsOf(t *testing.T, pid int) (c counts) {
	t.Helper()
	dir := "/proc/" + strconv.Itoa(pid)
	text, err := os.ReadFile(dir + "/io")
	if err != nil {
		t.Skip("SKIPPED: the kernel does not count system calls:", err)
	}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if n, err := strconv.ParseFloat(value, 64); err == nil && (name == "syscr" || name == "syscw") {
			c.calls += n
		}
	}
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	_, fields, _ := strings.Cut(string(stat), ") ")
	if c.faults, err = strconv.ParseFloat(strings.Fields(fields)[7], 64); err != nil {
		t.Fatal(err)
	}
	return c
}

// within reports whether no count is above most.
func (c counts) within(most counts) bool {
	return c.calls <= most.calls && c.faults <= most.faults && c.allocs <= most.allocs
}

// costRow is a size of objects and the most that a hit and a miss of it may cost.
type costRow struct {
	size            int
	hit             counts
	off, cold, full counts // misses by the state of the cache
	memory          string // of a cache that is full
}

// TestCost limits the system calls, page faults and allocations of hits and misses of the
// shipped binary. Misses are counted with the cache off, while new objects fill it, and while
// every miss evicts: memory is used again in the first and the last of these. The limits of
// faults leave room for some pages of stacks and heap, those of allocations are a quarter above
// the usual counts, those of calls two
// to three times, because calls depend on how S3's bytes arrive.
//
// What a request costs is the least of some rounds. A busy machine only adds: the collector comes late, so
// that the heap grows into new pages, and gives pages back that are then new again; threads that wait for a
// processor are replaced by new ones with stacks of their own; S3's bytes come in smaller parts.
func TestCost(t *testing.T) { //nolint:paralleltest // it counts
	for _, row := range []costRow{
		{
			size: 4 << 10, memory: "256KiB", hit: counts{5, 1, 30},
			off: counts{14, 8, 600}, cold: counts{14, 8, 600}, full: counts{14, 8, 600},
		},
		{
			size: 64 << 10, memory: "4MiB", hit: counts{7, 1, 30},
			off: counts{20, 8, 600}, cold: counts{20, 28, 600}, full: counts{20, 8, 600},
		},
		{
			size: 1 << 20, memory: "48MiB", hit: counts{8, 1, 30},
			off: counts{60, 10, 600}, cold: counts{60, 320, 600}, full: counts{60, 10, 600},
		},
	} {
		for state, most := range map[string]counts{"off": row.off, "cold": row.cold, "full": row.full} {
			t.Run(fmt.Sprintf("%d KiB, cache %s", row.size>>10, state), func(t *testing.T) { row.count(t, state, most) })
		}
	}
}

func (row costRow) count(t *testing.T, state string, most counts) {
	t.Setenv("GOMEMLIMIT", "1GiB") // garbage is collected early, so that the heap grows no more
	memory := map[string]string{"off": "0", "cold": "512MiB", "full": row.memory}[state]
	s := newEnvOn(t, startPlain(t, "--log-level", "info", "--cache-memory", memory))
	// Small objects fill the heap until it is collected, so that its pages are used again.
	const small, fill, rounds, requests = 500, 60, 5, 40
	tiny, body := png(1<<10, ""), png(row.size, "")
	for i := range small {
		s.put(fmt.Sprintf("small-%d.png", i), s3.Object{Body: tiny})
	}
	for i := range fill + rounds*requests {
		s.put(fmt.Sprintf("%d.png", i), s3.Object{Body: body})
	}
	run := s.costOf(t)
	run(small, func(i int) string { return fmt.Sprintf("/shop/small-%d.png", i) })
	run(fill, func(i int) string { return fmt.Sprintf("/shop/%d.png", i) })
	check := func(name string, got, most counts) {
		t.Logf("a %s: %+v", name, got)
		if !got.within(most) {
			t.Errorf("a %s: %+v, want at most %+v", name, got, most)
		}
	}
	least := func(path func(int) string) (c counts) {
		for round := range rounds {
			got := run(requests, func(i int) string { return path(round*requests + i) })
			if round == 0 {
				c = got
			}
			c = counts{min(c.calls, got.calls), min(c.faults, got.faults), min(c.allocs, got.allocs)}
		}
		return c
	}
	check("miss", least(func(i int) string { return fmt.Sprintf("/shop/%d.png", fill+i) }), most)
	if state == "cold" {
		warm := func(int) string { return "/shop/0.png" }
		run(requests, warm)
		check("hit", least(warm), row.hit)
	}
}

// costOf returns a function that sends n requests over one connection and returns what each
// of them costs the server.
func (s *env) costOf(t *testing.T) func(n int, path func(int) string) counts {
	t.Helper()
	w := s.dial()
	allocs := func() float64 { return s.metric("go_memstats_mallocs_total") }
	return func(n int, path func(int) string) counts {
		first, begin := allocs(), allocs() // reading it allocates too
		before := countsOf(t, s.process.Pid())
		for i := range n {
			r := w.send("GET " + path(i) + " HTTP/1.1\r\nHost: ixmage.test\r\n\r\n").answer(http.MethodGet)
			if r == nil || r.err != nil || r.StatusCode != http.StatusOK {
				t.Fatalf("%s: %+v", path(i), r)
			}
		}
		after := countsOf(t, s.process.Pid())
		made := allocs() - begin - (begin - first)
		return counts{
			calls:  (after.calls - before.calls) / float64(n),
			faults: (after.faults - before.faults) / float64(n), allocs: made / float64(n),
		}
	}
}
