package policy

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// HCL is written in the form of terraform fmt.
// https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md

// expression is HCL that is written as it is.
type expression string

// call is a call of a function with one argument.
type call struct {
	name     string
	argument any
}

// block is a block of a file. An item of its body is a block, a comment,
// or an object, whose members are attributes.
type block struct {
	head string // type and labels
	body []any
}

type comment string

// renderHCL renders the items of a body.
func renderHCL(body []any, depth int) string {
	var b strings.Builder
	indent := strings.Repeat("  ", depth)
	for i := range body {
		switch item := body[i].(type) {
		case comment:
			for line := range strings.Lines(string(item)) {
				b.WriteString(indent + "# " + strings.TrimSuffix(line, "\n") + "\n")
			}
		case block:
			if _, commented := body[max(i-1, 0)].(comment); i > 0 && !commented {
				b.WriteByte('\n')
			}
			b.WriteString(indent + item.head + " {\n" + renderHCL(item.body, depth+1) + indent + "}\n")
		case object:
			b.WriteString(renderMembers(item, depth))
		}
	}
	return b.String()
}

// renderMembers aligns the equals signs of members that follow each other on lines of their
// own.
func renderMembers(o object, depth int) string {
	indent := strings.Repeat("  ", depth)
	names, values := make([]string, len(o)), make([]string, len(o))
	for i, m := range o {
		names[i], values[i] = hclName(m.name), hclValue(m.value, depth)
	}
	var b strings.Builder
	for i := 0; i < len(o); {
		end, width := i, 0
		for ; end < len(o) && !strings.Contains(values[end], "\n"); end++ {
			width = max(width, columns(names[end]))
		}
		if end == i {
			fmt.Fprintf(&b, "%s%s = %s\n", indent, names[i], values[i])
			i++
			continue
		}
		for ; i < end; i++ {
			fmt.Fprintf(&b, "%s%s%s = %s\n", indent, names[i], strings.Repeat(" ", width-columns(names[i])), values[i])
		}
	}
	return b.String()
}

// columns counts what terraform fmt takes for columns: without combining marks.
func columns(s string) int {
	n := 0
	for _, r := range s {
		if !unicode.Is(unicode.Mn, r) && !unicode.Is(unicode.Me, r) {
			n++
		}
	}
	return n
}

var hclIdentifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

func hclName(s string) string {
	if hclIdentifier.MatchString(s) {
		return s
	}
	return hclString(s)
}

func hclValue(v any, depth int) string {
	indent := strings.Repeat("  ", depth)
	switch v := v.(type) {
	case string:
		return hclString(v)
	case int:
		return strconv.Itoa(v)
	case bool:
		return strconv.FormatBool(v)
	case expression:
		return string(v)
	case call:
		return v.name + "(" + hclValue(v.argument, depth) + ")"
	case object:
		return "{\n" + renderMembers(v, depth+1) + indent + "}"
	case list:
		var b strings.Builder
		for _, item := range v {
			b.WriteString(indent + "  " + hclValue(item, depth+1) + ",\n")
		}
		return "[\n" + b.String() + indent + "]"
	}
	return "null"
}

// hclString quotes a string as a template without interpolations and directives.
func hclString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i, r := range s {
		switch escape := hclEscapes[r]; {
		case escape != "":
			b.WriteString(escape)
		case (r == '$' || r == '%') && strings.HasPrefix(s[i+1:], "{"):
			b.WriteString(string(r) + string(r))
		case !unicode.IsPrint(r):
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

var hclEscapes = map[rune]string{'"': `\"`, '\\': `\\`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
