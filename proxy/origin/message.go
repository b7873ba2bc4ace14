package origin

import (
	"strings"
	"unicode"
)

const (
	// maxMessage is the length of a cleaned message in bytes.
	maxMessage = 300
	// removed stands in a message for a text that may be a secret.
	removed = "[removed]"
)

// cleanMessage makes one short line of S3's own message, without secrets. Messages quote
// the request: some servers repeat the access key id, the account number in an ARN, the
// signature, the text that was signed or a session token. keyIDs are removed in any form;
// everything else is recognised by its form, because its value is not known here.
func cleanMessage(s string, keyIDs ...string) string {
	s = strings.Map(func(r rune) rune {
		if r == unicode.ReplacementChar || !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s)
	for _, id := range keyIDs {
		if len(id) >= 4 { // a shorter one is part of ordinary words
			s = strings.ReplaceAll(s, id, removed)
		}
	}
	var b strings.Builder
	for word := range strings.FieldsSeq(s) {
		if b.Len() > maxMessage {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(cleanWord(word))
	}
	return cut(b.String(), maxMessage)
}

// cleanWord replaces the parts of a word that may be secrets. Words longer than any of
// prose, such as a session token, are replaced as a whole.
func cleanWord(word string) string {
	if len(word) > maxMessage {
		return removed
	}
	var b strings.Builder
	for len(word) > 0 {
		end := strings.IndexFunc(word, func(r rune) bool { return !isBase64(r) })
		if end < 0 {
			end = len(word)
		}
		b.WriteString(cleanToken(word[:end]))
		word = word[end:]
		start := strings.IndexFunc(word, isBase64)
		if start < 0 {
			start = len(word)
		}
		b.WriteString(word[:start])
		word = word[start:]
	}
	return b.String()
}

func isBase64(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '+' || r == '/' || r == '='
}

// cleanToken replaces a run of base64 characters that looks random as a whole, and
// otherwise those parts between its slashes that do.
func cleanToken(token string) string {
	if len(token) >= 20 && looksRandom(token) {
		return removed
	}
	for _, part := range strings.FieldsFunc(token, func(r rune) bool { return r == '/' || r == '=' || r == '+' }) {
		if isAccount(part) || len(part) >= 16 && (looksRandom(part) || strings.Count(strings.Map(onlyDigits, part), "") > 4) {
			token = strings.ReplaceAll(token, part, removed)
		}
	}
	return token
}

func onlyDigits(r rune) rune {
	if r >= '0' && r <= '9' {
		return r
	}
	return -1
}

// isAccount reports whether a text may have the number of an AWS account in it: 12 digits
// in a row.
func isAccount(s string) bool {
	run := 0
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			run = 0
		} else if run++; run == 12 {
			return true
		}
	}
	return false
}

// looksRandom reports whether a text is no word and no path: it is hexadecimal, or has
// digits or more capitals than a name of several words.
func looksRandom(s string) bool {
	var upper, digit, hex int
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			upper++
		case c >= '0' && c <= '9':
			digit++
		}
		if strings.IndexByte("0123456789abcdefABCDEF", s[i]) >= 0 {
			hex++
		}
	}
	return hex == len(s) || upper > 0 && digit > 0 || 3*upper >= len(s) || strings.Contains(s, "+")
}

// cut shortens a text to n bytes, and does not cut a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.TrimRight(strings.ToValidUTF8(s[:n], ""), " ")
}
