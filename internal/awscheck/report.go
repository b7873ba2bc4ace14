package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// report is the result of a run.
type report struct {
	Server  string    `json:"server"` // AWS, or an address
	Run     string    `json:"run"`
	Account string    `json:"account"`
	Caller  string    `json:"caller"`
	Region  string    `json:"region"`
	Began   time.Time `json:"began"`
	Ended   time.Time `json:"ended"`
	Error   string    `json:"error,omitempty"` // of the run as a whole
	Results []result  `json:"results"`
}

func (r *testRun) report(results []result, err error) *report {
	out := &report{
		Server: "AWS", Run: r.id, Account: r.account.ID, Caller: r.account.ARN, Region: r.o.region,
		Began: r.began, Ended: time.Now().UTC(), Results: results,
	}
	if r.o.custom() {
		out.Server = r.o.iamURL
	}
	if err != nil {
		out.Error = r.redact(err.Error())
	}
	return out
}

func (p *report) count(verdict string) (n int) {
	for i := range p.Results {
		if p.Results[i].Verdict == verdict {
			n++
		}
	}
	return n
}

// good reports whether nothing is other than ixmage assumes.
func (p *report) good() bool { return p.Error == "" && p.count(differs)+p.count(failed) == 0 }

// write writes the report as JSON and as Markdown, both named by the time of the run.
func (p *report) write(r *testRun) error {
	base := filepath.Join(r.o.dir, "report-"+p.Began.Format("2006-01-02T150405Z"))
	text, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	for end, text := range map[string][]byte{".json": append(text, '\n'), ".md": p.markdown()} {
		if err := os.WriteFile(base+end, text, 0o600); err != nil {
			return err
		}
	}
	r.sayf("%d as assumed, %d measured, %d differ, %d failed, %d not tried\nReport: %s.md and .json\n", p.count(asAssumed),
		p.count(measured), p.count(differs), p.count(failed), p.count(notTried), base)
	return nil
}

func (p *report) markdown() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# What ixmage assumes of AWS, tried on %s\n\n", p.Began.Format("2006-01-02"))
	if p.Server != "AWS" {
		fmt.Fprintf(&b, "**Tried on the test server %s: this says nothing of AWS.**\n\n", p.Server)
	}
	fmt.Fprintf(&b, "Account %s, region %s, run %s, %s to %s.\n\n", p.Account, p.Region, p.Run,
		p.Began.Format(time.RFC3339), p.Ended.Format(time.RFC3339))
	if p.Error != "" {
		fmt.Fprintf(&b, "**The run did not end as it should:** %s\n\n", cell(p.Error))
	}
	b.WriteString("| what | verdict | answer | assumed | more |\n|---|---|---|---|---|\n")
	for i := range p.Results {
		x := &p.Results[i]
		fmt.Fprintf(&b, "| `%s`: %s | %s | %s | %s | %s |\n", x.Name, cell(x.Says), x.Verdict, cell(x.Got),
			cell(strings.Join(x.Want, " or ")), cell(x.Detail))
	}
	return b.Bytes()
}

// cell makes a text fit into a cell of a table.
func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "\r", "", "\n", " ", "<", "&lt;").Replace(text)
}
