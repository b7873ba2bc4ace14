package proxy

import (
	"context"
	"io"
	"sync"

	"ixmage/cache"
)

// gatedLoad delays the body of a load until open is called, so that a request which turns out
// to need no body can end the fetch before S3 has sent much of it. If the fetch has other
// waiters by then, it goes on.
func gatedLoad(load cache.Load) (gated cache.Load, open func()) {
	gate := make(chan struct{})
	gated = func(ctx context.Context, old *cache.Entry) (*cache.Source, error) {
		src, err := load(ctx, old)
		if err == nil && src.Body != nil {
			src.Body = &gatedBody{ReadCloser: src.Body, ctx: ctx, gate: gate}
		}
		return src, err
	}
	return gated, sync.OnceFunc(func() { close(gate) })
}

type gatedBody struct {
	io.ReadCloser

	ctx  context.Context //nolint:containedctx // of the fetch, which ends a Read
	gate <-chan struct{}
}

func (b *gatedBody) Read(p []byte) (int, error) {
	select {
	case <-b.gate:
	case <-b.ctx.Done():
	}
	if b.ctx.Err() != nil { // also if the gate is open: both may be the case
		return 0, context.Cause(b.ctx)
	}
	return b.ReadCloser.Read(p)
}
