package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/s3"
	"ixmage/proxy/origin"
)

// TestFrontIsRead: what has arrived with the headers is handed on at once, with the end if
// the object is complete.
func TestFrontIsRead(t *testing.T) {
	t.Parallel()
	server := s3.New(t) // which writes headers and body at once
	p := newProxyBefore(t, server.URL, nil)
	route, _ := p.registry.Lookup("shop")
	for _, size := range []int{1, 4 << 10, 10 << 10} {
		body := picture.Fake(size, "front")
		server.Put("acme-media", "a.png", s3.Object{Body: body, ContentType: "image/png"})
		for _, fault := range []*s3.Fault{nil, s3.Chunked()} {
			server.Next("acme-media", "a.png", fault)
			src, err := p.fetch(t.Context(), origin.Request{Route: route, Key: "a.png"}, nil)
			must(t, err)
			buf := make([]byte, 64<<10)
			if n, err := src.Body.Read(buf); !bytes.Equal(buf[:n], body) || !errors.Is(err, io.EOF) {
				t.Errorf("the first read returned %d bytes and %v, want all %d and the end", n, err, size)
			}
			must(t, src.Body.Close())
		}
	}
}

// TestFrontsAreApart reads many bodies at the same time, some of them in part, and compares
// every byte: their first bytes lie in buffers that they share one after another.
func TestFrontsAreApart(t *testing.T) {
	t.Parallel()
	s3 := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Write(picture.Fake(20<<10, r.URL.Path))
	}))
	t.Cleanup(s3.Close)
	p := newProxyBefore(t, s3.URL, nil)
	route, _ := p.registry.Lookup("shop")
	var wg sync.WaitGroup
	for id := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(id), 1))
			for range 40 {
				checkFront(t, p, origin.Request{Route: route, Key: string(rune('a'+rng.IntN(26))) + ".png"}, rng)
			}
		})
	}
	wg.Wait()
}

func checkFront(t *testing.T, p *Proxy, req origin.Request, rng *rand.Rand) {
	t.Helper()
	src, err := p.fetch(context.Background(), req, nil)
	if err != nil {
		t.Error(err)
		return
	}
	defer src.Body.Close()
	want := picture.Fake(20<<10, "/"+req.Route.Alias.Bucket+"/"+req.Key)
	got := make([]byte, 0, len(want))
	for stop := rng.IntN(2 * len(want)); len(got) < min(stop, len(want)); {
		n, err := src.Body.Read(got[len(got):min(cap(got), len(got)+1+rng.IntN(8<<10))])
		if got = got[:len(got)+n]; err != nil {
			break
		}
	}
	if !bytes.Equal(got, want[:len(got)]) {
		t.Errorf("%s has wrong bytes", req.Key)
	}
}
