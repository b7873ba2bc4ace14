package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"net/url"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"

	"ixmage/alias"
)

// bearer knows the admin token by its digest only.
type bearer struct {
	digest [sha256.Size]byte
	set    bool
}

func newBearer(token alias.Secret) bearer {
	return bearer{digest: sha256.Sum256([]byte(token.Reveal())), set: !token.IsZero()}
}

// allows reports whether the Authorization headers of a request are exactly one
// and carry the token. The digests are of one length and are compared in
// constant time: neither the length nor a prefix of the token can be measured.
func (b bearer) allows(lines [][]byte) bool {
	if !b.set || len(lines) != 1 {
		return false
	}
	scheme, token, ok := strings.Cut(string(lines[0]), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return false
	}
	digest := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return subtle.ConstantTimeCompare(digest[:], b.digest[:]) == 1
}

// authorize lets nothing under /api/ pass without the token, not even to learn
// that a path or a method does not exist. It judges by the path that the router
// goes by.
func (s *Server) authorize(c *fiber.Ctx) error {
	if isAPI(c.Path()) && !s.bearer.allows(c.Request().Header.PeekAll(fiber.HeaderAuthorization)) {
		return errUnauthorized
	}
	return c.Next()
}

func isAPI(path string) bool { return path == "/api" || strings.HasPrefix(path, "/api/") }

// sameOrigin keeps web pages away from what is worth reading.
func sameOrigin(c *fiber.Ctx) error {
	if path := c.Path(); isAPI(path) || path == metricsPath {
		if err := checkOrigin(c.Context()); err != nil {
			return err
		}
	}
	return c.Next()
}

// checkOrigin keeps web pages away from a listener on the operator's own
// machine. The token does so for the API; but /metrics needs none, and a page
// that a browser was tricked into trusting must not get further.
func checkOrigin(ctx *fasthttp.RequestCtx) error {
	host := string(ctx.Request.Header.Host())
	// DNS rebinding: a name of the attacker's that now points to loopback. Over
	// TLS the certificate has settled it.
	if isLoopback(ctx) && !ctx.IsTLS() && !isLocalHost(host) {
		return fail(errForbidden, "on a loopback address the header Host must be that address or localhost; "+
			"a proxy in front must send it so")
	}
	origins := ctx.Request.Header.PeekAll(fiber.HeaderOrigin)
	if len(origins) == 0 {
		return nil
	}
	origin, err := url.Parse(string(origins[0]))
	if len(origins) > 1 || err != nil || origin.Host == "" || !strings.EqualFold(origin.Host, host) {
		return fail(errForbidden, "a page of another origin may not use the admin listener")
	}
	return nil
}

func isLoopback(ctx *fasthttp.RequestCtx) bool {
	addr, err := netip.ParseAddrPort(ctx.LocalAddr().String())
	return err == nil && addr.Addr().Unmap().IsLoopback()
}

// isLocalHost reports whether a Host header is an address, which DNS has no say
// in, or a name that is loopback by definition (RFC 6761, 6.3).
func isLocalHost(host string) bool {
	u := url.URL{Host: host}
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	_, err := netip.ParseAddr(name)
	return err == nil
}
