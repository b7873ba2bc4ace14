package cli

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias/client"
)

// roleOf are the members of a credential that a role has.
func roleOf(c client.Value) string {
	text := c.Get("kind").Text()
	for _, name := range []string{"role_arn", "external_id", "duration", "session_policy", "source", "region", "kms_key_arn", "source_identity", "account"} {
		if v := c.Get(name); !v.IsNull() {
			text += " " + name + "=" + v.Text()
		}
	}
	return text
}

func TestCredentialRole(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.call(http.MethodPost, map[string]any{"name": "media", "access_key_id": "AKIAEXAMPLE000000001", "secret_access_key": testSecret}, "credentials")
	arn := new(testRole + "read")
	kms := "arn:aws:kms:eu-west-1:123456789012:key/1-2"
	full := credentialFlags{roleFlags: roleFlags{
		RoleARN: arn, ExternalID: new("shop-7f3"), Duration: new("30m"), SessionPolicy: new("alias"), Source: new("media"), STSRegion: new("eu-west-1"),
		KMSKeyARN: &kms, SourceIdentity: new(true),
	}}
	for _, tt := range []struct {
		name  string
		flags credentialFlags
		own   bool
		code  int
		want  string // the role, or a part of the error
	}{
		{"role", credentialFlags{roleFlags: roleFlags{RoleARN: arn}}, false, exitOK,
			"role role_arn=" + *arn + " duration=1h0m0s session_policy=alias source=default"},
		{"full", full, false, exitOK, "role role_arn=" + *arn + " external_id=shop-7f3 duration=30m0s session_policy=alias source=media" +
			" region=eu-west-1 kms_key_arn=" + kms + " source_identity=true"},
		{"own", credentialFlags{}, true, exitOK, "default"},
		{"outside", credentialFlags{roleFlags: roleFlags{RoleARN: new("arn:aws:iam::123456789012:role/admin")}}, false, exitRefused, "--assume-roles"},
		{"short", credentialFlags{roleFlags: roleFlags{RoleARN: arn, Duration: new("1m")}}, false, exitUsage, "duration: must be whole seconds from 15m"},
		{"no-role", credentialFlags{roleFlags: roleFlags{ExternalID: new("x1")}}, false, exitUsage, "belong to --role-arn"},
		{"key-and-role", credentialFlags{keyPairFlags{KeyFile: "x"}, roleFlags{RoleARN: arn}}, false, exitUsage, "this credential has none"},
		{"key-and-own", credentialFlags{keyPairFlags: keyPairFlags{KeyFile: "x"}}, true, exitUsage, "this credential has none"},
		{"role-and-own", credentialFlags{roleFlags: roleFlags{RoleARN: arn}}, true, exitUsage, "belong to --role-arn"},
	} {
		for _, command := range []command{
			&credentialAddCmd{Name: tt.name, credentialFlags: tt.flags, Default: tt.own},
			&aliasAddCmd{
				Name: "a-" + tt.name, credentialFlags: tt.flags, DefaultCredential: tt.own,
				aliasFields: aliasFields{Bucket: new("acme-media"), Region: new("eu-west-1")},
			},
		} {
			got := e.run(command, formatTable, "")
			if got.code != tt.code {
				t.Errorf("%s: exit status %d, want %d: %s", tt.name, got.code, tt.code, got.err)
				continue
			}
			if tt.code != exitOK {
				if !strings.Contains(got.err, tt.want) {
					t.Errorf("%s: %q, want %q", tt.name, got.err, tt.want)
				}
				continue
			}
			name := tt.name
			if _, inline := command.(*aliasAddCmd); inline {
				name = "a-" + name
			}
			if is := roleOf(e.call(http.MethodGet, nil, "credentials", name)); is != tt.want {
				t.Errorf("%s is %s, want %s", name, is, tt.want)
			}
		}
	}
	got := e.run(&aliasAddCmd{Name: "b", Credential: "media", credentialFlags: credentialFlags{roleFlags: roleFlags{Duration: new("1h")}}}, formatTable, "")
	if got.code != exitUsage || !strings.Contains(got.err, "name one credential") {
		t.Errorf("a registered credential and a role: %d %s", got.code, got.err)
	}
}

// TestCredentialSetRole: set changes the members that it names, and replace all of them.
func TestCredentialSetRole(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	pair := map[string]any{"name": "media", "access_key_id": "AKIAEXAMPLE000000001", "secret_access_key": testSecret}
	e.call(http.MethodPost, pair, "credentials")
	e.call(http.MethodPost, map[string]any{
		"name": "pics", "role_arn": testRole + "a", "external_id": "one", "source": "media", "source_identity": true, "duration": "2h",
	}, "credentials")
	want := func(is string) {
		t.Helper()
		if got := roleOf(e.call(http.MethodGet, nil, "credentials", "pics")); got != is {
			t.Errorf("it is %s, want %s", got, is)
		}
	}
	set := &credentialSetCmd{Name: "pics", roleFlags: roleFlags{Duration: new("30m"), ExternalID: new("")}}
	if got := e.run(set, formatTable, ""); got.code != exitOK || !strings.Contains(got.out, testRole+"a") {
		t.Errorf("%d %s%s", got.code, got.out, got.err)
	}
	want("role role_arn=" + testRole + "a duration=30m0s session_policy=alias source=media source_identity=true")
	set.IfRevision = 1
	if got := e.run(set, formatTable, ""); got.code != exitConflict {
		t.Errorf("an older revision: %d %s", got.code, got.err)
	}
	replace := &credentialReplaceCmd{Name: "pics", credentialFlags: credentialFlags{roleFlags: roleFlags{RoleARN: new(testRole + "b"), SessionPolicy: new("none")}}}
	if got := e.run(replace, formatTable, ""); got.code != exitOK || !strings.Contains(got.out, testRole+"b without session policy") {
		t.Errorf("%d %s%s", got.code, got.out, got.err)
	}
	want("role role_arn=" + testRole + "b duration=1h0m0s session_policy=none source=default")
	for _, tt := range []struct {
		c    *credentialSetCmd
		want string
	}{
		{&credentialSetCmd{Name: "media", roleFlags: roleFlags{Duration: new("1h")}}, "is of the kind static"},
		{&credentialSetCmd{Name: "pics", roleFlags: roleFlags{Duration: new("1h")}, Expect: new("")}, "--expect is about a key pair"},
		{&credentialSetCmd{Name: "pics"}, "nothing to change"},
	} {
		if got := e.run(tt.c, formatTable, ""); got.code != exitUsage || !strings.Contains(got.err, tt.want) {
			t.Errorf("%d %s, want %s", got.code, got.err, tt.want)
		}
	}
}

const roleManifest = `
credentials:
- {name: pics, role_arn: ROLEpics, source: media, duration: 30m}   # before its source
- {name: media, key_file: media.json}
- {name: own, kind: default}
aliases:
- {name: shop, bucket: acme-media, region: eu-west-1, credential: pics}
- {name: blog, bucket: acme-media, region: eu-west-1, credential: {role_arn: ROLEblog, source: media, source_identity: false}}
- {name: home, bucket: acme-media, region: eu-west-1, credential: {kind: default}}
`

// TestApplyRoles: a file with roles is applied once, and then changed.
func TestApplyRoles(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.keyFile("media.json", "AKIAEXAMPLE000000001")
	text := strings.ReplaceAll(roleManifest, "ROLE", testRole)
	file := e.file("aliases.yaml", text)
	const plan = `
+ credential media
    access_key_id  AKIAEXAMPLE000000001
+ credential pics
    role_arn  arn:aws:iam::123456789012:role/ixmage-pics
    source    media
    duration  30m
+ credential own
    kind  default
+ alias shop
    bucket      acme-media
    region      eu-west-1
    credential  pics
+ alias blog
    bucket           acme-media
    region           eu-west-1
    credential       blog
    role_arn         arn:aws:iam::123456789012:role/ixmage-blog
    source           media
    source_identity  false
+ alias home
    bucket      acme-media
    region      eu-west-1
    credential  home
    kind        default
6 to create
`
	empty := e.state()
	dry := apply(file)
	dry.DryRun = true
	e.apply(dry, exitOK, plan)
	if e.state() != empty {
		t.Fatalf("a dry run has written: %s", e.state())
	}
	e.apply(apply(file), exitOK, plan+"+ credential media: created\n+ credential pics: created\n+ credential own: created\n"+
		"+ alias shop: created\n+ alias blog: created\n+ alias home: created\n")
	e.apply(apply(file), exitOK, "No changes.\n")
	file = e.file("aliases.yaml", strings.NewReplacer("30m", "1h, external_id: x-1", "source_identity: false", "session_policy: none").Replace(text))
	e.apply(apply(file), exitOK, `
~ credential pics
    external_id  null -> x-1
    duration     30m0s -> 1h0m0s
~ credential blog
    session_policy  alias -> none
2 to change
~ credential pics: changed
~ credential blog: changed
`)
	e.apply(apply(file), exitOK, "No changes.\n")
	for _, tt := range []struct{ old, is, want string }{
		{testRole + "pics", "arn:aws:iam::123456789012:role/admin", "3:3: credential pics: not allowed: the role"},
		{"30m", "1m", "3:95: credential pics: duration: must be whole seconds"},
		{"key_file: media.json", "kind: default", "credential media: the server has a credential of that name, of kind static: a name for the server's own"},
		{"{kind: default}", "{role_arn: " + testRole + "home, duration: 5}", "credential home: "},
	} {
		got := e.run(apply(e.file("wrong.yaml", strings.Replace(text, tt.old, tt.is, 1))), formatTable, "")
		if got.code == exitOK || !strings.Contains(got.err, tt.want) {
			t.Errorf("%s: exit status %d: %s, want %s", tt.is, got.code, got.err, tt.want)
		}
	}
}

func TestSigningSession(t *testing.T) {
	t.Parallel()
	at := client.Make("2026-11-29T18:30:00Z")
	now := time.Date(2026, 11, 29, 17, 42, 30, 0, time.UTC)
	if diff := cmp.Diff("expires in 47m30s (2026-11-29 18:30:00Z)", untilText(at, now)); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{
		`{}`: "",
		`{"session":{"role":"arn:aws:iam::1:role/a","expires_at":null}}`: "arn:aws:iam::1:role/a, none now: the next request to S3 makes one",
		`{"session":{"expires_at":null,"error":"the server has none"}}`:  "the server's own credentials; the last attempt to get one failed: the server has none",
	} {
		v, err := client.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got := signingSession(v); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
