package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const wrkOutput = `Running 3s test @ http://127.0.0.1:40001/bench/4096.png
  1 threads and 32 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency   382.46us  510.44us   8.01ms   96.56%
    Req/Sec    98.11k     6.35k  105.58k    70.00%
  Latency Distribution
     50%  314.00us
     75%  451.00us
     90%  551.00us
     99%    2.86ms
  97589 requests in 1.10s, 7.63MB read
Requests/sec:  88717.27
Transfer/sec:      7.60MB
`

func TestParseWrk(t *testing.T) {
	t.Parallel()
	clean := wrkResult{
		Requests: 97589, Elapsed: 1100 * time.Millisecond,
		P50: 314 * time.Microsecond, P99: 2860 * time.Microsecond,
	}
	failing := clean
	failing.Errors = 1 + 2 + 3 + 4 + 50
	tests := []struct {
		name    string
		out     string
		want    wrkResult
		wantErr string
	}{
		{name: "clean", out: wrkOutput, want: clean},
		{
			name: "errors of both kinds",
			out: strings.Replace(wrkOutput, "Requests/sec", "  Socket errors: connect 1, read 2, write 3, timeout 4\n"+
				"  Non-2xx or 3xx responses: 50\nRequests/sec", 1),
			want: failing,
		},
		{name: "no latency", out: strings.Replace(wrkOutput, "99%  ", "98%  ", 1), wantErr: "no latency distribution"},
		{name: "no totals", out: strings.Replace(wrkOutput, " requests in ", " in ", 1), wantErr: "no totals"},
		{name: "no requests", out: strings.Replace(wrkOutput, "97589 requests", "0 requests", 1), wantErr: "no requests"},
		{name: "unable to connect", out: "unable to connect to 127.0.0.1:1 Connection refused\n", wantErr: "no totals"},
		{name: "empty", wantErr: "no totals"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseWrk(tt.out)
			if !errorHas(err, tt.wantErr) {
				t.Fatalf("got error %v, want %q", err, tt.wantErr)
			}
			if err == nil && got != tt.want {
				t.Error(cmp.Diff(tt.want, got))
			}
		})
	}
}

func TestWrkRate(t *testing.T) {
	t.Parallel()
	r := wrkResult{Requests: 300, Elapsed: 1500 * time.Millisecond}
	if got := r.Rate(); got != 200 {
		t.Errorf("got %v requests/s, want 200", got)
	}
}

// errorHas reports whether err is as wanted: none for "", else one that says so.
func errorHas(err error, want string) bool {
	if want == "" || err == nil {
		return want == "" && err == nil
	}
	return strings.Contains(err.Error(), want)
}
