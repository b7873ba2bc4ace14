package main

import (
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestFillDisk: nothing is measured before the answers come from files.
func TestFillDisk(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		memory  int // requests for an object until it comes from a file
		spoil   bool
		wantErr string
	}{
		{name: "at the third request", memory: 2},
		{name: "never", memory: 1 << 30, wantErr: "not on disk after 12 passes"},
		{name: "other bytes", spoil: true, wantErr: "not the object"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			seen := make(map[string]int)
			web := newWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				seen[r.URL.Path]++
				state := "ixmage; hit; ttl=60"
				if seen[r.URL.Path] > tt.memory {
					state = "ixmage; hit; detail=disk; ttl=60"
				}
				w.Header().Set("Cache-Status", state)
				id, size, _ := parseTraceKey(strings.TrimPrefix(r.URL.Path, "/"+bucket+"/"))
				if tt.spoil {
					id++
				}
				_, _ = w.Write(traceBody(id, size))
			}))
			s := &server{addr: web, admin: adminClient{addr: "any"}}
			if err := s.fillDisk(t.Context(), 3, 1000); !errorHas(err, tt.wantErr) {
				t.Errorf("got error %v, want %q", err, tt.wantErr)
			}
		})
	}
}

// TestDiskScript: every object comes once in a turn, and in the same order for every
// server.
func TestDiskScript(t *testing.T) {
	t.Parallel()
	script := string(diskScript(50, 1000))
	for id := range 50 {
		if want := `"/bench/` + traceKey(id, 1000) + `",`; strings.Count(script, want) != 1 {
			t.Errorf("the script has %s %d times", want, strings.Count(script, want))
		}
	}
	if script != string(diskScript(50, 1000)) {
		t.Error("a second script has another order")
	}
	if strings.Index(script, "t0-") < strings.Index(script, "t1-") && strings.Index(script, "t1-") < strings.Index(script, "t2-") &&
		strings.Index(script, "t2-") < strings.Index(script, "t3-") {
		t.Error("the order is that of the numbers")
	}
}
