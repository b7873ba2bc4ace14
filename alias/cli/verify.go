package cli

import (
	"errors"
	"net/http"
	"strings"

	"ixmage/alias/client"
)

type verifyCmd struct {
	Connection

	Alias   string  `arg:"" help:"Alias." completion:"aliases"`
	Inside  *string `help:"Whole key of an object that the key must be able to read. Default: the canary." placeholder:"KEY"`
	Outside *string `help:"Whole key of an object that it must not be able to read." placeholder:"KEY"`
}

func (*verifyCmd) Examples() []string {
	return []string{"ixmage verify blog", "ixmage verify blog --inside blog/a.png --outside private/p.png -o json"}
}

// Run fails if the key can do what it must not.
func (c *verifyCmd) Run(s *session) error {
	r := client.Request{Method: http.MethodPost, Path: client.Path("aliases", c.Alias, "verify")}
	probe := map[string]any{}
	for name, key := range map[string]*string{"inside": c.Inside, "outside": c.Outside} {
		if key != nil {
			probe[name] = *key
		}
	}
	if len(probe) > 0 {
		r.Body = map[string]any{"probe": probe}
	}
	resp, err := s.do(r)
	if err != nil {
		return s.suggest(err, "aliases", c.Alias)
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	err = s.show(resp, s.verification)
	if v.Get("scope").Text() == "violated" {
		s.term.sayf("The key can do what it must not.")
		err = errors.Join(err, errReported)
	}
	return err
}

// verification prints the checks of a key.
func (s *session) verification(v client.Value) {
	s.table(v.Get("checks").List(), []column{
		col("CHECK", "name"), col("VERDICT", "verdict"), col("EVIDENCE", "evidence"), {"DETAIL", checkDetail},
	})
	s.out.printf("\nscope: %s\n", s.term.paint(v.Get("scope").Text()))
	list := v.Get("not_tried").List()
	untried := make([]string, len(list))
	for i, n := range list {
		untried[i] = n.Get("name").Text() + " (" + n.Get("why").Text() + ")"
	}
	if len(untried) > 0 {
		s.out.printf("not tried: %s\n", plain(strings.Join(untried, ", ")))
	}
}

// checkDetail is the detail of a check. What was expected is of interest if it did not come.
func checkDetail(v client.Value) string {
	detail := v.Get("detail").Text()
	if expected, got := v.Get("expected").Text(), v.Get("got").Text(); expected != got {
		detail += "; expected " + expected + ", got " + got
	}
	return strings.TrimPrefix(detail, "; ")
}

type rotateCmd struct {
	Connection
	followed
	conditional

	Credential string `arg:"" help:"Provisioned credential." completion:"credentials"`
	Emergency  bool   `help:"The key has leaked: replace every key of the user at once, and deny the sessions that were made with them."`
}

func (*rotateCmd) Examples() []string {
	return []string{"ixmage rotate blog", "ixmage rotate blog --emergency --no-wait"}
}

func (c *rotateCmd) Run(s *session) error {
	r := client.Request{
		Method: http.MethodPost, Path: client.Path("credentials", c.Credential, "rotate"), IfMatch: c.etag(),
	}
	if c.Emergency {
		r.Body = map[string]any{"emergency": true}
	}
	resp, err := s.do(r)
	if err != nil {
		return s.suggest(err, "credentials", c.Credential)
	}
	return c.started(s, resp, func(client.Value) error { return nil })
}
