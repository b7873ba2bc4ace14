package cli

import (
	"strings"

	"github.com/alecthomas/kong"
)

// page is what the man page and docs/cli.md say about a command.
type page struct {
	name     string // with the commands above: alias add
	summary  string // the line of usage
	help     string
	args     []*kong.Value
	flags    []*kong.Flag // its own; those of every client command are common
	examples []string
}

// pages are those of all commands that have no command below.
func pages(root *kong.Node) []page {
	leaves := root.Leaves(true)
	all := make([]page, 0, len(leaves))
	for _, n := range leaves {
		p := page{name: n.Path(), summary: n.Summary(), help: n.Help, args: n.Positional, flags: own(n)}
		p.name = strings.TrimPrefix(p.name, root.Name+" ")
		if c, ok := target(n).(command); ok {
			p.examples = c.Examples()
		}
		all = append(all, p)
	}
	return all
}

// own are the flags of a command without those of every client command.
func own(n *kong.Node) []*kong.Flag {
	var flags []*kong.Flag
	for ; n != nil && n.Type != kong.ApplicationNode; n = n.Parent {
		for _, f := range n.Flags {
			if f.Name != "help" && !f.Hidden && !isCommon(f) {
				flags = append(flags, f)
			}
		}
	}
	return flags
}

// common are the flags of every client command.
func common() []*kong.Flag {
	var c struct{ Connection }
	k := kong.Must(&c, Options()...)
	var flags []*kong.Flag
	for _, f := range k.Model.Flags {
		if isCommon(f) {
			flags = append(flags, f)
		}
	}
	return flags
}

func isCommon(f *kong.Flag) bool { return f.Group != nil && f.Group.Key == connectionGroup }

// form is a flag as a reader types it.
func form(f *kong.Flag) string {
	text := "--" + f.Name
	if f.Tag.Negatable != "" {
		text = "--[no-]" + f.Name
	}
	if !f.IsBool() {
		text += "=" + f.FormatPlaceHolder()
	}
	if f.Short != 0 {
		text = "-" + string(f.Short) + ", " + text
	}
	return text
}

// help is the help of a flag with its variable and its default.
func helpOf(f *kong.Flag) string {
	text := f.Help
	if f.HasDefault && f.Tag.PlaceHolder != "" && f.Default != "" {
		text += " Default: " + f.Default + "."
	}
	if len(f.Envs) > 0 {
		text += " Variable: " + strings.Join(f.Envs, ", ") + "."
	}
	return text
}

// statuses are the exit statuses of the client commands, for the manual.
var statuses = []struct {
	code int
	text string
}{
	{exitOK, "It is done."},
	{exitFailed, "It failed: the operation, the server, or the output, which may be a full disk. " +
		"ixmage doctor: there are warnings."},
	{exitUsage, "The command line or a file is wrong, or the server refuses a value in it (400). " +
		"ixmage doctor: something is bad."},
	{exitRefused, "The token is missing, wrong or may not do this, or too many wrong ones came from this address " +
		"(401, 403, 429)."},
	{exitNotFound, "What was named does not exist (404)."},
	{exitConflict, "It exists already, is in use, or has changed since (409, 412)."},
	{exitUnreachable, "The server does not answer."},
	{exitDiffers, "ixmage apply --dry-run --exit-code: there is something to change."},
}

// variables are the environment of the client commands, for the manual.
var variables = []struct{ name, text string }{
	{EnvURL, "URL of the admin listener."},
	{envToken, "The token itself."},
	{envTokenFile, "File with the token."},
	{envSigningKey, "A signing key, for ixmage sign."},
	{"IXMAGE_ADMIN_LISTEN, IXMAGE_ADMIN_TLS_CERT, IXMAGE_DATA", "As for ixmage serve: they tell where a server on " +
		"this machine listens and where its data folder is, in which the token is."},
	{"NO_COLOR, TERM", "With NO_COLOR set, or TERM=dumb, the output has no colours."},
	{"HTTPS_PROXY, NO_PROXY, SSL_CERT_FILE", "A proxy to the server, and the authorities that may have issued " +
		"its certificate."},
}
