package provision

import (
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
)

// TestSignedHeaders checks that calls of IAM and STS neither send nor sign headers that a
// proxy drops or changes.
func TestSignedHeaders(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		_, signed, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
		signed, _, _ = strings.Cut(signed, ",")
		for name := range strings.SplitSeq(signed, ";") {
			if name != "host" && name != "content-type" && name != "content-length" && !strings.HasPrefix(name, "x-amz-") {
				t.Errorf("%s is signed", name)
			}
		}
		for name := range r.Header {
			if strings.HasPrefix(name, "Amz-Sdk-") {
				t.Errorf("%s is sent", name)
			}
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(server.Close)
	kp := alias.KeyPair{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: alias.NewSecret("not-a-secret")}
	base := aws.Config{Credentials: credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")}
	a := newAWS(base, Endpoints{IAM: server.URL}, time.Millisecond)
	_, _ = a.iam().GetUser(t.Context(), &iam.GetUserInput{})
	withIAM, withSTS := a.withKey(kp)
	_, _ = withIAM.GetUser(t.Context(), &iam.GetUserInput{})
	_, _ = withSTS.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if calls.Load() < 3 {
		t.Errorf("%d calls, want one of each client at least", calls.Load())
	}
}

// TestRoots checks that IAM and STS are trusted with the authorities of the configuration.
func TestRoots(t *testing.T) {
	t.Parallel()
	for _, trusted := range []bool{true, false} {
		var calls atomic.Int64
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.WriteHeader(http.StatusForbidden)
		}))
		server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
		server.StartTLS()
		endpoints := Endpoints{IAM: server.URL, Roots: x509.NewCertPool()}
		if trusted {
			endpoints.Roots.AddCert(server.Certificate())
		}
		a := newAWS(aws.Config{}, endpoints, time.Millisecond)
		withIAM, withSTS := a.withKey(alias.KeyPair{AccessKeyID: "AKIAEXAMPLE", SecretAccessKey: alias.NewSecret("not-a-secret")})
		_, _ = withIAM.GetUser(t.Context(), &iam.GetUserInput{})
		_, _ = withSTS.GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
		a.base.HTTPClient.(*http.Client).CloseIdleConnections()
		server.Close()
		if got := calls.Load() == 2; got != trusted {
			t.Errorf("trusted %t: %d calls arrived", trusted, calls.Load())
		}
	}
}
