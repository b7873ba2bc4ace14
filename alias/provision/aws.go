package provision

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
)

// controlRegion signs calls of IAM and STS where nothing else is configured.
// IAM has one control plane in a partition, and this is the usual one's.
const controlRegion = "us-east-1"

// Endpoints say where IAM and STS are; empty means AWS, and an empty STS
// follows a custom IAM.
type Endpoints struct{ IAM, STS string }

func (e Endpoints) sts() string {
	if e.STS == "" {
		return e.IAM
	}
	return e.STS
}

// AWS makes clients of IAM and STS. Its own calls are signed with what the AWS
// default chain finds (environment, shared files, the machine's role); calls
// with a key pair use just that and never fall back. It is safe for concurrent
// use.
type AWS struct {
	endpoints Endpoints
	base      aws.Config
	backoff   time.Duration
}

// OpenAWS reads the default chain's configuration. It makes no call: a role or
// key that does not work shows at the first operation, not at start.
func OpenAWS(ctx context.Context, endpoints Endpoints) (*AWS, error) {
	base, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the AWS configuration of this machine: %w", err)
	}
	return newAWS(base, endpoints, retry.DefaultMaxBackoff), nil
}

// newAWS lets tests choose the keys and the longest wait between the SDK's
// retries.
func newAWS(base aws.Config, endpoints Endpoints, backoff time.Duration) *AWS {
	if base.Region == "" {
		base.Region = controlRegion
	}
	if base.HTTPClient == nil {
		base.HTTPClient = &http.Client{Timeout: callTimeout, CheckRedirect: refuseRedirect}
	}
	return &AWS{endpoints: endpoints, base: base, backoff: backoff}
}

// callTimeout bounds one attempt of one call.
const callTimeout = 20 * time.Second

func refuseRedirect(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// attempts is how often the SDK tries a call that was throttled, failed or got
// no answer, before the step decides.
const attempts = 4

func (a *AWS) retryer() aws.Retryer {
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts = attempts
		o.MaxBackoff = a.backoff
		// IAM says so while another change of the same user is under way.
		o.Retryables = append(o.Retryables, retry.RetryableErrorCode{Codes: map[string]struct{}{
			"ConcurrentModification": {}, "ConcurrentModificationException": {}, "ServiceFailure": {},
		}})
	})
}

// iam is a client that signs with the chain's credentials.
func (a *AWS) iam() *iam.Client { return iam.NewFromConfig(a.base, a.iamOptions) }

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

// withKey are clients that sign with a key pair and nothing else. A probe is
// tried once: what it proves is the answer of one call.
func (a *AWS) withKey(kp alias.KeyPair) (*iam.Client, *sts.Client) {
	base := a.base.Copy()
	base.Credentials = credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
	once := aws.NopRetryer{}
	return iam.NewFromConfig(base, a.iamOptions, func(o *iam.Options) { o.Retryer = once }),
		sts.NewFromConfig(base, a.stsOptions, func(o *sts.Options) { o.Retryer = once })
}

// marked puts the id of an operation into the user agent of a call, by which
// CloudTrail's lines can be matched with ours.
func marked(operation string) func(*iam.Options) {
	return func(o *iam.Options) {
		o.APIOptions = append(o.APIOptions, middleware.AddUserAgentKeyValue("ixmage-operation", operation))
	}
}
