package main

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

func TestParseSchedstat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       time.Duration
		wantErr    string
	}{
		{name: "a thread that ran", text: "216201 1533 12\n", want: 216201},
		{name: "a thread that did not", text: "0 0 0\n"},
		{name: "more than an int32", text: "98765432109 1 2", want: 98765432109},
		{name: "two fields", text: "1 2\n", wantErr: "2 fields"},
		{name: "empty", wantErr: "0 fields"},
		{name: "no number", text: "x 1 2", wantErr: `"x"`},
		{name: "negative", text: "-1 1 2", wantErr: `"-1"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseSchedstat(tt.text)
			if !errorHas(err, tt.wantErr) {
				t.Fatalf("got error %v, want %q", err, tt.wantErr)
			}
			if got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestParseStat(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, text string
		want       stat
		wantErr    string
	}{
		{name: "plain", text: "14335 (cat) R 14330 14330 11287 0 -1 4194304 100 5 3 1 0 0", want: stat{14335, 14330, 103}},
		{name: "name with a space", text: "7 (cache worker) S 3 7 7 0 -1 0 1 2 3 4", want: stat{7, 3, 4}},
		{name: "name with brackets", text: "7 (a) R 1) S 3 7 7 0 -1 0 1 2 0 0", want: stat{7, 3, 1}},
		{name: "no name", text: "7 S 3", wantErr: "no name"},
		{name: "brackets reversed", text: "7 )( S 3", wantErr: "no name"},
		{name: "no pid", text: "x (a) S 3", wantErr: "no pid"},
		{name: "cut after the name", text: "7 (a) S", wantErr: "ends before"},
		{name: "cut in the fault counts", text: "7 (a) S 3 7 7 0 -1 0 1 2", wantErr: "ends before"},
		{name: "no parent", text: "7 (a) S x 7 7 0 -1 0 1 2 3", wantErr: "no parent"},
		{name: "no faults", text: "7 (a) S 3 7 7 0 -1 0 1 2 x", wantErr: "no fault counts"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := parseStat(tt.text)
			if !errorHas(err, tt.wantErr) {
				t.Fatalf("got error %v, want %q", err, tt.wantErr)
			}
			if err == nil && got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestSumFields(t *testing.T) {
	t.Parallel()
	const text = "rchar: 7\nsyscr: 10\nsyscw: 3\nnonvoluntary: 9\nvoluntary:\t5\n"
	tests := []struct {
		name    string
		fields  []string
		want    int64
		wantErr string
	}{
		{name: "one", fields: []string{"syscr"}, want: 10},
		{name: "two", fields: []string{"syscr", "syscw"}, want: 13},
		{name: "the end of another name", fields: []string{"voluntary"}, want: 5},
		{name: "missing", fields: []string{"syscr", "read_bytes"}, wantErr: "read_bytes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := sumFields(text, tt.fields...)
			if !errorHas(err, tt.wantErr) {
				t.Fatalf("got error %v, want %q", err, tt.wantErr)
			}
			if err == nil && got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestCostPerRequest(t *testing.T) {
	t.Parallel()
	before := usage{cpu: time.Millisecond, calls: 10, faults: 1, switches: 2}
	after := usage{cpu: 3 * time.Millisecond, calls: 50, faults: 6, switches: 12}
	want := cost{cpu: 100, calls: 2, faults: 0.25, switches: 0.5}
	if got := after.minus(before).per(20); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestUsageOfChild checks that the usage of a child counts as its parent's: nginx
// and Varnish work in children.
func TestUsageOfChild(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/proc/self/schedstat"); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: the kernel keeps no schedstat: %v", err)
	}
	// The shell waits while a second one counts, says so and stays.
	child := "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done; echo done; read x"
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "sh -c '"+child+"'; true")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	alone, err := processUsage(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	all, err := usageOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if all.cpu < 2*alone.cpu || all.cpu < time.Millisecond {
		t.Errorf("got %s for the tree and %s for its root, want most of it in the child", all.cpu, alone.cpu)
	}
	if alone.faults == 0 || alone.calls == 0 || all.faults <= alone.faults || all.calls <= alone.calls {
		t.Errorf("got %+v for the tree and %+v for its root, want more for the tree in every count", all, alone)
	}
}

func TestUsageOfNobody(t *testing.T) {
	t.Parallel()
	const pid = 1 << 30 // above any pid that Linux gives
	if u, err := usageOf(pid); err == nil {
		t.Errorf("got %+v for a process that is not there, want an error", u)
	}
}
