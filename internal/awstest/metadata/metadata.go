// Package metadata has the servers from which a process gets the credentials of its role:
// the instance metadata of EC2 (IMDSv2), the credentials of an ECS task, and EKS Pod
// Identity. The sessions are those of an account of package iam.
package metadata

import (
	"crypto/rand"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/netfault"
)

// Kind is the service that hands out credentials.
type Kind int

// The kinds of servers.
const (
	// EC2 is the instance metadata of EC2 in its second version, which asks for a token:
	// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html
	EC2 Kind = iota
	// ECS has the credentials of a task:
	// https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html
	ECS
	// PodIdentity is the agent of EKS Pod Identity. It wants the token of a file:
	// https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html
	PodIdentity
)

// Config configures a Server.
type Config struct {
	Role   string        // name of a role of the account
	Life   time.Duration // of its sessions; zero: six hours
	Region string        // of the instance; empty: us-east-1
	// Lag is the time from the start until the role is known; until then it is a 404.
	Lag time.Duration
	// Dir takes the file with the token of PodIdentity. New has a folder of its own.
	Dir string
}

// Server hands out credentials of a role by the clock of its account. It hands out the
// same session until five minutes before its end, or until half of a life that is
// shorter than ten minutes. It is safe for concurrent use.
type Server struct {
	URL string

	kind    Kind
	account *iam.Server
	cfg     Config
	began   time.Time
	path    string // of the credentials of a task
	server  *http.Server
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	hook     func(Request) *Fault
	requests []Request
	session  iam.Session
	tokens   map[string]time.Time // the ends of the tokens of EC2
	secret   string               // what the Authorization header must say
}

// Request is a request that a Server received.
type Request struct {
	N            int // from 1, in order of arrival
	Method, Path string
	Status       int // of the answer; 0 while it runs and if there was none
}

// Fault makes a request fail. The zero Fault changes nothing.
type Fault struct {
	// Status and Body are the answer instead of the right one.
	Status int
	Body   string
	// Cut resets the connection; Hang gives no answer until the client leaves, as a token
	// does that is more hops away than the instance allows.
	Cut, Hang bool
	// Stale answers with the last session, even after its end, as EC2 does when STS is
	// away.
	Stale bool
	// Before runs before the request is examined. It may call any method but Close.
	Before func()
}

// New starts a Server that ends with the test.
func New(t testing.TB, kind Kind, account *iam.Server, cfg Config) *Server {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	s, err := Start(kind, account, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Start is New outside a test. The caller must Close the Server before its account.
func Start(kind Kind, account *iam.Server, cfg Config) (*Server, error) {
	if cfg.Life == 0 {
		cfg.Life = 6 * time.Hour
	}
	if cfg.Region == "" {
		cfg.Region = "us-east-1"
	}
	s := &Server{
		kind: kind, account: account, cfg: cfg, began: account.Now(), path: "/v2/credentials/" + rand.Text(),
		tokens: map[string]time.Time{}, secret: rand.Text(),
	}
	if kind == PodIdentity {
		s.path = "/v1/credentials"
		if err := s.writeToken(); err != nil {
			return nil, err
		}
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s.URL = "http://" + ln.Addr().String()
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}
	s.running.Go(func() { _ = s.server.Serve(ln) }) // ends with Close
	return s, nil
}

// Close stops the server and cuts the requests under way.
func (s *Server) Close() {
	s.server.Close()
	s.running.Wait()
}

// Env are the variables with which an AWS SDK finds the server, and none other.
func (s *Server) Env() map[string]string {
	env := map[string]string{
		"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_SESSION_TOKEN": "", "AWS_PROFILE": "",
		"AWS_WEB_IDENTITY_TOKEN_FILE": "", "AWS_ROLE_ARN": "", "AWS_EC2_METADATA_SERVICE_ENDPOINT": "",
		"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "", "AWS_CONTAINER_CREDENTIALS_FULL_URI": "",
		"AWS_CONTAINER_AUTHORIZATION_TOKEN": "", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "",
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
	}
	switch s.kind {
	case EC2:
		env["AWS_EC2_METADATA_SERVICE_ENDPOINT"] = s.URL
	case ECS:
		s.mu.Lock()
		defer s.mu.Unlock()
		env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = s.URL + s.path
		env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = s.secret
	case PodIdentity:
		env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = s.URL + s.path
		env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] = s.tokenFile()
	}
	return env
}

// RelativeEnv is Env for ECS with the relative address that a task has. An SDK asks
// 169.254.170.2 for it, through HTTP_PROXY, which is this server; it does not use a proxy
// for loopback.
func (s *Server) RelativeEnv() map[string]string {
	env := s.Env()
	env["AWS_CONTAINER_CREDENTIALS_FULL_URI"], env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "", ""
	env["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"], env["HTTP_PROXY"] = s.path, s.URL
	return env
}

func (s *Server) tokenFile() string { return filepath.Join(s.cfg.Dir, "eks-pod-identity-token") }

// writeToken replaces the file whole, as Kubernetes does.
func (s *Server) writeToken() error {
	next := s.tokenFile() + ".next"
	if err := os.WriteFile(next, []byte(s.secret), 0o600); err != nil {
		return err
	}
	return os.Rename(next, s.tokenFile())
}

// RotateToken puts a new token into the file of PodIdentity; the old one is refused from
// now on.
func (s *Server) RotateToken() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secret = rand.Text()
	return s.writeToken()
}

// Renew makes the next answer have a new session.
func (s *Server) Renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.session = iam.Session{}
}

// OnRequest makes fn choose the fault of each request; nil is no fault. fn is called by
// many goroutines at once and may call any method but Close. A nil fn removes it.
func (s *Server) OnRequest(fn func(Request) *Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hook = fn
}

// Requests are all requests so far, in order of arrival.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	req := Request{N: len(s.requests) + 1, Method: r.Method, Path: r.URL.Path}
	s.requests = append(s.requests, req)
	hook := s.hook
	s.mu.Unlock()
	fault := &Fault{}
	if hook != nil {
		if decided := hook(req); decided != nil {
			fault = decided
		}
	}
	if fault.Before != nil {
		fault.Before()
	}
	if fault.Hang {
		<-r.Context().Done() // Close ends it too
	}
	if fault.Hang || fault.Cut {
		if nc, _, err := w.(http.Hijacker).Hijack(); err == nil {
			netfault.Reset(nc)
		}
		return
	}
	out := answer{status: fault.Status, body: fault.Body}
	if out.status == 0 {
		out = s.right(r, fault)
	}
	s.mu.Lock()
	s.requests[req.N-1].Status = out.status
	s.mu.Unlock()
	w.Header().Set("Date", s.account.Now().UTC().Format(http.TimeFormat))
	for name, value := range out.header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(out.status)
	_, _ = w.Write([]byte(out.body)) // the client may have left
}
