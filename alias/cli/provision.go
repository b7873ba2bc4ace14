package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
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
}

// followed says whether a command that begins an operation waits for its end.
type followed struct {
	Wait bool `negatable:"" default:"true" help:"Show the steps until the operation has ended. Without, print the operation as it begins."`
}

// provisionFields are the members of a provision request as flags.
type provisionFields struct {
	Alias       *string           `help:"Alias, the first segment of its URLs." placeholder:"NAME"`
	Bucket      *string           `help:"Bucket." placeholder:"NAME"`
	BucketOwner *string           `help:"12-digit id of the account that owns the bucket." placeholder:"ACCOUNT"`
	Prefix      *string           `help:"In front of every key, like website-images/. The key of the user can read nothing else." placeholder:"PREFIX"`
	Region      *string           `help:"Region of the bucket." placeholder:"REGION"`
	Endpoint    *string           `help:"URL of an S3-compatible server that is not AWS." placeholder:"URL"`
	PathStyle   *bool             `negatable:"" help:"Address objects as host/bucket/key."`
	Policy      *string           `help:"inline (the default), managed, or read-only-access for every bucket." placeholder:"KIND"`
	Credential  *string           `help:"Provisioned credential to use, instead of making a user." placeholder:"NAME" completion:"credentials"`
	UserName    *string           `help:"Name of the IAM user. Default: made from the alias." placeholder:"NAME"`
	Tags        map[string]string `name:"tags" help:"Tags of the user, separated by semicolons." placeholder:"KEY=VALUE"`
	KMSKeyARN   *string           `name:"kms-key-arn" help:"KMS key with which the objects are encrypted." placeholder:"ARN"`
	Inside      *string           `help:"Whole key of an object that the new key must be able to read. It becomes the canary." placeholder:"KEY"`
	Outside     *string           `help:"Whole key of an object that the new key must not be able to read." placeholder:"KEY"`
	RotateEvery *string           `help:"Rotate the key every so often, like 2160h; 0s is never." placeholder:"DURATION"`
	Adopt       *string           `help:"Take over this IAM user instead of making one." placeholder:"USER"`
	Retire      *bool             `negatable:"" help:"Make the key that an adopted user had inactive, when nothing uses it any more."`
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
		"ixmage provision shop2 --bucket acme-media --prefix web/ --region us-east-1 --endpoint https://s3.example.com --path-style --inside web/a.png --outside private/p.png --yes",
		"ixmage provision logos --bucket acme-media --prefix logos/ --region eu-west-1 --tags team=web --dry-run",
	}
}

func (c *provisionCmd) Run(s *session) error {
	if c.Name != "" {
		if c.Alias != nil && *c.Alias != c.Name {
			return usagef("the alias is named twice: %s and --alias %s", c.Name, *c.Alias)
		}
		c.Alias = &c.Name
	}
	asked := s.term.asks && !c.Yes && !c.DryRun
	if asked {
		if err := c.form(s); err != nil {
			return err
		}
	}
	if asked || c.DryRun {
		plan, err := c.plan(s)
		if err != nil || c.DryRun {
			return errors.Join(err, s.showPlan(plan, err))
		}
		s.plan(plan)
		if err := s.out.Flush(); err != nil {
			return writeError(err)
		}
		if err := s.term.confirm(false, "Provision it"); err != nil {
			return err
		}
	}
	resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("provision"), Body: c.body()})
	if err != nil {
		return err
	}
	return c.started(s, resp, func(op client.Value) error { return s.opened(op) })
}

// started follows the operation of an answer, or prints it. done is called after it is done,
// with what a reader wants to know then.
func (f followed) started(s *session, resp *client.Response, done func(op client.Value) error) error {
	if !f.Wait {
		s.term.sayf("To follow it: ixmage operation wait %s", resp.Header.Get("Location")[strings.LastIndexByte(resp.Header.Get("Location"), '/')+1:])
		return s.show(resp, s.operation)
	}
	op, err := s.follow(resp)
	if err != nil || s.out.format != formatTable {
		return err
	}
	return done(op)
}

// plan asks the server for the plan. On a terminal it asks again for answers that are wrong.
func (c *provisionCmd) plan(s *session) (*client.Response, error) {
	for {
		resp, err := s.do(client.Request{Method: http.MethodPost, Path: client.Path("provision", "plan"), Body: c.body()})
		p, refused := errors.AsType[*client.Problem](err)
		if !refused || !s.term.asks || c.Yes || c.DryRun || len(p.Fields) == 0 {
			return resp, err
		}
		var again []question
		for _, f := range p.Fields {
			s.term.sayf("%s: %s", f.Name, f.Detail)
			for _, q := range c.questions() {
				if q.field == f.Name && !slices.ContainsFunc(again, func(a question) bool { return a.field == q.field }) {
					again = append(again, q)
				}
			}
		}
		if len(again) == 0 {
			return nil, err
		}
		for _, q := range again {
			if err := q.ask(s.term); err != nil {
				return nil, err
			}
		}
	}
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

// form asks for what no flag says.
func (c *provisionCmd) form(s *session) error {
	s.term.sayf("An alias with an IAM user of its own. Enter takes what is in brackets; more fields have flags: ixmage provision --help")
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

// showPlan prints the plan of a dry run.
func (s *session) showPlan(resp *client.Response, err error) error {
	if err != nil {
		return nil
	}
	if s.out.format != formatTable {
		return s.show(resp, nil)
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	s.planOf(v)
	if commands := v.Get("commands").List(); len(commands) > 0 {
		s.out.printf("\nThese commands do the same:\n")
		for _, c := range commands {
			s.out.printf("%s\n", c.Text())
		}
	}
	return nil
}

// plan prints the plan before the question.
func (s *session) plan(resp *client.Response) {
	if v, err := resp.Value(); err == nil {
		s.planOf(v)
	}
}

func (s *session) planOf(v client.Value) {
	boundary := v.Get("user", "boundary").Text()
	if boundary == "" {
		boundary = "none"
	}
	s.align([][]string{
		{"IAM user", plain(v.Get("user", "path").Text() + v.Get("user", "name").Text())},
		{"boundary", plain(boundary)},
		{"policy", plain(v.Get("policy").Text() + ", " + v.Get("policy_name").Text())},
	})
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
	server, err := s.get("server")
	if err != nil {
		return err
	}
	about, err := server.Value()
	if err != nil {
		return err
	}
	resp, err := s.get("aliases", name)
	if err != nil {
		return err
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	key := "KEY"
	if canary := v.Get("canary").Text(); canary != "" {
		segments := strings.Split(canary, "/")
		for i := range segments {
			segments[i] = url.PathEscape(segments[i])
		}
		key = strings.Join(segments, "/")
	}
	s.out.printf("\nTry it: %s/%s/%s\n", about.Get("public_url").Text(), name, key)
	return nil
}
