package admin

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"ixmage/alias"
)

// FuzzDecode looks for a body that breaks the decoder, or that it takes although
// an exact reading of it would be something else.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		good, `{}`, `{"credential":` + keyPair + `}`, `{"ttl":"1s","ttl":"2s"}`, `{"canary":"\ud83d\ude00\\ud800"}`, `{"canary":"\ud800"}`,
		`{"a":{"b":[1,2,{"c":null}]}}`, "{\"\xff\":1}", `{"Bucket":"x"}`, `[]`, `nul`, `{"enabled":tru`, ` {"bucket" : "b" } `, `{"canary":"\u005c\u0022"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, fields := range map[string]func(*aliasInput) []field{"create": createFields, "patch": patchFields} {
			var in aliasInput
			problems, err := decodeBody(data, fields(&in))
			if err != nil {
				if !errors.Is(err, errBadRequest) {
					t.Fatalf("%s: %v", name, err)
				}
				continue
			}
			for _, p := range problems {
				if p.Detail == "" || !utf8.ValidString(p.Field) {
					t.Fatalf("%s: problem %+q", name, p)
				}
			}
			if len(problems) == 0 {
				checkExact(t, data, &in)
			}
		}
	})
}

// checkExact compares what was decoded with what encoding/json makes of it: for
// a body without problems nothing that json is lenient about may be in it.
func checkExact(t *testing.T, data []byte, in *aliasInput) {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(data, &members); err != nil {
		t.Fatalf("taken, but not by encoding/json: %v", err)
	}
	edits := len(members)
	if _, ok := members["credential"]; ok {
		edits--
		if in.ref.IsZero() {
			t.Fatal("the credential was lost")
		}
	}
	if len(in.edits) != edits {
		t.Fatalf("%d members made %d edits", edits, len(in.edits))
	}
	a := alias.New()
	in.apply(a)
	for name, got := range map[string]string{
		"bucket": a.Bucket, "prefix": a.Prefix, "region": a.Region, "endpoint": a.Endpoint, "canary": a.Canary, "bucket_owner": a.BucketOwner,
	} {
		var want *string
		if raw, ok := members[name]; ok && json.Unmarshal(raw, &want) != nil {
			t.Fatalf("%s: %s was taken for a string", name, raw)
		}
		if want == nil {
			want = new(string)
		}
		if got != *want {
			t.Fatalf("%s: got %q, want %q", name, got, *want)
		}
	}
}

// FuzzIfMatch looks for a header that is taken for a revision that it does not
// name.
func FuzzIfMatch(f *testing.F) {
	for _, s := range []string{`"1"`, `*`, `"1", "2"`, `W/"1"`, `"1`, `""`, `"1",`, `"a,b"`, ` "1" `, `W/`, `"0"`, `"01"`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		m, err := parseIfMatch([]string{header})
		if err != nil {
			if !errors.Is(err, errBadRequest) {
				t.Fatalf("got %v", err)
			}
			return
		}
		if m.any != (strings.TrimSpace(header) == "*") || !m.sent {
			t.Fatalf("%q: got %+v", header, m)
		}
		for _, n := range m.revisions {
			if n < 1 || !strings.Contains(header, etag(n)) {
				t.Fatalf("%q: read as revision %d", header, n)
			}
		}
		errGone := errors.New("gone")
		n, err := m.revision(func() (int64, error) { return 7, nil })
		if n == 0 && err == nil && !m.any {
			t.Fatalf("%q lets any revision pass", header)
		}
		if err != nil && !errors.Is(err, alias.ErrStale) {
			t.Fatalf("%q: got %v", header, err)
		}
		if _, err := m.revision(func() (int64, error) { return 0, errGone }); len(m.revisions) != 1 && !m.any && !errors.Is(err, errGone) {
			t.Fatalf("%q: got %v, want what the lookup said", header, err)
		}
	})
}

// FuzzPrefer looks for a header that makes an answer wait although it does not
// ask for it, or for longer than it may.
func FuzzPrefer(f *testing.F) {
	for _, s := range []string{
		"wait=60", `respond-async, wait="10"`, `foo="a,b\"";x, wait=1`, "wait", `wait="`, "WAIT = 5 ; a=b", `x="\`, "wait=999999999999999999999", ",,;;==",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		got := parsePrefer([]string{header})
		if got.limit < 0 || got.limit > maxWait || got.limit%time.Second != 0 || !got.sent && got.limit != 0 {
			t.Fatalf("%q: got %+v", header, got)
		}
		if got.sent && (!strings.Contains(strings.ToLower(header), "wait") || !strings.ContainsAny(header, "0123456789")) {
			t.Fatalf("%q is taken for a wish to wait", header)
		}
		if got.sent && parsePrefer([]string{got.applied()}) != got {
			t.Fatalf("%q: what is said to be applied, %q, is something else", header, got.applied())
		}
		// Any text before it is another preference.
		for _, other := range []string{"foo, ", `foo="a\",;wait=1";wait=2, `, ",,\t,"} {
			if again := parsePrefer([]string{other + header}); again != got {
				t.Fatalf("%q: got %+v, and %+v after %q", header, got, again, other)
			}
		}
		if again := parsePrefer([]string{"foo", header, "wait=7"}); got.sent && again != got {
			t.Fatalf("%q: got %+v, and %+v between other headers", header, got, again)
		}
	})
}
