package e2e

import (
	"net/http"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// TestTrickledFront has S3 send byte by byte what the type is told from. The
// answer waits for all of it, and so no longer than for headers.
func TestTrickledFront(t *testing.T) {
	t.Parallel()
	trickle := func(contentType string) script {
		return always(&s3.Fault{
			Chunk: 1, Pace: 300 * time.Millisecond, Header: func(h http.Header) { h.Set("Content-Type", contentType) },
		})
	}
	late := func() *verdict { return fails(504, "origin-timeout", 1, "timeout").logged("timeout") }
	f := newFaulty(t, start(t, "--origin-idle-timeout", "5m", "--cache-object-max", "1MiB"))
	before := f.gauge()
	f.load("t", []fault{
		{
			name: "generic", script: trickle("binary/octet-stream"), get: late(), part: late(),
			// HeadObject is quick and says nothing of the type.
			head: fails(504, "origin-timeout", 2, "ok timeout").logged("timeout"),
		},
		{name: "SVG", script: trickle("image/svg+xml"), get: late(), part: late()},
		{name: "small", object: s3.Object{Body: png(60, "small")}, script: trickle("binary/octet-stream"), get: late()},
	})
	f.strike()
	f.heal()
	f.checkLeft(before)
}
