package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/alecthomas/kong"
)

// manCmd prints the manual, made from the model of the command line.
type manCmd struct{}

func (*manCmd) Examples() []string {
	return []string{"ixmage man > ixmage.1"}
}

func (*manCmd) Run(s *session) error {
	s.out.printf("%s", manual(s.model))
	return nil
}

// roff writes a document for the macros of man(7).
type roff struct{ strings.Builder }

// request writes a line with a macro.
func (r *roff) request(name string, args ...string) {
	r.WriteString("." + name)
	for _, a := range args {
		r.WriteString(` "` + strings.ReplaceAll(escape(a), `"`, `\(dq`) + `"`)
	}
	r.WriteByte('\n')
}

// text writes a paragraph, in lines that are not too long for tools of roff.
func (r *roff) text(text string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+len(word) > 70 {
			r.line(line)
			line = ""
		}
		line = strings.TrimSpace(line + " " + word)
	}
	r.line(line)
}

// line writes a line. If it begins like a macro, it is made none.
func (r *roff) line(text string) {
	text = escape(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		text = `\&` + text
	}
	r.WriteString(text + "\n")
}

// term writes an entry of a list.
func (r *roff) term(name, text string) {
	r.request("TP")
	r.request("B", name)
	r.text(text)
}

func (r *roff) flags(flags []*kong.Flag) {
	for _, f := range flags {
		r.term(form(f), helpOf(f))
	}
}

// escape makes characters of a text that roff would interpret.
func escape(text string) string {
	return strings.NewReplacer(`\`, `\e`,
		"-", `\-`, "~", `\(ti`, "^", `\(ha`, "`", `\(ga`, "'", `\(aq`, "…", "...").Replace(text)
}

// manual is the man page.
func manual(model *kong.Application) string {
	r := &roff{}
	r.request("TH", "IXMAGE", "1", "", "ixmage", "")
	r.request("SH", "NAME")
	r.text("ixmage - give pictures in private S3 buckets a public URL")
	r.request("SH", "SYNOPSIS")
	r.request("B", "ixmage")
	r.text("command [argument ...] [flag ...]")
	r.request("SH", "DESCRIPTION")
	r.text("ixmage serve runs the server. The other commands call the admin API of a server, " +
		"which runs on this machine if no flag or variable names another.")
	r.request("SH", "COMMANDS")
	for _, p := range pages(model.Node) {
		r.page(p)
	}
	r.request("SH", "FLAGS OF ALL CLIENT COMMANDS")
	r.flags(common())
	r.request("SH", "EXIT STATUS")
	for _, s := range statuses {
		r.term(strconv.Itoa(s.code), s.text)
	}
	r.request("SH", "ENVIRONMENT")
	for _, v := range variables {
		r.term(v.name, v.text)
	}
	return r.String()
}

func (r *roff) page(p page) {
	r.request("SS", "ixmage "+p.summary)
	r.text(p.help)
	for _, a := range p.args {
		r.term(fmt.Sprintf("<%s>", a.Name), a.Help)
	}
	r.flags(p.flags)
	if len(p.examples) > 0 {
		r.request("PP")
		r.text("Examples:")
		r.request("PP")
		r.request("nf")
		r.request("RS", "4")
		for _, e := range p.examples {
			r.line(e)
		}
		r.request("RE")
		r.request("fi")
	}
}
