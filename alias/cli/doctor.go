package cli

import (
	"fmt"
	"strings"

	"ixmage/alias/client"
)

type doctorCmd struct {
	Connection

	JSON bool `name:"json" help:"The same as -o json."`
}

func (*doctorCmd) Examples() []string {
	return []string{`ixmage doctor; echo "exit status $?"`, "ixmage doctor --json | tee doctor.json"}
}

// Exit statuses of the command when there was an examination.
const (
	exitWarnings = 1
	exitBad      = 2
)

func (c *doctorCmd) Run(s *session) error {
	if c.JSON {
		s.out.format = formatJSON
	}
	resp, err := s.get("doctor")
	if err != nil {
		return err
	}
	v, err := resp.Value()
	if err != nil {
		return err
	}
	if err := s.show(resp, s.examined); err != nil {
		return err
	}
	switch v.Get("state").Text() {
	case "good":
		return nil
	case "warning":
		return exitError(exitWarnings)
	}
	return exitError(exitBad)
}

// findingStates are the states of findings, in the order of the output.
var findingStates = []struct{ state, head string }{
	{"bad", "BAD"}, {"warning", "WARNING"}, {"not-tried", "NOT TRIED"}, {"good", "GOOD"},
}

// examined prints the findings by their state: those that need something with all of it, the
// others in a line.
func (s *session) examined(v client.Value) {
	byState := map[string][]client.Value{}
	for _, f := range v.Get("findings").List() {
		state := f.Get("state").Text()
		byState[state] = append(byState[state], f)
	}
	var counts []string
	for _, group := range findingStates {
		found := byState[group.state]
		if len(found) == 0 {
			continue
		}
		counts = append(counts, fmt.Sprintf("%d %s", len(found), strings.ReplaceAll(group.state, "-", " ")))
		s.out.printf("%s\n", s.term.paint(group.head))
		for _, f := range found {
			s.finding(f)
		}
		s.out.printf("\n")
	}
	s.out.printf("%s: %s\n", s.term.paint(v.Get("state").Text()), strings.Join(counts, ", "))
}

func (s *session) finding(f client.Value) {
	name, subject, detail := f.Get("name").Text(), f.Get("subject").Text(), f.Get("detail").Text()
	s.out.printf("  %s  %s: %s\n", plain(name), plain(subject), plain(detail))
	if r := f.Get("remedy").Text(); r != "" {
		s.out.printf("      To do: %s\n", plain(r))
	}
}
