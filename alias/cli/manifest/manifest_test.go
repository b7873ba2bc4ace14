package manifest

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	t.Parallel()
	m, problems := Parse(filepath.Join("conf", "aliases.yaml"), []byte(`
x-web: &web
  bucket: acme-media
  region: eu-west-1
  ttl: 1h
  cors_origins: ["*"]
credentials:
  - name: media
    key_file: keys/media.json
    expect: read-only-access
aliases:
  - <<: *web
    name: shop
    prefix: 2026-01-01 # a date is a text
    ttl: 90m
    credential: media
    fallback: {missing: none.png}
    cache_max: 1048576
    bucket_owner: "012345678901"
    revision: 7
    state: active
  - name: blog
    <<: [{bucket: first, path_style: true}, *web]
    credential:
      key_file: /etc/blog.json
    enabled: false
    canary:
---
aliases:
  - {name: open, bucket: b, region: us-east-1, credential: null}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	type entry struct{ Fields, KeyFile, Expect string }
	got := map[string]entry{}
	for _, e := range append(m.Aliases, m.Credentials...) {
		var fields string
		if e.Fields != nil {
			text, err := json.Marshal(e.JSON())
			if err != nil {
				t.Fatal(err)
			}
			fields = string(text)
		}
		got[e.String()] = entry{fields, e.KeyFile, e.Expect}
	}
	want := map[string]entry{
		"alias shop": {Fields: `{"name":"shop","prefix":"2026-01-01","ttl":"90m","credential":"media","fallback":{"missing":"none.png"},` +
			`"cache_max":1048576,"bucket_owner":"012345678901","bucket":"acme-media","region":"eu-west-1","cors_origins":["*"]}`},
		"alias blog": {Fields: `{"name":"blog","credential":"blog","enabled":false,"canary":null,"bucket":"first","path_style":true,` +
			`"region":"eu-west-1","ttl":"1h","cors_origins":["*"]}`},
		"alias open":       {Fields: `{"name":"open","bucket":"b","region":"us-east-1","credential":null}`},
		"credential media": {KeyFile: filepath.Join("conf", "keys", "media.json"), Expect: "read-only-access"},
		"credential blog":  {KeyFile: "/etc/blog.json"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	for field, want := range map[string]string{
		"": "12:5", "name": "13:11", "ttl": "15:10", "fallback": "17:15", "fallback.missing": "17:25", "fallback.broken": "17:15",
		"region": "4:11", "stale_if_error": "12:5", // one from the anchor, one that is not stated
	} {
		if p := m.Aliases[0].Problem(field, "x"); p.Position.String() != filepath.Join("conf", "aliases.yaml")+":"+want {
			t.Errorf("%q is at %s, want %s", field, p.Position, want)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	const rest = "bucket: b, region: r, credential: null}\n"
	for _, row := range []struct{ name, text, want string }{
		{"empty", "# nothing\n", "1:1: the file is empty: it needs a list below aliases:, or aliases: [] for none"},
		{"none", "aliases: []\n", ""},
		{"a tab", "aliases:\n  - name: shop\n\tbucket: b\n", "3:1: not valid YAML: found a tab character that violates indentation"},
		{"indentation", "aliases:\n  - name: shop\n      bucket: b\n", "3:13: not valid YAML: mapping values are not allowed in this context"},
		{"a missing bracket", "aliases: [\n", "2:1: not valid YAML: did not find expected node content (while parsing a flow node, from line 2 on)"},
		{"an unknown anchor", "aliases:\n  - *shop\n", "2:5: not valid YAML: unknown anchor 'shop' referenced"},
		{"not UTF-8", "aliases:\n- \xff\n", "2:3: not UTF-8"},
		{"too deep", strings.Repeat("[", 20_000), "1:10001: not valid YAML: exceeded max depth of 10000 (while increasing flow level, from line 1 on)"},
		{"a text", "shop\n", "1:1: the file must be a mapping with a list below aliases:, not a text"},
		{"a list", "- name: shop\n", "1:1: the file must be a mapping with a list below aliases:, not a list"},
		{"an alias at the top", "name: shop\n", "1:1: name: is a field of an alias: write the aliases as a list below aliases:"},
		{"unknown at the top", "alias: []\n", "1:1: alias: unknown field: a file has aliases:, credentials: and, for anchors, names that begin with x-"},
		{"neither", "x-a: 1\n", "1:1: the document has neither aliases: nor credentials:"},
		{"a mapping of aliases", "aliases:\n  shop: {}\n", "2:3: aliases: must be a list, each entry after a hyphen, or [] for none; not a mapping"},
		{"no list", "aliases:\n", "1:9: aliases: must be a list, each entry after a hyphen, or [] for none; not nothing"},
		{"an alias that is a text", "aliases:\n- shop\n", "2:3: an alias must be a mapping of its fields, not a text"},
		{"no name", "aliases:\n- {" + rest, "2:3: name: is required"},
		{"an empty name", "aliases:\n- {name: '', " + rest, "2:10: name: must not be empty"},
		{"a name that is a number", "aliases:\n- {name: 2026, " + rest, "2:10: name: must be a text, not a number: put it in quotes"},
		{"a name that is a list", "aliases:\n- {name: [a], " + rest, "2:10: name: must be a text, not a list"},
		{"a name twice", "aliases:\n- {name: a, " + rest + "- {name: b, " + rest + "- {name: a, " + rest,
			"4:10: alias a: name: appears more than once, first at f.yaml:2:10"},
		{"no bucket", "aliases:\n- {name: a, credential: c}\n", "2:3: alias a: bucket: is required"},
		{"no credential", "aliases:\n- {name: a, bucket: b}\n", "2:3: alias a: credential: is required, as one of: the name of a credential; " +
			"key_file: FILE with the alias's own key pair; role_arn: ARN of a role; kind: default for the server's own credentials; null for a public bucket"},
		{"a field twice", "aliases:\n- name: a\n  bucket: b\n  credential: c\n  bucket: d\n", "5:3: alias a: bucket: appears more than once, first on line 3"},
		{"unknown", "aliases:\n- {name: a, x: 1, " + rest, "2:13: alias a: x: unknown field"},
		{"misspelt", "aliases:\n- {name: a, regoin: r, bucket: b, credential: c}\n", "2:13: alias a: regoin: unknown field; did you mean region?"},
		{"other case", "aliases:\n- {name: a, pathStyle: true, " + rest, "2:13: alias a: pathStyle: unknown field; did you mean path_style?"},
		{"a secret", "aliases:\n- {name: a, secret_access_key: s3cr3t, " + rest,
			"2:13: alias a: secret_access_key: a key pair does not belong in this file: keep it in a file of its own, and name that as key_file"},
		{"a key pair", "aliases:\n- {name: a, bucket: b, credential: {access_key_id: AKIA, key_file: f}}\n",
			"2:37: alias a: access_key_id: a key pair does not belong in this file: keep it in a file of its own, and name that as key_file"},
		{"an empty credential", "aliases:\n- {name: a, bucket: b, credential: {}}\n", "2:36: alias a: credential: must be one of: the name of a credential; " +
			"key_file: FILE with the alias's own key pair; role_arn: ARN of a role; kind: default for the server's own credentials; null for a public bucket"},
		{"a key file that is a number", "aliases:\n- {name: a, bucket: b, credential: {key_file: 7}}\n", "2:47: alias a: key_file: must be a text, not a number: put it in quotes"},
		{"octal", "aliases:\n- {name: a, bucket_owner: 012345670123, " + rest,
			`2:27: alias a: bucket_owner: "012345670123": write a number in decimal, without leading zeros, or put a text in quotes`},
		{"no number of JSON", "aliases:\n- {name: a, cache_max: .inf, " + rest, `2:24: alias a: cache_max: ".inf": write a number in decimal, without leading zeros, or put a text in quotes`},
		{"a tag", "aliases:\n- {name: a, canary: !include x, " + rest, `2:21: alias a: canary: the tag "!include" is not supported: write the value without it`},
		{"a merge of a text", "aliases:\n- {<<: b, name: a, " + rest, "2:8: alias a: a merge key (<<) takes a mapping, or a list of mappings, not a text"},
		{"an anchor in itself", "aliases:\n- &a {name: a, fallback: {missing: *a}, " + rest, "2:26: alias a: an anchor contains itself"},
		{"a merge of itself", "aliases:\n- &a {name: a, <<: *a, " + rest, "2:3: alias a: an anchor contains itself"},
		{"a list as a key", "aliases:\n- {name: a, [x]: 1, " + rest, "2:13: alias a: the name of a field must be a text, not a list"},
		{"a credential without a key", "credentials:\n- name: a\n", "2:3: credential a: key_file: is required: the file with the key pair; or role_arn for a role, or kind: default for the server's own credentials"},
		{"a credential's unknown field", "credentials:\n- {name: a, keyfile: f, key_file: g}\n", "2:13: credential a: keyfile: unknown field; did you mean key_file?"},
		{"a credential twice", "credentials:\n- {name: a, key_file: f}\naliases:\n- {name: a, bucket: b, credential: {key_file: f}}\n",
			"4:36: credential a: name: appears more than once, first at f.yaml:2:10"},
		{"a second document", "aliases: []\n---\naliases: x\n", "3:10: aliases: must be a list, each entry after a hyphen, or [] for none; not a text"},
		{"several", "aliases:\n- {nam: a}\n- {name: b, buckt: b, credential: c}\n", "2:3: name: is required\n2:3: bucket: is required\n" +
			"2:3: credential: is required, as one of: the name of a credential; key_file: FILE with the alias's own key pair; role_arn: ARN of a role; kind: default for the server's own credentials; null for a public bucket\n" +
			"2:4: nam: unknown field; did you mean name?\n3:3: alias b: bucket: is required\n3:13: alias b: buckt: unknown field; did you mean bucket?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			m, problems := Parse("f.yaml", []byte(row.text))
			problems = append(problems, m.Duplicates()...)
			Sort(problems, []string{"f.yaml"})
			var got []string
			for _, p := range problems {
				got = append(got, strings.TrimPrefix(p.String(), "f.yaml:"))
				if strings.Contains(p.String(), "s3cr3t") {
					t.Errorf("the problem shows a value: %s", p)
				}
			}
			text := strings.Join(got, "\n")
			if text != row.want && (row.name != "a tab" || !strings.HasPrefix(text, row.want)) {
				t.Errorf("got  %s\nwant %s", text, row.want)
			}
		})
	}
}

// TestExpansion: anchors of anchors expand to more than memory could hold.
func TestExpansion(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("x-0: &a0 [" + strings.Repeat("x, ", 9) + "x]\n")
	for i := range 9 {
		one := "*a" + string(rune('0'+i))
		b.WriteString("x-" + string(rune('1'+i)) + ": &a" + string(rune('1'+i)) + " [" + strings.Repeat(one+", ", 9) + one + "]\n")
	}
	b.WriteString("aliases:\n- {name: a, bucket: b, credential: c, cors_origins: *a9}\n")
	_, problems := Parse("f.yaml", []byte(b.String()))
	if len(problems) != 1 || !strings.Contains(problems[0].Detail, "expand to more than 1000000 values") {
		t.Errorf("%v", problems)
	}
}

// TestExpansionOfMerges: the mappings that merge keys name are read 2^40 times, for one value.
func TestExpansionOfMerges(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString("x-0: &a0 {bucket: b}\n")
	for i := range 40 {
		fmt.Fprintf(&b, "x-%d: &a%d {<<: [*a%d, *a%d]}\n", i+1, i+1, i, i)
	}
	b.WriteString("aliases:\n- {<<: *a40, name: a, credential: c}\n")
	_, problems := Parse("f.yaml", []byte(b.String()))
	if len(problems) == 0 || !strings.Contains(problems[0].Detail, "expand to more than 1000000 values") {
		t.Errorf("%v", problems)
	}
}

func TestDuplicatesOfFiles(t *testing.T) {
	t.Parallel()
	one, _ := Parse("one.yaml", []byte("aliases: [{name: a, bucket: b, credential: c}]"))
	two, _ := Parse("two.yaml", []byte("aliases: [{name: b, bucket: b, credential: c}, {name: a, bucket: b, credential: c}]"))
	one.Aliases = append(one.Aliases, two.Aliases...)
	problems := one.Duplicates()
	if len(problems) != 1 || problems[0].String() != "two.yaml:1:55: alias a: name: appears more than once, first at one.yaml:1:18" {
		t.Errorf("%v", problems)
	}
}

// FuzzParse: every file has a problem or entries with names, and each problem a place in
// the file.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "aliases: []", "aliases:\n- {name: a, bucket: b, credential: {key_file: f}}\n", "x-a: &a {b: 1}\naliases: [{<<: *a}]\n---\ncredentials:\n- name: c\n",
		"a: !!binary x\n", "? [a]\n: b\n", "aliases: &a [*a]\n", "%YAML 1.2\n---\naliases: [{name: 1_0}]\n", "aliases:\n- name: |\n    x\n  <<: [{}, 1]\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		m, problems := Parse("f.yaml", data)
		lines := strings.Count(string(data), "\n") + strings.Count(string(data), "\r") + strings.Count(string(data), "\u2028") +
			strings.Count(string(data), "\u2029") + strings.Count(string(data), "\u0085") + 2
		for _, p := range problems {
			if p.Line < 1 || p.Line > lines || p.Column < 1 || p.File != "f.yaml" || p.Detail == "" {
				t.Errorf("problem %+v", p)
			}
		}
		for _, e := range append(m.Aliases, m.Credentials...) {
			if e.Name == "" || e.Problem("fallback.missing", "").Line < 1 {
				t.Errorf("entry %+v", e)
			}
			if text, err := json.Marshal(e.JSON()); err != nil || !json.Valid(text) {
				t.Errorf("entry %+v: %s, %v", e, text, err)
			}
		}
	})
}
