package provision

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
)

// late keeps the bodies of the requests, to read them on after the call.
type late struct{ bodies []io.Reader }

func (l *late) Do(r *http.Request) (*http.Response, error) {
	if _, err := io.CopyN(io.Discard, r.Body, r.ContentLength); err != nil {
		return nil, err
	}
	l.bodies = append(l.bodies, r.Body)
	return &http.Response{StatusCode: http.StatusForbidden, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// TestBodyAfterAnswer: net/http may ask a body for its end after the answer has begun, and loses the
// answer if that is an error.
func TestBodyAfterAnswer(t *testing.T) {
	t.Parallel()
	var l late
	a := newAWS(aws.Config{HTTPClient: &l}, Endpoints{IAM: "http://127.0.0.1:1"}, time.Millisecond)
	withIAM, withSTS := a.withKey(alias.KeyPair{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: alias.NewSecret("not-a-secret")})
	_, _ = withIAM.GetUser(t.Context(), &iam.GetUserInput{})
	_, _ = withSTS.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if len(l.bodies) < 2 {
		t.Errorf("%d calls, want one of each client at least", len(l.bodies))
	}
	for _, body := range l.bodies {
		if n, err := io.Copy(io.Discard, body); n != 0 || err != nil {
			t.Errorf("%d bytes and %v after the answer, want the end", n, err)
		}
	}
}
