package origin

import (
	"context"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/auth"
	endpoints "github.com/aws/smithy-go/endpoints"
)

// maxResolved bounds the buckets whose endpoint one client remembers. Clients are
// made for a credential and a place, so as a rule there is one.
const maxResolved = 64

// resolver remembers what the SDK resolves for a bucket. The SDK asks twice for
// each call, and runs some hundred rules each time: a quarter of what a small
// get costs. All else that goes into the rules is the client's and does not
// change; the object's key is among the parameters and in none of the rules.
type resolver struct {
	rules s3.EndpointResolverV2

	mu    sync.RWMutex // guards known
	known map[string]endpoints.Endpoint
}

func newResolver() *resolver {
	return &resolver{rules: s3.NewDefaultEndpointResolverV2(), known: map[string]endpoints.Endpoint{}}
}

// ResolveEndpoint returns a value that is the caller's own, its headers excepted,
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

// copyEndpoint copies what the SDK writes to: it merges properties of each request into
// the options for signing.
func copyEndpoint(e endpoints.Endpoint) endpoints.Endpoint {
	shared, ok := auth.GetAuthOptions(&e.Properties)
	e.Properties = copyProperties(&e.Properties)
	if !ok {
		return e
	}
	options := make([]*auth.Option, len(shared))
	for i, o := range shared {
		options[i] = &auth.Option{
			SchemeID: o.SchemeID, IdentityProperties: copyProperties(&o.IdentityProperties), SignerProperties: copyProperties(&o.SignerProperties),
		}
	}
	auth.SetAuthOptions(&e.Properties, options)
	return e
}

func copyProperties(p *smithy.Properties) (c smithy.Properties) {
	c.SetAll(p)
	return c
}
