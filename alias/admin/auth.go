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

// admit decides whether a request may be answered at all, before its method and
// the rest of its path are looked at: without the token nobody learns which paths
// exist.
func (s *Server) admit(r *http.Request) error {
	api := isAPI(r.URL.Path)
	switch {
	case !s.hosts.allow(r.Host):
		return errHost
	case api && s.bearer != nil && !s.bearer.allows(r.Header["Authorization"]):
		return errUnauthorized
	case api, r.URL.Path == metricsPath:
		return checkOrigin(r)
	}
	return nil
}

func isAPI(path string) bool { return path == "/api" || strings.HasPrefix(path, "/api/") }

// hosts are the hosts that a listener answers for.
//
// A web page can have its own name resolve to a loopback address (DNS rebinding).
// To the browser of somebody who runs the server, what listens there then belongs
// to the page, which may read every answer; no Origin tells, but the Host is the
// page's. A listener on another address can be reached by its network anyway, and
// by names that only the network knows, so it answers for any.
type hosts struct {
	loopback bool     // the listener's address is one
	names    []string // answered for beside the loopback names
}

// allow reports whether host, with or without a port, is answered for. No host is
// one of HTTP/1.0, which no browser speaks.
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

// HostProblem says why a name cannot be the host of a request, or is empty.
func HostProblem(name string) string {
	if _, err := netip.ParseAddr(name); err == nil || hostForm.MatchString(name) {
		return ""
	}
	return "must be a host name or an IP address, without a scheme and a port"
}

// isLoopback reports whether a listener is reached from its own machine only.
func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// bearer knows the admin token by its digest only.
type bearer struct {
	digest [sha256.Size]byte
	set    bool
}

func newBearer(token alias.Secret) *bearer {
	return &bearer{digest: sha256.Sum256([]byte(token.Reveal())), set: !token.IsZero()}
}

// allows reports whether the Authorization headers of a request are exactly one
// and carry the token. The digests are of one length and are compared in
// constant time: neither the length nor a prefix of the token can be measured.
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
// no token; but /metrics needs none.
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
