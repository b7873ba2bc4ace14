package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"ixmage/internal/awstest/picture"
)

// bucket is the one bucket of the static origin; keys are "<size>.png".
const bucket = "bench"

// origin answers path-style GetObject calls with generated pictures and accepts any
// signature. The caches under test request each object once, so that its speed does not
// affect the results.
type origin struct {
	addr   string
	bodies map[string][]byte // by key
	server *http.Server
}

// startOrigin serves one object of each size on a loopback port.
func startOrigin(sizes []int) (*origin, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the origin: %w", err)
	}
	o := &origin{addr: ln.Addr().String(), bodies: make(map[string][]byte)}
	for _, n := range sizes {
		o.bodies[objectKey(n)] = objectBody(n)
	}
	o.server = &http.Server{Handler: o, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = o.server.Serve(ln) }() // ends with close
	return o, nil
}

func (o *origin) close() { _ = o.server.Close() }

// ServeHTTP answers GET and HEAD of /bucket/key as S3 does, without Cache-Control: the
// cache decides how long an object is fresh.
func (o *origin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, ok := o.bodies[strings.TrimPrefix(r.URL.Path, "/"+bucket+"/")]
	if !ok {
		http.Error(w, "<Error><Code>NoSuchKey</Code></Error>", http.StatusNotFound)
		return
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	h.Set("Last-Modified", "Mon, 02 Nov 2026 10:00:00 GMT")
	h.Set("Content-Type", "image/png")
	h.Set("Accept-Ranges", "bytes")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body)
	}
}

func objectKey(size int) string { return strconv.Itoa(size) + ".png" }

// objectBody is a fake picture that does not compress, the same in every run.
func objectBody(size int) []byte { return picture.Fake(size, strconv.Itoa(size)) }
