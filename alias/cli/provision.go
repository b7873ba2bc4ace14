package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"ixmage/alias/client"
)

type provisionCmd struct {
	Connection
	confirmed
	followed

	Name   string `arg:"" optional:"" name:"alias" help:"Alias, the first segment of its URLs; the same as --alias."`
	DryRun bool   `help:"Print the policy, the steps and the aws commands that do the same, and call neither IAM nor S3."`

	provisionFields
	planFlags
}

// followed says whether a command that begins an operation waits for its end.
type followed struct {
	Wait bool `negatable:"" default:"true" help:"Show the steps until the operation has ended. With --no-wait, print the operation when it has started."`
}

// provisionFields are the members of a provision request as flags.
type provisionFields struct {
	Alias       *string           `help:"Alias, the first segment of its URLs." placeholder:"NAME"`
	Bucket      *string           `help:"Bucket." placeholder:"NAME"`
	BucketOwner *string           `help:"12-digit id of the account that owns the bucket." placeholder:"ACCOUNT"`
	Prefix      *string           `help:"Text in front of every key, like website-images/. The key of the user can read only these objects." placeholder:"PREFIX"`
	Region      *string           `help:"Region of the bucket." placeholder:"REGION"`
	Account     *string           `help:"Name or id of an entry of the server's --accounts, in which the user is made. Default: the account of the server's own credentials." placeholder:"NAME"`
	Endpoint    *string           `help:"URL of an S3-compatible server that is not AWS." placeholder:"URL"`
	PathStyle   *bool             `negatable:"" help:"Address objects as host/bucket/key."`
	Policy      *string           `help:"inline (the default), managed, or read-only-access for every bucket." placeholder:"KIND"`
	Credential  *string           `help:"Provisioned credential to use, instead of making a user." placeholder:"NAME" completion:"credentials"`
	UserName    *string           `help:"Name of the IAM user. Default: made from the alias." placeholder:"NAME"`
	Tags        map[string]string `name:"tags" help:"Tags of the user, separated by semicolons." placeholder:"KEY=VALUE"`
	KMSKeyARN   *string           `name:"kms-key-arn" help:"KMS key with which the objects are encrypted." placeholder:"ARN"`
	Inside      *string           `help:"Whole key of an object that the new key must be able to read. It becomes the canary." placeholder:"KEY"`
	Outside     *string           `help:"Whole key of an object that the new key must not be able to read." placeholder:"KEY"`
	RotateEvery *string           `help:"Interval of rotations, like 2160h; 0s is never." placeholder:"DURATION"`
	Adopt       *string           `help:"Take over this IAM user instead of making one." placeholder:"USER"`
	Retire      *bool             `negatable:"" help:"Make the previous key of an adopted user inactive, a day after its last use."`
}

// body makes the members of the request.
func (f *provisionFields) body() map[string]any {
	body := membersOf(f)
	probe := map[string]any{}
	for _, name := range []string{"inside", "outside"} {
		if key, ok := body[name]; ok {
			probe[name] = key
			delete(body, name)
		}
	}
	if len(probe) > 0 {
		body["probe"] = probe
	}
	return body
}

func (*provisionCmd) Examples() []string {
	return []string{
		"ixmage provision shop2 --bucket acme-media --prefix web/ --region us-east-1 --endpoint https://s3.example.com --path-style --inside web/a.png --outside private/p.png --yes", //nolint:lll // a line to paste
		"ixmage provision logos --bucket acme-media --prefix logos/ --region eu-west-1 --tags team=web --dry-run",
		"ixmage provision logos --bucket acme-media --prefix logos/ --region eu-west-1 --kind role --format terraform",
	}
}

func (c *provisionCmd) Run(s *session) error {
	if c.Name != "" {
		if c.Alias != nil && *c.Alias != c.Name {
			return usagef("the alias is named twice: %s and --alias %s", c.Name, *c.Alias)
		}
		c.Alias = &c.Name
	}
	if err := c.check(c.DryRun); err != nil {
		return err
	}
	switch {
	case c.DryRun || c.Format != "":
		return c.showPlan(s)
	case s.term.asks && !c.Yes:
		if err := c.form(s); err != nil {
			return err
		}
	}
	resp, err := c.request(s, "provision")
	if err != nil {
		return err
	}
	return c.started(s, resp, s.opened)
}

// request sends the request.
func (c *provisionCmd) request(s *session, path ...string) (*client.Response, error) {
	return s.do(client.Request{Method: http.MethodPost, Path: client.Path(path...), Body: c.body()})
}

// started follows the operation of an answer, or prints it. done is called after it is done,
// with the finished operation.
func (f followed) started(s *session, resp *client.Response, done func(op client.Value) error) error {
	if !f.Wait {
		at := resp.Header.Get("Location")
		s.term.sayf("To follow it: ixmage operation wait %s", at[strings.LastIndexByte(at, '/')+1:])
		return s.show(resp, s.operation)
	}
	op, err := s.follow(resp)
	if err != nil || s.out.format != formatTable {
		return err
	}
	return done(op)
}

// form asks for the fields without a flag, shows the plan, and asks whether to provision it.
func (c *provisionCmd) form(s *session) error {
	s.term.sayf("This makes an alias with an IAM user of its own. " +
		"Enter takes the value in brackets, - leaves the field empty.\n" +
		"Nothing is made before you confirm. For other fields there are flags: ixmage provision --help")
	if err := c.fillIn(s); err != nil {
		return err
	}
	for {
		resp, err := c.request(s, "provision", "plan")
		if err != nil {
			if err := c.correct(s, err); err != nil {
				return err
			}
			continue
		}
		v, err := resp.Value()
		if err != nil {
			return err
		}
		c.printPlan(s, v, false)
		if err := s.out.Flush(); err != nil {
			return writeError(err)
		}
		return s.term.confirm(false, "Provision it")
	}
}

// correct prints the errors of the answers, and asks for these again. It returns the
// error if it belongs to no question.
func (c *provisionCmd) correct(s *session, err error) error {
	p, ok := errors.AsType[*client.Problem](err)
	if !ok {
		return err
	}
	wrong := map[string]bool{}
	for _, f := range p.Fields {
		s.term.sayf("%s: %s", plain(f.Name), plain(f.Detail))
		wrong[f.Name] = true
	}
	asked := false
	for _, q := range c.questions() {
		if !wrong[q.field] {
			continue
		}
		asked = true
		if err := q.ask(s.term); err != nil {
			return err
		}
	}
	if !asked {
		return err
	}
	return nil
}

// question is a line of the form.
type question struct {
	field     string // as the API names it in a problem
	text      string
	byDefault string
	required  bool
	answer    **string
}

// questions are those of the form, in its order.
func (c *provisionCmd) questions() []question {
	region := os.Getenv("AWS_REGION")
	if region == "" {
		region = os.Getenv("AWS_DEFAULT_REGION")
	}
	return []question{
		{"alias", "Alias, the first segment of its URLs", "", true, &c.Alias},
		{"bucket", "Bucket", "", true, &c.Bucket},
		{"prefix", "Prefix, like website-images/; empty: the whole bucket", "", false, &c.Prefix},
		{"region", "Region of the bucket", region, false, &c.Region},
		{"endpoint", "URL of the S3 server; empty: AWS", "", false, &c.Endpoint},
		{"policy", "Policy: inline, managed or read-only-access", "inline", false, &c.Policy},
		{"probe.inside", "Whole key of a picture that the new key must be able to read; empty: none", "", false, &c.Inside},
		{"probe.outside", "Whole key of an object that it must not be able to read; empty: none", "", false, &c.Outside},
	}
}

// fillIn asks the questions whose answers no flag gives.
func (c *provisionCmd) fillIn(s *session) error {
	for _, q := range c.questions() {
		if *q.answer != nil {
			continue
		}
		if err := q.ask(s.term); err != nil {
			return err
		}
	}
	if c.PathStyle == nil && c.Endpoint != nil && *c.Endpoint != "" {
		answer, err := s.term.ask("Address objects as host/bucket/key (path style)? [Y/n] ")
		if err != nil {
			return err
		}
		yes := !strings.HasPrefix(strings.ToLower(answer), "n")
		c.PathStyle = &yes
	}
	return nil
}

// ask asks until there is an answer.
func (q question) ask(t terminal) error {
	byDefault := q.byDefault
	if *q.answer != nil {
		byDefault = **q.answer
	}
	prompt := q.text + ": "
	if byDefault != "" {
		prompt = fmt.Sprintf("%s [%s]: ", q.text, byDefault)
	}
	for {
		answer, err := t.ask(prompt)
		if err != nil {
			return err
		}
		if answer == "" {
			answer = byDefault
		}
		if answer == "-" { // removes a default
			answer = ""
		}
		if answer != "" || !q.required {
			*q.answer = &answer
			return nil
		}
	}
}

// printPlan prints the user, the policy and the steps of a plan, and the commands that do the
// same.
func (c *provisionCmd) printPlan(s *session, v client.Value, commands bool) {
	s.align(c.planned(v))
	if document := v.Get("policy_document"); !document.IsNull() {
		text, err := document.MarshalJSON()
		if err == nil {
			text, err = json.MarshalIndent(json.RawMessage(text), "", "  ")
		}
		if err == nil {
			s.out.printf("%s\n", text)
		}
	}
	s.out.printf("\n")
	s.table(v.Get("steps").List(), []column{col("STEP", "name"), col("DETAIL", "detail")})
	if list := v.Get("commands").List(); commands && len(list) > 0 {
		s.out.printf("\nThese commands do the same:\n")
		for _, line := range list {
			s.out.printf("%s\n", line.Text())
		}
	}
}

// planned are the user or role of a plan, its boundary and its policy.
func (c *provisionCmd) planned(v client.Value) [][]string {
	kind := "user"
	if c.Kind == "role" {
		kind = "role"
	}
	boundary := v.Get(kind, "boundary").Text()
	if boundary == "" {
		boundary = "none"
	}
	name := v.Get(kind, "path").Text() + v.Get(kind, "name").Text()
	if kind == "user" && c.UserName == nil && c.Credential == nil && c.Adopt == nil {
		name += "  (the last four letters will be others)"
	}
	return [][]string{
		{"IAM " + kind, plain(name)},
		{"boundary", plain(boundary)},
		{"policy", plain(v.Get("policy").Text() + ", " + v.Get("policy_name").Text())},
	}
}

// opened prints what was proved of the new key, and a URL to try.
func (s *session) opened(op client.Value) error {
	name := op.Get("alias").Text()
	resp, err := s.get("aliases", name, "verification")
	switch {
	case err == nil:
		v, err := resp.Value()
		if err != nil {
			return err
		}
		s.out.printf("\n")
		s.verification(v)
	case !client.IsStatus(err, http.StatusNotFound):
		return err
	}
	return s.tryURL(name)
}

// tryURL prints the URL of the canary of an alias.
func (s *session) tryURL(name string) error {
	var read [2]client.Value
	for i, path := range [][]string{{"server"}, {"aliases", name}} {
		resp, err := s.get(path...)
		if err != nil {
			return err
		}
		if read[i], err = resp.Value(); err != nil {
			return err
		}
	}
	s.out.printf("\nTry it: %s/%s/%s\n", read[0].Get("public_url").Text(), name, urlKey(read[1].Get("canary").Text()))
	return nil
}
