package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"ixmage/alias/cli/manifest"
	"ixmage/alias/client"
)

// exitDiffers is the status of apply --dry-run --exit-code if there is something to change.
const exitDiffers = 7

type applyCmd struct {
	Connection
	confirmed

	File     []string `short:"f" required:"" sep:"none" help:"YAML file with the aliases, and the credentials; - is standard input. It may be given several times." placeholder:"FILE"`
	Prune    bool     `help:"Remove the aliases that no file has."`
	DryRun   bool     `help:"Print what would change, and change nothing."`
	ExitCode bool     `help:"With --dry-run: exit with 7 if there is something to change."`
}

func (*applyCmd) Examples() []string {
	return []string{
		"ixmage apply -f aliases.yaml --dry-run",
		"ixmage apply -f aliases.yaml --yes",
		"ixmage alias ls -o yaml > all.yaml && ixmage apply -f all.yaml --prune --dry-run --exit-code",
	}
}

func (c *applyCmd) Run(s *session) error {
	if err := c.check(s); err != nil {
		return err
	}
	p, err := c.plan(s)
	if err != nil {
		return err
	}
	if s.out.format == formatTable {
		p.print()
	}
	switch {
	case len(p.changes) > 0 && c.ExitCode:
		return errors.Join(p.result("planned"), exitError(exitDiffers))
	case len(p.changes) == 0 || c.DryRun:
		return p.result("planned")
	}
	if err := s.out.Flush(); err != nil {
		return writeError(err)
	}
	if err := s.term.confirm(c.Yes, "Make "+count(len(p.changes), "change")); err != nil {
		return err
	}
	return p.run()
}

// check refuses flags that contradict each other.
func (c *applyCmd) check(s *session) error {
	switch {
	case c.ExitCode && !c.DryRun:
		return usagef("--exit-code belongs to --dry-run")
	case s.out.format != formatTable && !c.DryRun && !c.Yes:
		return usagef("-o %s prints the changes at the end, so it cannot ask before them: add --yes, "+
			"or --dry-run to see them", s.out.format)
	}
	return nil
}

// plan finds the changes. If something is wrong with the files, it prints all of it.
func (c *applyCmd) plan(s *session) (*planner, error) {
	m, problems, err := c.read(s)
	if err != nil {
		return nil, err
	}
	p := &planner{session: s, manifest: m, prune: c.Prune, problems: problems}
	p.readKeys()
	if err := p.plan(); err != nil {
		if _, away := errors.AsType[*client.UnreachableError](err); !away || len(p.problems) == 0 {
			return nil, err
		}
		s.term.sayf("ixmage: %v", err) // the mistakes of the files are known without the server
	}
	if len(p.problems) > 0 {
		return nil, p.refuse(c.File)
	}
	return p, nil
}

// maxManifest bounds a file; 10,000 aliases with all fields have 6 MiB.
const maxManifest = 64 << 20

// read reads all files.
func (c *applyCmd) read(s *session) (*manifest.Manifest, []manifest.Problem, error) {
	all := &manifest.Manifest{}
	var problems []manifest.Problem
	for _, name := range c.File {
		text, err := readManifest(name, s.term.in)
		if err != nil {
			return nil, nil, usagef("--file: %v", err)
		}
		one, found := manifest.Parse(name, text)
		problems = append(problems, found...)
		all.Aliases, all.Credentials = append(all.Aliases, one.Aliases...), append(all.Credentials, one.Credentials...)
	}
	return all, append(problems, all.Duplicates()...), nil
}

func readManifest(name string, stdin io.Reader) ([]byte, error) {
	from := stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		from = file
	}
	text, err := io.ReadAll(io.LimitReader(from, maxManifest+1))
	if err == nil && len(text) > maxManifest {
		err = fmt.Errorf("%s has more than %d bytes", name, maxManifest)
	}
	return text, err
}

// Actions of a change, and the sign of each in the diff.
const (
	create = "create"
	modify = "change"
	remove = "remove"
)

var signs = map[string]string{create: "+", modify: "~", remove: "-"}

// change is one write of apply: one revision of one alias or credential.
type change struct {
	action  string
	kind    string // alias or credential
	name    string
	fields  []fieldChange
	request client.Request
	state   string // planned, done, failed, unknown or not-done
}

type fieldChange struct {
	name    string
	old, is client.Value
}

// run makes the changes in order and stops at the first that fails.
func (p *planner) run() error {
	for i := range p.changes {
		p.changes[i].state = "not-done"
	}
	var failed error
	done := 0
	for i := range p.changes {
		c := &p.changes[i]
		if failed = p.ctx.Err(); failed != nil {
			break
		}
		if _, failed = p.do(c.request); failed != nil {
			c.state = "failed"
			if _, refused := errors.AsType[*client.Problem](failed); !refused {
				c.state = "unknown"
			}
			break
		}
		c.state = "done"
		done++
		if p.out.format == formatTable {
			p.out.printf("%s %s %s: %s\n", signs[c.action], c.kind, c.name, map[string]string{
				create: "created", modify: "changed", remove: "removed",
			}[c.action])
			p.out.Flush() // a reader of a pipe sees each as it is made
		}
	}
	if failed == nil {
		return p.result("done")
	}
	return errors.Join(p.result("failed"), p.explain(failed, done))
}

// explain says what was done and what was not.
func (p *planner) explain(failed error, done int) error {
	for _, c := range p.changes[done:] {
		what := "not done"
		switch c.state {
		case "failed":
			what = "failed"
		case "unknown":
			what = "unknown: no answer came, so it may have been done"
		}
		p.term.sayf("%s %s %s: %s", signs[c.action], c.kind, c.name, what)
	}
	hint := "Remove the cause, then run the same command again to make the rest."
	if status(failed) == exitConflict {
		hint = "It has changed since it was read, and that change was not overwritten. " +
			"The same command shows what differs now."
	}
	p.term.sayf("%d of %s done. %s", done, count(len(p.changes), "change"), hint)
	return failed
}
