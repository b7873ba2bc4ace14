package alias

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Transforms says which requests may ask for a transformed picture.
type Transforms string

// Modes of Alias.Transforms. A request with a good signature may use every option, unless
// transforms are off.
const (
	TransformsOff       Transforms = "off"       // a query changes nothing
	TransformsTemplates Transforms = "templates" // without a signature: a template, and a width of the ladder
	TransformsSigned    Transforms = "signed"    // every transformation needs a signature
	TransformsOpen      Transforms = "open"      // every option is free
)

// AllTransforms lists the modes.
func AllTransforms() []Transforms {
	return []Transforms{TransformsOff, TransformsTemplates, TransformsSigned, TransformsOpen}
}

// Access says which requests to an alias are answered at all.
type Access string

// Modes of Alias.Access.
const (
	AccessOpen   Access = "open"
	AccessSigned Access = "signed" // every request needs a signature, those for originals too
)

// AllAccess lists the modes.
func AllAccess() []Access { return []Access{AccessOpen, AccessSigned} }

// DefaultWidths returns a new list of the widths in pixels that unsigned requests are rounded up
// to, unless the alias has others.
func DefaultWidths() []int { return []int{20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840} }

// Bounds of what an alias says about transforms. They keep its row and its JSON small.
const (
	maxWidths   = 32
	maxWidth    = 8192 // the longest side of a result
	maxTemplate = 512
	// MaxTemplates is the most templates of an alias.
	MaxTemplates = 100
)

// normalTransforms gives an alias without modes those that change nothing. Afterwards it shares
// no list or map with its source.
func (a *Alias) normalTransforms() {
	if a.Transforms == "" {
		a.Transforms = TransformsOff
	}
	if a.Access == "" {
		a.Access = AccessOpen
	}
	a.Widths = append([]int(nil), a.Widths...)
	a.Templates = maps.Clone(a.Templates)
	if len(a.Templates) == 0 {
		a.Templates = nil
	}
}

// CanonicalTemplates returns templates with those that can be read in the form that is stored. It
// does not change the map.
func (p Policy) CanonicalTemplates(templates map[string]string) map[string]string {
	templates = maps.Clone(templates)
	for name, query := range templates {
		if canonical, detail := p.template(query); detail == "" {
			templates[name] = canonical
		}
	}
	return templates
}

// template returns the canonical form of a template, or what is wrong with it.
func (p Policy) template(query string) (canonical, detail string) {
	const form = `must be options as in the query of a URL, like "w=240&h=240&fit=cover": %s`
	switch {
	case len(query) == 0 || len(query) > maxTemplate:
		return "", fmt.Sprintf(form, fmt.Sprintf("1 to %d bytes", maxTemplate))
	case !isGraphic(query) || strings.ContainsAny(query, "#?"):
		return "", fmt.Sprintf(form, "printable ASCII without space, # and ?")
	case p.CheckTemplate == nil:
		return query, ""
	}
	canonical, err := p.CheckTemplate(query)
	switch {
	case err != nil:
		return "", fmt.Sprintf(form, err)
	case len(canonical) > maxTemplate:
		return "", fmt.Sprintf(form, fmt.Sprintf("at most %d bytes in its canonical form", maxTemplate))
	}
	return canonical, ""
}

func (a *Alias) transformProblems(p Policy) []Problem {
	var problems []Problem
	if !slices.Contains(AllTransforms(), a.Transforms) {
		problems = append(problems, Problem{"transforms", "must be off, templates, signed or open"})
	}
	if !slices.Contains(AllAccess(), a.Access) {
		problems = append(problems, Problem{"access", "must be open or signed"})
	}
	if detail := widthsProblem(a.Widths); detail != "" {
		problems = append(problems, Problem{"widths", detail})
	}
	return append(problems, a.templateProblems(p)...)
}

// widthsProblem describes the first problem of a ladder, or is empty.
func widthsProblem(widths []int) string {
	if len(widths) > maxWidths {
		return fmt.Sprintf("must have at most %d widths", maxWidths)
	}
	for i, w := range widths {
		switch {
		case w < 1 || w > maxWidth:
			return fmt.Sprintf("entry %d must be from 1 to %d", i+1, maxWidth)
		case i > 0 && w <= widths[i-1]:
			return fmt.Sprintf("entry %d must be above the one before it: the widths ascend", i+1)
		}
	}
	return ""
}

func (a *Alias) templateProblems(p Policy) []Problem {
	if len(a.Templates) > MaxTemplates {
		return []Problem{{"templates", fmt.Sprintf("must have at most %d templates", MaxTemplates)}}
	}
	var problems []Problem
	for _, name := range slices.Sorted(maps.Keys(a.Templates)) {
		if !IsName(name) {
			// The name is a text of the client and may be long.
			problems = append(problems, Problem{"templates", "the name of a template " + nameForm})
			continue
		}
		if _, detail := p.template(a.Templates[name]); detail != "" {
			problems = append(problems, Problem{templateField(name), detail})
		}
	}
	return problems
}

// templateField is the field name of problems of a template.
func templateField(name string) string { return "templates." + name }
