package scope

import "strings"

// Patterns of actions and resources: * matches any text and ? one character.

// within reports that every text that p matches is matched by q. It may miss that for unusual
// patterns, and never claims it wrongly: q is matched against p, whose wildcards count as
// characters that only a wildcard of q takes.
func within(p, q string) bool {
	i, j, star, mark := 0, 0, -1, 0
	for i < len(p) {
		switch {
		case j < len(q) && q[j] == '*':
			star, mark = j, i
			j++
		case j < len(q) && p[i] != '*' && (q[j] == '?' || q[j] == p[i]):
			i++
			j++
		case star >= 0: // the last * of q takes one more
			mark++
			i, j = mark, star+1
		default:
			return false
		}
	}
	return strings.Trim(q[j:], "*") == ""
}

// overlap reports whether some text is matched by both patterns.
func overlap(p, q string) bool {
	// common[j] says whether the rests p[i:] and q[j:] have a text in common, and shorter[j]
	// that of p[i+1:].
	common, shorter := make([]bool, len(q)+2), make([]bool, len(q)+2)
	for i := len(p); i >= 0; i-- {
		common, shorter = shorter, common
		for j := len(q); j >= 0; j-- {
			switch p, q := p[i:], q[j:]; {
			case p == "" && q == "":
				common[j] = true
			case strings.HasPrefix(p, "*"), strings.HasPrefix(q, "*"):
				// The * ends, or takes one more of the other pattern.
				common[j] = p != "" && shorter[j] || q != "" && common[j+1]
			default:
				common[j] = shorter[j+1] && meet(p, q)
			}
		}
	}
	return common[0]
}

// meet reports whether one character is matched by the first of both patterns, which is no *.
func meet(p, q string) bool {
	return p != "" && q != "" && (p[0] == '?' || q[0] == '?' || p[0] == q[0])
}

// arnParts is the number of parts of an ARN: arn:partition:service:region:account:resource.
const arnParts = 6

// resourcePattern completes an incomplete ARN, as IAM does: every missing part is *. What is
// neither an ARN nor * stands for every resource. The names of all partitions begin with aws.
func resourcePattern(p string) string {
	if !strings.HasPrefix(p, "arn:") {
		return "*"
	}
	parts := strings.SplitN(p, ":", arnParts)
	if parts[1] == "*" {
		parts[1] = "aws*"
	}
	for len(parts) < arnParts {
		parts = append(parts, "*")
	}
	return strings.Join(parts, ":")
}

// resourceWithin is within for two results of resourcePattern. A * of an ARN need not end at a
// colon, or may: the answer is yes only if it is right either way.
func resourceWithin(p, q string) bool {
	if p == "*" || q == "*" {
		return q == "*"
	}
	ps, qs := strings.SplitN(p, ":", arnParts), strings.SplitN(q, ":", arnParts)
	for i := range ps {
		if !within(ps[i], qs[i]) {
			return false
		}
	}
	return within(p, q)
}

// expandVariables replaces ${name} and ${name, 'default'}. Names are case-insensitive.
func expandVariables(p string, value func(name string) string) string {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(p, "${")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			name, after = "", ""
		}
		b.WriteString(value(strings.ToLower(strings.TrimSpace(name))))
		p = after
	}
}
