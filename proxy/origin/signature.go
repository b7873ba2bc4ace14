package origin

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// signature signs requests with signature version 4, but only the headers that it must
// cover: Host, X-Amz-* and those of a body. The SDK would sign all others too, and a proxy, a CDN
// or a tunnel before the S3 server may change them: it rewrites Accept-Encoding and
// User-Agent, and a cache drops Range and If-None-Match. S3 would then answer
// SignatureDoesNotMatch. Without a signature they are still checked: a reply must fit its
// Content-Range, its length and its checksum.
type signature struct{ signer *v4.Signer }

func newSignature() signature {
	return signature{v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })} // S3 escapes a path once
}

// SignHTTP implements s3.HTTPSignerV4.
func (s signature) SignHTTP( //nolint:revive // the interface has these arguments
	ctx context.Context, creds aws.Credentials, r *http.Request, payloadHash, service, region string, at time.Time,
	options ...func(*v4.SignerOptions),
) error {
	all := r.Header
	r.Header = make(http.Header, len(all)+2)
	for name, values := range all {
		if isSigned(name) {
			r.Header[name] = values
		}
	}
	err := s.signer.SignHTTP(ctx, creds, r, payloadHash, service, region, at, options...)
	for name, values := range all {
		if !isSigned(name) && name != "Authorization" { // of the attempt before
			r.Header[name] = values
		}
	}
	return err
}

func isSigned(name string) bool {
	return strings.HasPrefix(name, "X-Amz-") || name == "Content-Type" || name == "Content-Md5"
}
