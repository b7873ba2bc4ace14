package admin

import (
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"ixmage/alias"
)

// admit checks host, token and origin of a request. It runs before routing, so that a
// client without the token does not learn which paths exist.
func (s *Server) admit(x *exchange, r *http.Request) error {
	api := isAPI(r.URL.Path)
	switch {
	case !s.hosts.allow(r.Host):
		return errHost
	case !api && r.URL.Path != metricsPath:
		return nil
	case api && s.bearers != nil && !isSignIn(r):
		var err error
		if x.principal, err = s.authenticate(r); err != nil {
			return err
		}
	}
	return checkOrigin(r)
}

// isSignIn reports whether r is the one call of the API that needs no token in its headers.
func isSignIn(r *http.Request) bool { return r.Method == http.MethodPost && r.URL.Path == sessionPath }

func isAPI(path string) bool { return path == "/api" || strings.HasPrefix(path, "/api/") }

// hosts are the hosts that a listener answers for.
//
// A web page can make its own name resolve to a loopback address (DNS rebinding).
// A browser on the server's machine then treats the listener as the origin of the
// page, and lets the page read every answer. A GET of its own origin has no Origin
// header, but its Host is the name of the page, so such a listener answers for
// known hosts only. A listener on another address has names in its network that
// ixmage cannot know, so it answers for any host.
type hosts struct {
	loopback bool     // the address of the listener is a loopback address
	names    []string // known besides the loopback names
}

// allow reports whether the listener answers for host, which may have a port. An
// empty host is a request of HTTP/1.0 without one, which no browser sends.
func (h hosts) allow(host string) bool {
	if !h.loopback || host == "" {
		return true
	}
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.Unmap().IsLoopback() || strings.EqualFold(name, "localhost") ||
		slices.ContainsFunc(h.names, func(known string) bool { return strings.EqualFold(name, known) })
}

var hostForm = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?$`)

// HostProblem returns why name is not valid as the host of a request, or "".
func HostProblem(name string) string {
	if _, err := netip.ParseAddr(name); err == nil || hostForm.MatchString(name) {
		return ""
	}
	return "must be a host name or an IP address, without a scheme and a port"
}

// isLoopback reports whether addr can be reached from its own machine only.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// authenticate returns the holder of the token or of the session's cookie of a request. A
// token wins over a cookie.
func (s *Server) authenticate(r *http.Request) (*principal, error) {
	lines := r.Header["Authorization"]
	if cookie := cookieOf(r); len(lines) == 0 && cookie != "" {
		return s.resume(r, cookie)
	}
	if text, ok := bearerOf(lines); ok {
		p, err := s.bearers.holder(alias.DigestOf(text), r.RemoteAddr)
		if err == nil {
			return p, nil
		}
		return nil, s.refuseToken(r, err)
	}
	return nil, s.refuseToken(r, errUnauthorized)
}

// resume returns the holder of the token that a session was begun with.
func (s *Server) resume(r *http.Request, cookie string) (*principal, error) {
	if err := checkCookie(r); err != nil {
		return nil, err
	}
	digest, ok := s.bearers.sessions.use(cookie)
	if ok {
		if p, err := s.bearers.holder(digest, r.RemoteAddr); err == nil {
			byToken := p.valid
			p.valid = func() bool { return byToken() && s.bearers.sessions.has(cookie) }
			return p, nil
		}
		s.bearers.sessions.end(cookie) // its token was deleted, or has expired
	}
	return nil, failf(errUnauthorized, "the session has ended: sign in again")
}

// checkOrigin refuses a request by a web page of another origin. Such a page has
// no token, but /metrics needs none.
func checkOrigin(r *http.Request) error {
	origins := r.Header["Origin"]
	if len(origins) == 0 {
		return nil
	}
	origin, err := url.Parse(origins[0])
	if len(origins) > 1 || err != nil || origin.Host == "" || !strings.EqualFold(origin.Host, r.Host) {
		return failf(errForbidden, "a page of another origin may not use the admin listener")
	}
	return nil
}
