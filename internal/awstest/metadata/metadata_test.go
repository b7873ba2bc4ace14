package metadata_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.uber.org/goleak"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/metadata"
	"ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const read = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::media/*"}]}`

// clock is a clock that the test moves.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newServer is a server for the role node of an account with one object.
func newServer(t *testing.T, kind metadata.Kind, cfg metadata.Config) (*iam.Server, *metadata.Server, *clock) {
	t.Helper()
	c := &clock{now: time.Now().Truncate(time.Second)}
	account := iam.New(t, iam.Config{Now: c.Now})
	account.PutObject("media", "a", s3.Object{Body: []byte("x")})
	account.AddRole(iam.Role{Name: "node", Trust: iam.Trust("", "arn:aws:iam::123456789012:root"), Inline: map[string]string{"read": read}})
	if cfg.Role == "" {
		cfg.Role = "node"
	}
	return account, metadata.New(t, kind, account, cfg), c
}

// chain is the SDK's default chain in an environment.
func chain(t *testing.T, env map[string]string, opts ...func(*config.LoadOptions) error) aws.CredentialsProvider {
	t.Helper()
	for name, value := range env {
		t.Setenv(name, value)
	}
	t.Setenv("AWS_CA_BUNDLE", "") // of this machine, which the SDK takes with a client of its own only
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	client := &http.Client{Transport: transport}
	cfg, err := config.LoadDefaultConfig(t.Context(), append([]func(*config.LoadOptions) error{
		config.WithRegion("us-east-1"), config.WithHTTPClient(client), config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
		config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }),
	}, opts...)...)
	must(t, err)
	return cfg.Credentials
}

// TestDefaultChain: the SDK's default chain finds each server, and what it gets reads.
func TestDefaultChain(t *testing.T) { //nolint:paralleltest // it sets the environment
	for name, kind := range map[string]metadata.Kind{"EC2": metadata.EC2, "ECS": metadata.ECS, "PodIdentity": metadata.PodIdentity} {
		t.Run(name, func(t *testing.T) {
			account, server, _ := newServer(t, kind, metadata.Config{})
			creds := chain(t, server.Env())
			if body, code := sdk.Get(t, account.S3ClientOf(creds), "media", "a"); body != "x" {
				t.Errorf("got %q", code)
			}
			who, err := account.STSClientOf(creds).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
			must(t, err)
			if !strings.HasPrefix(*who.Arn, "arn:aws:sts::123456789012:assumed-role/node/") {
				t.Errorf("got %s", *who.Arn)
			}
			if n := len(account.Sessions("node")); n != 1 {
				t.Errorf("got %d sessions, want 1", n)
			}
		})
	}
}

// TestRelativeAddress: a task asks 169.254.170.2, which the server stands for as a proxy.
func TestRelativeAddress(t *testing.T) { //nolint:paralleltest // it sets the environment
	account, server, _ := newServer(t, metadata.ECS, metadata.Config{})
	proxy, err := url.Parse(server.RelativeEnv()["HTTP_PROXY"])
	must(t, err)
	transport := &http.Transport{Proxy: http.ProxyURL(proxy)} // the environment is read once for each process
	t.Cleanup(transport.CloseIdleConnections)
	creds := chain(t, server.RelativeEnv(), config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) {
		o.HTTPClient = &http.Client{Transport: transport}
	}))
	if body, code := sdk.Get(t, account.S3ClientOf(creds), "media", "a"); body != "x" {
		t.Errorf("got %q", code)
	}
}

// TestRegion: the SDK reads the region of the instance.
func TestRegion(t *testing.T) {
	t.Parallel()
	_, server, _ := newServer(t, metadata.EC2, metadata.Config{Region: "eu-west-1"})
	client := imds.New(imds.Options{Endpoint: server.URL})
	out, err := client.GetRegion(t.Context(), &imds.GetRegionInput{})
	must(t, err)
	if out.Region != "eu-west-1" {
		t.Errorf("got %s", out.Region)
	}
}

// TestInstanceTokens: IMDSv2 answers nothing without a token, and a token has its life.
func TestInstanceTokens(t *testing.T) {
	t.Parallel()
	_, server, c := newServer(t, metadata.EC2, metadata.Config{})
	ask := func(method, path string, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		must(t, err)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := http.DefaultClient.Do(req)
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(body)
	}
	const token, ttl, roles = "/latest/api/token", "X-aws-ec2-metadata-token-ttl-seconds", "/latest/meta-data/iam/security-credentials/"
	for _, tt := range []struct {
		name, method string
		header       []string
		want         int
	}{
		{"no TTL", "PUT", nil, 400},
		{"zero", "PUT", []string{ttl, "0"}, 400},
		{"too long", "PUT", []string{ttl, "21601"}, 400},
		{"longest", "PUT", []string{ttl, "21600"}, 200},
		{"GET", "GET", []string{ttl, "60"}, 405},
		{"through a proxy", "PUT", []string{ttl, "60", "X-Forwarded-For", "192.0.2.1"}, 403},
	} {
		if status, _ := ask(tt.method, token, tt.header...); status != tt.want {
			t.Errorf("%s: got %d, want %d", tt.name, status, tt.want)
		}
	}
	if status, _ := ask("GET", roles); status != 401 {
		t.Errorf("without a token: got %d, want 401", status)
	}
	_, one := ask("PUT", token, ttl, "60")
	with := []string{"X-aws-ec2-metadata-token", one}
	if status, body := ask("GET", roles, with...); status != 200 || body != "node" {
		t.Errorf("got %d %q, want the name of the role", status, body)
	}
	if status, _ := ask("GET", roles+"other", with...); status != 404 {
		t.Errorf("another role: got %d, want 404", status)
	}
	status, body := ask("GET", roles+"node", with...)
	var keys map[string]string
	must(t, json.Unmarshal([]byte(body), &keys))
	if want := c.Now().Add(6 * time.Hour).UTC().Format(time.RFC3339); status != 200 || keys["Code"] != "Success" || keys["Expiration"] != want || keys["Token"] == "" {
		t.Errorf("got %d %v, want expiration %s", status, keys, want)
	}
	c.advance(time.Minute)
	if status, _ := ask("GET", roles, with...); status != 401 {
		t.Errorf("after its life: got %d, want 401", status)
	}
	http.DefaultClient.CloseIdleConnections()
}

// TestExpiry: a session is handed out until shortly before its end, then a new one.
func TestExpiry(t *testing.T) { //nolint:paralleltest // it sets the environment
	for _, tt := range []struct {
		name  string
		life  time.Duration
		later time.Duration
		fault *metadata.Fault
		want  int // sessions
	}{
		{"six hours, before the margin", 0, 6*time.Hour - 5*time.Minute - time.Second, nil, 1},
		{"six hours, at the margin", 0, 6*time.Hour - 5*time.Minute, nil, 2},
		{"four seconds, before half of it", 4 * time.Second, time.Second, nil, 1},
		{"four seconds, at half of it", 4 * time.Second, 2 * time.Second, nil, 2},
		{"stale", 4 * time.Second, time.Hour, &metadata.Fault{Stale: true}, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			account, server, c := newServer(t, metadata.PodIdentity, metadata.Config{Life: tt.life})
			_, err := chain(t, server.Env()).Retrieve(t.Context())
			must(t, err)
			server.OnRequest(func(metadata.Request) *metadata.Fault { return tt.fault })
			c.advance(tt.later)
			_, err = chain(t, server.Env()).Retrieve(t.Context())
			must(t, err)
			if n := len(account.Sessions("node")); n != tt.want {
				t.Errorf("got %d sessions, want %d", n, tt.want)
			}
			server.Renew()
			server.OnRequest(nil)
			_, err = chain(t, server.Env()).Retrieve(t.Context())
			must(t, err)
			if n := len(account.Sessions("node")); n != tt.want+1 {
				t.Errorf("after Renew: got %d sessions, want %d", n, tt.want+1)
			}
		})
	}
}

// TestPodToken: a token is refused once it was replaced, and the SDK reads the new one.
func TestPodToken(t *testing.T) { //nolint:paralleltest // it sets the environment
	_, server, _ := newServer(t, metadata.PodIdentity, metadata.Config{})
	creds := chain(t, server.Env())
	file := server.Env()["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"]
	old, err := os.ReadFile(file)
	must(t, err)
	must(t, server.RotateToken())
	_, err = creds.Retrieve(t.Context())
	must(t, err)
	must(t, os.WriteFile(file, old, 0o600))
	if _, err := chain(t, server.Env()).Retrieve(t.Context()); err == nil || !strings.Contains(err.Error(), "AccessDeniedException") {
		t.Errorf("the old token: got %v", err)
	}
}

// TestFaults: each fault is an error of the SDK, and the next request succeeds.
func TestFaults(t *testing.T) { //nolint:paralleltest // it sets the environment
	for name, kind := range map[string]metadata.Kind{"EC2": metadata.EC2, "ECS": metadata.ECS, "PodIdentity": metadata.PodIdentity} {
		for _, tt := range []struct {
			name  string
			fault metadata.Fault
		}{
			{"status", metadata.Fault{Status: 500, Body: "broken"}},
			{"not JSON", metadata.Fault{Status: 200, Body: "{"}},
			{"cut", metadata.Fault{Cut: true}},
			{"hang", metadata.Fault{Hang: true}},
		} {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				_, server, _ := newServer(t, kind, metadata.Config{})
				ctx, leave := context.WithCancel(t.Context())
				server.OnRequest(func(r metadata.Request) *metadata.Fault {
					if !strings.Contains(r.Path, "credentials") {
						return nil
					}
					fault := tt.fault
					if fault.Hang {
						fault.Before = leave
					}
					return &fault
				})
				if _, err := chain(t, server.Env()).Retrieve(ctx); err == nil {
					t.Error("no error")
				}
				server.OnRequest(nil)
				_, err := chain(t, server.Env()).Retrieve(t.Context())
				must(t, err)
				last := server.Requests()[len(server.Requests())-1]
				if last.Status != 200 || last.Method != "GET" {
					t.Errorf("last request: %+v", last)
				}
				leave()
			})
		}
	}
}

// TestLag: a role is unknown until the lag has passed.
func TestLag(t *testing.T) { //nolint:paralleltest // it sets the environment
	for name, kind := range map[string]metadata.Kind{"EC2": metadata.EC2, "ECS": metadata.ECS, "PodIdentity": metadata.PodIdentity} {
		t.Run(name, func(t *testing.T) {
			_, server, c := newServer(t, kind, metadata.Config{Lag: time.Minute})
			if _, err := chain(t, server.Env()).Retrieve(t.Context()); err == nil {
				t.Error("the role is known before the lag has passed")
			}
			c.advance(time.Minute)
			_, err := chain(t, server.Env()).Retrieve(t.Context())
			must(t, err)
		})
	}
}
