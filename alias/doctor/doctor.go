// Package doctor examines a running server from its own side: its credentials and their rights,
// the permissions boundary, the buckets of its aliases, the roles that it assumes, the endpoints
// it needs, and the clock. It changes nothing, and calls nothing that would make something.
package doctor

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"

	"ixmage/alias"
	"ixmage/alias/accounts"
)

// limits bound an examination and its calls.
type limits struct {
	total time.Duration
	call  time.Duration // of IAM or STS, with its repetition
	keys  time.Duration // to get the server's own credentials
}

// defaultLimits have a total below the limit of a call of the admin API.
var defaultLimits = limits{total: 25 * time.Second, call: 6 * time.Second, keys: 5 * time.Second}

// Limits of one examination.
const (
	maxBuckets = 100
	maxRoles   = 50 // and as many accounts
	atOnce     = 8  // calls of one kind
)

// Sessions makes sessions of roles.
type Sessions interface {
	// Allowed returns an error that names the flag unless the configuration allows a credential.
	Allowed(p alias.Provider) error
	// Probe asks for a session of a role that may do nothing. It counts and logs nothing. Its
	// error is a *session.Error.
	Probe(ctx context.Context, role alias.Role) error
}

// Fleet is what the server knows of the nodes that share its registry.
type Fleet interface {
	// Stale returns since when the database cannot be used and why; nil if it can.
	Stale() (since time.Time, why error)
	// Known returns all nodes as of the last answer of the database, by name.
	Known() []*alias.Node
}

// Config is what a Doctor examines.
type Config struct {
	Registry *alias.Registry
	Sessions Sessions

	// AWS has the server's own credentials. IAM and STS are URLs; empty means AWS.
	AWS      aws.Config
	IAM, STS string
	// S3 makes the client for a location, and S3Hint says what an operator can do about an error
	// of such a client without an answer.
	S3     func(alias.Location, alias.KeyPair) *s3.Client
	S3Hint func(alias.Location, error) string

	InstallID  string
	Provision  bool
	Boundary   string // ARN; empty for none
	NoBoundary bool
	Buckets    []string // patterns of --provision-buckets
	Accounts   *accounts.List

	AssumeRoles                                []string
	AllowDefault, AllowWideScope, AllowPrivate bool
	// KeysetBesideData is the path of an unencrypted key set in the data folder; empty for none.
	KeysetBesideData string
	Fleet            Fleet // nil: the registry is in SQLite
	// Workers describes the processes that transform pictures; with nil they are not examined.
	Workers func() Workers

	Now func() time.Time // nil: time.Now

	limits limits // zero: defaultLimits
}

// Doctor examines one server. It is safe for concurrent use.
type Doctor struct{ cfg Config }

// New returns a Doctor. It makes no call.
func New(cfg Config) *Doctor {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.limits = cmp.Or(cfg.limits, defaultLimits)
	return &Doctor{cfg}
}

// examination is one run. Its parts add findings concurrently.
type examination struct {
	cfg    *Config
	routes []alias.Route
	roles  []*alias.Credential

	own own

	mu       sync.Mutex // guards the fields below
	findings []Finding
	clocks   []clockReading
}

// Examine makes all findings. It ends within half a minute; what has no answer until then was
// not tried.
func (d *Doctor) Examine(ctx context.Context) *Report {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.limits.total)
	defer cancel()
	began := d.cfg.Now()
	e := &examination{cfg: &d.cfg}
	e.readRegistry()
	e.configuration()
	var all errgroup.Group
	start := func(part func(context.Context)) {
		all.Go(func() error { part(ctx); return nil })
	}
	start(e.buckets)
	start(func(ctx context.Context) {
		e.identity(ctx)
		var more errgroup.Group
		for _, part := range []func(context.Context){e.rights, e.boundary, e.assumeRoles, e.assumeAccounts} {
			more.Go(func() error { part(ctx); return nil })
		}
		_ = more.Wait()
	})
	_ = all.Wait()
	e.clock()
	return newReport(began, e.findings)
}

// readRegistry copies what the aliases and credentials are at one moment.
func (e *examination) readRegistry() {
	e.cfg.Registry.Routes(func(r alias.Route) bool {
		e.routes = append(e.routes, r)
		return true
	})
	e.cfg.Registry.CredentialsInMemory(func(c *alias.Credential) bool {
		if _, ok := c.Role(); ok {
			e.roles = append(e.roles, c)
		}
		return true
	})
}

func (e *examination) add(f Finding) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.findings = append(e.findings, f)
}

func (e *examination) good(name FindingName, subject, detail string) {
	e.add(Finding{name, Good, subject, detail, ""})
}

func (e *examination) notTried(name FindingName, subject, why, remedy string) {
	e.add(Finding{name, NotTried, subject, why, remedy})
}

// outOfTime adds a finding if the examination had no time for it, and reports whether that is so.
func (e *examination) outOfTime(ctx context.Context, name FindingName, subject string) bool {
	if ctx.Err() == nil {
		return false
	}
	e.notTried(name, subject, "the examination ended before there was an answer", "run it again when less is slow")
	return true
}

// needsOwn says what needs the server's own credentials; empty if nothing does.
func (e *examination) needsOwn() string {
	switch {
	case e.cfg.Provision:
		return "--provision"
	case len(e.cfg.Accounts.All()) > 0:
		return "--accounts"
	}
	for _, c := range e.roles {
		if r, _ := c.Role(); r.Source == alias.SourceDefault {
			return "the credential " + string(c.Name)
		}
	}
	for _, r := range e.routes {
		if r.Credential.Provider.Kind() == alias.KindDefault {
			return "the credential " + string(r.Credential.Name)
		}
	}
	return ""
}
