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
		name, text  string
		pid, parent int
		wantErr     string
	}{
		{name: "plain", text: "14335 (cat) R 14330 14330 11287 0 -1", pid: 14335, parent: 14330},
		{name: "name with a space", text: "7 (cache worker) S 3 7 7", pid: 7, parent: 3},
		{name: "name with brackets", text: "7 (a) R 1) S 3 7 7", pid: 7, parent: 3},
		{name: "no name", text: "7 S 3", wantErr: "no name"},
		{name: "brackets reversed", text: "7 )( S 3", wantErr: "no name"},
		{name: "no pid", text: "x (a) S 3", wantErr: "no pid"},
		{name: "cut after the name", text: "7 (a) S", wantErr: "ends after"},
		{name: "no parent", text: "7 (a) S x", wantErr: "no parent"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pid, parent, err := parseStat(tt.text)
			if !errorHas(err, tt.wantErr) {
				t.Fatalf("got error %v, want %q", err, tt.wantErr)
			}
			if err == nil && (pid != tt.pid || parent != tt.parent) {
				t.Errorf("got %d under %d, want %d under %d", pid, parent, tt.pid, tt.parent)
			}
		})
	}
}

// TestCPUTimeOfChild checks that a child's time counts as its parent's: nginx
// and Varnish work in children.
func TestCPUTimeOfChild(t *testing.T) {
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
	alone, err := processTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	all, err := cpuTime(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if all < 2*alone || all < time.Millisecond {
		t.Errorf("got %s for the tree and %s for its root, want most of it in the child", all, alone)
	}
}

func TestCPUTimeOfNobody(t *testing.T) {
	t.Parallel()
	const pid = 1 << 30 // above any pid that Linux gives
	if d, err := cpuTime(pid); err == nil {
		t.Errorf("got %s for a process that is not there, want an error", d)
	}
}
