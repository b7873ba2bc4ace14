package cli

import (
	"fmt"
	"net/http"
	"time"

	"ixmage/alias/client"
)

type tokenCmd struct {
	Connection

	Ls  tokenLsCmd  `cmd:"" help:"List the admin tokens."`
	Add tokenAddCmd `cmd:"" help:"Make a token. Its text is printed once, alone on standard output."`
	Rm  tokenRmCmd  `cmd:"" help:"Revoke a token."`
}

type tokenLsCmd struct{}

func (*tokenLsCmd) Examples() []string { return []string{"ixmage token ls"} }

func (*tokenLsCmd) Run(s *session) error {
	resp, err := s.get("tokens")
	if err != nil {
		return err
	}
	return s.show(resp, func(v client.Value) {
		s.table(v.Get("tokens").List(), []column{
			col("NAME", "name"), col("ROLES", "roles"), {"BUCKETS", orAll}, {"EXPIRES", at("expires_at")},
			{"LAST USED", at("last_used_at")}, {"CREATED", at("created_at")}, col("BY", "created_by"),
		})
	})
}

func orAll(v client.Value) string {
	if text := v.Get("buckets").Text(); text != "" {
		return text
	}
	return "all"
}

type tokenAddCmd struct {
	Name    string   `arg:"" help:"Name of the token; the audit shows it."`
	Role    []string `help:"What it may do, separated by commas: read, purge, alias, provision, admin. Each includes read." placeholder:"ROLE" required:"" enum:"read,purge,alias,provision,admin"`
	Buckets []string `help:"Patterns of buckets, separated by commas, like acme-*; the token sees only aliases in these. Default: all buckets." placeholder:"PATTERN"`
	Expires string   `help:"When it expires: a time like 2027-01-31T00:00:00Z, or a duration from now, like 720h. Default: never." placeholder:"TIME"`
}

func (*tokenAddCmd) Examples() []string {
	return []string{
		"ixmage token add deploy --role alias,purge --buckets 'acme-*' --expires 720h > deploy.token",
		"ixmage token add reader --role read",
	}
}

func (c *tokenAddCmd) Run(s *session) error {
	body := map[string]any{"name": c.Name, "roles": c.Role, "buckets": []string{}}
	if c.Buckets != nil {
		body["buckets"] = c.Buckets
	}
	if c.Expires != "" {
		end, err := expiry(c.Expires, time.Now())
		if err != nil {
			return err
		}
		body["expires_at"] = end.Format(time.RFC3339)
	}
	resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("tokens"), Body: body})
	if err != nil {
		return err
	}
	err = s.show(resp, func(v client.Value) {
		s.out.printf("%s\n", v.Get("token").Text())
	})
	if err == nil {
		err = s.out.Flush()
	}
	if err != nil {
		return c.revoke(s, err)
	}
	s.term.sayf("This is the only time that the text of the token %s is shown. "+
		"To use it, write it to a file and name that with --admin-token-file, or set IXMAGE_ADMIN_TOKEN.", c.Name)
	return nil
}

// revoke revokes a token whose text was not printed.
func (c *tokenAddCmd) revoke(s *session, err error) error {
	_, failed := s.do(client.Request{Method: http.MethodDelete, Path: client.Path("tokens", c.Name)})
	if failed != nil {
		return fmt.Errorf("%w; the token %s was made, and revoking it failed too (%w): run ixmage token rm %s",
			err, c.Name, failed, c.Name)
	}
	return fmt.Errorf("%w; the token %s was revoked again", err, c.Name)
}

// expiry is a time, or one that far from now, in UTC.
func expiry(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil {
		return now.Add(d).UTC(), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, usagef("--expires: %q is neither a time like 2027-01-31T00:00:00Z nor a duration like 720h", text)
	}
	return t.UTC(), nil
}

type tokenRmCmd struct {
	Name string `arg:"" help:"Token." completion:"tokens"`

	confirmed
}

func (*tokenRmCmd) Examples() []string { return []string{"ixmage token rm old --yes"} }

func (c *tokenRmCmd) Run(s *session) error {
	if err := s.term.confirm(c.Yes, "Revoke the token "+c.Name); err != nil {
		return err
	}
	_, err := s.do(client.Request{Method: http.MethodDelete, Path: client.Path("tokens", c.Name)})
	if err != nil {
		return s.suggest(err, "tokens", c.Name)
	}
	s.term.sayf("%s is revoked.", c.Name)
	return nil
}
