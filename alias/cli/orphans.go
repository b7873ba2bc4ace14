package cli

import (
	"net/http"
	"net/url"

	"ixmage/alias/client"
)

type orphansCmd struct {
	Connection

	Ls orphansLsCmd `cmd:"" default:"1" help:"List users and keys in IAM under the path of this server that belong to no credential."`
	Rm orphansRmCmd `cmd:"" help:"Remove an orphaned user that ixmage made."`
}

type orphansLsCmd struct{}

func (*orphansLsCmd) Examples() []string { return []string{"ixmage orphans ls"} }

func (*orphansLsCmd) Run(s *session) error {
	resp, err := s.get("orphans")
	if err != nil {
		return err
	}
	return s.show(resp, func(v client.Value) {
		s.table(v.Get("orphans").List(), []column{
			col("KIND", "kind"), col("USER", "user"), col("KEY", "access_key_id"), col("CREDENTIAL", "credential"),
			col("ACCOUNT", "account"), {"FOUND", at("found_at")}, col("STATE", "state"), col("DETAIL", "detail"),
		})
		if last := moment(v.Get("scanned_at")); last != "" {
			s.term.sayf("IAM was searched at %s.", last)
		} else {
			s.term.sayf("IAM has not been searched yet.")
		}
		if why := v.Get("skipped").Text(); why != "" {
			s.term.sayf("%s", plain(why))
		}
	})
}

type orphansRmCmd struct {
	User    string `arg:"" help:"Name of the IAM user." completion:"orphans"`
	Account string `help:"Name or id of an entry of the server's --accounts, in which the user is. Default: the account of the server's own credentials." placeholder:"NAME"`

	confirmed
}

func (*orphansRmCmd) Examples() []string {
	return []string{"ixmage orphans rm ixmage-s3read-old-x7k2 --yes"}
}

func (c *orphansRmCmd) Run(s *session) error {
	user := c.User
	if c.Account != "" {
		user += " of the account " + c.Account
	}
	if err := s.term.confirm(c.Yes, "Remove the IAM user "+user+" with its keys and policies"); err != nil {
		return err
	}
	r := client.Request{Method: http.MethodDelete, Path: client.Path("orphans", c.User)}
	if c.Account != "" {
		r.Query = url.Values{"account": {c.Account}}
	}
	_, err := s.do(r)
	if err == nil {
		s.term.sayf("%s is removed.", c.User)
	}
	return err
}
