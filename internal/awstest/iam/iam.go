// Package iam is an AWS account inside the process of a test: IAM, STS and a
// small S3 that enforces the same keys and policies, with lag and with faults.
package iam

import (
	"cmp"
	"net"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
)

// defaultRegion is the oldest region of AWS.
const defaultRegion = "us-east-1"

// Config configures a Server; the zero value is an account
// without lag and without faults.
type Config struct {
	// Now is the clock that measures lag; nil is the real one.
	Now func() time.Time
	// Lag is the time until a change is visible to reads and to authorization.
	// LagFunc overrides it and is called once per call.
	Lag     time.Duration
	LagFunc func() time.Duration

	// LastUsedLag is the time for which GetAccessKeyLastUsed does not know a new key.
	// It answers with the code LastUsedError then; if that is empty, as for a key that
	// never existed: AccessDenied to who has a right to some users only, else
	// NoSuchEntity.
	LastUsedLag   time.Duration
	LastUsedError string
	// LastUsedValueLag is the time until a use of a key is seen in its answer: minutes
	// to hours on AWS.
	LastUsedValueLag time.Duration

	// SessionLife is how long a session of a role is, given the time that was asked for;
	// nil leaves it. A test sees many renewals in a short time with it.
	SessionLife func(asked time.Duration) time.Duration
	// PackedSize is the size of the session policies of AssumeRole in percent of the
	// allowed one; nil takes their characters without white space, of 2,048. AWS packs
	// them in a way that it does not document.
	PackedSize func(policies []string) int

	Listen   string // address of IAM and STS; empty: a free port of loopback
	ListenS3 string // likewise
	Account  string // empty: 123456789012
	// AccountAlias is the name of the account; empty: it has none.
	AccountAlias string
	Partition    string // empty: aws
	Region       string // of the buckets; empty: us-east-1

	// PageLimit bounds a page of a list further than the client does; zero
	// does not.
	PageLimit int
	// UsersQuota is how many users the account may have; zero: 5,000.
	UsersQuota int
	// Insecure sets aws:SecureTransport to false. Otherwise it is true, though
	// there is no TLS.
	Insecure bool
	// Uploads makes S3 know uploads in parts, as AWS does, though there is none: a part
	// of one is NoSuchUpload to who may put objects. Without it UploadPart is 501.
	Uploads bool
	// DeleteHidesMissing makes S3 answer a DeleteObject with If-Match for a missing
	// object as it answers a read, with AccessDenied to who may not list the bucket.
	// AWS documents a 404.
	DeleteHidesMissing bool
	// Terse makes S3 answer "Access Denied" without the missing right, as AWS
	// does to callers of another account.
	Terse bool
	// BoundaryNeedsPut makes CreateUser with a boundary need the right to
	// iam:PutUserPermissionsBoundary too. AWS's example of delegation lists both, and
	// does not say which call needs which:
	// https://docs.aws.amazon.com/IAM/latest/UserGuide/access_policies_boundaries.html
	BoundaryNeedsPut bool
	// NoReasons leaves out why a policy denies a call, as AWS did once and other
	// servers do. It implies Terse.
	NoReasons bool
	// PolicyARNs names the policy that denies explicitly, as AWS does more and more:
	// https://aws.amazon.com/blogs/security/enhanced-access-denied-error-messages-with-policy-arns
	PolicyARNs bool
	// PlainPlus leaves a plus in the documents of policies that are read as it is.
	// AWS encodes it; servers that decode by RFC 3986 need not.
	PlainPlus bool
	// PlainDocuments leaves these documents as they were sent, as some servers do.
	PlainDocuments bool
	// ResolveMissing authorizes a call on a user that was deleted, or is not
	// visible yet, by the path that it had or will have. Without it only a
	// policy on all users covers a name that IAM cannot resolve, and other
	// callers get AccessDenied instead of NoSuchEntity, as with versitygw.
	ResolveMissing bool
}

// Server is an account with users, keys and policies within the test's own
// process. It speaks the protocols of IAM and STS at URL and a small path-style
// S3 at S3URL, which enforces the same keys and policies. It is safe for
// concurrent use.
//
// A change is visible to reads and to authorization when the lag has passed:
// until then a new user is NoSuchEntity, a new key is InvalidClientTokenId, and a
// deleted key works. Names and limits count at once. If the lag varies, a
// visible change of a user makes earlier changes of the same user visible.
type Server struct {
	URL   string // IAM and STS
	S3URL string
	Root  alias.KeyPair // may do anything

	cfg     Config
	t       testing.TB // nil outside a test
	client  *http.Client
	servers []*http.Server
	running sync.WaitGroup

	mu       sync.Mutex // guards what follows
	lag      func() time.Duration
	hook     func(Call) *Fault
	faults   map[string]*Fault // by action
	calls    []Call
	problems []string
	users    table[*User]
	keys     table[*Key]
	policies table[*Policy]
	roles    table[*Role]
	sessions map[string]*Session // by access key id
	// providers are the audiences of identity providers by issuer, webTokens their tokens.
	providers map[string][]string
	webTokens map[string]webToken
	buckets   map[string]*bucket
	groups    map[string]string // policies by name
	// groupPolicies are the managed policies of groups.
	groupPolicies map[string][]string
	guards        guards
	parsed        map[string]*document // by its text
}

// New starts a Server that ends with the test. A request for something that is
// not implemented, such as an unknown condition in a policy, fails the test.
func New(t testing.TB, cfg Config) *Server {
	t.Helper()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.t = t
	t.Cleanup(s.Close)
	return s
}

// Start is New outside a test: see Problems. The caller must Close it.
func Start(cfg Config) (*Server, error) {
	s := &Server{
		cfg: cfg.withDefaults(), client: &http.Client{Transport: &http.Transport{}},
		users: table[*User]{}, keys: table[*Key]{}, policies: table[*Policy]{}, roles: table[*Role]{},
		sessions: map[string]*Session{}, providers: map[string][]string{}, webTokens: map[string]webToken{},
		buckets: map[string]*bucket{}, groups: map[string]string{}, groupPolicies: map[string][]string{},
		parsed: map[string]*document{},
		faults: map[string]*Fault{},
	}
	s.lag = s.cfg.LagFunc
	s.Root = alias.KeyPair{AccessKeyID: uniqueID("AKIA", 16), SecretAccessKey: alias.NewSecret(newSecret())}
	s.addAWSPolicies()
	var err error
	if s.URL, err = s.listen(s.cfg.Listen, s.serveQuery); err != nil {
		return nil, err
	}
	if s.S3URL, err = s.listen(s.cfg.ListenS3, s.serveS3); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.LagFunc == nil {
		lag := c.Lag
		c.LagFunc = func() time.Duration { return lag }
	}
	for to, value := range map[*string]string{&c.Account: "123456789012", &c.Partition: "aws", &c.Region: defaultRegion} {
		if *to == "" {
			*to = value
		}
	}
	if c.UsersQuota == 0 {
		c.UsersQuota = 5000
	}
	return c
}

func (s *Server) listen(address string, handler http.HandlerFunc) (string, error) {
	ln, err := net.Listen("tcp4", cmp.Or(address, "127.0.0.1:0"))
	if err != nil {
		return "", err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	s.servers = append(s.servers, server)
	s.running.Go(func() { _ = server.Serve(ln) }) // ends with Close
	return "http://" + ln.Addr().String(), nil
}

// Close stops the servers and cuts the requests under way. It may be called more
// than once.
func (s *Server) Close() {
	s.client.CloseIdleConnections()
	for _, server := range s.servers {
		server.Close()
	}
	s.running.Wait()
}

// Now is the time by the clock of the account.
func (s *Server) Now() time.Time { return s.cfg.Now() }

// SetLag changes the lag of the calls to come.
func (s *Server) SetLag(lag time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lag = func() time.Duration { return lag }
}

// Problems lists the requests for something that is not implemented.
func (s *Server) Problems() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.problems)
}

// problemLocked records a problem and fails the test.
func (s *Server) problemLocked(text string) {
	s.problems = append(s.problems, text)
	if s.t != nil {
		s.t.Error("IAM fake: " + text)
	}
}

// IAMClient is the SDK's client with a key pair. It does not retry.
func (s *Server) IAMClient(kp alias.KeyPair) *iam.Client { return s.IAMClientOf(signer(kp)) }

// IAMClientOf is IAMClient with other credentials, such as a Session.
func (s *Server) IAMClientOf(creds aws.CredentialsProvider) *iam.Client {
	return iam.New(iam.Options{
		BaseEndpoint: &s.URL, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: s.client, Credentials: creds,
	})
}

// STSClient is the SDK's client with a key pair. It does not retry.
func (s *Server) STSClient(kp alias.KeyPair) *sts.Client { return s.STSClientOf(signer(kp)) }

// STSClientOf is STSClient with other credentials, such as a Session.
func (s *Server) STSClientOf(creds aws.CredentialsProvider) *sts.Client {
	return sts.New(sts.Options{
		BaseEndpoint: &s.URL, Region: "us-east-1", RetryMaxAttempts: 1, HTTPClient: s.client, Credentials: creds,
	})
}

// S3Client is the SDK's client with a key pair; the zero KeyPair signs nothing.
// It does not retry.
func (s *Server) S3Client(kp alias.KeyPair) *s3.Client { return s.S3ClientOf(signer(kp)) }

// S3ClientOf is S3Client with other credentials, such as a Session.
func (s *Server) S3ClientOf(creds aws.CredentialsProvider) *s3.Client {
	return s3.New(s3.Options{
		BaseEndpoint: &s.S3URL, Region: s.cfg.Region, RetryMaxAttempts: 1, HTTPClient: s.client, UsePathStyle: true,
		Credentials: creds,
	})
}

func signer(kp alias.KeyPair) aws.CredentialsProvider {
	if kp.AccessKeyID == "" {
		return aws.AnonymousCredentials{}
	}
	return credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}
