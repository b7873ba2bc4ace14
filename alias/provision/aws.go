package provision

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	smithymiddleware "github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// controlRegion is the region for signing calls of IAM and STS if none is configured.
// IAM has one control plane in each partition; this is that of the partition aws.
const controlRegion = "us-east-1"

// Endpoints are the URLs of IAM and STS. An empty IAM means AWS, and an empty STS means
// the endpoint of IAM. Roots are the authorities that the servers are trusted with; nil means
// those of the system.
type Endpoints struct {
	IAM, STS string
	Roots    *x509.CertPool
}

func (e Endpoints) sts() string {
	if e.STS == "" {
		return e.IAM
	}
	return e.STS
}

// AWS makes clients of IAM and STS. They sign with the credentials of the AWS default
// chain (environment, shared files, the machine's role), or with a given key pair and
// nothing else. It is safe for concurrent use.
type AWS struct {
	endpoints Endpoints
	base      aws.Config
	backoff   time.Duration
}

// OpenAWS reads the default chain's configuration. It makes no call, so a role or key
// that does not work fails the first operation and not the start.
func OpenAWS(ctx context.Context, endpoints Endpoints) (*AWS, error) {
	// The SDK would write lines of its own form to stderr. The errors of the calls say the same.
	base, err := config.LoadDefaultConfig(ctx, config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration of this machine: %w", err)
	}
	return newAWS(base, endpoints, retry.DefaultMaxBackoff), nil
}

// newAWS is OpenAWS for a given configuration. backoff is the longest wait between two
// retries of the SDK.
func newAWS(base aws.Config, endpoints Endpoints, backoff time.Duration) *AWS {
	if base.Region == "" {
		base.Region = controlRegion
	}
	switch given := base.HTTPClient.(type) {
	case nil:
		client := newHTTPClient()
		if endpoints.Roots != nil {
			client.Transport = endpoints.transport()
		}
		base.HTTPClient = client
	case *awshttp.BuildableClient: // the SDK makes it for AWS_CA_BUNDLE, whose authorities it trusts
		client := newHTTPClient()
		client.Transport = given.GetTransport()
		base.HTTPClient = client
	}
	base.APIOptions = append(slices.Clone(base.APIOptions), withoutSDKHeaders, withPlainBody)
	return &AWS{endpoints: endpoints, base: base, backoff: backoff}
}

// withoutSDKHeaders leaves out the amz-sdk-… headers: the SDK signs them, so a proxy before an
// IAM server that drops or changes them would break the signature. A step that a later SDK
// does not know is no error.
func withoutSDKHeaders(stack *smithymiddleware.Stack) error {
	_, _ = stack.Build.Remove("ClientRequestID")
	_, _ = stack.Finalize.Remove("RetryMetricsHeader")
	return nil
}

// withPlainBody hides that the body of a request can write itself. The SDK closes the body when
// the headers of the answer have arrived; written after that, it says io.EOF, which is no end but
// an error. net/http, which may ask for the end that late if the server is near, would close the
// connection, and the rest of the answer would be lost.
func withPlainBody(stack *smithymiddleware.Stack) error {
	return stack.Build.Add(smithymiddleware.BuildMiddlewareFunc("PlainBody", plainBody), smithymiddleware.After)
}

func plainBody(ctx context.Context, in smithymiddleware.BuildInput, next smithymiddleware.BuildHandler) (
	out smithymiddleware.BuildOutput, metadata smithymiddleware.Metadata, err error,
) {
	if request, ok := in.Request.(*smithyhttp.Request); ok {
		if body, ok := request.GetStream().(io.ReadSeeker); ok {
			if in.Request, err = request.SetStream(struct{ io.ReadSeeker }{body}); err != nil {
				return out, metadata, err
			}
		}
	}
	return next.HandleBuild(ctx, in)
}

// transport is like the default of net/http, but trusts Roots.
func (e Endpoints) transport() *http.Transport {
	return &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		TLSClientConfig:     &tls.Config{RootCAs: e.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout:     90 * time.Second,
		ForceAttemptHTTP2:   true,
	}
}

// newHTTPClient makes a client that bounds the time of a call and follows no redirect, which
// would send the signature to another host.
func newHTTPClient() *http.Client {
	return &http.Client{Timeout: callTimeout, CheckRedirect: refuseRedirect}
}

// callTimeout bounds one attempt of one call.
const callTimeout = 20 * time.Second

func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// attempts is how often the SDK tries a call that was throttled, failed or got no
// answer, before the call returns an error.
const attempts = 4

func (a *AWS) retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = a.backoff
		o.Retryables = append([]retry.IsErrorRetryable{unimplementedIsFinal{}}, o.Retryables...)
		// IAM returns these codes while another change of the same user is in progress.
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{
			"ConcurrentModification": {}, "ConcurrentModificationException": {}, "ServiceFailure": {},
		}})
	})
}

// unimplementedIsFinal does not repeat a call that the server does not implement, though its
// status, 501, looks like a failure that passes.
type unimplementedIsFinal struct{}

// IsErrorRetryable implements retry.IsErrorRetryable.
func (unimplementedIsFinal) IsErrorRetryable(err error) aws.Ternary {
	if api, ok := errors.AsType[smithy.APIError](err); ok && awserr.Unimplemented(api.ErrorCode()) {
		return aws.FalseTernary
	}
	return aws.UnknownTernary
}

// atAWS reports whether STS is AWS's, and ownIAM whether IAM is of the same server as STS.
func (a *AWS) atAWS() bool  { return a.endpoints.sts() == "" }
func (a *AWS) ownIAM() bool { return a.atAWS() || a.endpoints.IAM != "" }

// Base returns the configuration of the clients, with the credentials of the chain, and the URL
// of STS, which is empty for AWS.
func (a *AWS) Base() (base aws.Config, sts string) { return a.base.Copy(), a.endpoints.sts() }

// iam makes a client that signs with the chain's credentials.
func (a *AWS) iam() *iam.Client { return iam.NewFromConfig(a.base, a.iamOptions) }

// signedBy is a that signs with other credentials, in a region unless that is empty.
func (a *AWS) signedBy(keys aws.CredentialsProvider, region string) *AWS {
	b := a.inRegion(cmp.Or(region, a.base.Region))
	b.base.Credentials = keys
	return b
}

// stsIn makes a client of STS that signs with the chain's credentials, in a region unless that
// is empty.
func (a *AWS) stsIn(region string) *sts.Client {
	return sts.NewFromConfig(a.inRegion(cmp.Or(region, a.base.Region)).base, a.stsOptions)
}

func (a *AWS) iamOptions(o *iam.Options) {
	o.Retryer = a.retryer()
	if a.endpoints.IAM != "" {
		o.BaseEndpoint = aws.String(a.endpoints.IAM)
	}
}

func (a *AWS) stsOptions(o *sts.Options) {
	o.Retryer = a.retryer()
	if url := a.endpoints.sts(); url != "" {
		o.BaseEndpoint = aws.String(url)
	}
}

// withKey is with for a key pair.
func (a *AWS) withKey(kp alias.KeyPair) (*iam.Client, *sts.Client) {
	return a.with(keysOf(kp))
}

func keysOf(kp alias.KeyPair) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

// with makes clients that sign with these keys and nothing else. They do not retry: a probe
// evaluates the answer of one call.
func (a *AWS) with(keys aws.CredentialsProvider) (*iam.Client, *sts.Client) {
	base := a.base.Copy()
	base.Credentials = keys
	base.APIOptions = append(slices.Clone(base.APIOptions), scope.Mark)
	once := aws.NopRetryer{}
	return iam.NewFromConfig(base, a.iamOptions, func(o *iam.Options) { o.Retryer = once }),
		sts.NewFromConfig(base, a.stsOptions, func(o *sts.Options) { o.Retryer = once })
}

// marked adds the id of an operation to the user agent of a call, which CloudTrail
// records.
func marked(operation string) func(*iam.Options) {
	return func(o *iam.Options) {
		o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKeyValue("ixmage-operation", operation))
	}
}
