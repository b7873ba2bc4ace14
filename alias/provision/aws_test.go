package provision

import (
	"encoding/pem"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	awsiam "github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/internal/awstest/iam"
)

// TestCABundle: with the authorities of AWS_CA_BUNDLE a call is bounded, and follows no redirect,
// as without them.
func TestCABundle(t *testing.T) { //nolint:paralleltest // it sets variables of the environment
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		w.WriteHeader(http.StatusForbidden)
	}))
	t.Cleanup(other.Close)
	var calls atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
	}))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	server.StartTLS()
	t.Cleanup(server.Close)
	bundle := filepath.Join(t.TempDir(), "bundle.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(bundle, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"AWS_CA_BUNDLE": bundle, "AWS_ACCESS_KEY_ID": "AKIAEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_REGION": "us-east-1",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull, "AWS_EC2_METADATA_DISABLED": "true",
	} {
		t.Setenv(name, value)
	}
	a, err := OpenAWS(t.Context(), Endpoints{IAM: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.iam().GetUser(t.Context(), &awsiam.GetUserInput{})
	if err == nil || calls.Load() == 0 || elsewhere.Load() > 0 {
		t.Errorf("%v; %d calls, and %d at the other host", err, calls.Load(), elsewhere.Load())
	}
	client, ok := a.base.HTTPClient.(*http.Client)
	if !ok || client.Timeout != callTimeout {
		t.Errorf("the client is %T, want one with the timeout %s", a.base.HTTPClient, callTimeout)
	}
}

// TestUnimplementedOnce: a call that the server does not have is made once, whatever status says so.
func TestUnimplementedOnce(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.ourUser()
	asked := 0
	w.iam.OnCall(func(c iam.Call) *iam.Fault {
		if c.Action != "ListMFADevices" {
			return nil
		}
		asked++
		return iam.NotImplemented()
	})
	id, err := caller{p: w.start().Provisioner}.identity(t.Context(), "ours")
	if err != nil || len(id.unread) != 1 || asked != 1 {
		t.Errorf("asked %d times: %v, %+v", asked, err, id)
	}
}
