package cli

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the reference of docs/cli.md")

// model is the command line without the commands of the program.
func model(t *testing.T) *kong.Application {
	t.Helper()
	var c Commands
	k, err := kong.New(&c, append(Options(), kong.Name("ixmage"))...)
	if err != nil {
		t.Fatal(err)
	}
	return k.Model
}

// TestReference: the second half of docs/cli.md is what the model says.
func TestReference(t *testing.T) {
	t.Parallel()
	const mark = "<!-- generated: go test ./alias/cli -update -->\n"
	file := filepath.Join("..", "..", "docs", "cli.md")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	written, got, found := strings.Cut(string(text), mark)
	if !found {
		t.Fatalf("%s has no line %s", file, mark)
	}
	want := reference(model(t))
	if *update {
		if err := os.WriteFile(file, []byte(written+mark+want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("run go test ./alias/cli -update:\n%s", d)
	}
}

// reference is the list of commands in Markdown.
func reference(model *kong.Application) string {
	var b strings.Builder
	b.WriteString("\n## Exit statuses\n\n| status | means |\n|---|---|\n")
	for _, s := range statuses {
		fmt.Fprintf(&b, "| %d | %s |\n", s.code, s.text)
	}
	b.WriteString("\n## Variables\n\n| variable | means |\n|---|---|\n")
	for _, v := range variables {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(v.name, ", ", "`, `"), v.text)
	}
	b.WriteString("\n## Flags of every client command\n\n")
	flagTable(&b, common())
	b.WriteString("\n## Commands\n")
	for _, p := range pages(model.Node) {
		fmt.Fprintf(&b, "\n### ixmage %s\n\n%s\n", p.name, cell(p.help))
		if len(p.args)+len(p.flags) > 0 {
			b.WriteString("\n")
			argTable(&b, p)
		}
		if len(p.examples) > 0 {
			fmt.Fprintf(&b, "\n```sh\n%s\n```\n", strings.Join(p.examples, "\n"))
		}
	}
	return b.String()
}

func argTable(b *strings.Builder, p page) {
	if len(p.args) == 0 {
		flagTable(b, p.flags)
		return
	}
	b.WriteString("| argument, flag | |\n|---|---|\n")
	for _, a := range p.args {
		name := "<" + a.Name + ">"
		if !a.Required {
			name = "[" + name + "]"
		}
		fmt.Fprintf(b, "| `%s` | %s |\n", name, cell(a.Help))
	}
	flagRows(b, p.flags)
}

func flagTable(b *strings.Builder, flags []*kong.Flag) {
	b.WriteString("| flag | |\n|---|---|\n")
	flagRows(b, flags)
}

func flagRows(b *strings.Builder, flags []*kong.Flag) {
	for _, f := range flags {
		fmt.Fprintf(b, "| `%s` | %s |\n", form(f), cell(helpOf(f)))
	}
}

// cell is a text in which Markdown sees no markup.
func cell(text string) string {
	return strings.NewReplacer("<", `\<`, "*", `\*`, "|", `\|`, "_", `\_`).Replace(text)
}

// TestModel: no flag of a client command has a variable but the named ones, each
// command says what it does, and each flag is explained.
func TestModel(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{"admin-url": EnvURL, "admin-token-file": envTokenFile}
	for _, p := range pages(model(t).Node) {
		if p.help == "" {
			t.Errorf("%s has no help", p.name)
		}
		if len(p.examples) == 0 {
			t.Errorf("%s has no example", p.name)
		}
		for _, f := range p.flags {
			if f.Help == "" || len(f.Envs) > 0 {
				t.Errorf("%s --%s: help %q, variables %q", p.name, f.Name, f.Help, f.Envs)
			}
			for _, word := range []string{"secret", "password"} {
				if strings.Contains(f.Name, word) {
					t.Errorf("%s --%s: a secret is no argument", p.name, f.Name)
				}
			}
		}
		for _, a := range p.args {
			if a.Help == "" {
				t.Errorf("%s: the argument %s is not explained", p.name, a.Name)
			}
		}
	}
	for _, f := range common() {
		if got := strings.Join(f.Envs, " "); got != allowed[f.Name] {
			t.Errorf("--%s has the variables %q, want %q", f.Name, got, allowed[f.Name])
		}
	}
}
