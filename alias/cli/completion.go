package cli

import (
	"context"
	_ "embed" // the scripts
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"ixmage/alias"
)

// completionCmd prints a script for a shell. Each script asks the hidden command complete.
type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (*completionCmd) Examples() []string {
	return []string{"ixmage completion bash > ixmage.bash", "ixmage completion zsh", "ixmage completion fish"}
}

//go:embed scripts/completion.bash
var bashScript string

//go:embed scripts/completion.zsh
var zshScript string

//go:embed scripts/completion.fish
var fishScript string

func (c *completionCmd) Run(s *session) error {
	s.out.printf("%s", map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[c.Shell])
	return nil
}

// completeCmd prints the words that the last one of a command line can become, one a line,
// with what each means after a tab. The exit status is 10 if it is the name of a file.
type completeCmd struct {
	Words []string `arg:"" optional:"" passthrough:""`
}

const exitFiles = 10

// completionTimeout is how long a shell waits for the server.
const completionTimeout = time.Second

func (*completeCmd) Examples() []string { return nil }

func (c *completeCmd) Run(s *session) error {
	words := c.Words
	if len(words) > 0 && words[0] == "--" {
		words = words[1:]
	}
	l := parseLine(s.model.Node, words)
	ctx, cancel := context.WithTimeout(s.ctx, completionTimeout)
	defer cancel()
	asking := *s
	asking.ctx = ctx
	list, files := l.candidates(&asking)
	for _, e := range list {
		s.out.printf("%s\n", strings.TrimSuffix(e.word+"\t"+e.means, "\t"))
	}
	if files {
		return exitError(exitFiles)
	}
	return nil
}

type candidate struct{ word, means string }

// line is a command line whose last word is not complete.
type line struct {
	node    *kong.Node        // the command so far
	args    int               // its arguments so far
	first   string            // the first of them
	flag    *kong.Flag        // the last word is the value of it
	prefix  string            // of the last word that every candidate repeats: --flag=
	word    string            // the last one, or its part after prefix
	given   map[string]string // flags with values
	noFlags bool              // after --
}

// parseLine reads the words of a line. Bash makes a word of each = in it.
func parseLine(root *kong.Node, words []string) line {
	l := line{node: root, given: map[string]string{}}
	for len(words) > 1 {
		words = words[l.read(words):]
	}
	if len(words) == 1 {
		l.begin(words[0])
	}
	return l
}

// read reads a complete word, and with a flag its value unless that is the last word. It
// returns the number of words that it read.
func (l *line) read(words []string) int {
	w := words[0]
	if l.noFlags || !strings.HasPrefix(w, "-") {
		if !l.descend(w) {
			if l.args++; l.args == 1 {
				l.first = w
			}
		}
		return 1
	}
	l.noFlags = w == "--"
	name, value, joined := strings.Cut(w, "=")
	flag := l.find(name)
	if joined || flag == nil || flag.IsBool() {
		l.note(flag, value)
		return 1
	}
	n := 1
	if words[1] == "=" && len(words) > 2 {
		n = 2
	}
	if n == len(words)-1 {
		l.flag = flag
		return n
	}
	l.note(flag, words[n])
	return n + 1
}

// begin reads the last word.
func (l *line) begin(w string) {
	l.word = w
	name, value, joined := strings.Cut(w, "=")
	switch {
	case l.flag != nil && w == "=":
		l.word = ""
	case l.flag == nil && joined && !l.noFlags && strings.HasPrefix(name, "-"):
		l.flag, l.prefix, l.word = l.find(name), name+"=", value
		if l.flag == nil {
			l.args = len(l.node.Positional) + 1 // nothing completes it
		}
	}
}

func (l *line) note(flag *kong.Flag, value string) {
	if flag != nil {
		l.given[flag.Name] = value
	}
}

// descend goes to a command below.
func (l *line) descend(word string) bool {
	for _, child := range l.node.Children {
		if child.Name == word && l.args == 0 {
			l.node = child
			return true
		}
	}
	return false
}

// flags are those of the command and of the ones above.
func (l *line) flags() []*kong.Flag {
	return slices.Concat(l.node.AllFlags(true)...)
}

func (l *line) find(name string) *kong.Flag {
	for _, f := range l.flags() {
		if name == "--"+f.Name || f.Short != 0 && name == "-"+string(f.Short) {
			return f
		}
	}
	return nil
}

// candidates are the words that fit, or files.
func (l *line) candidates(s *session) (list []candidate, files bool) {
	switch {
	case l.flag != nil:
		list, files = l.values(s, l.flag.Value)
	case strings.HasPrefix(l.word, "-"):
		list = l.flagNames()
	case len(l.node.Children) > 0 && l.args > 0: // no such command
	case len(l.node.Children) > 0:
		for _, child := range l.node.Children {
			if !child.Hidden {
				list = append(list, candidate{child.Name, child.Help})
			}
		}
	case l.args < len(l.node.Positional):
		list, files = l.values(s, l.node.Positional[l.args])
	}
	fit := list[:0]
	for _, e := range list {
		if strings.HasPrefix(e.word, l.word) {
			fit = append(fit, candidate{l.prefix + e.word, e.means})
		}
	}
	return fit, files
}

func (l *line) flagNames() []candidate {
	var list []candidate
	for _, f := range l.flags() {
		name := "--" + f.Name
		if !f.IsBool() {
			name += "="
		}
		list = append(list, candidate{name, f.Help})
		if f.Tag.Negatable != "" {
			list = append(list, candidate{"--no-" + f.Name, ""})
		}
	}
	return list
}

// values are those of a flag or an argument.
func (l *line) values(s *session, v *kong.Value) (list []candidate, files bool) {
	if v.Enum != "" {
		for _, e := range v.EnumSlice() {
			list = append(list, candidate{word: e})
		}
		return list, false
	}
	noun := v.Tag.Get("completion")
	if noun == "" {
		kind := v.Tag.PlaceHolder
		return nil, kind == "FILE" || kind == "FOLDER" || v.Name == "data"
	}
	if modes, ok := modesOf[noun]; ok {
		for _, mode := range modes {
			list = append(list, candidate{word: mode})
		}
		return list, false
	}
	for _, name := range l.names(s, noun) {
		list = append(list, candidate{word: name})
	}
	return list, false
}

// modesOf are words that complete a value without a question to the server. They are no enum,
// because the server checks the value.
var modesOf = map[string][]string{
	"transforms": texts(alias.AllTransforms()), "access": texts(alias.AllAccess()),
}

func texts[T ~string](list []T) []string {
	all := make([]string, len(list))
	for i, v := range list {
		all[i] = string(v)
	}
	return all
}

// names asks the server. Without an answer there are none.
func (l *line) names(s *session, noun string) []string {
	asking := *s
	asking.flags = &Connection{
		AdminURL:       first(l.given["admin-url"], os.Getenv(EnvURL)),
		AdminTokenFile: first(l.given["admin-token-file"], os.Getenv(envTokenFile)),
	}
	if noun == "signing-keys" { // of the alias that is the first argument
		names, _ := asking.kids(l.first)
		return names
	}
	names, _ := asking.names(noun)
	return names
}

func first(a, b string) string {
	if a != "" {
		return a
	}
	return b
}
