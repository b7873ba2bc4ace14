package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"ixmage/alias/client"
)

// print prints the diff.
func (p *planner) print() {
	for _, c := range p.changes {
		head := fmt.Sprintf("%s %s %s", signs[c.action], c.kind, c.name)
		p.out.printf("%s\n", p.term.paintAs(c.action, head))
		width := 0
		for _, f := range c.fields {
			width = max(width, len(f.name))
		}
		for _, f := range c.fields {
			text := value(f.is)
			if c.action == modify {
				text = value(f.old) + " -> " + text
			}
			p.out.printf("    %-*s  %s\n", width, f.name, text)
		}
	}
	if len(p.changes) == 0 {
		p.out.printf("No changes.\n")
	} else {
		p.out.printf("%s\n", p.summary())
	}
	if p.kept > 0 {
		p.term.sayf("%s in no file: --prune would remove such aliases.", count(p.kept, "alias is", "aliases are"))
	}
}

// value is a value in the diff; a text is in quotes if it could be taken for something
// else.
func value(v client.Value) string {
	text := plain(v.Text())
	if v.IsNull() {
		return "null"
	}
	if _, ok := v.Any().(string); ok && (text == "" || strings.TrimSpace(text) != text || strings.Contains(text, " -> ")) {
		return fmt.Sprintf("%q", text)
	}
	if list, ok := v.Any().([]client.Value); ok {
		parts := make([]string, len(list))
		for i, e := range list {
			parts[i] = plain(e.Text())
		}
		return "[" + strings.Join(parts, ", ") + "]"
	}
	return text
}

func (p *planner) summary() string {
	counts := map[string]int{}
	for _, c := range p.changes {
		counts[c.action]++
	}
	var parts []string
	for _, action := range []string{create, modify, remove} {
		if n := counts[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d to %s", n, action))
		}
	}
	return strings.Join(parts, ", ")
}

// count is a number with its noun.
func count(n int, noun ...string) string {
	plural := noun[0] + "s"
	if len(noun) > 1 {
		plural = noun[1]
	}
	if n == 1 {
		return "1 " + noun[0]
	}
	return fmt.Sprintf("%d %s", n, plural)
}

// result prints the changes for programs.
func (p *planner) result(state string) error {
	if p.out.format == formatTable {
		return nil
	}
	changes := make([]client.Value, len(p.changes))
	for i, c := range p.changes {
		fields := make([]client.Value, len(c.fields))
		for j, f := range c.fields {
			fields[j] = objectOf("field", f.name, "old", f.old.Any(), "new", f.is.Any())
		}
		changes[i] = objectOf("action", c.action, "kind", c.kind, "name", c.name, "fields", fields,
			"state", cmp.Or(c.state, state))
	}
	return p.showValue(objectOf("changes", changes), nil)
}

// objectOf is an object of names and values.
func objectOf(pairs ...any) client.Value {
	var o client.Object
	for pair := range slices.Chunk(pairs, 2) {
		o = append(o, client.Member{Name: pair[0].(string), Value: client.Make(pair[1])})
	}
	return client.Make(o)
}
