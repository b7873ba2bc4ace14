package proxy

import (
	"bytes"
	"testing"

	"ixmage/alias"
)

// variantRequest is a request for a variant, as a browser sends it.
const variantRequest = "GET /shop/a.jpg?w=120 HTTP/1.1\r\nHost: x\r\nAccept: image/webp,*/*;q=0.8\r\n\r\n"

// BenchmarkVariantHit is BenchmarkHit for a variant.
func BenchmarkVariantHit(b *testing.B) {
	p := newVariantEnv(b, nil).proxy
	conn := &replay{request: []byte(variantRequest), left: 1}
	serveConn(b, p, conn) // the job
	conn.left = b.N
	b.ReportAllocs()
	b.ResetTimer()
	serveConn(b, p, conn)
}

// TestVariantHitAllocations: a hit of a variant allocates little more than one of an object.
func TestVariantHitAllocations(t *testing.T) { //nolint:paralleltest // it measures
	const most, rounds = 5, 500 // with the race detector some more than without
	p := newVariantEnv(t, nil).proxy
	conn := &replay{request: []byte(variantRequest), left: 10}
	serveConn(t, p, conn)
	got := testing.AllocsPerRun(1, func() {
		conn.left = rounds
		serveConn(t, p, conn)
	}) / rounds
	t.Logf("%.1f allocations", got)
	if got > most {
		t.Errorf("a hit of a variant makes %.1f allocations, want at most %d", got, most)
	}
}

// TestQueriesAreBounded: what strangers send does not stay.
func TestQueriesAreBounded(t *testing.T) {
	t.Parallel()
	q, a := newQueries("8.18.7"), alias.New()
	for i := range 3 * maxQueries {
		if _, err := q.of(a, []byte("w=20&v="+string(rune('a'+i%26))+string(bytes.Repeat([]byte("x"), i%200))), false); err != nil {
			t.Fatal(err)
		}
	}
	for i, query := 0, []byte("w=20&v=0"); i < 10; i++ { // the bytes are the next request's soon
		query[len(query)-1] = byte('0' + i)
		if _, err := q.of(a, query, false); err != nil {
			t.Fatal(err)
		}
	}
	if !q.known.Contains(queryKey{a, "w=20&v=0", false}) || !q.known.Contains(queryKey{a, "w=20&v=9", false}) {
		t.Error("a query that is remembered changes with the bytes of its request")
	}
	for _, key := range q.known.Keys() {
		if len(key.query) > maxQuery {
			t.Errorf("a query of %d bytes is remembered", len(key.query))
		}
	}
	if n := q.known.Len(); n > maxQueries || n == 0 {
		t.Errorf("%d queries are remembered", n)
	}
	if _, err := q.of(a, []byte("w=bad"), false); err == nil {
		t.Error("a bad option is good")
	}
}
