package admin

import (
	"crypto/sha256"
	"crypto/subtle"
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

// sameOrigin keeps pages of other origins away from what is worth reading.
func sameOrigin(c *fiber.Ctx) error {
	if path := c.Path(); isAPI(path) || path == metricsPath {
		if err := checkOrigin(c.Context()); err != nil {
			return err
		}
	}
	return c.Next()
}

// checkOrigin refuses what a page of another origin asks for. The token keeps
// such a page out of the API already; but /metrics needs none.
func checkOrigin(ctx *fasthttp.RequestCtx) error {
	origins := ctx.Request.Header.PeekAll(fiber.HeaderOrigin)
	if len(origins) == 0 {
		return nil
	}
	host := string(ctx.Request.Header.Host())
	origin, err := url.Parse(string(origins[0]))
	if len(origins) > 1 || err != nil || origin.Host == "" || !strings.EqualFold(origin.Host, host) {
		return fail(errForbidden, "a page of another origin may not use the admin listener")
	}
	return nil
}
