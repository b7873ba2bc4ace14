// Package session makes the temporary keys of credentials that have no key of their own: for each
// alias a session of a role, which STS gives and whose session policy allows the alias's location
// and nothing else, and the keys of the server itself.
package session

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"golang.org/x/time/rate"

	"ixmage/alias"
	"ixmage/alias/accounts"
)

const (
	// callsPerSecond bounds the calls of STS, and callsAtOnce those after a quiet time. AWS
	// allows 600 a second for all callers of an account in a region
	// (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_iam-quotas.html).
	callsPerSecond = 100
	callsAtOnce    = 100
	// callTimeout bounds one call.
	callTimeout = 20 * time.Second
	// busy is the error of a call that the limit did not allow in time.
	busy = "too many calls of STS wait; try again"
	// sweepInterval is the time between two looks for sessions that have ended.
	sweepInterval = time.Minute
)

// Config configures Sessions.
type Config struct {
	Registry *alias.Registry
	// AWS is the configuration of the machine: its credentials assume roles with the source
	// default. Endpoint is the URL of STS; empty means AWS.
	AWS      aws.Config
	Endpoint string
	// InstallID names this installation in the names of sessions.
	InstallID string

	// AssumeRoles are patterns of the ARNs of roles that may be assumed, in which * stands for any
	// text; AllowDefault allows credentials of the kind default, AllowWideScope the session policy
	// none.
	AssumeRoles    []string
	AllowDefault   bool
	AllowWideScope bool

	// Accounts are those that a role may name.
	Accounts *accounts.List

	Recorder Recorder
	Log      *slog.Logger // nil discards
}

// Recorder counts calls for the metrics. It must be safe for concurrent use.
type Recorder interface {
	// SessionRenewal counts a call for keys: ok, or why there are none (denied, throttled,
	// timeout, network, error).
	SessionRenewal(outcome string)
}

// Sessions holds one session for each alias whose credential is a role, and one for each
// credential of the kind default. It is safe for concurrent use.
type Sessions struct {
	cfg   Config
	log   *slog.Logger
	limit *rate.Limiter

	ctx    context.Context //nolint:containedctx // of the calls, which belong to no request; ends with Close
	cancel context.CancelFunc
	// ending is held by start and Close. Without it, start could find ctx alive, Close could cancel
	// it and see that nothing runs, and start would then begin a call that nobody waits for.
	ending  sync.Mutex
	running sync.WaitGroup

	mu   sync.Mutex // guards byID; taken after no lock and before that of a session
	byID map[sessionID]*session
}

// sessionID says which session signs: the credential and the location of a session never change.
type sessionID struct {
	credential, version int64
	alias               int64 // 0 for a credential of the kind default
	location
}

// location is the part of an alias.Location that changes what a session may do, or where STS is asked.
type location struct{ bucket, prefix, region string }

func locationOf(a *alias.Alias) location { return location{a.Bucket, a.Prefix, a.Region} }

func idOf(r alias.Route) sessionID {
	id := sessionID{credential: r.Credential.ID, version: r.Credential.Version}
	if r.Credential.Provider.Kind() == alias.KindRole {
		id.alias, id.location = r.Alias.ID, locationOf(r.Alias)
	}
	return id
}

// New returns Sessions. It makes no call.
func New(cfg Config) *Sessions {
	log := cfg.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := &Sessions{
		cfg: cfg, log: log, limit: rate.NewLimiter(callsPerSecond, callsAtOnce), byID: map[sessionID]*session{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Provider returns what signs for a route. Its Retrieve waits only while there are no living
// keys, and returns an *Error, or one of alias.ErrForbidden, if there are none to be fetched.
func (s *Sessions) Provider(r alias.Route) aws.CredentialsProvider { return provider{s, r} }

// provider finds the session at each use: one that has ended is forgotten, and made anew.
type provider struct {
	sessions *Sessions
	route    alias.Route
}

// Retrieve implements aws.CredentialsProvider.
func (p provider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	x, err := p.sessions.session(p.route)
	if err != nil {
		return aws.Credentials{}, err
	}
	return x.Retrieve(ctx)
}

// session finds the session of a route, or makes it if the configuration allows that.
func (s *Sessions) session(r alias.Route) (*session, error) {
	id := idOf(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	if x, ok := s.byID[id]; ok {
		return x, nil
	}
	if err := s.Allowed(r.Credential.Provider); err != nil {
		return nil, err
	}
	x := &session{sessions: s, fetchKeys: s.fetcher(r)}
	if r.Credential.Provider.Kind() == alias.KindDefault {
		x.reset = s.resetOwn
	}
	s.byID[id] = x
	return x, nil
}

// fetcher returns the function that fetches keys for a route.
func (s *Sessions) fetcher(r alias.Route) func(context.Context) (*lease, error) {
	if role, ok := r.Credential.Role(); ok {
		a := r.Alias
		return func(ctx context.Context) (*lease, error) { return s.assume(ctx, role, s.sessionFor(role, a)) }
	}
	return s.own
}

// Renew fetches other keys for a route after S3 refused the key with an id, and reports whether
// there are others now. It is true at once if another request has fetched them.
func (s *Sessions) Renew(ctx context.Context, r alias.Route, keyID string) bool {
	x, err := s.session(r)
	return err == nil && x.renewRefused(ctx, keyID)
}

// Prepare fetches keys for a route that does not sign yet, unless there are living ones.
func (s *Sessions) Prepare(ctx context.Context, r alias.Route) error {
	x, err := s.session(r)
	if err != nil {
		return err
	}
	_, err = x.Retrieve(ctx)
	return describe(err)
}

// Keys are the keys that sign for a route, with what STS was asked for to get them.
type Keys struct {
	aws.Credentials

	// SessionName is the name of the session, and Policy the session policy, in JSON, that STS was
	// sent for these keys; empty for none. The keys of the server itself have neither.
	SessionName, Policy string
}

// Keys returns the keys that sign for a route, with what STS was asked for to get them. If there
// are no living keys, it waits for the next ones. The error is of alias.ErrForbidden or
// alias.ErrSTS, or ctx's.
func (s *Sessions) Keys(ctx context.Context, r alias.Route) (Keys, error) {
	x, err := s.session(r)
	if err != nil {
		return Keys{}, err
	}
	l, err := x.lease(ctx)
	switch {
	case ctx.Err() != nil:
		return Keys{}, ctx.Err()
	case err != nil:
		return Keys{}, fmt.Errorf("%w: %w", alias.ErrSTS, err)
	}
	return Keys{l.keys, l.sent.name, l.sent.policy}, nil
}

// Try asks for a session of a credential that is not registered yet: for an alias, or, without
// one, for a session that may do nothing. It keeps none.
func (s *Sessions) Try(ctx context.Context, p alias.Provider, at *alias.Alias) error {
	if err := s.Allowed(p); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := s.limit.Wait(ctx); err != nil {
		return fmt.Errorf("%w: %s", alias.ErrSTS, busy)
	}
	if role, ok := p.(alias.Role); ok {
		_, err := s.assume(ctx, role, s.sessionFor(role, at))
		return describe(err)
	}
	_, err := s.own(ctx)
	return describe(err)
}

// Probe asks for a session of a role that may do nothing, to see whether there is one. It is not
// counted, logged or kept. Its error is an *Error.
func (s *Sessions) Probe(ctx context.Context, role alias.Role) error {
	if err := s.limit.Wait(ctx); err != nil {
		return &Error{Outcome: outcomeTimeout, Detail: busy}
	}
	_, err := s.askSTS(ctx, role, s.sessionFor(role, nil))
	if err != nil && asError(err) == nil {
		return stsError(err, role)
	}
	return err
}

// Info describes the session of a route.
type Info struct {
	Role    string    // ARN; empty for the credentials of the server
	Expires time.Time // zero while there are no keys, or if they do not expire
	Err     error     // of the last fetch; nil if it succeeded
}

// Info describes the session of a route; ok is false if its credential has none.
func (s *Sessions) Info(r alias.Route) (i Info, ok bool) {
	switch p := r.Credential.Provider.(type) {
	case alias.Role:
		i.Role = p.ARN
	case alias.Default:
	default:
		return i, false
	}
	if i.Err = s.Allowed(r.Credential.Provider); i.Err != nil {
		return i, true
	}
	s.mu.Lock()
	x := s.byID[idOf(r)]
	s.mu.Unlock()
	if x == nil {
		return i, true
	}
	if l := x.current.Load(); l != nil && l.alive(time.Now()) {
		i.Expires = l.expires
	}
	x.mu.Lock()
	i.Err = x.err
	x.mu.Unlock()
	return i, true
}

// Stats returns the number of sessions with living keys, and the time until the first of these
// keys expires; 0 if none does.
func (s *Sessions) Stats() (n int, next time.Duration) {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.byID {
		l := x.current.Load()
		if l == nil || !l.alive(now) {
			continue
		}
		n++
		if !l.until.IsZero() && (next == 0 || l.until.Sub(now) < next) {
			next = l.until.Sub(now)
		}
	}
	return n, next
}

// ForgetAlias drops the sessions of an alias that is gone.
func (s *Sessions) ForgetAlias(aliasID int64) {
	s.drop(func(id sessionID, _ *session) bool { return id.alias == aliasID })
}

// KeepAlias drops the sessions of an alias for other locations than it has.
func (s *Sessions) KeepAlias(a *alias.Alias) {
	s.drop(func(id sessionID, _ *session) bool {
		return id.alias == a.ID && id.location != locationOf(a)
	})
}

// ForgetCredential drops the sessions of a credential that are of an older version than before.
func (s *Sessions) ForgetCredential(credentialID, before int64) {
	s.drop(func(id sessionID, _ *session) bool { return id.credential == credentialID && id.version < before })
}

// drop forgets sessions. Requests that still use one go on.
func (s *Sessions) drop(which func(sessionID, *session) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, x := range s.byID {
		if which(id, x) {
			delete(s.byID, id)
		}
	}
}

// Run forgets sessions whose keys have ended, until ctx does.
func (s *Sessions) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.sweep(time.Now())
		}
	}
}

// sweep forgets the sessions that have ended.
func (s *Sessions) sweep(now time.Time) {
	s.drop(func(_ sessionID, x *session) bool { return x.ended(now) })
}

// ended reports whether there are no living keys, and nobody fetches or has just tried to.
func (x *session) ended(now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.current.Load()
	return x.fetch == nil && (l == nil || !l.alive(now)) && now.Sub(x.retryAt) > lastRetry
}

// start runs fn in the background, unless Close was called.
func (s *Sessions) start(fn func()) bool {
	s.ending.Lock()
	defer s.ending.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	s.running.Go(fn)
	return true
}

// call fetches keys when the limit of calls allows it.
func (s *Sessions) call(fetch func(context.Context) (*lease, error)) (*lease, error) {
	if err := s.limit.Wait(s.ctx); err != nil {
		return nil, errClosed
	}
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	return fetch(ctx)
}

// Close ends all calls and waits for them.
func (s *Sessions) Close() {
	s.ending.Lock()
	s.cancel()
	s.ending.Unlock()
	s.running.Wait()
}

// describe turns an *Error into what the admin API understands: a *alias.ValidationError for a
// refusal, and an error of alias.ErrSTS for all others.
func describe(err error) error {
	var e *Error
	switch e = asError(err); {
	case err == nil:
		return nil
	case e == nil:
		return fmt.Errorf("%w: %w", alias.ErrSTS, err)
	case e.Field != "":
		return &alias.ValidationError{Problems: []alias.Problem{{Field: e.Field, Detail: e.Detail}}}
	}
	return fmt.Errorf("%w: %w", alias.ErrSTS, e)
}
