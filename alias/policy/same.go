package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// Same reports whether two policies mean the same to IAM: the order of keys and of lists
// does not matter, and a list of one equals its element. Documents that are not a JSON
// object, repeat a key, nest lists, or contain ambiguous characters never compare equal,
// because IAM may read them in another way.
func Same(a, b []byte) bool {
	x, err := canonical(a)
	if err != nil {
		return false
	}
	y, err := canonical(b)
	return err == nil && x == y
}

// maxNesting is deeper than any policy.
const maxNesting = 16

var errDocument = errors.New("not a policy document")

// canonical returns the same text for all documents that mean the same.
func canonical(doc []byte) (string, error) {
	if !utf8.Valid(doc) {
		return "", errDocument
	}
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	text, err := canonicalValue(dec, maxNesting, false)
	if err != nil {
		return "", err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) || !strings.HasPrefix(text, "{") {
		return "", errDocument
	}
	return text, nil
}

func canonicalValue(dec *json.Decoder, depth int, inList bool) (string, error) {
	token, err := dec.Token()
	switch {
	case err != nil:
		return "", err
	case depth == 0:
		return "", errDocument
	}
	switch v := token.(type) {
	case json.Delim:
		if v == '{' {
			return canonicalObject(dec, depth-1)
		}
		if inList {
			return "", errDocument
		}
		return canonicalList(dec, depth-1)
	case string:
		return canonicalString(v)
	default: // a number, true, false, null
		text, err := json.Marshal(v)
		return string(text), err
	}
}

// canonicalString refuses the replacement character, because the decoder uses it for
// every escape of an incomplete surrogate pair, so that different strings look equal.
func canonicalString(s string) (string, error) {
	if strings.ContainsRune(s, utf8.RuneError) {
		return "", errDocument
	}
	text, err := json.Marshal(s)
	return string(text), err
}

func canonicalObject(dec *json.Decoder, depth int) (string, error) {
	members := map[string]string{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return "", err
		}
		key, err := canonicalString(token.(string))
		if err != nil {
			return "", err
		}
		if _, twice := members[key]; twice {
			return "", errDocument
		}
		if members[key], err = canonicalValue(dec, depth, false); err != nil {
			return "", err
		}
	}
	list := make([]string, 0, len(members))
	for key, value := range members {
		list = append(list, key+":"+value)
	}
	slices.Sort(list)
	return "{" + strings.Join(list, ",") + "}", closing(dec)
}

func canonicalList(dec *json.Decoder, depth int) (string, error) {
	var list []string
	for dec.More() {
		value, err := canonicalValue(dec, depth, true)
		if err != nil {
			return "", err
		}
		list = append(list, value)
	}
	if len(list) == 1 {
		return list[0], closing(dec)
	}
	slices.Sort(list)
	return "[" + strings.Join(list, ",") + "]", closing(dec)
}

// closing reads the closing bracket or brace.
func closing(dec *json.Decoder) error {
	_, err := dec.Token()
	return err
}
