// Package grafana makes the Grafana dashboard of ixmage, deploy/grafana/ixmage.json, from one
// table of panels. Its types are the part of Grafana's JSON model that the dashboard uses.
package grafana

import (
	"bytes"
	"encoding/json"
	"strings"
)

// Dashboard is the JSON model of a dashboard. Its form is the one of "Export for sharing
// externally": the data source is a variable, so no input needs a value at the import.
type Dashboard struct {
	Inputs        []string            `json:"__inputs"`   //nolint:tagliatelle // Grafana's name
	Elements      map[string]struct{} `json:"__elements"` //nolint:tagliatelle // Grafana's name
	Requires      []Requirement       `json:"__requires"` //nolint:tagliatelle // Grafana's name
	ID            *int                `json:"id"`
	UID           string              `json:"uid"`
	Title         string              `json:"title"`
	Description   string              `json:"description"`
	Tags          []string            `json:"tags"`
	Editable      bool                `json:"editable"`
	GraphTooltip  int                 `json:"graphTooltip"`  //nolint:tagliatelle // Grafana's name
	SchemaVersion int                 `json:"schemaVersion"` //nolint:tagliatelle // Grafana's name
	Version       int                 `json:"version"`
	Refresh       string              `json:"refresh"`
	Timezone      string              `json:"timezone"`
	Time          TimeRange           `json:"time"`
	Links         []string            `json:"links"`
	Annotations   Annotations         `json:"annotations"`
	Templating    Templating          `json:"templating"`
	Panels        []Panel             `json:"panels"`
}

// Requirement is something that Grafana must have to show the dashboard.
type Requirement struct {
	Type    string `json:"type"`
	ID      string `json:"id"`
	Name    string `json:"name"`
	Version string `json:"version"`
}

// TimeRange is the range that the dashboard shows at first.
type TimeRange struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Annotations has no list: an empty one means Grafana's own.
type Annotations struct {
	List []string `json:"list"`
}

// Templating has the variables.
type Templating struct {
	List []Variable `json:"list"`
}

// Variable is a variable of the dashboard, of type datasource or query.
type Variable struct {
	Name       string  `json:"name"`
	Label      string  `json:"label"`
	Type       string  `json:"type"`
	Query      string  `json:"query"`
	Definition string  `json:"definition,omitempty"`
	Datasource *Source `json:"datasource,omitempty"`
	Refresh    int     `json:"refresh"`
	Sort       int     `json:"sort"`
	Hide       int     `json:"hide"`
	Multi      bool    `json:"multi"`
	IncludeAll bool    `json:"includeAll"`         //nolint:tagliatelle // Grafana's name
	AllValue   string  `json:"allValue,omitempty"` //nolint:tagliatelle // Grafana's name
	Current    Current `json:"current"`
}

// Current is the selected value of a variable.
type Current struct {
	Text  string `json:"text,omitempty"`
	Value string `json:"value,omitempty"`
}

// Source is a data source.
type Source struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// Panel is a row, or a panel with targets.
type Panel struct {
	ID          int          `json:"id"`
	Type        string       `json:"type"`
	Title       string       `json:"title"`
	Description string       `json:"description,omitempty"`
	Collapsed   *bool        `json:"collapsed,omitempty"` // of a row
	Panels      *[]Panel     `json:"panels,omitempty"`    // of a row that is collapsed
	GridPos     GridPos      `json:"gridPos"`             //nolint:tagliatelle // Grafana's name
	Datasource  *Source      `json:"datasource,omitempty"`
	Targets     []Target     `json:"targets,omitempty"`
	FieldConfig *FieldConfig `json:"fieldConfig,omitempty"` //nolint:tagliatelle // Grafana's name
	Options     *Options     `json:"options,omitempty"`
}

// GridPos is the place of a panel in a grid of 24 columns.
type GridPos struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

// Target is a query of a panel.
type Target struct {
	RefID        string `json:"refId"` //nolint:tagliatelle // Grafana's name
	Datasource   Source `json:"datasource"`
	EditorMode   string `json:"editorMode"` //nolint:tagliatelle // Grafana's name
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"` //nolint:tagliatelle // Grafana's name
	Range        bool   `json:"range"`
	Instant      bool   `json:"instant"`
}

// FieldConfig says how values are shown.
type FieldConfig struct {
	Defaults  Defaults `json:"defaults"`
	Overrides []string `json:"overrides"`
}

// Defaults are the settings of all fields of a panel.
type Defaults struct {
	Unit   string   `json:"unit"`
	Min    *float64 `json:"min,omitempty"`
	Max    *float64 `json:"max,omitempty"`
	Custom *Custom  `json:"custom,omitempty"`
}

// Custom are the settings of a time series.
type Custom struct {
	DrawStyle   string   `json:"drawStyle"`   //nolint:tagliatelle // Grafana's name
	FillOpacity int      `json:"fillOpacity"` //nolint:tagliatelle // Grafana's name
	ShowPoints  string   `json:"showPoints"`  //nolint:tagliatelle // Grafana's name
	Stacking    Stacking `json:"stacking"`
}

// Stacking is how the series of a panel are stacked: none or normal.
type Stacking struct {
	Mode  string `json:"mode"`
	Group string `json:"group"`
}

// Options are the settings of a type of panel.
type Options struct {
	Legend        *Legend  `json:"legend,omitempty"`
	Tooltip       *Tooltip `json:"tooltip,omitempty"`
	ReduceOptions *Reduce  `json:"reduceOptions,omitempty"` //nolint:tagliatelle // Grafana's name
	GraphMode     string   `json:"graphMode,omitempty"`     //nolint:tagliatelle // Grafana's name
}

// Legend is the legend of a time series.
type Legend struct {
	DisplayMode string   `json:"displayMode"` //nolint:tagliatelle // Grafana's name
	Placement   string   `json:"placement"`
	Calcs       []string `json:"calcs"`
}

// Tooltip shows the values under the pointer.
type Tooltip struct {
	Mode string `json:"mode"`
	Sort string `json:"sort"`
}

// Reduce makes one value of a series.
type Reduce struct {
	Calcs []string `json:"calcs"`
}

const (
	typePrometheus = "prometheus"
	typeRow        = "row"
	typeSeries     = "timeseries"
	typeStat       = "stat"
	columns        = 24
)

// source is the variable that the user selects a data source with.
var source = Source{Type: typePrometheus, UID: "${datasource}"}

// New makes the dashboard.
func New() Dashboard {
	return Dashboard{
		Inputs: []string{}, Elements: map[string]struct{}{},
		Requires: []Requirement{
			{Type: "grafana", ID: "grafana", Name: "Grafana", Version: "10.0.0"},
			{Type: "datasource", ID: typePrometheus, Name: "Prometheus", Version: "1.0.0"},
			{Type: "panel", ID: typeSeries, Name: "Time series"},
			{Type: "panel", ID: typeStat, Name: "Stat"},
		},
		UID: "ixmage", Title: "ixmage", Tags: []string{"ixmage"}, Links: []string{},
		Description: "Requests, cache, S3, credentials and provisioning of ixmage. " +
			"Some panels read the recording rules of docs/alerts.yaml.",
		Editable:     true,
		GraphTooltip: 1, SchemaVersion: 39, Version: 1, Refresh: "30s", Timezone: "browser",
		Time:        TimeRange{From: "now-6h", To: "now"},
		Annotations: Annotations{List: []string{}},
		Templating: Templating{List: []Variable{
			{Name: "datasource", Label: "Data source", Type: "datasource", Query: typePrometheus, Refresh: 1},
			choice("instance", "Instance", `label_values(ixmage_build_info, instance)`),
			choice("alias", "Alias", `label_values(ixmage_http_requests_total{instance=~"$instance"}, alias)`),
		}},
		Panels: place(rows()),
	}
}

// choice is a variable with the values of a label, all of them at first.
func choice(name, label, query string) Variable {
	return Variable{
		Name: name, Label: label, Type: "query", Query: query, Definition: query, Datasource: &source,
		Refresh: 2, Sort: 1, Multi: true, IncludeAll: true, AllValue: ".*",
		Current: Current{Text: "All", Value: "$__all"},
	}
}

// place gives each panel its id and its place, from left to right.
func place(rows []row) []Panel {
	var panels []Panel
	y := 0
	for _, r := range rows {
		collapsed := false
		panels = append(panels, Panel{
			ID: len(panels) + 1, Type: typeRow, Title: r.title, Collapsed: &collapsed, Panels: &[]Panel{},
			GridPos: GridPos{H: 1, W: columns, Y: y},
		})
		y++
		x, height := 0, 0
		for _, s := range r.panels {
			p := s.panel()
			if x+p.GridPos.W > columns {
				x, y, height = 0, y+height, 0
			}
			p.ID, p.GridPos.X, p.GridPos.Y = len(panels)+1, x, y
			x, height = x+p.GridPos.W, max(height, p.GridPos.H)
			panels = append(panels, p)
		}
		y += height
	}
	return panels
}

// panel makes the panel of a line of the table.
func (s spec) panel() Panel {
	p := Panel{
		Type: typeSeries, Title: s.title, Description: s.text, Datasource: &source,
		GridPos: GridPos{H: 8, W: 8},
		FieldConfig: &FieldConfig{
			Defaults: Defaults{Unit: s.unit, Min: new(float64), Custom: &Custom{
				DrawStyle: "line", FillOpacity: 10, ShowPoints: "never", Stacking: Stacking{Mode: "none", Group: "A"},
			}},
			Overrides: []string{},
		},
		Options: &Options{
			Legend:  &Legend{DisplayMode: "list", Placement: "bottom", Calcs: []string{}},
			Tooltip: &Tooltip{Mode: "multi", Sort: "desc"},
		},
	}
	if s.unit == ratio {
		p.FieldConfig.Defaults.Max = new(1.0)
	}
	switch s.form {
	case lines:
	case stacked:
		p.FieldConfig.Defaults.Custom.Stacking.Mode = "normal"
	case stat:
		p.Type = typeStat
		p.GridPos = GridPos{H: 4, W: 4}
		p.FieldConfig.Defaults.Custom = nil
		p.Options = &Options{ReduceOptions: &Reduce{Calcs: []string{"lastNotNull"}}, GraphMode: "area"}
	}
	for i, q := range s.queries {
		p.Targets = append(p.Targets, Target{
			RefID: string(rune('A' + i)), Datasource: source, EditorMode: "code", Range: true,
			Expr: selectors.Replace(q.expr), LegendFormat: q.legend,
		})
	}
	return p
}

// selectors replaces the selectors in the table: ALIAS for series of an alias, ALL for others.
var selectors = strings.NewReplacer(
	"ALIAS", `instance=~"$instance",alias=~"$alias"`,
	"ALL", `instance=~"$instance"`,
)

// JSON encodes a dashboard as it is committed.
func (d Dashboard) JSON() ([]byte, error) {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(d)
	return text.Bytes(), err
}
