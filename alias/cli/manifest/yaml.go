package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"

	"ixmage/alias/client"
)

// maxValues bounds what the anchors of a file can expand to.
const maxValues = 1_000_000

// reader reads one file.
type reader struct {
	file     string
	problems []Problem
	values   int // that were made
	open     map[*yaml.Node]bool
}

func (r *reader) position(n *yaml.Node) Position {
	return Position{File: r.file, Line: max(n.Line, 1), Column: max(n.Column, 1)}
}

// problemf reports a mistake at n, in a field of an entry or in no field.
func (r *reader) problemf(n *yaml.Node, field, format string, args ...any) {
	r.problems = append(r.problems, Problem{Position: r.position(n), Field: field, Detail: fmt.Sprintf(format, args...)})
}

// documents decodes every document of a file. A syntax error ends the last one.
func (r *reader) documents(data []byte) []*yaml.Node {
	if i := invalidUTF8(data); i >= 0 {
		before := data[:i]
		r.problems = append(r.problems, Problem{
			Position: Position{
				File: r.file, Line: bytes.Count(before, []byte("\n")) + 1,
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
			r.problems = append(r.problems, Problem{Position: r.syntaxAt(err), Detail: syntax(err)})
			return all
		}
		if root := doc.Content[0]; root.Tag != "!!null" {
			all = append(all, root)
		}
	}
}

// syntaxAt is the place of a syntax error; line 1 if the parser does not say it.
func (r *reader) syntaxAt(err error) Position {
	at := Position{File: r.file, Line: 1, Column: 1}
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

// entry is a member of a mapping.
type entry struct {
	key, value *yaml.Node
}

// members lists the members of a mapping, those of its merge keys too, which its own
// win over. It returns false if n is no mapping, with a problem.
func (r *reader) members(n *yaml.Node, what string) ([]entry, bool) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		r.problemf(n, "", "%s, not %s", what, kindOf(n))
		return nil, false
	}
	if r.open[n] {
		r.problemf(n, "", "an anchor contains itself")
		return nil, false
	}
	if !r.expand(n) { // a merge key may name a mapping twice that does so itself
		return nil, false
	}
	r.open[n] = true
	defer delete(r.open, n)
	var own, merged []entry
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Tag == "!!merge":
			merged = append(merged, r.mergedOf(value)...)
		case key.Kind != yaml.ScalarNode:
			r.problemf(key, "", "the name of a field must be a text, not %s", kindOf(resolve(key)))
		case lines[key.Value] > 0:
			r.problemf(key, cut(key.Value), "appears more than once, first on line %d", lines[key.Value])
		default:
			lines[key.Value] = key.Line
			own = append(own, entry{key, value})
		}
	}
	for _, m := range merged {
		if _, ok := lines[m.key.Value]; !ok {
			lines[m.key.Value] = m.key.Line
			own = append(own, m)
		}
	}
	return own, true
}

// mergedOf lists the members of the value of a merge key: a mapping or several, of which
// an earlier one wins.
func (r *reader) mergedOf(value *yaml.Node) []entry {
	sources := []*yaml.Node{value}
	if list := resolve(value); list.Kind == yaml.SequenceNode {
		sources = list.Content
	}
	var all []entry
	for _, s := range sources {
		m, _ := r.members(s, "a merge key (<<) takes a mapping, or a list of mappings")
		all = append(all, m...)
	}
	return all
}

// resolve follows a reference to an anchor.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// kindOf names the type of a value.
func kindOf(n *yaml.Node) string {
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

// expand counts a value, and reports whether the file has not too many.
func (r *reader) expand(n *yaml.Node) bool {
	r.values++
	if r.values == maxValues+1 {
		r.problemf(n, "", "the anchors of the file expand to more than %d values", maxValues)
	}
	return r.values <= maxValues
}

// value converts a node to JSON. at is called with the path of each member below it.
func (r *reader) value(n *yaml.Node, path string, at func(path string, n *yaml.Node)) client.Value {
	if !r.expand(n) {
		return client.Value{}
	}
	n = resolve(n)
	if n.Kind != yaml.MappingNode && n.Kind != yaml.SequenceNode {
		return r.scalar(n, path)
	}
	if r.open[n] {
		r.problemf(n, "", "an anchor contains itself")
		return client.Value{}
	}
	if n.Kind == yaml.MappingNode {
		members, _ := r.members(n, "")
		r.open[n] = true
		defer delete(r.open, n)
		var object client.Object
		for _, m := range members {
			below := join(path, m.key.Value)
			at(below, m.value)
			object = append(object, client.Member{Name: m.key.Value, Value: r.value(m.value, below, at)})
		}
		return client.Make(object)
	}
	r.open[n] = true
	defer delete(r.open, n)
	list := make([]client.Value, len(n.Content))
	for i, e := range n.Content {
		list[i] = r.value(e, path, at)
	}
	return client.Make(list)
}

// scalar converts a text, a number, true, false or nothing.
func (r *reader) scalar(n *yaml.Node, path string) client.Value {
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		return client.Make(n.Value)
	case "!!null":
		return client.Value{}
	case "!!bool":
		return client.Make(strings.EqualFold(n.Value, "true"))
	case "!!int", "!!float":
		if json.Valid([]byte(n.Value)) {
			return client.Make(json.Number(n.Value))
		}
		r.problemf(n, path, "%s: write a number in decimal, without leading zeros, or put a text in quotes",
			strconv.Quote(cut(n.Value)))
	default:
		r.problemf(n, path, "the tag %s is not supported: write the value without it", strconv.Quote(cut(tag)))
	}
	return client.Value{}
}

// join is the path of a member, as in the problems of the API.
func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// cut shortens a text of the file for a message.
func cut(text string) string {
	const most = 40
	if r := []rune(text); len(r) > most {
		return string(r[:most]) + "…"
	}
	return text
}
