package scope

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

type markKey struct{}

// WithMark returns a context in which the user agent of every probe has ixmage-probe/id, so
// that CloudTrail and the access log of the bucket show which operation or verification made
// it.
func WithMark(ctx context.Context, id string) context.Context {
	return context.WithValue(ctx, markKey{}, id)
}

// Mark is an APIOption of a client whose calls carry the mark of their context.
func Mark(stack *middleware.Stack) error {
	const id = "ProbeMark"
	if _, ok := stack.Build.Get(id); ok {
		return nil // a client and its call may both ask for it
	}
	return stack.Build.Add(middleware.BuildMiddlewareFunc(id, addMark), middleware.After)
}

func addMark(ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler) (
	middleware.BuildOutput, middleware.Metadata, error,
) {
	mark, _ := ctx.Value(markKey{}).(string)
	if req, ok := in.Request.(*smithyhttp.Request); ok && mark != "" {
		agent := req.Header.Get("User-Agent")
		if agent == "" {
			agent = "ixmage"
		}
		req.Header.Set("User-Agent", agent+" ixmage-probe/"+mark)
	}
	return next.HandleBuild(ctx, in)
}

func markS3(o *s3.Options)   { o.APIOptions = append(o.APIOptions, Mark) }
func markIAM(o *iam.Options) { o.APIOptions = append(o.APIOptions, Mark) }
func markSTS(o *sts.Options) { o.APIOptions = append(o.APIOptions, Mark) }
