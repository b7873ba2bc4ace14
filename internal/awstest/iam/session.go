package iam

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ixmage/alias"
)

// Session is a set of temporary credentials of a user. It works until it expires,
// whatever becomes of the key that asked for it, because IAM cannot revoke it:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
type Session struct {
	AccessKeyID, Token string
	Issued, Expires    time.Time

	secret       alias.Secret
	user, userID string // empty for root
}

// Retrieve makes a Session the credentials of a client of the SDK.
func (x Session) Retrieve(context.Context) (aws.Credentials, error) {
	return aws.Credentials{
		AccessKeyID: x.AccessKeyID, SecretAccessKey: x.secret.Reveal(), SessionToken: x.Token,
		CanExpire: true, Expires: x.Expires,
	}, nil
}

const (
	minSession     = 15 * time.Minute
	maxSession     = 36 * time.Hour
	defaultSession = 12 * time.Hour
)

// getSessionToken needs no right, and no policy can deny it:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_getsessiontoken.html
func getSessionToken(s *Server, r *request) (any, error) {
	if r.caller.session != nil {
		return nil, refusal("AccessDenied", "Cannot call GetSessionToken with session credentials")
	}
	duration := defaultSession
	if asked := r.params.Get("DurationSeconds"); asked != "" {
		n, err := strconv.Atoi(asked)
		duration = time.Duration(n) * time.Second
		if err != nil || duration < minSession || duration > maxSession {
			return nil, refusal("ValidationError", "1 validation error detected: Value '%s' at 'durationSeconds' failed to "+
				"satisfy constraint: Member must have value between 900 and 129600", asked)
		}
	}
	x := s.newSessionLocked(r.caller.user, r.now, duration)
	type keys struct {
		AccessKeyID                               string `xml:"AccessKeyId"`
		SecretAccessKey, SessionToken, Expiration string
	}
	return struct{ Credentials keys }{keys{x.AccessKeyID, x.secret.Reveal(), x.Token, date(x.Expires)}}, nil
}

func (s *Server) newSessionLocked(u *User, now time.Time, duration time.Duration) *Session {
	x := &Session{
		AccessKeyID: uniqueID("ASIA", 16), Token: newSecret() + newSecret(), Issued: now, Expires: now.Add(duration),
		secret: alias.NewSecret(newSecret()),
	}
	if u != nil {
		x.user, x.userID = u.Name, u.ID
	}
	s.sessions[x.AccessKeyID] = x
	return x
}

// NewSession is what GetSessionToken with a key of this user answers, without the
// call.
func (s *Server) NewSession(user string) Session {
	now := s.cfg.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users.latest(user)
	if !ok {
		s.problemLocked("no user " + user)
		return Session{}
	}
	return *s.newSessionLocked(u, now, defaultSession)
}

// sessionCaller finds the caller of a request that temporary credentials sign.
// ok is false if they are unknown or belong to a user that is gone.
func (s *Server) sessionCaller(id string, r *request) (c caller, secret alias.Secret, ok bool) {
	x, ok := s.sessions[id]
	if !ok || r.http.Header.Get("X-Amz-Security-Token") != x.Token {
		return caller{}, secret, false
	}
	if x.user == "" {
		return caller{root: true, arn: s.arn("root"), session: x}, x.secret, true
	}
	u, ok := s.users.visibleAt(x.user, r.now)
	if !ok || u.ID != x.userID {
		return caller{}, secret, false
	}
	return caller{user: u, arn: u.ARN, session: x}, x.secret, true
}
