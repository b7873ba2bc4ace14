package cli

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"

	"ixmage/alias/client"
)

// column is a column of a table: its head, and the text of a row.
type column struct {
	head string
	cell func(row client.Value) string
}

// col is the column of a member.
func col(head string, path ...string) column {
	return column{head, func(row client.Value) string { return row.Get(path...).Text() }}
}

// table prints rows under their heads. Nothing is cut: a long cell makes its column wide.
func (s *session) table(rows []client.Value, columns []column) {
	lines := make([][]string, 0, len(rows)+1)
	head := make([]string, len(columns))
	for i, c := range columns {
		head[i] = c.head
	}
	lines = append(lines, head)
	for _, row := range rows {
		line := make([]string, len(columns))
		for i, c := range columns {
			line[i] = plain(c.cell(row))
			if line[i] == "" {
				line[i] = "-"
			}
		}
		lines = append(lines, line)
	}
	s.align(lines)
}

// fields prints the members of one thing, one a line.
func (s *session) fields(columns []column, v client.Value) {
	lines := make([][]string, 0, len(columns))
	for _, c := range columns {
		if text := plain(c.cell(v)); text != "" {
			lines = append(lines, []string{c.head, text})
		}
	}
	s.align(lines)
}

// members prints the members of an object by their names.
func (s *session) members(v client.Value) {
	lines := make([][]string, 0, len(v.Members()))
	for _, m := range v.Members() {
		text := plain(m.Value.Text())
		if text == "" {
			text = "-"
		}
		lines = append(lines, []string{m.Name, text})
	}
	s.align(lines)
}

// align prints lines of cells in columns, each as wide as its widest cell.
func (s *session) align(lines [][]string) {
	var widths []int
	for _, line := range lines {
		for i, cell := range line {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], displayWidth(cell))
		}
	}
	for _, line := range lines {
		for i, cell := range line {
			painted := s.term.paint(cell)
			if i == len(line)-1 {
				s.out.printf("%s\n", painted)
				break
			}
			s.out.printf("%s%s", painted, strings.Repeat(" ", widths[i]-displayWidth(cell)+2))
		}
	}
}

// displayWidth is the number of cells of a terminal that a text takes.
func displayWidth(text string) int {
	n := 0
	for _, r := range text {
		if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
			continue
		}
		n++
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			n++
		}
	}
	return n
}

// plain makes control characters visible: a name in S3 or IAM must not move the cursor of
// a terminal.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' || r == '\u2029' {
			return '\ufffd'
		}
		return r
	}, text)
}
