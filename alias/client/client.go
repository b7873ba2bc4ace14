// Package client calls the admin API of an ixmage server. It keeps the members of an
// answer in the order of the server. It has no types of its own: the API defines them.
package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"ixmage/alias"
)

// Client calls one server. It is safe for concurrent use.
type Client struct {
	base  *url.URL
	token alias.Secret
	http  *http.Client
}

// New makes a client of the server at base, an http or https URL. An empty token sends
// none. Redirects are not followed: they would carry the token to another server.
func New(base string, token alias.Secret) (*Client, error) {
	u, err := url.Parse(base)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		return nil, fmt.Errorf("%q is not the URL of an admin listener; use one like http://127.0.0.1:8081", base)
	case u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("the URL of the admin listener has a user, a query or a fragment; "+
			"use only scheme, host and port, like %s://%s", u.Scheme, u.Host)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return &Client{base: u, token: token, http: &http.Client{
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// URL is the address of the server.
func (c *Client) URL() string { return c.base.String() }

// CloseIdle closes the connections that no call uses.
func (c *Client) CloseIdle() { c.http.CloseIdleConnections() }

// Request is a call of the API.
type Request struct {
	Method string     // GET if empty
	Path   string     // below the base URL, escaped: see Path
	Query  url.Values // may be nil
	Body   any        // sent as JSON; nil: none
	// IfMatch is an ETag or a revision; empty: any revision.
	IfMatch string
	// Wait asks the server to hold the answer until the operation has ended (Prefer: wait).
	Wait time.Duration
}

// Path joins the segments of a path and escapes each.
func Path(segments ...string) string {
	var b strings.Builder
	b.WriteString("/api/v1")
	for _, s := range segments {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(s))
	}
	return b.String()
}

// Response is a successful answer.
type Response struct {
	Status int
	Header http.Header
	Body   []byte // empty for 204
}

// ETag is the revision of what was read, with its quotes.
func (r *Response) ETag() string { return r.Header.Get("ETag") }

// Value decodes the body.
func (r *Response) Value() (Value, error) { return Decode(r.Body) }

// maxBody bounds an answer that is kept in memory; a page of 1,000 aliases with all
// fields at their limits has fewer bytes.
const maxBody = 64 << 20

// Do calls the API. The error is a *Problem if the server refused or failed, and an
// *UnreachableError if it did not answer.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	resp, err := c.send(ctx, r, "application/json")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, c.broken(err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the answer of %s has more than %d bytes", c.base, maxBody)
	}
	if len(body) > 0 && !isType(resp, "application/json") {
		return nil, c.notAPI(resp)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

// Stream calls the API for an answer that is not JSON. The caller closes the body; if it
// ends early, Read returns an error.
func (c *Client) Stream(ctx context.Context, r Request) (*http.Response, error) {
	return c.send(ctx, r, "*/*")
}

// send sends a request and returns a success, whose body the caller closes.
func (c *Client) send(ctx context.Context, r Request, accept string) (*http.Response, error) {
	req, err := c.request(ctx, r, accept)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if u, ok := errors.AsType[*url.Error](err); ok { // without the URL, which the error names itself
			err = u.Err
		}
		return nil, &UnreachableError{URL: c.base.String(), Err: err}
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	if !isType(resp, "application/problem+json") {
		return nil, c.notAPI(resp)
	}
	return nil, c.readProblem(resp)
}

func (c *Client) request(ctx context.Context, r Request, accept string) (*http.Request, error) {
	target := c.base.String() + r.Path
	if len(r.Query) > 0 {
		target += "?" + r.Query.Encode()
	}
	var body io.Reader = http.NoBody
	if r.Body != nil {
		text, err := encode(r.Body)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(text)
	}
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, target, body)
	if err != nil {
		return nil, fmt.Errorf("call %s %s: %w", r.Method, r.Path, err)
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "ixmage-cli")
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token := c.token.Reveal(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if r.IfMatch != "" {
		req.Header.Set("If-Match", `"`+strings.Trim(r.IfMatch, `"`)+`"`)
	}
	if r.Wait > 0 {
		req.Header.Set("Prefer", "wait="+strconv.Itoa(int(r.Wait.Seconds())))
	}
	return req, nil
}

// encode is json.Marshal without escapes for HTML.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return b.Bytes(), nil
}

func isType(resp *http.Response, want string) bool {
	got, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	return err == nil && got == want
}

// Pages reads all pages of a list: the array member of each answer. The last element of a
// page names the next one with its member by, in the query parameter param.
type Pages struct {
	Path   string
	Query  url.Values
	Member string // of the answer, the array
	By     string // of its elements
	Param  string // of the query: after or before
	Size   int    // of a page
	Limit  int    // elements at most; 0: all
}

// List reads a list page by page.
func (c *Client) List(ctx context.Context, p Pages) ([]Value, error) {
	var all []Value
	query := url.Values{}
	maps.Copy(query, p.Query)
	for {
		size := p.Size
		if p.Limit > 0 {
			size = min(size, p.Limit-len(all))
		}
		query.Set("limit", strconv.Itoa(size))
		resp, err := c.Do(ctx, Request{Path: p.Path, Query: query})
		if err != nil {
			return nil, err
		}
		answer, err := resp.Value()
		if err != nil {
			return nil, err
		}
		page := answer.Get(p.Member).List()
		all = append(all, page...)
		if len(page) < size || len(all) == p.Limit {
			return all, nil
		}
		query.Set(p.Param, page[len(page)-1].Get(p.By).Text())
	}
}
