package iam

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ixmage/alias"
)

// Session is a set of temporary credentials of a user or of a role. It works until it
// expires, whatever becomes of the key that asked for it, because IAM cannot revoke it:
// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_disable-perms.html
type Session struct {
	AccessKeyID, Token string
	Issued, Expires    time.Time

	// Of a session of a role:
	Role           string // its name
	Name           string // RoleSessionName
	ARN            string
	SourceIdentity string
	Policies       []string // the session policies
	Chained        bool     // another session asked for it

	secret       alias.Secret
	user, userID string // empty for root
	roleID       string
	made         int    // counts sessions, for their order
	refused      string // the code with which every request is refused, see RevokeSessions
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
		secret: alias.NewSecret(newSecret()), made: len(s.sessions),
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
// ok is false if they are unknown or belong to a user or role that is gone.
func (s *Server) sessionCaller(id string, r *request) (c caller, secret alias.Secret, ok bool) {
	x, ok := s.sessions[id]
	if !ok {
		return caller{}, secret, false
	}
	if x.Role != "" {
		role, ok := s.roles.visibleAt(x.Role, r.now)
		if !ok || role.ID != x.roleID {
			return caller{}, secret, false
		}
		return caller{role: role, arn: x.ARN, session: x}, x.secret, true
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

// checkToken refuses a request whose token is not that of the session. S3 answers a
// request without one as if the key did not exist; STS answers so to any other token.
func checkToken(x *Session, r *request, service string, unknown error) error {
	if x == nil {
		return nil
	}
	switch token := r.http.Header.Get("X-Amz-Security-Token"); {
	case token == x.Token:
		return nil
	case token == "" || service != "s3":
		return unknown
	}
	return refusal("InvalidToken", "The provided token is malformed or otherwise invalid.")
}

// checkLife refuses a session that has ended or was revoked, and a session of a user that
// calls IAM.
func checkLife(x *Session, r *request, service string, unknown error) error {
	if x == nil {
		return nil
	}
	code := x.refused
	if !r.now.Before(x.Expires) {
		code = "ExpiredToken"
	}
	switch {
	case code == "ExpiredToken" && service == "s3":
		return refusal(code, "The provided token has expired.")
	case code == "ExpiredToken":
		return refusal(code, "The security token included in the request is expired")
	case code == "InvalidToken" && service == "s3":
		return refusal(code, "The provided token is malformed or otherwise invalid.")
	case code != "" && code != "AccessDenied":
		return unknown
	case x.Role == "" && service == "iam": // but for sessions with MFA: API_GetSessionToken
		return unknown
	}
	return nil
}

// Sessions are the sessions of a role, oldest first; without a name those of all roles.
func (s *Server) Sessions(role string) []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Session
	for _, x := range s.sessions {
		if x.Role != "" && (role == "" || x.Role == role) {
			out = append(out, *x)
		}
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Compare(a.made, b.made) })
	return out
}

// RevokeSessions makes every session that a role has now (without a name, that every role
// has) be refused from now on, and returns how many there are. AccessDenied is what a
// policy with an explicit deny for older sessions answers; it leaves GetCallerIdentity.
// ExpiredToken, InvalidToken and InvalidAccessKeyId are refusals of the session itself.
func (s *Server) RevokeSessions(role, code string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, x := range s.sessions {
		if x.Role != "" && (role == "" || x.Role == role) {
			x.refused = code
			n++
		}
	}
	return n
}
