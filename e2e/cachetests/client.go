package cachetests

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// reply is the answer that the client got.
type reply struct {
	status int
	header http.Header
	body   string
	number int       // number of the answer of the origin; 0: unknown
	stored bool      // the origin got no request meanwhile; only for answers without a front
	now    time.Time // time of the answer of the origin
}

// ask sends request number n, from 1.
func (c *client) ask(ctx context.Context, r *run, n int, before *reply) (*reply, error) {
	q := r.test.Requests[n-1]
	req, err := http.NewRequestWithContext(ctx, q.Method, c.target(r, q), nil)
	if err != nil {
		return nil, err
	}
	for i := range q.Headers {
		if q.MagicIMS && before != nil {
			q.Headers[i].fix(before.now, q.RFC850)
		}
		req.Header.Add(q.Headers[i].Name, shifted(q.Headers[i]))
	}
	if q.Headers == nil { // like the engine of the suite
		req.Header.Set("Pragma", "foo")
		req.Header.Set("Cache-Control", "nothing-to-see-here")
	}
	req.Header.Set("Test-Id", r.test.ID)
	req.Header.Set("Req-Num", strconv.Itoa(n))
	asked := r.begin(n)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	return c.reply(r, resp, string(body), asked)
}

// client sends requests to one alias.
type client struct {
	http *http.Client
	url  string // of the alias, without a slash at the end
}

func (c *client) target(r *run, q *Request) string {
	if q.QueryArg != "" {
		return c.url + "/" + r.key + "?" + q.QueryArg
	}
	return c.url + "/" + r.key
}

// shifted returns the value of a request header; a range is shifted by the length of the
// front.
func shifted(f Field) string {
	spec, ok := strings.CutPrefix(f.Value, "bytes=")
	from, to, _ := strings.Cut(spec, "-")
	if f.Name != "Range" || !ok || from == "" {
		return f.Value
	}
	behind := func(s string) string {
		n, err := strconv.Atoi(s)
		if err != nil {
			return s // no last byte
		}
		return strconv.Itoa(front + n)
	}
	return "bytes=" + behind(from) + "-" + behind(to)
}

// reply removes the front and reads the number and time in it. An answer without a
// front belongs to the last answer of the origin, and comes from the cache if the
// origin got no request meanwhile.
func (c *client) reply(r *run, resp *http.Response, body string, asked int) (*reply, error) {
	out := &reply{status: resp.StatusCode, header: resp.Header, body: body}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusPartialContent, http.StatusNotModified:
		out.number, out.stored = len(r.requests()), len(r.requests()) == asked
		return out, nil
	default:
		return out, nil
	}
	tag, ok := strings.CutPrefix(body, magic)
	if !ok || len(tag) < tagLen {
		return nil, errFront
	}
	n, err1 := strconv.Atoi(tag[:6])
	ms, err2 := strconv.ParseInt(tag[6:tagLen], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	out.number, out.now, out.body = n, time.UnixMilli(ms), tag[tagLen:]
	if length := resp.ContentLength; length >= 0 {
		resp.Header.Set("Content-Length", strconv.FormatInt(length-int64(front), 10))
	}
	return out, nil
}

var errFront = errors.New("the answer is not a picture of the test origin")
