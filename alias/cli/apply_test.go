package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
	"ixmage/alias/cli/manifest"
	"ixmage/alias/client"
)

const threeAliases = `
x-web: &web {bucket: acme-media, region: eu-west-1}
credentials:
- {name: media, key_file: media.json}
aliases:
- {<<: *web, name: shop, prefix: shop, credential: media, ttl: 90m}
- {<<: *web, name: blog, credential: {key_file: blog.json}, fallback: {missing: none.png}}
- {name: open, bucket: open-data, region: us-east-1, credential: null}
`

func apply(files ...string) *applyCmd { return &applyCmd{File: files, confirmed: confirmed{Yes: true}} }

// apply applies a file, and wants the exit status and the output.
func (e *env) apply(c *applyCmd, code int, want string) ran {
	e.t.Helper()
	got := e.run(c, formatTable, "")
	if got.code != code {
		e.t.Errorf("exit status %d, want %d; %s", got.code, code, got.err)
	}
	if diff := cmp.Diff(strings.TrimPrefix(want, "\n"), got.out); diff != "" {
		e.t.Errorf("output (-want +got):\n%s", diff)
	}
	return got
}

func TestApply(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.keyFile("media.json", "AKIAEXAMPLE000000001")
	e.keyFile("blog.json", "AKIAEXAMPLE000000002")
	file := e.file("aliases.yaml", threeAliases)
	const plan = `
+ credential media
    access_key_id  AKIAEXAMPLE000000001
+ alias shop
    bucket      acme-media
    prefix      shop/
    region      eu-west-1
    credential  media
    ttl         1h30m0s
+ alias blog
    bucket         acme-media
    region         eu-west-1
    credential     blog
    fallback       {"missing":"none.png","broken":""}
    access_key_id  AKIAEXAMPLE000000002
+ alias open
    bucket      open-data
    region      us-east-1
    credential  open
4 to create
`
	empty := e.state()
	dry := apply(file)
	dry.DryRun = true
	e.apply(dry, exitOK, plan)
	dry.ExitCode = true
	e.apply(dry, exitDiffers, plan)
	if got := e.apply(&applyCmd{File: []string{file}}, exitUsage, plan); !strings.Contains(got.err, "add --yes") {
		t.Errorf("without --yes: %s", got.err)
	}
	if e.state() != empty {
		t.Fatalf("a dry run, or one without --yes, has written: %s", e.state())
	}
	e.apply(apply(file), exitOK, plan+"+ credential media: created\n+ alias shop: created\n+ alias blog: created\n+ alias open: created\n")
	for name, credential := range map[string]string{"shop": "media", "blog": "blog", "open": "open"} {
		if got := e.call("GET", nil, "aliases", name).Get("credential").Text(); got != credential {
			t.Errorf("alias %s has the credential %s", name, got)
		}
	}

	made := e.state()
	dry.ExitCode = true
	e.apply(dry, exitOK, "No changes.\n")
	e.apply(apply(file), exitOK, "No changes.\n")
	if e.state() != made {
		t.Errorf("a second run has written:\n%s\n%s", made, e.state())
	}

	// Changes: a field, a field that the file does not state any more, one part of a
	// fallback, a key, a credential.
	e.keyFile("media.json", "AKIAEXAMPLE000000009")
	file = e.file("aliases.yaml", strings.NewReplacer(", ttl: 90m", ", canary: a.png", "missing: none", "broken: none",
		"credential: null", "credential: media").Replace(threeAliases))
	e.apply(apply(file), exitOK, `
~ credential media
    access_key_id  AKIAEXAMPLE000000001 -> AKIAEXAMPLE000000009
~ alias shop
    canary  "" -> a.png
    ttl     1h30m0s -> 1h0m0s
~ alias blog
    fallback  {"missing":"none.png","broken":""} -> {"missing":"","broken":"none.png"}
~ alias open
    credential  open -> media
4 to change
~ credential media: changed
~ alias shop: changed
~ alias blog: changed
~ alias open: changed
`)
	for _, name := range []string{"shop", "blog", "open"} {
		if got := e.call("GET", nil, "aliases", name).Get("revision").Int(); got != 2 {
			t.Errorf("alias %s has the revision %d, want one for one change", name, got)
		}
	}
	if got := e.call("GET", nil, "credentials", "media"); got.Get("access_key_id").Text() != "AKIAEXAMPLE000000009" || got.Get("revision").Int() != 2 {
		t.Errorf("%v", got)
	}

	// One alias in the file: the others stay, or go with their own key pairs.
	file = e.file("aliases.yaml", "aliases: [{name: open, bucket: open-data, region: us-east-1, credential: media}]")
	if got := e.apply(apply(file), exitOK, "No changes.\n"); !strings.Contains(got.err, "2 aliases are in no file: --prune would remove") {
		t.Errorf("%s", got.err)
	}
	prune := apply(file)
	prune.Prune = true
	e.apply(prune, exitOK, "- alias blog\n- alias shop\n2 to remove\n- alias blog: removed\n- alias shop: removed\n")
	var left []string
	for _, noun := range []string{"aliases", "credentials"} {
		for _, v := range e.call("GET", nil, noun).Get(noun).List() {
			left = append(left, v.Get("name").Text())
		}
	}
	if want := []string{"open", "media", "open"}; !slices.Equal(left, want) {
		t.Errorf("left are %v, want %v", left, want)
	}
}

func TestApplyJSON(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	file := e.file("aliases.yaml", "aliases: [{name: open, bucket: open-data, region: us-east-1, credential: null, ttl: 2h}]")
	if got := e.run(&applyCmd{File: []string{file}}, formatJSON, ""); got.code != exitUsage || !strings.Contains(got.err, "add --yes") {
		t.Errorf("%+v", got)
	}
	got := e.run(apply(file), formatJSON, "")
	v, err := client.Decode([]byte(got.out))
	if err != nil || len(v.Get("changes").List()) != 1 {
		t.Fatalf("%+v: %v", got, err)
	}
	c := v.Get("changes").List()[0]
	if c.Get("action").Text() != "create" || c.Get("kind").Text() != "alias" || c.Get("state").Text() != "done" ||
		!strings.Contains(c.Get("fields").Text(), `{"field":"ttl","old":null,"new":"2h0m0s"}`) {
		t.Errorf("%s", got.out)
	}
}

// TestApplyProblems: every mistake of the files is reported with its place before anything
// is written.
func TestApplyProblems(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.keyFile("shop.json", "AKIAEXAMPLE000000001")
	e.file("empty.json", "")
	e.call("POST", map[string]any{"name": "shop", "bucket": "b-1", "region": "eu-west-1", "credential": map[string]string{
		"access_key_id": "AKIAEXAMPLE000000001", "secret_access_key": testSecret}}, "aliases")
	e.call("POST", map[string]any{"name": "open", "bucket": "b-1", "region": "eu-west-1", "credential": nil}, "aliases")
	before := e.state()
	for _, row := range []struct{ name, text, want string }{
		{"many", `aliases:
- {name: shop, bucket: X, region: eu-west-1, credential: shopp, ttl: 7, ttll: 3s}
- {name: Sh, bucket: b-1, enabled: yes}
- {name: new, bucket: 555, region: eu-west-1, credential: shop, cache_max: 3XB, fallback: {missing: /x, brokn: y}}
`, `2:24: alias shop: bucket: must be 3 to 63 of a-z, 0-9, dot and hyphen, and begin and end with a letter or digit
2:58: alias shop: credential: there is no credential named "shopp"; did you mean shop?
2:70: alias shop: ttl: must be a duration as a string, like "90s", "1h30m" or "24h", not a number
2:73: alias shop: ttll: unknown field; did you mean ttl?
3:3: alias Sh: credential: is required, as one of: the name of a credential; key_file: FILE with the alias's own key pair; role_arn: ARN of a role; kind: default for the server's own credentials; null for a public bucket
3:3: alias Sh: region: is required for AWS, such as eu-west-1
3:10: alias Sh: name: must be 1 to 63 of a-z, 0-9 and hyphen, and begin and end with a letter or digit
3:36: alias Sh: enabled: must be true or false, not a string
4:23: alias new: bucket: must be a string, not a number: put it in quotes
4:76: alias new: cache_max: must be a size of at most 16384GiB: a string like "64MiB", a number of bytes, or "" for none
4:112: alias new: fallback.brokn: unknown field
`},
		{"syntax", "aliases:\n- name: shop\n\tbucket: b\n", "3:1: not valid YAML: found a tab character that violates indentation (while scanning a plain scalar, from line 2 on)\n"},
		{"key files", "credentials:\n- {name: a, key_file: none.json}\n- {name: b, key_file: empty.json}\n- {name: c, key_file: shop.json, profile: x}\n",
			"2:23: credential a: key_file: open DIR/none.json: no such file or directory\n" +
				"3:23: credential b: key_file: DIR/empty.json: it is empty\n" +
				"4:23: credential c: key_file: DIR/shop.json: it has no profiles: leave out --profile\n"},
		{"kinds", "credentials:\n- {name: open, key_file: shop.json}\n- {name: shop, key_file: shop.json, expect: all}\n",
			"2:3: credential open: the server has a credential of that name, of kind anonymous: a key pair cannot replace it\n" +
				"3:45: credential shop: expect: must be read-only-access, or empty for a key that may do no more than its aliases need\n"},
		{"twice", "aliases:\n- &a {name: open, bucket: b-1, region: eu-west-1, credential: null}\n- *a\n",
			"2:13: alias open: name: appears more than once, first at FILE:2:13\n"},
	} {
		t.Run(row.name, func(t *testing.T) {
			file := e.file("bad.yaml", row.text)
			got := e.run(apply(file), formatTable, "")
			problems, last, _ := strings.Cut(got.err, "ixmage: ")
			problems = strings.ReplaceAll(strings.ReplaceAll(problems, file+":", "FILE:"), e.folder, "DIR")
			if diff := cmp.Diff(row.want, strings.ReplaceAll("\n"+problems, "\nFILE:", "\n")[1:]); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
			if got.code != exitUsage || got.out != "" || !strings.HasSuffix(last, ": nothing was changed\n") {
				t.Errorf("exit status %d, %q, %q", got.code, got.out, last)
			}
		})
	}
	if e.state() != before {
		t.Errorf("something was written: %s", e.state())
	}
}

// TestApplyPrunedKeyPair: DELETE of an alias removes its own key pair, which the file has.
func TestApplyPrunedKeyPair(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.keyFile("shop.json", "AKIAEXAMPLE000000001")
	all := e.file("all.yaml", "aliases: [{name: shop, bucket: b-1, region: eu-west-1, credential: {key_file: shop.json}}]")
	e.run(apply(all), formatTable, "")
	c := apply(e.file("one.yaml", "credentials: [{name: shop, key_file: shop.json}]"))
	c.Prune = true
	if got := e.apply(c, exitUsage, ""); !strings.Contains(got.err, "one.yaml:1:15: credential shop: the alias of that name is removed, and its key pair with it") {
		t.Errorf("%s", got.err)
	}
	// Another alias that uses it keeps it.
	c = apply(e.file("two.yaml", "credentials: [{name: shop, key_file: shop.json}]\naliases: [{name: blog, bucket: b-1, region: eu-west-1, credential: shop}]"))
	c.Prune = true
	if got := e.run(c, formatTable, ""); got.code != exitOK {
		t.Errorf("%+v", got)
	}
	e.apply(c, exitOK, "No changes.\n")
}

// planned plans a file without making the changes.
func (e *env) planned(file string) (*planner, func() ran) {
	e.t.Helper()
	s, out, errs := e.session(formatTable, "")
	m, problems, err := apply(file).read(s)
	p := &planner{session: s, manifest: m, problems: problems}
	p.readKeys()
	if err = errors.Join(err, p.plan()); err != nil || len(p.problems) > 0 {
		e.t.Fatal(err, p.problems)
	}
	return p, func() ran {
		err := p.run()
		s.out.Flush()
		return ran{s.report(err), out.String(), errs.String()}
	}
}

// TestApplyConflict changes an alias, and makes another, between the reading and the
// writing of apply.
func TestApplyConflict(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const text = "{bucket: b-1, region: eu-west-1, credential: null, name: "
	e.run(apply(e.file("a.yaml", "aliases:\n- "+text+"a}\n- "+text+"b}\n- "+text+"c}\n")), formatTable, "")
	file := e.file("b.yaml", "aliases:\n- "+text+"a, ttl: 2h}\n- "+text+"b, ttl: 2h}\n- "+text+"c, ttl: 2h}\n")
	_, run := e.planned(file)
	e.call("PATCH", map[string]any{"canary": "x.png"}, "aliases", "b")
	got := run()
	if got.code != exitConflict || got.out != "~ alias a: changed\n" {
		t.Errorf("%+v", got)
	}
	for _, want := range []string{
		"~ alias b: failed\n", "~ alias c: not done\n", "1 of 3 changes done. It has changed since it was read, and that change was not overwritten.",
	} {
		if !strings.Contains(got.err, want) {
			t.Errorf("%s\ndoes not say %q", got.err, want)
		}
	}
	if b := e.call("GET", nil, "aliases", "b"); b.Get("canary").Text() != "x.png" || b.Get("ttl").Text() != "1h0m0s" {
		t.Errorf("the change was overwritten: %v", b)
	}
	e.apply(apply(file), exitOK, `
~ alias b
    canary  x.png -> ""
    ttl     1h0m0s -> 2h0m0s
~ alias c
    ttl  1h0m0s -> 2h0m0s
2 to change
~ alias b: changed
~ alias c: changed
`)

	file = e.file("c.yaml", "aliases:\n- "+text+"d}\n- "+text+"e}\n")
	_, run = e.planned(file)
	e.call("POST", map[string]any{"name": "d", "bucket": "b-2", "region": "eu-west-1", "credential": nil}, "aliases")
	if got := run(); got.code != exitConflict || !strings.Contains(got.err, "+ alias d: failed\n+ alias e: not done\n0 of 2 changes done.") {
		t.Errorf("%+v", got)
	}
}

// TestApplyInterrupted ends the context between two changes: the answer of the second never comes.
func TestApplyInterrupted(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const text = "{bucket: b-1, region: eu-west-1, credential: null, name: "
	file := e.file("a.yaml", "aliases:\n- "+text+"a}\n- "+text+"b}\n")
	p, run := e.planned(file)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.ctx = ctx
	if got := run(); got.code != exitFailed || !strings.Contains(got.err, "+ alias a: not done\n+ alias b: not done\n0 of 2 changes done.") {
		t.Errorf("%+v", got)
	}
	e.run(apply(file), formatTable, "")
	e.apply(apply(file), exitOK, "No changes.\n")
}

// TestApplyProvisioned: an alias keeps what its provisioning has set and the file does not
// state.
func TestApplyProvisioned(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	c := &alias.Credential{
		ID: alias.NewID(), Name: "shop", State: alias.CredentialActive, Version: 1, Revision: 1,
		Provider: &alias.Provisioned{Mode: alias.PolicyInline},
	}
	a := alias.New()
	a.Name, a.Location = "shop", alias.Location{Bucket: "b-1", Region: "eu-west-1", BucketOwner: "123456789012"}
	a.Canary, a.TTL = "a.png", 7
	a.Normalize()
	a.ID, a.CredentialID, a.Credential, a.Epoch, a.Revision = alias.NewID(), c.ID, c.Name, 1, 1
	err := e.registry.Apply(t.Context(), []alias.Name{"shop"}, func(tx alias.Tx) ([]alias.Change, error) {
		return []alias.Change{{CredentialPut: c}, {AliasPut: a}}, errors.Join(tx.InsertCredential(c), tx.InsertAlias(a))
	})
	if err != nil {
		t.Fatal(err)
	}
	e.apply(apply(e.file("a.yaml", "aliases: [{name: shop, bucket: b-1, region: eu-west-1, credential: shop}]")), exitOK,
		"~ alias shop\n    ttl  7ns -> 1h0m0s\n1 to change\n~ alias shop: changed\n")
	e.apply(apply(e.file("a.yaml", "aliases: [{name: shop, bucket: b-1, region: eu-west-1, credential: null, canary: }]")), exitOK, `
~ alias shop
    bucket_owner  123456789012 -> ""
    credential    shop -> anonymous
    canary        a.png -> ""
1 to change
~ alias shop: changed
`)
}

// randomAlias states some fields at random.
func randomAlias(r *rand.Rand, name string, credentials []string) map[string]any {
	pick := func(texts ...any) any { return texts[r.IntN(len(texts))] }
	fields := map[string]any{
		"bucket": pick("b-1", "b-2"), "region": pick("eu-west-1", "us-east-1"),
		"prefix": pick("", "a", "a/", "größe/é"), "path_style": pick(true, false), "canary": pick("", "a.png", nil),
		"enabled": pick(true, false, nil), "ttl": pick("1h", "90m", "0s", nil), "negative_ttl": pick("5s", "1m"),
		"stale_while_revalidate": pick("0s", nil), "stale_if_error": pick("24h", "1h0.5s"), "bucket_owner": pick("", "012345678901"),
		"cache_control": pick("", "Public,MAX-AGE=060"), "cors_origins": pick([]string{}, []string{"*"}, []string{"https://A.example.com:443"}),
		"cors_headers": pick([]string{}, []string{"Range"}), "cache_min": pick("", "1024KiB", 1<<20), "cache_max": pick("", "1GiB"),
		"fallback":   pick("", "none.png", nil, map[string]string{"missing": "a.png"}, map[string]string{"missing": "a.png", "broken": "b.png"}),
		"transforms": pick("off", "open", "signed", nil), "access": pick("open", "signed"), "widths": pick([]int{}, []int{1, 8192}, nil),
		"templates": pick(nil, map[string]any{}, map[string]any{"a": "w=1", "b": "h=2"}, map[string]any{"b": map[string]any{"h": 3}, "c": "q=1,2"}),
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if name != "bucket" && name != "region" && r.IntN(2) == 0 {
			delete(fields, name)
		}
	}
	fields["name"] = name
	fields["credential"] = pick(nil, credentials[r.IntN(len(credentials))])
	return fields
}

// yamlOf writes aliases as YAML.
func yamlOf(t *testing.T, aliases []map[string]any) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("aliases: [\n")
	for _, a := range aliases {
		text, err := client.Make(sorted(a)).MarshalJSON() // JSON is YAML
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "  %s,\n", text)
	}
	b.WriteString("]\n")
	return b.String()
}

func sorted(fields map[string]any) client.Object {
	var o client.Object
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		o = append(o, client.Member{Name: name, Value: client.Make(fields[name])})
	}
	return o
}

// TestApplyProperty: from any registry, any file leads to what the file says, with
// defaults for the rest; a second run writes nothing; the dry run before it told all and
// wrote nothing; and what the server prints afterwards is a file without changes.
func TestApplyProperty(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	credentials := []string{"k-1", "k-2"}
	for i, name := range credentials {
		e.call("POST", map[string]any{"name": name, "access_key_id": fmt.Sprintf("AKIAEXAMPLE00000000%d", i), "secret_access_key": testSecret}, "credentials")
	}
	names := []string{"a", "b", "c", "d"}
	for seed := range uint64(15) {
		r := rand.New(rand.NewPCG(1, seed))
		some := func() (list []map[string]any) {
			for _, name := range names {
				if r.IntN(3) > 0 {
					list = append(list, randomAlias(r, name, credentials))
				}
			}
			return list
		}
		wanted := some()
		file := e.file("a.yaml", yamlOf(t, wanted))
		dry := apply(file)
		dry.DryRun, dry.Prune = true, true
		before := e.state()
		told := e.run(dry, formatTable, "")
		if e.state() != before {
			t.Fatalf("seed %d: the dry run has written", seed)
		}
		c := apply(file)
		c.Prune = true
		got := e.run(c, formatTable, "")
		if got.code != exitOK || !strings.HasPrefix(got.out, told.out) {
			t.Fatalf("seed %d: %+v\nthe dry run said %s%s", seed, got, told.out, yamlOf(t, wanted))
		}
		e.wantAliases(seed, wanted)
		after := e.state()
		if again := e.run(c, formatTable, ""); again.code != exitOK || again.out != "No changes.\n" || e.state() != after {
			t.Fatalf("seed %d: a second run: %+v", seed, again)
		}
		printed := e.run(&aliasLsCmd{}, formatYAML, "")
		if len(wanted) == 0 {
			continue
		}
		back := e.run(&applyCmd{File: []string{"-"}, Prune: true, DryRun: true, ExitCode: true}, formatTable, printed.out)
		if back.code != exitOK || back.out != "No changes.\n" {
			t.Fatalf("seed %d: the printed aliases differ from themselves: %+v\n%s", seed, back, printed.out)
		}
	}
}

// wantAliases compares the aliases of the server with new ones that another server makes of
// the same fields.
func (e *env) wantAliases(seed uint64, wanted []map[string]any) {
	e.t.Helper()
	got := e.call("GET", nil, "aliases").Get("aliases").List()
	if len(got) != len(wanted) {
		e.t.Fatalf("seed %d: %d aliases, want %d", seed, len(got), len(wanted))
	}
	for i, v := range got {
		fields := map[string]any{}
		for name, value := range wanted[i] {
			if value != nil || name == "credential" {
				fields[name] = value
			}
		}
		fields["name"] = "made-for-comparison"
		resp, err := e.client.Do(e.t.Context(), client.Request{
			Method: http.MethodPost, Path: client.Path("aliases"), Query: dryRun{true}.query(), Body: fields,
		})
		if err != nil {
			e.t.Fatalf("seed %d: %v", seed, err)
		}
		want, err := resp.Value()
		if err != nil {
			e.t.Fatal(err)
		}
		for _, m := range want.Members() {
			switch m.Name {
			case "name", "revision", "created_at", "updated_at":
				continue
			case "credential":
				if fields["credential"] == nil {
					continue
				}
			}
			if !v.Get(m.Name).Equal(m.Value) {
				e.t.Errorf("seed %d: alias %s: %s is %v, want %v", seed, v.Get("name").Text(), m.Name, v.Get(m.Name), m.Value)
			}
		}
	}
}

// TestApplyFields: the file can state every field of an alias that the API takes.
func TestApplyFields(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	shown := e.call("POST", map[string]any{"name": "a", "bucket": "b-1", "region": "eu-west-1", "credential": nil}, "aliases")
	known := append(manifest.Settable(), "name", "credential", "state", "revision", "created_at", "updated_at")
	for _, m := range shown.Members() {
		if !slices.Contains(known, m.Name) {
			t.Errorf("a file cannot state %s", m.Name)
		}
	}
	if len(known) != len(shown.Members()) {
		t.Errorf("known are %v, and the API shows %v", known, shown)
	}
}
