package cli

import (
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"ixmage/alias/client"
)

type explainCmd struct {
	Connection

	URL    string `arg:"" name:"url" help:"URL of a picture, or its path, as in /shop/a.png or '/shop/a.png?w=400'."`
	Accept string `help:"Header Accept of the client, by which an automatic format is chosen." placeholder:"TYPES"`
	Probe  bool   `help:"Ask S3 too, as a GET would. It changes nothing in the cache."`
}

func (*explainCmd) Examples() []string {
	return []string{"ixmage explain https://img.example.com/shop/a.png", "ixmage explain /shop/a.png --probe",
		"ixmage explain '/shop/a.png?w=400' --accept image/webp"}
}

func (c *explainCmd) Run(s *session) error {
	query := url.Values{"path": {pathOf(c.URL)}}
	if c.Accept != "" {
		query.Set("accept", c.Accept)
	}
	if c.Probe {
		query.Set("probe", "true")
	}
	resp, err := s.do(client.Request{Path: client.Path("explain"), Query: query})
	if err != nil {
		return err
	}
	return s.show(resp, func(v client.Value) { s.explanation(v) })
}

// pathOf is the path and the query of a URL as a browser sends them: without host and fragment,
// with what a request line cannot have percent-encoded. Escapes stay as they are, valid or
// not.
func pathOf(text string) string {
	text = strings.TrimSpace(text)
	if i := strings.Index(text, "://"); i > 0 && !strings.ContainsAny(text[:i], "/?#") {
		_, text, _ = strings.Cut(text[i+3:], "/")
		text = "/" + text
	}
	text, _, _ = strings.Cut(text, "#")
	if !strings.HasPrefix(text, "/") {
		text = "/" + text
	}
	return asSent(text)
}

// asSent percent-encodes what a request line cannot have.
func asSent(text string) string {
	var b strings.Builder
	for _, c := range []byte(text) {
		if c <= ' ' || c > '~' || strings.IndexByte("\"<>`{}", c) >= 0 {
			fmt.Fprintf(&b, "%%%02X", c)
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}

// explanation prints each step of the way of a URL, and the remedy last.
func (s *session) explanation(v client.Value) {
	s.out.printf("GET %s\n%s\n\n", plain(v.Get("path").Text()), s.term.paint(verdict(v)))
	s.fields([]column{
		col("alias", "alias"), {"object", object}, {"signature", signedBy}, {"options", understood}, {"ignored", ignored},
		{"variant", variantState}, {"credential", signer}, {"session", signingSession}, {"cache", cached},
		{"circuit", circuit}, {"canary", canary}, {"last answer of S3", answer("last_answer")},
		{"last failure of S3", answer("last_failure")},
		{"last failure of this key", answer("key_failure")}, {"probe", probed},
	}, v)
	if r := v.Get("remedy").Text(); r != "" {
		s.out.printf("\n%s\n", plain(r))
	}
}

// verdict is the answer that a GET would get.
func verdict(v client.Value) string {
	status, code := v.Get("status").Int(), v.Get("code").Text()
	switch {
	case status == 0 && !v.Get("transform", "cache").IsNull() && cached(v) != nothingStored:
		return "a GET has a worker make the picture first"
	case status == 0:
		return "a GET has to ask S3 first"
	case code == "":
		return fmt.Sprintf("a GET gets %d, a picture", status)
	}
	return fmt.Sprintf("a GET gets %d %s (%s)", status, http.StatusText(int(status)), code)
}

func object(v client.Value) string {
	bucket := v.Get("bucket").Text()
	if bucket == "" {
		return ""
	}
	at := "s3://" + bucket + "/" + v.Get("key").Text() + " in " + v.Get("region").Text()
	if e := v.Get("endpoint").Text(); e != "" {
		at += " at " + e
	}
	return at
}

func signer(v client.Value) string {
	c := v.Get("credential")
	if c.IsNull() {
		return ""
	}
	return words(c.Get("name").Text(), c.Get("kind").Text(), c.Get("access_key_id").Text(), c.Get("state").Text())
}

const nothingStored = "nothing stored"

func cached(v client.Value) string {
	c := v.Get("cache")
	if c.IsNull() {
		return ""
	}
	parts := []string{nothingStored}
	for _, tier := range []string{"memory", "disk"} {
		if e := c.Get(tier); !e.IsNull() {
			parts = []string{fmt.Sprintf("%s in %s: %s %s, stored %d s ago, %d s left", e.Get("state").Text(), tier,
				byteSize(e.Get("size")), e.Get("content_type").Text(), e.Get("age").Int(), e.Get("ttl").Int())}
		}
	}
	if m := c.Get("missing"); !m.IsNull() {
		parts = []string{fmt.Sprintf("negative entry for %d s: %s", m.Get("ttl").Int(), m.Get("reason").Text())}
	}
	if c.Get("fetching").Bool() {
		parts = append(parts, "a fetch is under way")
	}
	if c.Get("bypass").Bool() {
		parts = append(parts, "it could not be stored")
	}
	return strings.Join(parts, "; ")
}

// signedBy is the check of a signature.
func signedBy(v client.Value) string {
	s := v.Get("transform", "signature")
	state := s.Get("state").Text()
	if state == "none" {
		return ""
	}
	text := words(state, s.Get("kid").Text())
	if at := moment(s.Get("expires_at")); at != "" {
		text += ", ends at " + at
	}
	if s.Get("needed").Bool() {
		text += "; the URL needs one"
	}
	return text
}

// understood are the options in one form, and what became of the URL's.
func understood(v client.Value) string {
	t := v.Get("transform")
	switch off, options := t.Get("off").Text(), t.Get("options").Text(); {
	case off != "" && strings.Contains(v.Get("path").Text(), "?"):
		return "change nothing: " + off
	case options == "":
		return ""
	default:
		parts := []string{options}
		if name := t.Get("template").Text(); name != "" {
			parts = append(parts, "with the template "+name)
		}
		if w := t.Get("width"); !w.IsNull() {
			parts = append(parts, fmt.Sprintf("w=%d is rounded up to %d", w.Get("asked").Int(), w.Get("used").Int()))
		}
		if format := t.Get("format").Text(); format != "" {
			parts = append(parts, "as "+format)
		}
		return strings.Join(parts, "; ")
	}
}

// ignored are parameters that change nothing.
func ignored(v client.Value) string {
	list := v.Get("transform", "ignored").List()
	names := make([]string, 0, len(list))
	for _, name := range list {
		names = append(names, name.Text())
	}
	return strings.Join(names, ", ")
}

// variantState is what the cache has of the variant, and what prevents it.
func variantState(v client.Value) string {
	t := v.Get("transform")
	if t.Get("cache").IsNull() {
		return ""
	}
	parts := []string{cached(t)}
	if t.Get("as_stored").Bool() {
		parts = []string{"the stored picture is sent"}
	}
	if t.Get("killed_worker").Bool() {
		parts = append(parts, "the picture killed a worker")
	}
	if f := t.Get("last_failure"); !f.IsNull() {
		parts = append(parts, fmt.Sprintf("failed at %s: %s", moment(f.Get("at")), f.Get("error").Text()))
	}
	return strings.Join(parts, "; ")
}

func circuit(v client.Value) string {
	c := v.Get("circuit")
	if c.IsNull() {
		return ""
	}
	text := c.Get("state").Text()
	if n := c.Get("failures").Int(); n > 0 {
		text += fmt.Sprintf(", %d failures in a row", n)
	}
	if n := c.Get("retry_in").Int(); n > 0 {
		text += fmt.Sprintf(", the next request goes to S3 in %d s", n)
	}
	return text
}

func canary(v client.Value) string {
	c := v.Get("canary")
	text := words(c.Get("state").Text(), c.Get("key").Text())
	if at := moment(c.Get("checked_at")); at != "" {
		text += ", read at " + at
	}
	return text
}

func answer(member string) func(client.Value) string {
	return func(v client.Value) string { return said(v.Get(member)) }
}

// said is an answer of S3.
func said(a client.Value) string {
	if a.IsNull() {
		return ""
	}
	status := ""
	if n := a.Get("status").Int(); n != 0 {
		status = strconv.FormatInt(n, 10)
	}
	text := words(a.Get("outcome").Text(), status, a.Get("s3_code").Text(), a.Get("cause").Text())
	if m := a.Get("s3_message").Text(); m != "" {
		text += ": " + m
	}
	return fmt.Sprintf("%s (%s %s at %s)", text, a.Get("operation").Text(), a.Get("key").Text(), moment(a.Get("at")))
}

func probed(v client.Value) string {
	p := v.Get("probe")
	if p.IsNull() {
		return ""
	}
	text := said(p)
	if t := p.Get("content_type").Text(); t != "" {
		text += ", " + t
	}
	if n := p.Get("size"); n.Int() >= 0 && !n.IsNull() {
		text += ", " + byteSize(n)
	}
	return text
}

// words joins the texts that are not empty.
func words(parts ...string) string {
	var kept []string
	for _, p := range parts {
		if p != "" {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, " ")
}
