package cli

import (
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/client"
	"ixmage/alias/signature"
)

// envSigningKey has a signing key. No flag has it, because other users of the machine see
// the arguments of a process.
const envSigningKey = "IXMAGE_SIGNING_KEY"

type signCmd struct {
	Connection

	URL     string         `arg:"" name:"url" help:"URL of a picture with its options, or only path and query, as in /shop/a.png?w=400. A bad value of an option is refused."`
	KeyFile string         `name:"key-file" help:"File with a signing key, as KID:SECRET with the secret as the API showed it; - is standard input. Or the key itself in IXMAGE_SIGNING_KEY. Without a key, the server signs with the newest key of the alias." placeholder:"FILE"`
	Expires string         `help:"When the URL ends: a time like 2027-01-31T00:00:00Z, or a duration from now, like 24h. Default: never." placeholder:"TIME"`
	Round   *time.Duration `help:"Round the end up to a multiple of this, like 1h: a URL that is signed again is then the same for as long, and caches have it." placeholder:"DURATION"`
}

func (*signCmd) Examples() []string {
	return []string{
		"ixmage sign 'https://img.example.com/shop/a.png?w=400' --expires 24h --round 1h",
		"ixmage sign '/shop/a.png?w=400&h=300&fit=cover' --key-file signing.key",
		"ixmage sign /shop/a.png --expires 2099-01-31T00:00:00Z -o json",
	}
}

func (c *signCmd) Run(s *session) error {
	origin, path, query, err := splitURL(c.URL)
	if err != nil {
		return err
	}
	if err := s.checkOptions(query); err != nil {
		return usagef("a server that transforms answers 400 to this URL: %v; docs/transforms.md has the options", err)
	}
	end, err := c.end(time.Now())
	if err != nil {
		return err
	}
	key, err := c.key(s)
	if err != nil {
		return err
	}
	var signed client.Value
	if key == nil {
		signed, err = c.ask(s, path, query, end)
	} else {
		signed, err = signWith(key, path, query, end)
	}
	if err != nil {
		return err
	}
	signed = signed.With("url", client.Make(origin+signed.Get("url").Text()))
	return s.showValue(signed, func(v client.Value) { s.out.printf("%s\n", v.Get("url").Text()) })
}

// ask has the server sign.
func (c *signCmd) ask(s *session, path, query string, end time.Time) (client.Value, error) {
	name, _, _ := strings.Cut(path[1:], "/")
	body := map[string]any{"path": path}
	if query != "" {
		body["path"] = path + "?" + query
	}
	if !end.IsZero() {
		body["expires_at"] = end.Format(time.RFC3339)
	}
	resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("aliases", name, "sign"), Body: body})
	if err != nil {
		return client.Value{}, s.suggest(err, "aliases", name)
	}
	return resp.Value()
}

// signWith signs without the server, and returns what it would answer.
func signWith(key *signature.Key, path, query string, end time.Time) (client.Value, error) {
	signed, err := key.Sign(path, query, end)
	if err != nil {
		return client.Value{}, usagef("%v", err)
	}
	url, at := client.Make(path+"?"+signed), client.Make(nil)
	if !end.IsZero() {
		at = client.Make(end.Format(time.RFC3339))
	}
	return client.Make(client.Object{{Name: "url", Value: url}, {Name: "expires_at", Value: at}}), nil
}

// end is the time of --expires, rounded up; zero is never.
func (c *signCmd) end(now time.Time) (time.Time, error) {
	if c.Round != nil && (c.Expires == "" || *c.Round < time.Second || *c.Round%time.Second != 0) {
		return time.Time{}, usagef("--round: give whole seconds, like 1h, together with --expires")
	}
	if c.Expires == "" {
		return time.Time{}, nil
	}
	end, err := expiry(c.Expires, now)
	if err != nil {
		return time.Time{}, err
	}
	if !end.After(now) {
		return time.Time{}, usagef("--expires: %s is not in the future", c.Expires)
	}
	step := time.Second
	if c.Round != nil {
		step = *c.Round
	}
	if down := end.Truncate(step); down.Before(end) {
		end = down.Add(step)
	}
	return end, nil
}

// key reads the key of --key-file or of the variable; nil if there is none. The flag wins.
func (c *signCmd) key(s *session) (*signature.Key, error) {
	text, source := os.Getenv(envSigningKey), envSigningKey
	if c.KeyFile != "" {
		var err error
		if text, err = readSigningKey(c.KeyFile, s.term.in); err != nil {
			return nil, usagef("--key-file: %v", err)
		}
		source = "--key-file " + c.KeyFile
	} else if text == "" {
		return nil, nil //nolint:nilnil // the server has the keys
	}
	key, err := signature.ParseKey(strings.TrimSpace(text))
	if err != nil {
		return nil, usagef("%s: %v", source, err)
	}
	return key, nil
}

// readSigningKey reads a short file; - is stdin.
func readSigningKey(path string, stdin io.Reader) (string, error) {
	from := stdin
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return "", err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxKeyFile))
	return string(text), err
}

// splitURL splits the URL of a picture into scheme and host, path, and query, with what a
// request line cannot have percent-encoded.
func splitURL(text string) (origin, path, query string, err error) {
	text = strings.TrimSpace(text)
	rest := text
	for _, scheme := range []string{"http://", "https://"} {
		if host, found := strings.CutPrefix(text, scheme); found {
			rest = strings.TrimLeftFunc(host, func(r rune) bool { return !strings.ContainsRune("/?#", r) })
			origin = strings.TrimSuffix(text, rest)
		}
	}
	if strings.Contains(rest, "#") {
		return "", "", "", usagef("the URL has a fragment, which is never sent: leave out '#' and what follows it")
	}
	path, query, _ = strings.Cut(rest, "?")
	name, key, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if key, err := url.PathUnescape(key); err != nil || !strings.HasPrefix(path, "/") || !alias.IsName(name) ||
		key == "" || !alias.IsPath([]byte(key)) {
		return "", "", "", usagef("%q is not the URL of a picture: give one like https://img.example.com/shop/a.png?w=400, "+
			"or /shop/a.png?w=400", text)
	}
	return origin, asSent(path), asSent(query), nil
}
