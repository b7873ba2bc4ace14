package transform

import (
	"bytes"
	"math/bits"
	"slices"

	"ixmage/alias"
)

// OptionError says that a query has a bad value of a known option, or has the option twice.
type OptionError struct {
	Option string // its first name, such as "w"
	Detail string // a sentence with the accepted form; never the client's text
}

func (e *OptionError) Error() string { return e.Detail }

// Query is what a query has beside the values of options.
type Query struct {
	Template string // the value of t, a valid name; "" without one
	Unknown  int    // parameters that are ignored; UnknownNames lists them
	given    set
}

// Names returns the names of the known options that were given, sorted, as they are written in the
// canonical form. t is one of them; exp, kid and sig are not.
func (q Query) Names() []string {
	names := make([]string, 0, bits.OnesCount32(uint32(q.given)))
	for i := range options {
		if i == optStrip+1 && q.given.has(optTemplate) {
			names = append(names, "t")
		}
		if q.given.has(i) {
			names = append(names, table[i].name)
		}
	}
	return names
}

// Parse reads the query of a request, without the question mark. Names of parameters are compared as
// they are written; a value is percent-decoded once, and a plus is a plus. Empty pairs and unknown
// parameters are ignored. The error is an *OptionError for the first mistake. Nothing that is returned
// shares memory with query. Parse allocates only for t, wm, and a value with a percent sign.
func Parse(query []byte) (o Options, info Query, err error) {
	for len(query) > 0 {
		var pair []byte
		pair, query, _ = bytes.Cut(query, []byte{'&'})
		if len(pair) == 0 {
			continue
		}
		name, raw, _ := bytes.Cut(pair, []byte{'='})
		i, known := names[string(name)]
		switch {
		case !known:
			info.Unknown++
			continue
		case i.option == optSignature:
			continue
		case info.given.has(i.option):
			return Options{}, Query{}, twice(i.option)
		}
		info.given |= 1 << i.option
		if !read(&o, &info, i, raw) {
			return Options{}, Query{}, badValue(i.option)
		}
	}
	return o, info, nil
}

// CheckOptions says what is wrong with the options in a query. The error is an *OptionError.
func CheckOptions(query string) error {
	_, _, err := Parse([]byte(query))
	return err
}

// read reads the value of a known option into o or info. It reports whether the value is good.
func read(o *Options, info *Query, i spelling, raw []byte) bool {
	value, ok := alias.Unescape(raw)
	switch {
	case !ok:
		return false
	case i.option == optTemplate:
		info.Template = string(value)
		return alias.IsName(value)
	case i.option == optMark:
		path, settings, more := bytes.Cut(value, []byte{','})
		if !alias.IsPath(path) || more && len(settings) == 0 {
			return false
		}
		o.mark, value = string(path), settings
	case i.on != 0 && isOn(value):
		*o = o.with(i.option, i.on)
		return true
	case i.only:
		return false
	}
	packed, ok := table[i.option].read(value)
	*o = o.with(i.option, packed)
	return ok
}

// unknownMax bounds the list of unknown names, and unknownLen each of them.
const (
	unknownMax = 16
	unknownLen = 64
)

// UnknownNames returns the names of the parameters in a query that Parse ignores, as they are
// written, each once and in order: 16 at most, each cut to 64 bytes.
func UnknownNames(query []byte) []string {
	var list []string
	for pair := range bytes.SplitSeq(query, []byte{'&'}) {
		name, _, _ := bytes.Cut(pair, []byte{'='})
		if _, known := names[string(name)]; known || len(pair) == 0 {
			continue
		}
		cut := string(name[:min(len(name), unknownLen)])
		if len(list) < unknownMax && !slices.Contains(list, cut) {
			list = append(list, cut)
		}
	}
	return list
}
