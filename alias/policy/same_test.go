package policy

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestSameDocument(t *testing.T) {
	t.Parallel()
	const doc = `{"Version":"2012-10-17","Statement":[{"Sid":"specBucketPolicy0","Effect":"Allow","Action":"s3:GetObject",` +
		`"Resource":["arn:aws:s3:::a/x/*","arn:aws:s3:::b/*"]}]}`
	replaced := func(old, next string) string {
		if !strings.Contains(doc, old) {
			t.Fatalf("%s is not in the document", old)
		}
		return strings.ReplaceAll(doc, old, next)
	}
	for _, tt := range []struct {
		name string
		a, b string
		want bool
	}{
		{"itself", doc, doc, true},
		{"white space", doc, replaced(`{"Version"`, "\n { \t\"Version\"") + "\n", true},
		{"order of keys", doc, replaced(`"Effect":"Allow","Action":"s3:GetObject"`, `"Action":"s3:GetObject","Effect":"Allow"`), true},
		{"order of a list", doc, replaced(`"arn:aws:s3:::a/x/*","arn:aws:s3:::b/*"`, `"arn:aws:s3:::b/*","arn:aws:s3:::a/x/*"`), true},
		{"a list of one", doc, replaced(`"s3:GetObject"`, `["s3:GetObject"]`), true},
		{"one statement without a list", doc, strings.ReplaceAll(replaced(`[{`, `{`), `]}]}`, `]}}`), true},
		{"an escape", doc, replaced(`a/x`, `\u0061\/x`), true},
		{"empty objects", `{}`, ` { } `, true},
		{"a condition in a list", `{"C":{"StringEquals":{"k":["v"]}}}`, `{"C":{"StringEquals":{"k":"v"}}}`, true},

		{"another action", doc, replaced("s3:GetObject", "s3:GetObject*"), false},
		{"an action more", doc, replaced(`"s3:GetObject"`, `["s3:GetObject","s3:PutObject"]`), false},
		{"a resource less", doc, replaced(`"arn:aws:s3:::a/x/*",`, ``), false},
		{"a resource twice", doc, replaced(`"arn:aws:s3:::b/*"`, `"arn:aws:s3:::b/*","arn:aws:s3:::b/*"`), false},
		{"another effect", doc, replaced("Allow", "Deny"), false},
		{"case of a key", doc, replaced(`"Effect"`, `"effect"`), false},
		{"case of a value", doc, replaced(`a/x`, `a/X`), false},
		{"another version", doc, replaced("2012", "2008"), false},
		{"no Sid", doc, replaced(`"Sid":"specBucketPolicy0",`, ``), false},
		{"a key more", doc, replaced(`"Effect"`, `"NotAction":"x","Effect"`), false},
		{"a condition more", doc, replaced(`"Effect"`, `"Condition":{},"Effect"`), false},
		{"a statement more", doc, replaced(`]}]}`, `]},{"Effect":"Deny","Action":"*","Resource":"*"}]}`), false},
		{"a statement twice", `{"S":[{"a":"1"},{"a":"1"}]}`, `{"S":{"a":"1"}}`, false},
		{"text and number", `{"a":"1"}`, `{"a":1}`, false},
		{"text and truth", `{"a":"true"}`, `{"a":true}`, false},
		{"null and nothing", `{"a":null}`, `{}`, false},
		{"an empty list and nothing", `{"a":[]}`, `{}`, false},
		{"an empty list and text", `{"a":[]}`, `{"a":""}`, false},
		{"a list in a list", `{"a":[["b"]]}`, `{"a":[["b"]]}`, false},
		{"text that looks like a list", `{"a":"[\"b\"]"}`, `{"a":["b"]}`, false},
		{"text that looks like two", `{"a":["b\",\"c"]}`, `{"a":["b","c"]}`, false},

		{"not JSON", `{"a":`, `{"a":`, false},
		{"nothing", ``, ``, false},
		{"text alone", `"a"`, `"a"`, false},
		{"a list alone", `["a","b"]`, `["a","b"]`, false},
		{"null alone", `null`, `null`, false},
		{"two documents", `{}{}`, `{}{}`, false},
		{"more after it", `{} x`, `{} x`, false},
		{"a comma too many", `{"a":"b",}`, `{"a":"b",}`, false},
		{"a key twice", `{"a":"b","a":"b"}`, `{"a":"b","a":"b"}`, false},
		{"a key twice, the last the same", `{"a":"c","a":"b"}`, `{"a":"b"}`, false},
		{"a key twice by an escape", `{"a":"b","\u0061":"b"}`, `{"a":"b"}`, false},
		{"a key twice, deep", `{"S":[{"a":"b","a":"b"}]}`, `{"S":[{"a":"b","a":"b"}]}`, false},
		{"not UTF-8", "{\"a\":\"\xff\"}", "{\"a\":\"\xff\"}", false},
		{"halves of a character", `{"a":"\ud800"}`, `{"a":"\udbff"}`, false},
		{"too deep", strings.Repeat(`{"a":`, 99) + "1" + strings.Repeat("}", 99), strings.Repeat(`{"a":`, 99) + "1" + strings.Repeat("}", 99), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Same([]byte(tt.a), []byte(tt.b)); got != tt.want {
				t.Errorf("got %t, want %t:\n%s\n%s", got, tt.want, tt.a, tt.b)
			}
			if got := Same([]byte(tt.b), []byte(tt.a)); got != tt.want {
				t.Errorf("the other way round: got %t, want %t", got, tt.want)
			}
		})
	}
}

// FuzzSameDocument: documents that encoding/json reads differently are never the
// same, unless lists or their order make the difference; the other way round, a
// document that was read and written again stays the same.
func FuzzSameDocument(f *testing.F) {
	f.Add([]byte(`{"a":["x","y"],"b":{"c":1.0}}`), []byte(`{"b":{"c":1.0},"a":["y","x"]}`))
	f.Add([]byte(`{"a":"b","a":"c"}`), []byte(`{"a":"c"}`))
	f.Add([]byte(`{"a":"\ud800"}`), []byte(`{"a":"\ufffd"}`))
	f.Add([]byte(`{"a":[[]]}`), []byte(`{"a":[]}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		same := Same(a, b)
		if same != Same(b, a) {
			t.Error("not symmetric")
		}
		if !same {
			return
		}
		if !Same(a, a) || !Same(b, b) {
			t.Error("not the same as itself")
		}
		for _, doc := range [][]byte{a, b} {
			var v map[string]any
			dec := json.NewDecoder(strings.NewReader(string(doc)))
			dec.UseNumber()
			if err := dec.Decode(&v); err != nil {
				t.Fatalf("not a JSON object: %s", doc)
			}
			again, err := json.Marshal(v)
			if err != nil || !Same(again, doc) {
				t.Errorf("written again it is another one: %s, %s", doc, again)
			}
		}
		if x, y := leaves(t, a), leaves(t, b); x != y {
			t.Errorf("the same, with other contents:\n%s\n%s", x, y)
		}
	})
}

// leaves counts every key and value, wherever they are: equal documents have
// the same ones.
func leaves(t *testing.T, doc []byte) string {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(doc)))
	dec.UseNumber()
	counts := map[string]int{}
	for {
		token, err := dec.Token()
		if err != nil {
			break
		}
		if _, bracket := token.(json.Delim); bracket {
			continue
		}
		text, err := json.Marshal(token)
		if err != nil {
			t.Fatal(err)
		}
		counts[string(text)]++
	}
	text, err := json.Marshal(counts)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
