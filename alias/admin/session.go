package admin

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"ixmage/alias"
)

const sessionPath = "/api/v1/session"

// Limits of a session.
const (
	sessionIdle = time.Hour
	sessionMax  = 12 * time.Hour
	// maxSessions bounds the memory; the one that was idle for the longest time is
	// forgotten first.
	maxSessions = 1024
	// maxSessionsOfToken keeps the holder of one token from ending the sessions of all others.
	maxSessionsOfToken = 64
)

// Names of the cookie. A browser accepts __Host- only from the host itself and with
// Secure, so that no other host of the domain can set it
// (RFC 6265bis, 4.1.3.2).
const (
	cookieName       = "ixmage-session"
	cookieNameSecure = "__Host-ixmage-session"
)

// consoleHeader is sent by the console with every change. A form of another origin cannot
// send it.
const consoleHeader = "X-Ixmage-Console"

// session is a sign-in of the console. It ends with its token.
type session struct {
	token     alias.TokenDigest
	madeAt    time.Time
	lastUseAt time.Time
}

// ends returns when the session ends if it is not used.
func (s *session) ends() time.Time {
	end := s.madeAt.Add(sessionMax)
	if idle := s.lastUseAt.Add(sessionIdle); idle.Before(end) {
		return idle
	}
	return end
}

// sessions has the sessions by the digest of their cookies, in memory: a restart ends them.
type sessions struct {
	mu   sync.Mutex // guards open and its values
	open *simplelru.LRU[alias.TokenDigest, *session]
}

func newSessions() *sessions {
	open, _ := simplelru.NewLRU[alias.TokenDigest, *session](maxSessions, nil) // only a size below 1 is an error
	return &sessions{open: open}
}

// begin makes a session for the holder of a token, and returns its cookie.
func (s *sessions) begin(token alias.TokenDigest) string {
	cookie := rand.Text()
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.makeRoom(token)
	s.open.Add(alias.DigestOf(cookie), &session{token: token, madeAt: now, lastUseAt: now})
	return cookie
}

// makeRoom ends the session of a token that was idle for the longest time, if the token has
// as many as it may. s.mu is held.
func (s *sessions) makeRoom(token alias.TokenDigest) {
	var own []alias.TokenDigest
	for _, cookie := range s.open.Keys() { // the one that was idle for the longest time first
		if one, _ := s.open.Peek(cookie); one.token == token {
			own = append(own, cookie)
		}
	}
	if len(own) == maxSessionsOfToken {
		s.open.Remove(own[0])
	}
}

// use returns the token of the session with a cookie, and counts as a use of it.
func (s *sessions) use(cookie string) (alias.TokenDigest, bool) {
	digest := alias.DigestOf(cookie)
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.open.Get(digest)
	if !ok {
		return alias.TokenDigest{}, false
	}
	if !now.Before(found.ends()) {
		s.open.Remove(digest)
		return alias.TokenDigest{}, false
	}
	found.lastUseAt = now
	return found.token, true
}

// has reports whether there is a session with a cookie, without a use of it.
func (s *sessions) has(cookie string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.open.Peek(alias.DigestOf(cookie))
	return ok && time.Now().Before(found.ends())
}

// end ends the session with a cookie, if there is one.
func (s *sessions) end(cookie string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open.Remove(alias.DigestOf(cookie))
}

// newCookie makes the cookie of a session; maxAge is in seconds, and below 0 it deletes the
// cookie.
func newCookie(r *http.Request, value string, maxAge int) *http.Cookie {
	return &http.Cookie{ //nolint:gosec // without TLS a browser would drop a Secure cookie
		Name: cookieNameFor(r), Value: value, Path: "/", MaxAge: maxAge,
		HttpOnly: true, Secure: r.TLS != nil, SameSite: http.SameSiteStrictMode,
	}
}

// cookieOf returns the session's cookie of a request, or "".
func cookieOf(r *http.Request) string {
	c, err := r.Cookie(cookieNameFor(r))
	if err != nil {
		return ""
	}
	return c.Value
}

// cookieNameFor is the name that the cookie has on the connection of a request.
func cookieNameFor(r *http.Request) string {
	if r.TLS != nil {
		return cookieNameSecure
	}
	return cookieName
}

// checkCookie refuses a call by cookie that another site may have made the browser send
// (cross-site request forgery). A browser tells the site of the page that makes the request in
// Sec-Fetch-Site or in Origin, which no page can change
// (https://www.w3.org/TR/fetch-metadata/).
func checkCookie(r *http.Request) error {
	sites, origins := r.Header["Sec-Fetch-Site"], r.Header["Origin"]
	same := len(sites) == 1 && sites[0] == "same-origin" ||
		len(sites) == 0 && len(origins) == 1 && sameOrigin(r, origins[0])
	if !same {
		return failf(errForbidden, "a call with the cookie of a session must come from the console itself "+
			"(Sec-Fetch-Site: same-origin, or an Origin equal to the host); browsers send this over https or from localhost; "+
			"other programs send a token")
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Header.Get(consoleHeader) != "1" {
		return failf(errForbidden, "a change with the cookie of a session needs the header %s: 1", consoleHeader)
	}
	return nil
}

func sameOrigin(r *http.Request, origin string) bool {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	u, err := url.Parse(origin)
	return err == nil && u.Scheme == scheme && u.Host != "" && strings.EqualFold(u.Host, r.Host)
}

// signIns are the calls that begin and end a session, and that say who the caller is.
type signIns struct{ server *Server }

func (h signIns) mount(t *routes) {
	mount(t, endpoint[sessionInput, sessionJSON]{method: http.MethodPost, path: sessionPath, public: true,
		summary: "Sign in: exchange a token for the cookie of a session", roles: anyToken,
		sends:    []parameter{{"Set-Cookie", "the cookie of the session"}},
		statuses: []int{http.StatusCreated}, fields: sessionFields,
		check: func(_ context.Context, c *call[sessionInput]) []alias.Problem { return c.in.problems() }, do: h.begin})
	mount(t, endpoint[none, sessionJSON]{method: http.MethodGet, path: sessionPath,
		summary: "Say which token the caller has, and what it may do", roles: anyToken, do: h.read})
	mount(t, endpoint[none, none]{method: http.MethodDelete, path: sessionPath,
		summary: "Sign out: end the session of the cookie", roles: anyToken,
		sends:    []parameter{{"Set-Cookie", "makes the browser forget the cookie"}},
		statuses: []int{http.StatusNoContent}, do: h.end})
}

// sessionInput is the body of a sign-in.
type sessionInput struct{ token alias.Secret }

func sessionFields(in *sessionInput) []field {
	return []field{{name: "token", read: into(&in.token, asSecret), required: true, doc: "The text of an admin token."}}
}

func (in *sessionInput) problems() []alias.Problem {
	if in.token.IsZero() {
		return problemAt("token", "is required: an admin token")
	}
	return nil
}

// sessionJSON is the token of a caller as the API shows it.
type sessionJSON struct {
	Name    alias.Name        `json:"name" description:"The name of the token."`
	Roles   []alias.TokenRole `json:"roles" description:"What the token may do, beside reading."`
	Buckets []string          `json:"buckets" description:"Patterns of the buckets whose aliases the token sees and changes; empty: all."`
	// ExpiresAt is when the token expires, null for never.
	ExpiresAt *string `json:"expires_at" description:"When the token expires; null: never."`
}

func showPrincipal(p *principal) sessionJSON {
	return sessionJSON{
		Name: p.Name, Roles: p.Roles, Buckets: append([]string{}, p.Buckets...), ExpiresAt: timestampOrNull(p.ExpiresAt),
	}
}

func (h signIns) begin(_ context.Context, c *call[sessionInput]) (reply[sessionJSON], error) {
	if problems := c.in.problems(); len(problems) > 0 {
		return reply[sessionJSON]{}, invalid(problems)
	}
	digest := alias.DigestOf(c.in.token.Reveal())
	p, err := h.server.bearers.holder(digest, c.request.RemoteAddr)
	if err != nil {
		return reply[sessionJSON]{}, h.server.refuseToken(c.request, err)
	}
	c.rec.actor = p.actor()
	cookie := newCookie(c.request, h.server.bearers.sessions.begin(digest), int(sessionMax/time.Second))
	return reply[sessionJSON]{
		status: http.StatusCreated, location: sessionPath, cookie: cookie, body: showPrincipal(p),
	}, nil
}

func (signIns) read(_ context.Context, c *call[none]) (reply[sessionJSON], error) {
	return reply[sessionJSON]{body: showPrincipal(c.principal)}, nil
}

func (h signIns) end(_ context.Context, c *call[none]) (reply[none], error) {
	r := reply[none]{status: http.StatusNoContent}
	if value := cookieOf(c.request); value != "" {
		h.server.bearers.sessions.end(value)
		r.cookie = newCookie(c.request, "", -1)
	}
	return r, nil
}
