package origin

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/auth"
	endpoints "github.com/aws/smithy-go/endpoints"
)

// maxResolved bounds the buckets whose endpoint one client remembers. Most clients have
// one bucket, since each belongs to a credential and an endpoint.
const maxResolved = 64

// resolver remembers the endpoint of each bucket. The SDK resolves it twice for each call,
// and each time runs some hundred rules: a quarter of the CPU time of a small get. All
// other parameters of the rules are fixed for a client, except the object's key, which no
// rule reads.
type resolver struct {
	rules s3.EndpointResolverV2

	mu    sync.RWMutex // guards known
	known map[string]endpoints.Endpoint
}

func newResolver() *resolver {
	return &resolver{rules: s3.NewDefaultEndpointResolverV2(), known: map[string]endpoints.Endpoint{}}
}

// ResolveEndpoint returns a value that the caller may change, except for its headers,
// which the SDK only reads.
func (r *resolver) ResolveEndpoint(ctx context.Context, p s3.EndpointParameters) (endpoints.Endpoint, error) {
	if p.Bucket == nil {
		return r.rules.ResolveEndpoint(ctx, p)
	}
	r.mu.RLock()
	e, ok := r.known[*p.Bucket]
	r.mu.RUnlock()
	if ok {
		return copyEndpoint(e), nil
	}
	e, err := r.rules.ResolveEndpoint(ctx, p)
	if err != nil {
		return e, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.known) < maxResolved {
		r.known[*p.Bucket] = copyEndpoint(e)
	}
	return e, nil
}

// copyEndpoint copies the parts that the SDK writes to: it merges properties of each
// request into the options for signing.
func copyEndpoint(e endpoints.Endpoint) endpoints.Endpoint {
	shared, ok := auth.GetAuthOptions(&e.Properties)
	e.Properties = copyProperties(&e.Properties)
	if !ok {
		return e
	}
	options := make([]*auth.Option, len(shared))
	for i, o := range shared {
		options[i] = &auth.Option{
			SchemeID:           o.SchemeID,
			IdentityProperties: copyProperties(&o.IdentityProperties),
			SignerProperties:   copyProperties(&o.SignerProperties),
		}
	}
	auth.SetAuthOptions(&e.Properties, options)
	return e
}

func copyProperties(p *smithy.Properties) (c smithy.Properties) {
	c.SetAll(p)
	return c
}
