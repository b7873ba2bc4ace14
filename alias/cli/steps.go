package cli

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"golang.org/x/term"

	"ixmage/alias/client"
)

// operationLines are the lines that show an operation at a moment, the time of the server:
// a head, a line for each step with the time that it took or has taken, and the reason of a
// failure. No line is wider than width.
func operationLines(op client.Value, now time.Time, width int, paint func(string) string) []string {
	steps := op.Get("steps").List()
	rows := make([][]string, len(steps))
	widths := make([]int, 3)
	for i, step := range steps {
		rows[i] = []string{step.Get("state").Text(), step.Get("name").Text(), elapsed(step, "started_at", now)}
		for j, cell := range rows[i] {
			widths[j] = max(widths[j], displayWidth(cell))
		}
	}
	lines := []string{cutWidth(headOf(op)+"  "+elapsed(op, "created_at", now), width)}
	for i, step := range steps {
		var b strings.Builder
		for j, cell := range rows[i] {
			b.WriteString("  " + cell + strings.Repeat(" ", widths[j]-displayWidth(cell)))
		}
		b.WriteString("  " + plain(step.Get("detail").Text()))
		line := strings.TrimRight(cutWidth(b.String(), width), " ")
		lines = append(lines, strings.Replace(line, rows[i][0], paint(rows[i][0]), 1))
	}
	if end := endOf(op); end != "" {
		lines = append(lines, wrap(end, width)...)
	}
	return lines
}

// headOf says what an operation is about.
func headOf(op client.Value) string {
	about := op.Get("alias").Text()
	if about == "" {
		about = op.Get("credential").Text()
	}
	return fmt.Sprintf("%s %s: %s", op.Get("kind").Text(), about, op.Get("state").Text())
}

// endOf says why an operation did not succeed.
func endOf(op client.Value) string {
	switch op.Get("state").Text() {
	case "failed":
		why := op.Get("error")
		return plain(fmt.Sprintf("It failed at the step %s: %s", why.Get("step").Text(), why.Get("detail").Text()))
	case "superseded":
		return "The operation " + plain(op.Get("superseded_by").Text()) + " has taken its place."
	}
	return ""
}

// elapsed is the time from a member to finished_at, or until now; nothing before it begins.
func elapsed(v client.Value, begin string, now time.Time) string {
	from, err := time.Parse(time.RFC3339Nano, v.Get(begin).Text())
	if err != nil {
		return ""
	}
	if to, err := time.Parse(time.RFC3339Nano, v.Get("finished_at").Text()); err == nil {
		return fmt.Sprintf("%.1fs", max(0, to.Sub(from)).Seconds())
	}
	return max(0, now.Sub(from)).Truncate(time.Second).String()
}

// cutWidth cuts a text that is wider than a line.
func cutWidth(text string, width int) string {
	if displayWidth(text) <= width {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if displayWidth(b.String()+string(r)) > width-1 {
			break
		}
		b.WriteRune(r)
	}
	return b.String() + "…"
}

// wrap breaks a text between words.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && displayWidth(line)+1+displayWidth(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
		for displayWidth(line) > width { // a word that is longer than a line
			head := strings.TrimSuffix(cutWidth(line, width), "…")
			if head == "" {
				break
			}
			lines, line = append(lines, head), line[len(head):]
		}
	}
	return append(lines, line)
}

// stepsView shows an operation on a terminal, where it redraws it in place, or line by line
// as the steps end.
type stepsView struct {
	w       io.Writer
	redraws bool
	size    func() (width, height int)
	paint   func(string) string
	skew    time.Duration // of the clock here, against that of the server
	drawn   int           // lines, to be drawn over
	said    map[string]bool
}

// newStepsView makes the view of a session. Programs that read JSON or YAML get that alone.
func (s *session) newStepsView(skew time.Duration) *stepsView {
	v := &stepsView{
		w: s.term.err, redraws: s.term.redraws, size: sizeOf(s.term.err), skew: skew,
		paint: func(text string) string { return text }, said: map[string]bool{},
	}
	switch {
	case s.out.format == formatTable:
		v.w, v.redraws, v.size, v.paint = s.out, s.term.draws, sizeOf(s.term.out), s.term.paint
	case !v.redraws:
		v.w = io.Discard
	}
	return v
}

// sizeOf returns a function that reads the size of a terminal.
func sizeOf(w any) func() (width, height int) {
	return func() (width, height int) {
		if f, ok := w.(*os.File); ok {
			if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
				return width, height
			}
		}
		return 80, 24
	}
}

// show draws the state of an operation.
func (v *stepsView) show(op client.Value) {
	if !v.redraws {
		v.say(op)
		return
	}
	width, height := v.size()
	if !op.Get("finished_at").IsNull() {
		width, height = math.MaxInt, math.MaxInt // nothing is drawn over the last state
	}
	lines := operationLines(op, time.Now().Add(-v.skew), width, v.paint)
	if len(lines) >= height { // what has left the screen cannot be drawn over
		lines = lines[len(lines)-max(height-1, 1):]
	}
	var b bytes.Buffer
	v.home(&b)
	for _, line := range lines {
		b.WriteString(line + "\x1b[K\n")
	}
	b.WriteString("\x1b[J")
	v.drawn = len(lines)
	v.write(b.Bytes())
}

// home moves the cursor to the beginning of what was drawn.
func (v *stepsView) home(b *bytes.Buffer) {
	if v.drawn > 0 {
		fmt.Fprintf(b, "\x1b[%dA\r", v.drawn)
	}
}

// erase removes what was drawn.
func (v *stepsView) erase() {
	var b bytes.Buffer
	v.home(&b)
	if v.drawn > 0 {
		b.WriteString("\x1b[J")
	}
	v.drawn = 0
	v.write(b.Bytes())
}

// say prints a line for the operation, for each step that has ended since, and for the end. Why
// it failed is an error, and follow says it.
func (v *stepsView) say(op client.Value) {
	var b bytes.Buffer
	line := func(key, text string) {
		if !v.said[key] {
			v.said[key] = true
			b.WriteString(strings.TrimRight(text, " ") + "\n")
		}
	}
	line("operation", "operation "+op.Get("id").Text()+": "+strings.TrimSuffix(headOf(op), ": "+op.Get("state").Text()))
	for i, step := range op.Get("steps").List() {
		if state := step.Get("state").Text(); state == "done" || state == "failed" {
			name, took := step.Get("name").Text(), elapsed(step, "started_at", time.Now())
			line(fmt.Sprint(i, name, state), fmt.Sprintf("%s %s %s  %s", name, state, took, plain(step.Get("detail").Text())))
		}
	}
	if !op.Get("finished_at").IsNull() {
		line("end", op.Get("state").Text()+" "+elapsed(op, "created_at", time.Now()))
	}
	v.write(b.Bytes())
}

func (v *stepsView) write(text []byte) {
	if len(text) == 0 {
		return
	}
	_, _ = v.w.Write(text) // an output that does not take it says so at the end of the command
	if f, ok := v.w.(interface{ Flush() error }); ok {
		_ = f.Flush()
	}
}
