package admin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/signature"
)

// PictureReader requests pictures as a client of the public listener does.
type PictureReader interface {
	// Picture returns an error if there is no answer. The caller closes the body.
	Picture(ctx context.Context, r PublicRequest) (*PublicAnswer, error)
}

// PublicRequest is a request to the public listener.
type PublicRequest struct {
	Path   string // of the URL, percent-encoded
	Query  string // of the URL, percent-encoded; empty: none
	Accept string // the header; empty: none
}

// PublicAnswer is an answer of the public listener.
type PublicAnswer struct {
	Status      int
	Code        string // of the problem; empty: none
	Detail      string // of the problem
	Type        string
	CacheStatus string // the header
	Size        int64  // -1: unknown
	Body        io.ReadCloser
}

// maxPicture is the size of the largest picture that the admin listener sends.
const maxPicture = 8 << 20

// pictureCSP keeps an SVG from running scripts and from loading anything, on an origin where
// operators are signed in.
const pictureCSP = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

// pictures is the call that shows a picture.
type pictures struct {
	registry *alias.Registry
	reader   PictureReader
}

func (h pictures) mount(t *routes) {
	mount(t, endpoint[none, none]{method: http.MethodGet, path: aliasesPath + "/{name}/picture", resource: "alias",
		summary: "Show a picture of an alias as clients get it now", roles: anyToken,
		query: []parameter{{"key", "the path of the picture after the alias, not percent-encoded; the canary by default"},
			{"query", "the options of its URL, like w=240&fit=cover; " +
				"the newest signing key of the alias signs them for a token with the role alias"}},
		headers: []parameter{{"Accept", "decides the format of the picture, as on the public listener"}},
		sends: []parameter{{"Content-Security-Policy", "keeps an SVG from running scripts and from loading anything"},
			{"Cross-Origin-Resource-Policy", "same-origin"},
			{"Cache-Status", "that of the public listener"},
			{"Server-Timing", "how long the public listener took to the first byte, in milliseconds"}},
		media: "image/*", fails: []error{errNotImplemented, errNoPicture, errPictureSize}, do: h.read})
}

func (h pictures) read(ctx context.Context, c *call[none]) (reply[none], error) {
	a, err := h.registry.Alias(ctx, c.name)
	if err != nil {
		return reply[none]{}, err
	}
	key := c.query.Get("key")
	switch {
	case key == "" && c.query.Has("key"):
		return reply[none]{}, invalid(problemAt("key", "must not be empty"))
	case key == "" && a.Canary == "":
		return reply[none]{}, invalid(problemAt("key", "is required: the alias has no canary"))
	case key == "":
		key = a.Canary
	}
	query := c.query.Get("query")
	if strings.ContainsFunc(query, notInQuery) {
		return reply[none]{}, invalid(problemAt("query", "must be percent-encoded, like w=240&bg=%2300ff00"))
	}
	if h.reader == nil {
		return reply[none]{}, errNotImplemented
	}
	r := PublicRequest{Path: publicPath(a.Name, key), Accept: strings.Join(c.request.Header["Accept"], ", ")}
	r.Query = query
	if c.principal.May([]alias.TokenRole{alias.RoleAlias}) { // who may sign a URL
		r.Query = signed(a, r.Path, query)
	}
	return reply[none]{write: func(x *exchange) error { return h.show(c.ctx, x, r, query) }}, nil
}

// signed signs a request for a picture with the newest key of its alias, so that an operator
// sees what a signed URL shows. A request that needs no signature, or cannot have one, stays as
// it is.
func signed(a *alias.Alias, path, query string) string {
	newest, ok := a.NewestKey()
	if !ok || query == "" && a.Access != alias.AccessSigned {
		return query
	}
	key, err := signature.NewKey(newest.KID, []byte(newest.Secret.Reveal()))
	if err != nil {
		return query
	}
	if q, err := key.Sign(path, query, time.Time{}); err == nil {
		return q
	}
	return query // the public listener says what is wrong
}

// notInQuery reports whether a character cannot stand in the query of a request line.
func notInQuery(r rune) bool { return r <= ' ' || r == '#' || r > '~' }

// publicPath is the path of the URL of a picture, percent-encoded.
func publicPath(name alias.Name, key string) string {
	segments := strings.Split(key, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return "/" + string(name) + "/" + strings.Join(segments, "/")
}

// codeBadOption is the code of the public listener for a wrong option.
const codeBadOption = "bad-option"

// show sends the picture that clients get. query is that of r without a signature, which no error may have.
func (h pictures) show(ctx context.Context, x *exchange, r PublicRequest, query string) error {
	asked := time.Now()
	answer, err := h.reader.Picture(ctx, r)
	if err != nil {
		return fmt.Errorf("%w: request to the public listener: %w", errNotReady, err)
	}
	defer answer.Body.Close()
	path, explained := r.Path, r.Path
	if query != "" {
		explained += "?" + query
	}
	switch {
	case answer.Code == codeBadOption:
		return invalid(problemAt("query", answer.Detail))
	case answer.Status != http.StatusOK:
		return failf(errNoPicture, "clients get %s for %s: GET /api/v1/explain?path=%s says why",
			strings.TrimSpace(strconv.Itoa(answer.Status)+" "+answer.Code), path, url.QueryEscape(explained))
	case !strings.HasPrefix(answer.Type, "image/"):
		return failf(errNoPicture, "clients get no picture for %s", path)
	case answer.Size < 0:
		return failf(errPictureSize, "S3 does not say how large the picture is: open it on the public listener")
	case answer.Size > maxPicture:
		return failf(errPictureSize, "the picture has %d bytes, and this call sends %d at most: "+
			"open it on the public listener", answer.Size, maxPicture)
	}
	header := x.Header()
	header.Set("Content-Type", answer.Type)
	header.Set("Content-Length", strconv.FormatInt(answer.Size, 10))
	header.Set("Content-Security-Policy", pictureCSP)
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Server-Timing", fmt.Sprintf("public;dur=%.1f", time.Since(asked).Seconds()*1000))
	if answer.CacheStatus != "" {
		header.Set("Cache-Status", answer.CacheStatus)
	}
	if x.begin(http.StatusOK) != nil || x.rec.method == http.MethodHead {
		return nil
	}
	return copyParts(x, answer.Body)
}

// copyParts sends a body in parts. It fails if the body does; a client that leaves is no error.
func copyParts(x *exchange, body io.Reader) error {
	part := make([]byte, 64<<10)
	for {
		n, err := body.Read(part)
		if n > 0 && x.push(part[:n]) != nil {
			return nil //nolint:nilerr // the client has left
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the picture: %w", err)
		}
	}
}
