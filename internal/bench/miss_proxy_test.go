package main

import (
	"net/http"
	"sync"
	"testing"
)

// TestMissClientSigns: the client of nginx sends a signed URL, the same one each time, and
// accepts an answer without Cache-Status.
func TestMissClientSigns(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	targets := make(map[string]int)
	web := newWeb(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.URL.Query().Get("X-Amz-Signature") != "" {
			targets[r.URL.String()]++
		}
		_, _ = w.Write(make([]byte, 100))
	}))
	spec := missSpec{Addr: "http://127.0.0.1:1", AccessKey: "A", SecretKey: "S", Proxy: web}
	got := runJob(t, spec, missJob{Size: 100, Count: missObjects + 1, Workers: 2})
	mu.Lock()
	defer mu.Unlock()
	if got.Error != "" || len(targets) != missObjects {
		t.Errorf("got error %q and %d signed URLs, want %d", got.Error, len(targets), missObjects)
	}
	if first := missObjects; len(got.FirstByte) != first+1 {
		t.Errorf("got %d times, want %d", len(got.FirstByte), first+1)
	}
}
