package main

import (
	"errors"
	"math"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestSpeedup(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		n           int
		ratio, want float64
	}{
		{n: 1, ratio: 1.3, want: 1},
		{n: 2, ratio: 1.25, want: 1.6},
		{n: 16, ratio: 1, want: 16},
		{n: 16, ratio: 0.9, want: 16},
		{n: 16, ratio: 2, want: 1},
	} {
		if got := speedup(tt.n, tt.ratio); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("speedup(%d, %v) is %v, want %v", tt.n, tt.ratio, got, tt.want)
		}
	}
}

func TestWriteCores(t *testing.T) {
	t.Parallel()
	c := config{binaries: []binary{{name: nameOurs}}, sizes: []int{4096}, charts: new(charts)}
	all := samples{
		{server: nameOurs, size: 1, round: 1, cost: cost{cpu: 10}}, {server: nameOurs, size: 2, round: 1, cost: cost{cpu: 12.5}},
	}
	var out strings.Builder
	c.writeCores(&out, all)
	for _, want := range []string{"| 2 | 12.5 (12.5–12.5) | 1.250", "| 1.60 | measured |", "| 16 | | | 3.4 (3.4–3.4) | on paper, Amdahl |"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report lacks %q: %s", want, out.String())
		}
	}
	if len(c.charts.list) != 1 || !c.charts.list[0].Series[1].Dashed {
		t.Errorf("the charts are %+v, want one that dashes what is on paper", c.charts.list)
	}
}

// TestGrowScript checks with the interpreter of wrk, where there is one, that the script
// is Lua.
func TestGrowScript(t *testing.T) {
	t.Parallel()
	script := string(growScript("/bench/"+growKey("%d"), 10))
	if want := `"GET /bench/t%d-512.png HTTP/1.1\r\nHost: bench\r\n\r\n"`; !strings.Contains(script, want) {
		t.Errorf("the script lacks %s: %s", want, script)
	}
	lua, err := exec.LookPath("luajit")
	if err != nil {
		return
	}
	cmd := exec.CommandContext(t.Context(), lua, "-e", script+"\nprint(request())")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "GET /bench/t") {
		t.Errorf("the script prints %q and error %v", out, err)
	}
}

func TestInParallel(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var seen []int
	see := func(_ *traceConn, i int) error {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, i)
		return nil
	}
	if err := inParallel(t.Context(), 100, see); err != nil {
		t.Fatal(err)
	}
	slices.Sort(seen)
	if len(seen) != 100 || seen[0] != 0 || seen[99] != 99 {
		t.Errorf("saw %v, want every number once", seen)
	}
	full := errors.New("full")
	if err := inParallel(t.Context(), 100, func(*traceConn, int) error { return full }); !errors.Is(err, full) {
		t.Errorf("got error %v, want that of the calls", err)
	}
}
