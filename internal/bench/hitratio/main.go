// The program hitratio compares the hit ratio of ixmage's memory tier with those of other
// policies, and prints a table: see docs/benchmarks.md. It is a module of its own, so that the
// other caches are not in the product's go.mod.
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"ixmage/internal/bench/trace"
)

// ratio is the share of requests, and of their bytes, that were hits.
type ratio struct{ requests, bytes float64 }

// cell is one trace with one budget.
type cell struct {
	kind trace.Kind
	mib  int64
}

func main() {
	n := flag.Int("n", 2_000_000, "requests per trace")
	flag.Parse()
	ours, err := measureOurs(*n)
	if err != nil {
		fmt.Fprintln(os.Stderr, "hitratio:", err)
		os.Exit(1)
	}
	fmt.Printf("Shares of bytes / of requests that were hits, %d requests per trace.\n\n", *n)
	fmt.Println("| trace | MiB | LRU | 2Q | ARC | otter | ixmage |")
	fmt.Println("|---|---|---|---|---|---|---|")
	for _, kind := range trace.Kinds {
		var requests []trace.Request
		for r := range trace.Requests(kind, *n) {
			requests = append(requests, r)
		}
		for _, mib := range []int64{128, 512} {
			limit := mib << 20
			fmt.Printf("| %s | %d | %s | %s | %s | %s | %s |\n", kind, mib,
				replay(requests, newPlainLRU(limit)), fitted(requests, limit, new2Q), fitted(requests, limit, newARC),
				replay(requests, newOtter(limit)), ours[cell{kind, mib}])
		}
	}
}

func (r ratio) String() string { return fmt.Sprintf("%.3f / %.3f", r.bytes, r.requests) }

func replay(rs []trace.Request, p policy) ratio {
	var hits, hitBytes, sum int64
	for _, r := range rs {
		sum += r.Size
		if p.request(r) {
			hits++
			hitBytes += r.Size
		}
	}
	return ratio{float64(hits) / float64(len(rs)), float64(hitBytes) / float64(sum)}
}

// fitted replays a trace through a cache that is bounded by its number of entries. The number is
// chosen so that the cache holds as many bytes as limit on average: it may hold more for a while,
// unlike the others.
func fitted(rs []trace.Request, limit int64, make func(entries int) bounded) ratio {
	const meanSize = 76_000
	entries := int(limit / meanSize)
	for range 4 {
		p := &byEntries{bounded: make(entries)}
		got := replay(rs, p)
		off := float64(p.mean()) / float64(limit)
		if off > 0.99 && off < 1.01 {
			return got
		}
		entries = int(float64(entries) / off)
	}
	return replay(rs, &byEntries{bounded: make(entries)})
}

// measureOurs runs the test in ixmage/cache that replays the traces through the code of the
// cache itself.
func measureOurs(n int) (map[cell]ratio, error) {
	cmd := exec.Command("go", "test", "-count=1", "-timeout=30m", "-run=^TestHitRatio$", "-v", "./cache")
	cmd.Dir = "../../.." // the product has a go.mod of its own
	cmd.Env = append(os.Environ(), "IXMAGE_HITRATIO="+strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go test ./cache: %w\n%s", err, out)
	}
	ours := make(map[cell]ratio)
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var c cell
		var r ratio
		if k, _ := fmt.Sscanf(lines.Text(), "hitratio %s %d %f %f", &c.kind, &c.mib, &r.requests, &r.bytes); k == 4 {
			ours[c] = r
		}
	}
	return ours, nil
}
