package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"ixmage/alias"
	"ixmage/alias/client"
	"ixmage/alias/signature"
)

// parsed returns the command of a command line.
func parsed(t *testing.T, words ...string) command { //nolint:ireturn // it is any command
	t.Helper()
	var c Commands
	k, err := kong.New(&c, append(Options(), kong.Name("ixmage"))...)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.Parse(words)
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return target(got.Selected()).(command)
}

// TestAliasTransformFlags: flags become a merge patch of the alias.
func TestAliasTransformFlags(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.call("POST", map[string]any{"name": "old", "bucket": "b-1", "region": "eu-west-1", "credential": nil}, "aliases")
	add := parsed(t, "alias", "add", "shop", "--bucket", "b-1", "--region", "eu-west-1", "--anonymous", "--transforms", "signed",
		"--access=signed", "--widths", "100,200", "--template", "mark=wm=a.png,southeast,o50", "--template", "thumb=w=240&h=240")
	if got := e.run(add, formatTable, ""); got.code != exitOK {
		t.Fatalf("add: %+v", got)
	}
	for _, row := range []struct {
		flags []string
		want  string // of what get prints
	}{
		{nil, "transforms signed access signed widths 100,200 templates {\"mark\":\"wm=a.png,southeast,o50\",\"thumb\":\"w=240&h=240\"}"},
		{[]string{"--template", "mark=", "--template", "card=q=1"}, `templates {"card":"q=1","thumb":"w=240&h=240"}`},
		{[]string{"--widths", "none"}, "widths - templates"},
		{[]string{"--transforms", "off", "--access", "open"}, "transforms off access open"},
		{[]string{"--reset", "transforms,widths,templates"}, "transforms templates access open widths 20,40,60"},
	} {
		if row.flags != nil {
			if got := e.run(parsed(t, append([]string{"alias", "set", "shop"}, row.flags...)...), formatTable, ""); got.code != exitOK {
				t.Errorf("%q: %+v", row.flags, got)
			}
		}
		got := e.run(&aliasGetCmd{Name: "shop"}, formatTable, "")
		if text := strings.Join(strings.Fields(got.out), " "); !strings.Contains(text, row.want) {
			t.Errorf("%q: got %s, want %s in it", row.flags, got.out, row.want)
		}
	}
	for flag, want := range map[string]string{
		"--transforms=on": "must be off, templates, signed or open", "--access=off": "must be open or signed",
		"--widths=1,x": "entry 2 is not one", "--widths=2,1": "the widths ascend", "--template=thumb": "must be options as in the query",
		"--template==w=1": "the name of a template",
	} {
		if got := e.run(parsed(t, "alias", "set", "shop", flag), formatTable, ""); got.code == exitOK || !strings.Contains(got.err, want) {
			t.Errorf("%s: got %+v, want %q", flag, got, want)
		}
	}
}

// TestSigningKeyCommands makes a key that signs, lists it without its secret, and deletes it.
func TestSigningKeyCommands(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.call("POST", map[string]any{"name": "shop", "bucket": "b-1", "region": "eu-west-1", "credential": nil}, "aliases")
	made := e.run(&signingKeyCreateCmd{Alias: "shop"}, formatTable, "")
	key, err := signature.ParseKey(strings.TrimSuffix(made.out, "\n"))
	if made.code != exitOK || err != nil || !strings.Contains(made.err, "only time that the secret of the key "+key.ID()+" is shown") {
		t.Fatalf("create: %+v, %v", made, err)
	}
	secret := strings.TrimSpace(strings.TrimPrefix(made.out, key.ID()+":"))
	asJSON := e.run(&signingKeyCreateCmd{Alias: "shop"}, formatJSON, "")
	v, err := client.Decode([]byte(asJSON.out))
	if err != nil || !alias.IsKID(v.Get("kid").Text()) || len(v.Get("secret").Text()) != 43 {
		t.Errorf("create as JSON: %+v", asJSON)
	}
	list := e.run(&signingKeyLsCmd{Alias: "shop"}, formatTable, "")
	lines := strings.Split(list.out, "\n")
	if list.code != exitOK || len(lines) != 4 || strings.Join(strings.Fields(lines[0]), " ") != "KID CREATED LAST USED" ||
		!strings.HasPrefix(lines[1], key.ID()+" ") || !strings.HasSuffix(lines[1], " -") {
		t.Errorf("ls: %+v", list)
	}
	// Without a key file, the server signs with the newest key.
	signed := e.run(&signCmd{URL: "https://img.example.com/shop/a.png?w=400", Expires: "1h"}, formatTable, "")
	if signed.code != exitOK || !strings.Contains(signed.out, "&kid="+v.Get("kid").Text()+"&sig=") {
		t.Errorf("sign: %+v", signed)
	}
	for name, row := range map[string]struct {
		c    command
		want string
	}{
		"ls, alias":      {&signingKeyLsCmd{Alias: "shp"}, "Did you mean shop?"},
		"create, alias":  {&signingKeyCreateCmd{Alias: "shp"}, "Did you mean shop?"},
		"rm, alias":      {&signingKeyRmCmd{Alias: "shp", KID: key.ID(), confirmed: confirmed{true}}, "Did you mean shop?"},
		"rm, key":        {&signingKeyRmCmd{Alias: "shop", KID: key.ID()[:7], confirmed: confirmed{true}}, "Did you mean " + key.ID() + "?"},
		"rm, other key":  {&signingKeyRmCmd{Alias: "shop", KID: "00000000", confirmed: confirmed{true}}, "has no signing key named 00000000"},
		"rm without yes": {&signingKeyRmCmd{Alias: "shop", KID: key.ID()}, "--yes"},
	} {
		if got := e.run(row.c, formatTable, ""); got.code == exitOK || !strings.Contains(got.err, row.want) || strings.Contains(got.out+got.err, secret) {
			t.Errorf("%s: got %+v, want %q", name, got, row.want)
		}
	}
	rm := &signingKeyRmCmd{Alias: "shop", KID: key.ID(), confirmed: confirmed{true}}
	if got := e.run(rm, formatTable, ""); got.code != exitOK || !strings.Contains(got.err, key.ID()+" is deleted.") {
		t.Errorf("rm: %+v", got)
	}
	route, _ := e.registry.Lookup("shop")
	if keys := route.Alias.SigningKeys; len(keys) != 1 || keys[0].KID == key.ID() {
		t.Errorf("got %+v", keys)
	}
}

// TestSigningKeyIsNotLost: a key whose secret cannot be printed is deleted again.
func TestSigningKeyIsNotLost(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.call("POST", map[string]any{"name": "shop", "bucket": "b-1", "region": "eu-west-1", "credential": nil}, "aliases")
	s, _, _ := e.session(formatTable, "")
	s.out = newOutput(brokenWriter{}, formatTable)
	err := (&signingKeyCreateCmd{Alias: "shop"}).Run(s)
	if err == nil || !strings.Contains(err.Error(), "was deleted again") {
		t.Errorf("got %v", err)
	}
	route, _ := e.registry.Lookup("shop")
	if len(route.Alias.SigningKeys) != 0 {
		t.Errorf("got %+v", route.Alias.SigningKeys)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// TestApplyTransforms: a template that the file does not state is removed, and off is a text.
func TestApplyTransforms(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	const head = "aliases:\n- name: shop\n  bucket: b-1\n  region: eu-west-1\n  credential: null\n"
	e.apply(apply(e.file("a.yaml", head+"  transforms: off\n  widths: [1, 2]\n  templates: {a: w=1, b: {w: 2, fit: cover}, c: null}\n")), exitOK, `
+ alias shop
    bucket      b-1
    region      eu-west-1
    credential  shop
    transforms  off
    widths      [1, 2]
    templates   {"a":"w=1","b":"w=2&fit=cover"}
1 to create
+ alias shop: created
`)
	e.apply(apply(e.file("a.yaml", head+"  access: signed\n  templates:\n    b: w=2&fit=cover\n    d: q=3\n")), exitOK, `
~ alias shop
    transforms  off -> templates
    access      open -> signed
    widths      [1, 2] -> [20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840]
    templates   {"a":"w=1","b":"w=2&fit=cover"} -> {"b":"w=2&fit=cover","d":"q=3"}
1 to change
~ alias shop: changed
`)
	e.apply(apply(e.file("a.yaml", head+"  access: signed\n  templates: {b: w=2&fit=cover, d: q=3}\n")), exitOK, "No changes.\n")
}
