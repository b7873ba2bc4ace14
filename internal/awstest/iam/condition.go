package iam

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// conditionKeys are the values of a request that conditions compare, by the key
// in lower case.
type conditionKeys map[string][]string

func (c conditionKeys) set(key, value string) { c[strings.ToLower(key)] = []string{value} }

func (c conditionKeys) add(key, value string) {
	key = strings.ToLower(key)
	c[key] = append(c[key], value)
}

// comparison is one operator without its not, set and if-exists forms.
type comparison struct {
	matches func(value, pattern string) bool
	negated bool
}

// comparisonOf finds an operator; ok is false if it is not implemented here.
func comparisonOf(operator string) (c comparison, ok bool) {
	switch operator {
	case "StringEquals", "StringNotEquals":
		c.matches = func(value, pattern string) bool { return value == pattern }
	case "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "Bool":
		c.matches = strings.EqualFold
	case "StringLike", "StringNotLike":
		c.matches = func(value, pattern string) bool { return wildcard(pattern, value) }
	case "ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike":
		c.matches = func(value, pattern string) bool { return arnMatches(pattern, value) }
	case "IpAddress", "NotIpAddress":
		c.matches = inNetwork
	default:
		if c.matches = orderOf(operator); c.matches == nil {
			return c, false
		}
	}
	c.negated = strings.Contains(operator, "Not")
	return c, true
}

// orderOf is the comparison of a Date or Numeric operator; nil is none of them. A
// value that is no date or number matches nothing.
func orderOf(operator string) func(value, pattern string) bool {
	parse, kind := dateValue, "Date"
	if strings.HasPrefix(operator, "Numeric") {
		parse, kind = numericValue, "Numeric"
	}
	var holds func(sign int) bool
	switch strings.TrimPrefix(operator, kind) {
	case "Equals", "NotEquals":
		holds = func(sign int) bool { return sign == 0 }
	case "LessThan":
		holds = func(sign int) bool { return sign < 0 }
	case "LessThanEquals":
		holds = func(sign int) bool { return sign <= 0 }
	case "GreaterThan":
		holds = func(sign int) bool { return sign > 0 }
	case "GreaterThanEquals":
		holds = func(sign int) bool { return sign >= 0 }
	default:
		return nil
	}
	return func(value, pattern string) bool {
		a, okA := parse(value)
		b, okB := parse(pattern)
		return okA && okB && holds(cmp.Compare(a, b))
	}
}

func numericValue(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	return n, err == nil
}

// dateValue is a date in ISO 8601 or in seconds since 1970.
func dateValue(text string) (float64, bool) {
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(form, text); err == nil {
			return float64(at.UnixMilli()) / 1e3, true
		}
	}
	return numericValue(text)
}

func inNetwork(value, pattern string) bool {
	addr, err := netip.ParseAddr(value)
	if !strings.Contains(pattern, "/") {
		return value == pattern
	}
	network, netErr := netip.ParsePrefix(pattern)
	return err == nil && netErr == nil && network.Contains(addr)
}

// holds reports whether a condition is met. known is false for an operator
// that is not implemented here.
func (c condition) holds(q query) (met, known bool) {
	values, present := q.context[strings.ToLower(c.key)]
	if c.operator == "Null" {
		return slices.Contains(c.values, "true") != present, true
	}
	set, operator := "", c.operator
	for _, name := range []string{"ForAllValues", "ForAnyValue"} {
		if rest, ok := strings.CutPrefix(operator, name+":"); ok {
			set, operator = name, rest
		}
	}
	operator, ifExists := strings.CutSuffix(operator, "IfExists")
	compare, known := comparisonOf(operator)
	if !known {
		return false, false
	}
	if !present {
		return ifExists || compare.negated || set == "ForAllValues", true
	}
	one := func(value string) bool {
		matched := slices.ContainsFunc(c.values, func(pattern string) bool {
			return compare.matches(value, q.expand(pattern))
		})
		return matched != compare.negated
	}
	if set == "ForAllValues" || (set == "" && compare.negated) {
		return !slices.ContainsFunc(values, func(value string) bool { return !one(value) }), true
	}
	return slices.ContainsFunc(values, one), true
}

// wildcard matches * and ?; nothing else is special.
func wildcard(pattern, value string) bool {
	p, v, star, mark := 0, 0, -1, 0
	for v < len(value) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, v
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == value[v]):
			p++
			v++
		case star >= 0: // the last * takes one more
			mark++
			p, v = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// arnMatches compares ARNs part by part, so that a * ends at a colon, but for
// the last part. Missing parts of a pattern stand for anything.
func arnMatches(pattern, arn string) bool {
	if pattern == "*" {
		return true
	}
	patterns, parts := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if len(parts) < len(patterns) {
		return false
	}
	for i, p := range patterns {
		if !wildcard(p, parts[i]) {
			return false
		}
	}
	return true
}
