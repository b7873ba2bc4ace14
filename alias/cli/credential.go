package cli

import (
	"net/http"

	"ixmage/alias/client"
)

type credentialCmd struct {
	Connection

	Ls      credentialLsCmd      `cmd:"" help:"List the credentials."`
	Get     credentialGetCmd     `cmd:"" help:"Read a credential, without its secret."`
	Add     credentialAddCmd     `cmd:"" help:"Register a key pair, a role or the server's own credentials under a name."`
	Replace credentialReplaceCmd `cmd:"" help:"Replace a key pair, or a role. Cached pictures stay."`
	Set     credentialSetCmd     `cmd:"" help:"Change what a key pair is meant to do, or some members of a role."`
	Rm      credentialRmCmd      `cmd:"" help:"Remove a credential, and the IAM user of a provisioned one."`
	Reclaim credentialReclaimCmd `cmd:"" help:"Make this server the one that acts on the IAM user, after another copy of the registry did."`
}

type credentialLsCmd struct{}

func (*credentialLsCmd) Examples() []string { return []string{"ixmage credential ls"} }

func (*credentialLsCmd) Run(s *session) error {
	v, err := s.list(namesOf("credentials"))
	if err != nil {
		return err
	}
	return s.showValue(v, func(v client.Value) { s.credentials(v.Get("credentials").List()...) })
}

// credentials prints a table of credentials.
func (s *session) credentials(rows ...client.Value) {
	s.table(rows, []column{
		col("NAME", "name"), col("KIND", "kind"), col("STATE", "state"), {"KEY OR ROLE", keyOrRole},
		col("SCOPE", "scope"), col("ALIASES", "aliases"), {"KEY SINCE", keySince}, col("REVISION", "revision"),
	})
}

// keySince is when the current key came; empty for a credential without a lasting key.
func keySince(v client.Value) string {
	if v.Get("access_key_id").Text() == "" {
		return ""
	}
	if at := v.Get("rotated_at"); !at.IsNull() {
		return moment(at)
	}
	return moment(v.Get("created_at"))
}

type credentialGetCmd struct {
	Name string `arg:"" help:"Credential." completion:"credentials"`
}

func (*credentialGetCmd) Examples() []string {
	return []string{"ixmage credential get shop", "ixmage credential get shop -o json"}
}

func (c *credentialGetCmd) Run(s *session) error {
	resp, err := s.get("credentials", c.Name)
	if err != nil {
		return s.suggest(err, "credentials", c.Name)
	}
	return s.show(resp, s.members)
}

type credentialAddCmd struct {
	Name string `arg:"" help:"Name of the credential, by the rules for aliases."`

	credentialFlags
	dryRun

	Default bool `help:"The server's own credentials sign, instead of a key pair; --allow-default-credential of the server must allow it."`
}

func (*credentialAddCmd) Examples() []string {
	return []string{
		"ixmage credential add media --key-file ~/.aws/credentials --profile media",
		"aws iam create-access-key --user-name media-reader | ixmage credential add reader --key-file -",
		"ixmage credential add pictures --role-arn arn:aws:iam::123456789012:role/ixmage-read " +
			"--external-id shop-7f3 --source trusted",
		"ixmage credential add own --default",
	}
}

func (c *credentialAddCmd) Run(s *session) error {
	body, err := c.read(s, c.Default)
	if err != nil {
		return err
	}
	body["name"] = c.Name
	resp, err := s.do(client.Request{
		Method: http.MethodPost, Path: client.Path("credentials"), Query: c.query(), Body: body,
	})
	if err != nil {
		return err
	}
	return s.show(resp, func(v client.Value) { s.credentials(v) })
}

type credentialReplaceCmd struct {
	Name string `arg:"" help:"Credential." completion:"credentials"`

	credentialFlags
	conditional
	dryRun
}

func (*credentialReplaceCmd) Examples() []string {
	return []string{
		"ixmage credential replace shop --key-file key.json",
		"ixmage credential replace media-role --role-arn arn:aws:iam::123456789012:role/ixmage-media --source trusted",
	}
}

func (c *credentialReplaceCmd) Run(s *session) error {
	if _, err := s.get("credentials", c.Name); err != nil { // before a key is asked for
		return s.suggest(err, "credentials", c.Name)
	}
	body, err := c.read(s, false)
	if err != nil {
		return err
	}
	delete(body, "kind") // a replacement has the kind of the credential
	resp, err := s.do(client.Request{
		Method: http.MethodPut, Path: client.Path("credentials", c.Name), Query: c.query(), Body: body, IfMatch: c.etag(),
	})
	if err != nil {
		return err
	}
	return s.show(resp, func(v client.Value) { s.credentials(v) })
}

type credentialSetCmd struct {
	Name string `arg:"" help:"Credential." completion:"credentials"`

	roleFlags
	conditional
	dryRun

	Expect *string `help:"What the key may do beyond its aliases: read-only-access, for AmazonS3ReadOnlyAccess; empty: nothing." placeholder:"POLICY"`
}

func (*credentialSetCmd) Examples() []string {
	return []string{
		"ixmage credential set shop --expect read-only-access", `ixmage credential set shop --expect ""`,
		"ixmage credential set media-role --duration 30m",
	}
}

func (c *credentialSetCmd) Run(s *session) error {
	change := c.changeExpected
	switch role := len(c.members()) > 0; {
	case role && c.Expect != nil:
		return usagef("--expect is about a key pair, and the other flags about a role")
	case role:
		change = c.changeRole
	case c.Expect == nil:
		return usagef("nothing to change: name what a key pair is meant to do, like --expect read-only-access, " +
			"or a member of a role, like --duration 30m")
	}
	resp, err := change(s)
	if err != nil {
		return s.suggest(err, "credentials", c.Name)
	}
	return s.show(resp, func(v client.Value) { s.credentials(v) })
}

// changeExpected changes what a key pair is meant to do.
func (c *credentialSetCmd) changeExpected(s *session) (*client.Response, error) {
	return s.do(client.Request{
		Method: http.MethodPatch, Path: client.Path("credentials", c.Name), Query: c.query(),
		Body: map[string]any{"expect": c.Expect}, IfMatch: c.etag(),
	})
}

type credentialRmCmd struct {
	Name string `arg:"" help:"Credential." completion:"credentials"`

	conditional
	confirmed
}

func (*credentialRmCmd) Examples() []string { return []string{"ixmage credential rm unused --yes"} }

func (c *credentialRmCmd) Run(s *session) error {
	resp, err := s.get("credentials", c.Name)
	if err != nil {
		return s.suggest(err, "credentials", c.Name)
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	what := "Remove the credential " + c.Name
	if user := v.Get("user", "name").Text(); user != "" {
		what += " and the IAM user " + user
	}
	if err := s.term.confirm(c.Yes, what); err != nil {
		return err
	}
	resp, err = s.do(client.Request{
		Method: http.MethodDelete, Path: client.Path("credentials", c.Name), IfMatch: c.etag(),
	})
	if err != nil {
		return err
	}
	if resp.Status == http.StatusNoContent {
		s.term.sayf("%s is removed.", c.Name)
		return nil
	}
	operation, err := resp.Value()
	if err != nil {
		return err
	}
	return s.waitFor(operation.Get("id").Text())
}

type credentialReclaimCmd struct {
	Name string `arg:"" help:"Credential." completion:"credentials"`

	confirmed
}

func (*credentialReclaimCmd) Examples() []string {
	return []string{"ixmage credential reclaim blog --yes"}
}

func (c *credentialReclaimCmd) Run(s *session) error {
	what := "Take over the IAM user of " + c.Name + " from another copy of the registry"
	if err := s.term.confirm(c.Yes, what); err != nil {
		return err
	}
	resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("credentials", c.Name, "reclaim")})
	if err != nil {
		return s.suggest(err, "credentials", c.Name)
	}
	return s.show(resp, func(v client.Value) { s.credentials(v) })
}
