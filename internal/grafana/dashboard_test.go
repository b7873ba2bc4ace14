package grafana

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the dashboard anew")

const committed = "../../deploy/grafana/ixmage.json"

// TestCommitted: the committed file is the dashboard of the table.
func TestCommitted(t *testing.T) {
	t.Parallel()
	got, err := New().JSON()
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(committed, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("the dashboard changed (-committed +table); if on purpose: go test ./internal/grafana -update\n%s", diff)
	}
}

// TestRules: the committed file keeps the rules of a dashboard that can be imported.
func TestRules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(committed)
	if err != nil {
		t.Fatal(err)
	}
	d, faults := check(text)
	if len(faults) > 0 {
		t.Errorf("%s:\n%s", committed, strings.Join(faults, "\n"))
	}
	if len(d.Panels) < 50 {
		t.Errorf("only %d panels", len(d.Panels))
	}
	for _, expr := range exprs(d) {
		if fault := unknownNames(t, expr); fault != "" {
			t.Errorf("%s in %s", fault, expr)
		}
	}
}

// TestRulesFindFaults: each rule refuses a dashboard that breaks it.
func TestRulesFindFaults(t *testing.T) {
	t.Parallel()
	whole, err := New().JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		edit func(d *Dashboard)
		want string
	}{
		{"a number twice", func(d *Dashboard) { d.Panels[2].ID = d.Panels[1].ID }, "id 2 is used twice"},
		{"an input without a value", func(d *Dashboard) { d.Inputs = []string{"DS"} }, "needs inputs"},
		{"no title", func(d *Dashboard) { d.Panels[1].Title = "" }, "has no title"},
		{"no description", func(d *Dashboard) { d.Panels[1].Description = "" }, "has no description"},
		{"no unit", func(d *Dashboard) { d.Panels[1].FieldConfig.Defaults.Unit = "" }, "has no unit"},
		{"a fixed data source", func(d *Dashboard) { d.Panels[1].Targets[0].Datasource.UID = "P1809F7CD0C75ACF3" }, "has a data source of its own"},
		{"a panel's fixed data source", func(d *Dashboard) { d.Panels[1].Datasource = &Source{Type: "prometheus", UID: "default"} }, "has a data source of its own"},
		{"no query", func(d *Dashboard) { d.Panels[1].Targets = nil }, "has no query"},
		{"two queries of one name", func(d *Dashboard) { d.Panels[9].Targets = slices.Repeat(d.Panels[9].Targets[:1], 2) }, "refId A is used twice"},
		{"panels that overlap", func(d *Dashboard) { d.Panels[2].GridPos = d.Panels[1].GridPos }, "overlaps"},
		{"a panel past the edge", func(d *Dashboard) { d.Panels[1].GridPos.X = 23 }, "is outside the grid"},
		{"a variable that nobody declares", func(d *Dashboard) { d.Panels[1].Targets[0].Expr = `up{job="$job"}` }, "variable job is not declared"},
		{"all aliases where one is selected", func(d *Dashboard) { d.Panels[1].Targets[0].Expr = `rate(ixmage_http_requests_total[5m])` }, "no $instance"},
		{"no data source variable", func(d *Dashboard) { d.Templating.List = d.Templating.List[1:] }, "no data source variable"},
		{"an id of another Grafana", func(d *Dashboard) { d.ID = new(7) }, "has the id of one Grafana"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var d Dashboard
			if err := json.Unmarshal(whole, &d); err != nil {
				t.Fatal(err)
			}
			tc.edit(&d)
			text, err := d.JSON()
			if err != nil {
				t.Fatal(err)
			}
			if _, faults := check(text); !strings.Contains(strings.Join(faults, "\n"), tc.want) {
				t.Errorf("want %q, got %v", tc.want, faults)
			}
		})
	}
	unknown := bytes.Replace(whole, []byte(`"gridPos"`), []byte(`"gridPosition"`), 1)
	if _, faults := check(unknown); len(faults) == 0 {
		t.Error("an unknown member was accepted")
	}
	for expr, want := range map[string]string{
		`sum by (alias) (rate(ixmage_http_request_total[5m]))`:            "no metric ixmage_http_request_total",
		`sum by (als) (rate(ixmage_http_requests_total[5m]))`:             "no label als",
		`sum by (alias) (rate(ixmage_http_requests_total{tier="x"}[1m]))`: "no label tier",
	} {
		if got := unknownNames(t, expr); got != want {
			t.Errorf("%s: got %q, want %q", expr, got, want)
		}
	}
}

// check decodes a dashboard strictly, and returns what is wrong with it.
func check(text []byte) (d Dashboard, faults []string) {
	fault := func(parts ...string) { faults = append(faults, strings.Join(parts, " ")) }
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, []string{err.Error()}
	}
	if len(d.Inputs) > 0 || bytes.Contains(text, []byte("${DS_")) {
		fault("the import needs inputs")
	}
	if d.ID != nil {
		fault("the dashboard has the id of one Grafana")
	}
	declared := map[string]bool{"__rate_interval": true}
	for _, v := range d.Templating.List {
		declared[v.Name] = true
	}
	if !declared["datasource"] {
		fault("there is no data source variable")
	}
	for _, m := range regexp.MustCompile(`\$\{?(\w+)`).FindAllStringSubmatch(string(text), -1) {
		if !declared[m[1]] && m[1] != "__all" {
			fault("the variable", m[1], "is not declared")
		}
	}
	ids := map[int]bool{}
	for i, p := range d.Panels {
		if ids[p.ID] || p.ID == 0 {
			fault("the id", itoa(p.ID), "is used twice")
		}
		ids[p.ID] = true
		g := p.GridPos
		if g.H < 1 || g.W < 1 || g.X < 0 || g.X+g.W > columns {
			fault(p.Title, "is outside the grid")
		}
		for _, other := range d.Panels[:i] {
			o := other.GridPos
			if g.X < o.X+o.W && o.X < g.X+g.W && g.Y < o.Y+o.H && o.Y < g.Y+g.H {
				fault(p.Title, "overlaps", other.Title)
			}
		}
		if p.Title == "" {
			fault("panel", itoa(p.ID), "has no title")
		}
		if p.Type != typeRow {
			faults = append(faults, checkPanel(p)...)
		}
	}
	return d, faults
}

func checkPanel(p Panel) (faults []string) {
	fault := func(parts ...string) { faults = append(faults, p.Title+" "+strings.Join(parts, " ")) }
	if len(p.Description) < 10 {
		fault("has no description")
	}
	if p.FieldConfig == nil || p.FieldConfig.Defaults.Unit == "" {
		fault("has no unit")
	}
	if p.Datasource == nil || *p.Datasource != source {
		fault("has a data source of its own")
	}
	if len(p.Targets) == 0 {
		fault("has no query")
	}
	refs := map[string]bool{}
	for _, q := range p.Targets {
		if q.Datasource != source {
			fault("has a data source of its own")
		}
		if refs[q.RefID] {
			fault("refId", q.RefID, "is used twice")
		}
		refs[q.RefID] = true
		if !strings.Contains(q.Expr, `instance=~"$instance"`) {
			fault("has no $instance in", q.Expr)
		}
	}
	return faults
}

func itoa(n int) string {
	text, _ := json.Marshal(n)
	return string(text)
}

func exprs(d Dashboard) (all []string) {
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, q.Expr)
		}
	}
	return all
}

var (
	metric   = regexp.MustCompile(`[a-z_:]*\b(?:ixmage|process|go)_\w+(?::\w+)?`)
	labels   = regexp.MustCompile(`\bby \(([^)]*)\)|(\w+)(?:=~|!~|!=|=)"`)
	docLine  = regexp.MustCompile("(?m)^\\| `(ixmage_\\w+)` \\| \\w+ \\| ([^|]*)\\|")
	docLabel = regexp.MustCompile("`(\\w+)`")
	suffix   = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// unknownNames returns the first metric or label of an expression that docs/metrics.md or, for
// a recording rule, docs/alerts.yaml does not have. A series scraped by Prometheus has job and
// instance too, and a bucket has le.
func unknownNames(t *testing.T, expr string) string {
	t.Helper()
	docs := read(t, "metrics.md")
	known := map[string][]string{}
	for _, m := range docLine.FindAllStringSubmatch(docs, -1) {
		known[m[1]] = []string{"job", "instance", "le"}
		for _, l := range docLabel.FindAllStringSubmatch(m[2], -1) {
			known[m[1]] = append(known[m[1]], l[1])
		}
	}
	var have []string
	for _, name := range metric.FindAllString(expr, -1) {
		switch {
		case strings.Contains(name, ":"):
			if !strings.Contains(read(t, "alerts.yaml"), "record: "+name+"\n") {
				return "no rule " + name
			}
			have = append(have, strings.Split(strings.Split(name, ":")[0], "_")...)
		case !strings.HasPrefix(name, "ixmage_"): // of the Prometheus client
			have = append(have, "instance")
		default:
			l, ok := known[suffix.ReplaceAllString(name, "")]
			if !ok {
				return "no metric " + name
			}
			have = append(have, l...)
		}
	}
	for _, m := range labels.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(m[1]+m[2], ", ") {
			if !slices.Contains(have, l) {
				return "no label " + l
			}
		}
	}
	return ""
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
