package transform

import (
	"fmt"
	"slices"
	"strings"
)

// Snap returns o with w rounded up to one of widths. It is for the options of an unsigned URL, before With.
// The error, for a w above all of them, is an *OptionError.
func (o Options) Snap(widths []int) (Options, error) {
	if !o.set.has(optWidth) {
		return o, nil
	}
	w, best := int(o.values[optWidth]), 0
	for _, step := range widths {
		if step >= w && (best == 0 || step < best) {
			best = step
		}
	}
	switch {
	case len(widths) == 0:
		return o, &OptionError{"w", "w needs a signature: the alias offers no widths"}
	case best == 0:
		return o, &OptionError{"w", fmt.Sprintf("w is at most %d without a signature", slices.Max(widths))}
	}
	return o.with(optWidth, uint64(best)), nil
}

// CheckTemplate reads the options of a template and returns them in one spelling: sorted, with their first
// names. Defaults stay, since they win over a URL's options too. Unlike a URL, a template may not have
// unknown parameters: one is a typing mistake. The error is an *OptionError; its detail may name an unknown
// parameter of the template.
func CheckTemplate(query string) (canonical string, err error) {
	o, info, err := Parse([]byte(query))
	if err != nil {
		return "", err
	}
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		spelling, known := names[name]
		switch {
		case pair == "":
		case !known:
			name = fmt.Sprintf("%.64q", name)
			return "", &OptionError{name, name + " is no option; the options are " + optionList()}
		case spelling.option >= options || spelling.option == optInfo:
			return "", &OptionError{name, "a template cannot set " + name}
		}
	}
	if o.IsZero() || info.given == 0 {
		return "", &OptionError{"", "a template sets at least one option, such as w=240&h=240&fit=cover"}
	}
	return string(o.append(nil)), nil
}

// optionList lists the options that a template may set.
func optionList() string {
	var list []string
	for i := range options {
		if i != optInfo {
			list = append(list, table[i].name)
		}
	}
	return strings.Join(list, ", ")
}
