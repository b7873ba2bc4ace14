package admin

import (
	"crypto/sha256"
	"crypto/subtle"
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
func (s *Server) admit(r *http.Request) error {
	api := isAPI(r.URL.Path)
	switch {
	case !s.hosts.allow(r.Host):
		return errHost
	case api && s.bearer != nil && !s.bearer.allows(r.Header["Authorization"]):
		return s.refuseToken(r)
	case api, r.URL.Path == metricsPath:
		return checkOrigin(r)
	}
	return nil
}

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

// bearer holds the digest of the admin token, not the token.
type bearer struct {
	digest [sha256.Size]byte
	set    bool
}

func newBearer(token alias.Secret) *bearer {
	return &bearer{digest: sha256.Sum256([]byte(token.Reveal())), set: !token.IsZero()}
}

// allows reports whether a request has exactly one Authorization header and it has the
// token. The digests have one length and are compared in constant time, so that timing
// reveals neither the length nor a prefix of the token.
func (b *bearer) allows(lines []string) bool {
	if !b.set || len(lines) != 1 {
		return false
	}
	scheme, token, ok := strings.Cut(lines[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	digest := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return subtle.ConstantTimeCompare(digest[:], b.digest[:]) == 1
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
