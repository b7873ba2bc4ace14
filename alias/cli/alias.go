package cli

import (
	"net/http"
	"net/url"
	"strconv"

	"ixmage/alias"
	"ixmage/alias/client"
)

type aliasCmd struct {
	Connection

	Ls  aliasLsCmd  `cmd:"" help:"List the aliases."`
	Get aliasGetCmd `cmd:"" help:"Read an alias."`
	Add aliasAddCmd `cmd:"" help:"Register an alias."`
	Set aliasSetCmd `cmd:"" help:"Change fields of an alias."`
	Rm  aliasRmCmd  `cmd:"" help:"Remove an alias, and its key pair or role if that has the alias's name and no other alias uses it."`
}

// Flags of commands that change something.
type (
	conditional struct {
		IfRevision int64 `help:"Do it only if it has this revision; otherwise the exit status is 5." placeholder:"N"`
	}
	dryRun struct {
		DryRun bool `help:"Check the request and print what would be stored; change nothing."`
	}
	confirmed struct {
		Yes bool `short:"y" help:"Do not ask."`
	}
)

// etag is the If-Match of a call.
func (c conditional) etag() string {
	if c.IfRevision == 0 {
		return ""
	}
	return strconv.FormatInt(c.IfRevision, 10)
}

func (d dryRun) query() url.Values {
	if !d.DryRun {
		return nil
	}
	return url.Values{"dry_run": {"true"}}
}

type aliasLsCmd struct{}

func (*aliasLsCmd) Examples() []string {
	return []string{"ixmage alias ls", "ixmage alias ls -o json"}
}

func (*aliasLsCmd) Run(s *session) error {
	v, err := s.list(namesOf("aliases"))
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) {
		s.aliases(v.Get("aliases").List()...)
		if len(v.Get("aliases").List()) == 0 {
			s.term.sayf("There are no aliases yet. To register one: ixmage alias add --help")
		}
	})
}

// namesOf lists aliases or credentials by name.
func namesOf(noun string) client.Pages {
	return client.Pages{Path: client.Path(noun), Member: noun, By: "name", Param: "after", Size: 1000}
}

// aliases prints a table of aliases.
func (s *session) aliases(rows ...client.Value) {
	s.table(rows, []column{
		col("NAME", "name"), {"STATE", aliasState}, {"LOCATION", location}, col("REGION", "region"),
		col("CREDENTIAL", "credential"), col("REVISION", "revision"),
	})
}

// aliasState is the state, or that the alias is switched off.
func aliasState(v client.Value) string {
	if v.Get("enabled").IsFalse() {
		return "disabled"
	}
	return v.Get("state").Text()
}

// location is where the pictures of an alias are.
func location(v client.Value) string {
	at := "s3://" + v.Get("bucket").Text() + "/" + v.Get("prefix").Text()
	if e := v.Get("endpoint").Text(); e != "" {
		at += " at " + e
	}
	return at
}

type aliasGetCmd struct {
	Name string `arg:"" help:"Alias." completion:"aliases"`
}

func (*aliasGetCmd) Examples() []string {
	return []string{"ixmage alias get shop", "ixmage alias get shop -o yaml"}
}

func (c *aliasGetCmd) Run(s *session) error {
	resp, err := s.get("aliases", c.Name)
	if err != nil {
		return s.suggest(err, "aliases", c.Name)
	}
	return s.show(resp, s.members)
}

type aliasAddCmd struct {
	Name string `arg:"" help:"Alias, the first segment of its URLs: 1 to 63 of a-z, 0-9 and hyphen."`

	aliasFields
	credentialFlags
	dryRun

	Credential        string `help:"Read the bucket with this registered credential, instead of a key pair." placeholder:"NAME" xor:"credential,keyfile" completion:"credentials"`
	DefaultCredential bool   `help:"Read the bucket with the server's own credentials, which --allow-default-credential of the server must allow." xor:"credential,keyfile"`
	Anonymous         bool   `help:"The bucket is public: requests are not signed." xor:"credential,keyfile"`
}

func (*aliasAddCmd) Examples() []string {
	return []string{
		"ixmage alias add logos --bucket acme-media --prefix logos/ --region eu-west-1 --key-file key.json",
		"ixmage alias add banners --bucket acme-media --prefix banners/ --region eu-west-1 --credential shop --ttl 10m",
		"ixmage alias add uploads --bucket acme-media --prefix uploads/ --region eu-west-1 " +
			"--role-arn arn:aws:iam::123456789012:role/ixmage-read --source trusted",
		"ixmage alias add open --bucket acme-open --region eu-west-1 --anonymous",
	}
}

func (c *aliasAddCmd) Run(s *session) error {
	body := c.body()
	body["name"] = c.Name
	if err := c.credential(s, body); err != nil {
		return err
	}
	resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("aliases"), Query: c.query(), Body: body})
	if err != nil {
		return err
	}
	if !c.DryRun {
		s.registered(resp)
	}
	return s.show(resp, func(v client.Value) { s.aliases(v) })
}

// credential adds the credential to the members of a request.
func (c *aliasAddCmd) credential(s *session, body map[string]any) error {
	if (c.Anonymous || c.Credential != "") && len(c.members()) > 0 {
		return usagef("--role-arn and the other flags of a role do not fit --credential and --anonymous: name one credential")
	}
	switch {
	case c.Anonymous:
		body["credential"] = nil
		return nil
	case c.Credential != "":
		body["credential"] = c.Credential
		return nil
	}
	if err := c.check(s, body); err != nil {
		return err
	}
	made, err := c.read(s, c.DefaultCredential)
	body["credential"] = made
	return err
}

// check tries the other fields before a person types the key pair, so that a mistake in them
// does not cost typing it again.
func (c *aliasAddCmd) check(s *session, body map[string]any) error {
	if c.KeyFile != "" || c.kind(c.DefaultCredential) != alias.KindStatic || !s.term.asks {
		return nil
	}
	body["credential"] = nil
	_, err := s.do(client.Request{
		Method: http.MethodPost, Path: client.Path("aliases"), Query: dryRun{true}.query(), Body: body,
	})
	if client.IsStatus(err, http.StatusConflict) { // it may be about the credential, which is another one later
		return nil
	}
	return err
}

// registered says where the pictures of a new alias are. The alias exists already, so that
// an error here does not fail the command.
func (s *session) registered(resp *client.Response) {
	v, err := resp.Value()
	if err != nil {
		return
	}
	name := v.Get("name").Text()
	at := "/" + name + "/" + urlKey(v.Get("canary").Text())
	s.term.sayf("%s is registered.", name)
	if resp, err := s.get("server"); err == nil {
		if v, err := resp.Value(); err == nil {
			s.term.sayf("Its pictures: %s%s", v.Get("public_url").Text(), at)
		}
	}
	s.term.sayf("If one does not show: ixmage explain --probe %s", at)
}

// urlKey is the path of a picture in a URL, KEY if none is known.
func urlKey(canary string) string {
	if canary == "" {
		return "KEY"
	}
	return (&url.URL{Path: canary}).EscapedPath()
}

type aliasSetCmd struct {
	Name string `arg:"" help:"Alias." completion:"aliases"`

	aliasFields
	conditional
	dryRun

	Credential *string  `help:"Registered credential to read the bucket with." placeholder:"NAME" completion:"credentials"`
	Reset      []string `help:"Fields, separated by commas, that get their default again, like ttl,canary; credential: a public bucket." placeholder:"FIELD"`
}

func (*aliasSetCmd) Examples() []string {
	return []string{
		"ixmage alias set shop --ttl 5m --canary a.png",
		"ixmage alias set shop --no-enabled",
		"ixmage alias set shop --transforms templates --widths 200,400,800 --template 'thumb=w=240&h=240&fit=cover'",
		"ixmage alias set shop --enabled --reset ttl,canary",
	}
}

func (c *aliasSetCmd) Run(s *session) error {
	body := c.body()
	if c.Credential != nil {
		body["credential"] = *c.Credential
	}
	for _, f := range c.Reset {
		name := jsonName(f)
		if _, both := body[name]; both {
			return usagef("--reset %s and a flag that sets it contradict each other", f)
		}
		body[name] = nil
	}
	if len(body) == 0 {
		return usagef("nothing to change: name a field, like --ttl 5m, or --reset ttl")
	}
	resp, err := s.do(client.Request{
		Method: http.MethodPatch, Path: client.Path("aliases", c.Name), Query: c.query(), Body: body, IfMatch: c.etag(),
	})
	if err != nil {
		return s.suggest(err, "aliases", c.Name)
	}
	return s.show(resp, func(v client.Value) { s.aliases(v) })
}

type aliasRmCmd struct {
	Name string `arg:"" help:"Alias." completion:"aliases"`

	conditional
	confirmed
}

func (*aliasRmCmd) Examples() []string { return []string{"ixmage alias rm old --yes"} }

func (c *aliasRmCmd) Run(s *session) error {
	resp, err := s.get("aliases", c.Name)
	if err != nil {
		return s.suggest(err, "aliases", c.Name)
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	if err := s.term.confirm(c.Yes, "Remove the alias "+c.Name+" of "+location(v)); err != nil {
		return err
	}
	_, err = s.do(client.Request{Method: http.MethodDelete, Path: client.Path("aliases", c.Name), IfMatch: c.etag()})
	if err == nil {
		s.term.sayf("%s is removed.", c.Name)
	}
	return err
}
