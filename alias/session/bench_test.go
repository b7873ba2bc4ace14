package session

import (
	"bytes"
	"context"
	"runtime"
	"testing"

	"ixmage/alias"
)

// BenchmarkRetrieve is what a session adds to each request to S3.
func BenchmarkRetrieve(b *testing.B) {
	e := newEnv(b, nil)
	p := e.Provider(e.route(1))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Retrieve(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMemory is the memory of a session, its keys included.
func BenchmarkMemory(b *testing.B) {
	const many = 1000
	for b.Loop() {
		e := newEnv(b, nil)
		e.limit.SetLimit(1e9)
		e.limit.SetBurst(many)
		routes := make([]alias.Route, many)
		for n := range routes {
			routes[n] = e.route(int64(n + 1))
		}
		before := heap()
		for _, r := range routes {
			e.mustKeys(r)
		}
		e.sts.calls, e.sts.times = nil, nil
		*e.log = bytes.Buffer{}
		b.ReportMetric(float64(heap()-before)/many, "B/session")
		runtime.KeepAlive(routes)
		runtime.KeepAlive(e)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
