package cli

import (
	"os/exec"
	"strings"
	"testing"
)

// TestManual: tools of roff accept the page, and it has each command.
func TestManual(t *testing.T) {
	t.Parallel()
	m := model(t)
	text := manual(m)
	for _, p := range pages(m.Node) {
		if !strings.Contains(text, `.SS "ixmage `+strings.ReplaceAll(p.name, "-", `\-`)) {
			t.Errorf("the page does not have %s", p.name)
		}
	}
	checked := false
	for _, tool := range [][]string{{"mandoc", "-Tlint"}, {"groff", "-man", "-Tutf8", "-ww", "-z"}} {
		path, err := exec.LookPath(tool[0])
		if err != nil {
			continue
		}
		checked = true
		cmd := exec.Command(path, tool[1:]...)
		cmd.Stdin = strings.NewReader(text)
		out, _ := cmd.CombinedOutput() // the status of mandoc counts the missing date
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "missing date") {
				t.Errorf("%s: %s", tool[0], line)
			}
		}
	}
	if !checked {
		t.Skip("SKIPPED: neither mandoc nor groff is installed, so nothing has read the man page")
	}
}

func TestRoff(t *testing.T) {
	t.Parallel()
	var r roff
	r.text(".TH is no macro here, and \\n and 'x' are text")
	r.line("'quoted")
	r.request("B", `a "b" -c`)
	want := `\&.TH is no macro here, and \en and \(aqx\(aq are text` + "\n" + `\(aqquoted` + "\n" + `.B "a \(dqb\(dq \-c"` + "\n"
	if r.String() != want {
		t.Errorf("%s\nwant\n%s", r.String(), want)
	}
}
