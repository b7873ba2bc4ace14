package cli

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"ixmage/alias/client"
)

// planFlags are the flags of a plan for people who apply it without ixmage.
type planFlags struct {
	Format string `help:"Print files that make the user or role, as aws-cli, cloudformation or terraform, and call neither IAM nor S3." placeholder:"FORMAT"`
	Folder string `name:"output-dir" short:"O" help:"Write the files of --format into this folder, which is made." placeholder:"DIR" type:"path"`

	Kind           string `help:"user, or role for a role that the server assumes; ixmage prints how to make a role, and makes none." placeholder:"KIND"`
	RoleName       string `help:"Name of the role. Default: made from the alias." placeholder:"NAME"`
	Principal      string `help:"User or role of the server, which may assume the role. Default: a parameter of the files." placeholder:"ARN"`
	ExternalID     string `name:"external-id" help:"External id that the role asks for." placeholder:"ID"`
	MaxSession     string `help:"Longest session of the role, 1h to 12h." placeholder:"DURATION"`
	SourceIdentity bool   `help:"Allow the sessions of the role to carry a source identity."`
}

// check refuses flags that mean nothing without others.
func (f *planFlags) check(dryRun bool) error {
	plans := dryRun || f.Format != ""
	switch {
	case f.Folder != "" && f.Format == "":
		return usagef("-O belongs to --format, which makes the files")
	case f.Kind != "" && !plans:
		return usagef("--kind belongs to --dry-run or --format: ixmage makes users, and prints how to make a role")
	case f.Kind == "" && len(f.role()) > 0:
		return usagef("--role-name, --principal, --external-id, --max-session and --source-identity belong to --kind role")
	}
	return nil
}

// role are the members of the role that were given.
func (f *planFlags) role() map[string]any {
	role := map[string]any{}
	for name, value := range map[string]string{
		"name": f.RoleName, "principal": f.Principal, "external_id": f.ExternalID, "max_session": f.MaxSession,
	} {
		if value != "" {
			role[name] = value
		}
	}
	if f.SourceIdentity {
		role["source_identity"] = true
	}
	return role
}

// plan asks for the plan.
func (c *provisionCmd) plan(s *session) (*client.Response, error) {
	body := c.body()
	if c.Kind != "" {
		body["kind"] = c.Kind
	}
	if role := c.role(); len(role) > 0 {
		body["role"] = role
	}
	r := client.Request{Method: http.MethodPost, Path: client.Path("provision", "plan"), Body: body}
	if c.Format != "" {
		r.Query = url.Values{"format": {c.Format}}
	}
	return s.do(r)
}

// showPlan prints the plan, or its files.
func (c *provisionCmd) showPlan(s *session) error {
	resp, err := c.plan(s)
	if err != nil {
		return err
	}
	if c.Folder == "" {
		return s.show(resp, func(v client.Value) {
			if c.Format == "" {
				c.printPlan(s, v, true)
				return
			}
			for i, f := range v.Get("files").List() {
				if i > 0 {
					s.out.printf("\n")
				}
				s.out.printf("==> %s <==\n%s", plain(f.Get("name").Text()), f.Get("content").Text())
			}
		})
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	for _, f := range v.Get("files").List() {
		if err := writeFile(s, c.Folder, f.Get("name").Text(), f.Get("content").Text()); err != nil {
			return err
		}
	}
	return nil
}

// writeFile writes a file of a plan, unless there is one of the name. The name comes from the
// server, so it must not lead out of the folder.
func writeFile(s *session, folder, name, content string) error {
	if !filepath.IsLocal(name) {
		return usagef("the server names a file %s, which is not in the folder", plain(name))
	}
	path := filepath.Join(folder, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	mode := os.FileMode(0o600)
	if strings.HasSuffix(name, ".sh") {
		mode = 0o700
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err = file.WriteString(content); err != nil {
		file.Close()
		return err
	}
	s.term.sayf("%s is written.", path)
	return file.Close()
}
