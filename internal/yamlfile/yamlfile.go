// Package yamlfile reads YAML files that operators write, and reports every mistake with its
// line and column.
package yamlfile

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// Position is a place in a file; lines and columns count from 1.
type Position struct {
	File   string
	Line   int
	Column int
}

func (p Position) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column) }

// Problem is a mistake in a file.
type Problem struct {
	Position

	Entry  string // what the mistake is in, like "alias shop"; may be empty
	Field  string // may be empty
	Detail string
}

func (p Problem) String() string {
	parts := []string{p.Position.String()}
	for _, s := range []string{p.Entry, p.Field, p.Detail} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

// Sort puts problems in the order of the files that were named, then of their lines.
func Sort(problems []Problem, files []string) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(slices.Index(files, a.File)-slices.Index(files, b.File), a.Line-b.Line, a.Column-b.Column)
	})
}

// maxValues bounds what the anchors of a file can expand to.
const maxValues = 1_000_000

// Reader reads one file and collects its problems. Only one goroutine uses it.
type Reader struct {
	File     string
	Problems []Problem

	values int // that were made
	open   map[*yaml.Node]bool
}

// Position is the place of a node.
func (r *Reader) Position(n *yaml.Node) Position {
	return Position{File: r.File, Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

// Problemf reports a mistake at n, in a field of an entry or in no field.
func (r *Reader) Problemf(n *yaml.Node, field, format string, args ...any) {
	r.Problems = append(r.Problems, Problem{Position: r.Position(n), Field: field, Detail: fmt.Sprintf(format, args...)})
}

// Documents decodes every document of a file. A syntax error ends the last one.
func (r *Reader) Documents(data []byte) []*yaml.Node {
	if i := invalidUTF8(data); i >= 0 {
		before := data[:i]
		r.Problems = append(r.Problems, Problem{
			Position: Position{
				File: r.File, Line: bytes.Count(before, []byte("\n")) + 1,
				Column: utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:]) + 1,
			},
			Detail: "not UTF-8",
		})
		return nil
	}
	var all []*yaml.Node
	d := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			r.Problems = append(r.Problems, Problem{Position: r.syntaxAt(err), Detail: syntax(err)})
			return all
		}
		if root := doc.Content[0]; root.Tag != "!!null" {
			all = append(all, root)
		}
	}
}

// syntaxAt is the place of a syntax error; line 1 if the parser does not say it.
func (r *Reader) syntaxAt(err error) Position {
	at := Position{File: r.File, Line: 1, Column: 1}
	if e, ok := errors.AsType[*yaml.LoadError](err); ok && e.Mark.Line > 0 {
		at.Line, at.Column = e.Mark.Line, max(e.Mark.Column, 1)
	}
	return at
}

// invalidUTF8 is the index of the first byte that is not UTF-8, or -1.
func invalidUTF8(data []byte) int {
	for i := 0; i < len(data); {
		c, n := utf8.DecodeRune(data[i:])
		if c == utf8.RuneError && n == 1 {
			return i
		}
		i += n
	}
	return -1
}

// syntax describes a syntax error.
func syntax(err error) string {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if e, ok := errors.AsType[*yaml.LoadError](err); ok {
		text = e.Message
		if e.ContextMsg != "" {
			text += fmt.Sprintf(" (%s, from line %d on)", e.ContextMsg, e.ContextMark.Line)
		}
	}
	return "not valid YAML: " + text
}

// Member is a member of a mapping.
type Member struct {
	Key, Value *yaml.Node
}

// Members lists the members of a mapping, those of its merge keys too, which its own
// win over. It returns false if n is no mapping, with a problem.
func (r *Reader) Members(n *yaml.Node, what string) ([]Member, bool) {
	n = Resolve(n)
	if n.Kind != yaml.MappingNode {
		r.Problemf(n, "", "%s, not %s", what, KindOf(n))
		return nil, false
	}
	leave, ok := r.Enter(n)
	if !ok || !r.Expand(n) { // a merge key may name a mapping twice that does so itself
		return nil, false
	}
	defer leave()
	var own, merged []Member
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			merged = append(merged, r.mergedOf(value)...)
		case key.Kind != yaml.ScalarNode:
			r.Problemf(key, "", "the name of a field must be a text, not %s", KindOf(Resolve(key)))
		case lines[key.Value] > 0:
			r.Problemf(key, Cut(key.Value), "appears more than once, first on line %d", lines[key.Value])
		default:
			lines[key.Value] = key.Line
			own = append(own, Member{key, value})
		}
	}
	for _, m := range merged {
		if _, ok := lines[m.Key.Value]; !ok {
			lines[m.Key.Value] = m.Key.Line
			own = append(own, m)
		}
	}
	return own, true
}

// Enter marks a mapping or a list as being read until leave is called. It returns false, with
// a problem, if it is already: an anchor then contains itself.
func (r *Reader) Enter(n *yaml.Node) (leave func(), ok bool) {
	if r.open[n] {
		r.Problemf(n, "", "an anchor contains itself")
		return nil, false
	}
	if r.open == nil {
		r.open = map[*yaml.Node]bool{}
	}
	r.open[n] = true
	return func() { delete(r.open, n) }, true
}

// mergedOf lists the members of the value of a merge key: a mapping or several, of which
// an earlier one wins.
func (r *Reader) mergedOf(value *yaml.Node) []Member {
	sources := []*yaml.Node{value}
	if list := Resolve(value); list.Kind == yaml.SequenceNode {
		sources = list.Content
	}
	var all []Member
	for _, s := range sources {
		m, _ := r.Members(s, "a merge key (<<) takes a mapping, or a list of mappings")
		all = append(all, m...)
	}
	return all
}

// Resolve follows a reference to an anchor.
func Resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// KindOf names the type of a value.
func KindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	default:
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	}
	return "a text"
}

// Expand counts a value, and reports whether the file has not too many.
func (r *Reader) Expand(n *yaml.Node) bool {
	r.values++
	if r.values == maxValues+1 {
		r.Problemf(n, "", "the anchors of the file expand to more than %d values", maxValues)
	}
	return r.values <= maxValues
}

// Entries calls read with each element of a list of mappings.
func (r *Reader) Entries(n *yaml.Node, name string, read func(*yaml.Node)) {
	list := Resolve(n)
	if list.Kind != yaml.SequenceNode {
		r.Problemf(n, name, "must be a list, each entry after a hyphen, or [] for none; not %s", KindOf(list))
		return
	}
	for _, e := range list.Content {
		read(e)
	}
}

// About adds an entry to the problems that were found since before.
func (r *Reader) About(before int, entry string) {
	for i := range r.Problems[before:] {
		r.Problems[before+i].Entry = entry
	}
}

// Text reads a value that must be a text.
func (r *Reader) Text(n *yaml.Node, name string) (string, bool) {
	v := Resolve(n)
	if v.Kind != yaml.ScalarNode || KindOf(v) != "a text" {
		quote := ""
		if v.Kind == yaml.ScalarNode && KindOf(v) != "nothing" {
			quote = ": put it in quotes"
		}
		r.Problemf(n, name, "must be a text, not %s%s", KindOf(v), quote)
		return "", false
	}
	return v.Value, true
}

// Cut shortens a text of the file for a message.
func Cut(text string) string {
	const most = 40
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
