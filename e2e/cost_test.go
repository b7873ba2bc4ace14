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

// counts are counters of the kernel for a process. Unlike times they do not depend on
// a quiet machine.
type counts struct {
	calls  float64 // system calls that read or write
	faults float64 // page faults without I/O
}

// countsOf reads the counts of a process: proc(5), /proc/[pid]/io and
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

// TestCost limits the system calls and page faults of hits and misses of the shipped
// binary. The limits are about one and a half times the usual counts for faults, and
// two to three times for calls, which depend on how S3's bytes arrive.
func TestCost(t *testing.T) { //nolint:paralleltest // it counts
	const requests = 400
	for _, tc := range []struct {
		size      int
		hit, miss counts // at most
	}{
		{4 << 10, counts{calls: 5, faults: 1}, counts{calls: 14, faults: 20}},
		{64 << 10, counts{calls: 7, faults: 1}, counts{calls: 20, faults: 40}},
		{1 << 20, counts{calls: 8, faults: 1}, counts{calls: 60, faults: 320}},
	} {
		t.Run(fmt.Sprintf("%d KiB", tc.size>>10), func(t *testing.T) {
			s := newEnvOn(t, startPlain(t, "--log-level", "info", "--cache-memory", "64MiB"))
			for i := range requests {
				s.put(fmt.Sprintf("%d.png", i), s3.Object{Body: png(tc.size, "")})
			}
			s.put("hit.png", s3.Object{Body: png(tc.size, "")})
			w := s.dial()
			get := func(path string) {
				if r := w.send("GET " + path + " HTTP/1.1\r\nHost: ixmage.test\r\n\r\n").answer(http.MethodGet); r == nil || r.err != nil || r.StatusCode != http.StatusOK {
					t.Fatalf("%s: %+v", path, r)
				}
			}
			run := func(path func(int) string) counts {
				before := countsOf(t, s.process.Pid())
				for i := range requests / 2 {
					get(path(i))
				}
				after := countsOf(t, s.process.Pid())
				return counts{(after.calls - before.calls) / (requests / 2), (after.faults - before.faults) / (requests / 2)}
			}
			cold := func(from int) func(int) string {
				return func(i int) string { return fmt.Sprintf("/shop/%d.png", from+i) }
			}
			warm := func(int) string { return "/shop/hit.png" }
			run(cold(0)) // fills buffers, stacks and pools
			miss := run(cold(requests / 2))
			run(warm)
			hit := run(warm)
			t.Logf("a hit: %+v, a miss: %+v", hit, miss)
			for _, c := range []struct {
				name      string
				got, most counts
			}{{"hit", hit, tc.hit}, {"miss", miss, tc.miss}} {
				if c.got.calls > c.most.calls || c.got.faults > c.most.faults {
					t.Errorf("a %s: %+v, want at most %+v", c.name, c.got, c.most)
				}
			}
		})
	}
}
