package cli

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/alias/client"
	"ixmage/alias/signature"
)

// testSigningKey is KID:SECRET.
const testSigningKey = "abcd2345:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"

// verified checks a signed URL with the key above, and returns when it ends.
func verified(t *testing.T, signed string) time.Time {
	t.Helper()
	key, err := signature.ParseKey(testSigningKey)
	if err != nil {
		t.Fatal(err)
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(signed, "https://img.example.com"), "?")
	exp, _, err := signature.Verify([]*signature.Key{key}, []byte(path), []byte(query), time.Now())
	if err != nil {
		t.Errorf("%s: %v", signed, err)
	}
	return exp
}

// TestSignOffline signs with the key of a file, without a server.
func TestSignOffline(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	file := e.file("signing.key", testSigningKey+"\n")
	for _, tt := range []struct{ name, url, want string }{
		{"whole URL", "https://img.example.com/shop/a.png?w=400", "https://img.example.com/shop/a.png?w=400&kid=abcd2345&sig="},
		{"with a port", "http://localhost:8080/shop/a.png", "http://localhost:8080/shop/a.png?kid=abcd2345&sig="},
		{"path", "/shop/a.png?w=400&h=300", "/shop/a.png?w=400&h=300&kid=abcd2345&sig="},
		{"as a browser sends it", " /shop/a b/é.png?wm=é.png ", "/shop/a%20b/%C3%A9.png?wm=%C3%A9.png&kid=abcd2345&sig="},
		{"escapes stay", "/shop/%c3%a9%2fb.png?w=%34", "/shop/%c3%a9%2fb.png?w=%34&kid=abcd2345&sig="},
		{"unknown twice", "/shop/a.png?x=1&x=2", "/shop/a.png?x=1&x=2&kid="},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got := e.run(&signCmd{URL: tt.url, KeyFile: file}, formatTable, "")
			if got.code != exitOK || !strings.HasPrefix(got.out, tt.want) || strings.Count(got.out, "\n") != 1 {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
		})
	}
	got := e.run(&signCmd{URL: "https://img.example.com/shop/a.png?w=1", KeyFile: "-", Expires: "2099-01-31T00:00:00Z"}, formatJSON, testSigningKey)
	v, err := client.Decode([]byte(got.out))
	if err != nil || v.Get("expires_at").Text() != "2099-01-31T00:00:00Z" {
		t.Fatalf("%v in %+v", err, got)
	}
	if exp := verified(t, v.Get("url").Text()); exp.Format(time.RFC3339) != "2099-01-31T00:00:00Z" {
		t.Errorf("ends at %v", exp)
	}
	got = e.run(&signCmd{URL: "/shop/a.png", KeyFile: file}, formatYAML, "")
	if !strings.Contains(got.out, "expires_at: null\n") {
		t.Errorf("got %+v", got)
	}
}

// TestSignByServer: without a key the server signs, with the newest key of the alias, and the
// rounded end is the same one.
func TestSignByServer(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.call(http.MethodPost, map[string]any{"name": "shop", "bucket": "acme-media", "region": "eu-west-1", "credential": nil}, "aliases")
	const url = "https://img.example.com/shop/a b.png?utm_x=1&w=400"
	if got := e.run(&signCmd{URL: url}, formatTable, ""); got.code != exitConflict || !strings.Contains(got.err, "signing-key") {
		t.Errorf("without a key: %+v", got)
	}
	made := e.call(http.MethodPost, nil, "aliases", "shop", "signing-keys")
	file := e.file("signing.key", made.Get("kid").Text()+":"+made.Get("secret").Text())
	for _, cmd := range []signCmd{
		{URL: url},
		{URL: url, Expires: "2099-01-31T00:00:00Z"},
		{URL: url, Expires: "1h", Round: new(100000 * time.Hour)},
	} {
		for _, format := range []string{formatTable, formatJSON, formatYAML} {
			asked := e.run(&cmd, format, "")
			offline := cmd
			offline.KeyFile = file
			if alone := e.run(&offline, format, ""); asked != alone || asked.code != exitOK {
				t.Errorf("%+v, %s: the server signs\n%+v\nand the command alone\n%+v", cmd, format, asked, alone)
			}
		}
	}
	if got := e.run(&signCmd{URL: "/shpo/a.png"}, formatTable, ""); got.code != exitNotFound || !strings.Contains(got.err, "Did you mean shop?") {
		t.Errorf("unknown alias: %+v", got)
	}
}

func TestSignKeyOfVariable(t *testing.T) {
	e := newEnv(t)
	t.Setenv(envSigningKey, testSigningKey)
	got := e.run(&signCmd{URL: "https://img.example.com/shop/a.png?w=400", Expires: "1h"}, formatTable, "")
	if exp := verified(t, strings.TrimSpace(got.out)); time.Until(exp) > time.Hour+time.Second || time.Until(exp) < 59*time.Minute {
		t.Errorf("ends at %v: %+v", exp, got)
	}
	// The flag wins.
	file := e.file("other.key", "other222:"+strings.Repeat("A", 43))
	if got := e.run(&signCmd{URL: "/shop/a.png", KeyFile: file}, formatTable, ""); !strings.Contains(got.out, "kid=other222&") {
		t.Errorf("got %+v", got)
	}
}

func TestSignRefuses(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	good := e.file("signing.key", testSigningKey)
	bad := e.file("bad.key", testSigningKey+"=")
	for _, tt := range []struct {
		name string
		cmd  signCmd
		want string
	}{
		{"no alias", signCmd{URL: "https://img.example.com/"}, "not the URL of a picture"},
		{"no path", signCmd{URL: "https://img.example.com"}, "not the URL of a picture"},
		{"no key", signCmd{URL: "https://img.example.com/shop/"}, "not the URL of a picture"},
		{"no scheme", signCmd{URL: "img.example.com/shop/a.png"}, "not the URL of a picture"},
		{"other scheme", signCmd{URL: "s3://shop/a.png"}, "not the URL of a picture"},
		{"no alias of this form", signCmd{URL: "/Shop/a.png"}, "not the URL of a picture"},
		{"dots", signCmd{URL: "/shop/../a.png"}, "not the URL of a picture"},
		{"bad escape", signCmd{URL: "/shop/a%2.png"}, "not the URL of a picture"},
		{"fragment", signCmd{URL: "/shop/a.png?w=4#x"}, "fragment"},
		{"bad option", signCmd{URL: "https://img.example.com/shop/a b.png?bg=fff&w=wide"}, "answers 400 to this URL: w is a number"},
		{"signed", signCmd{URL: "/shop/a.png?w=4&kid=a&sig=b"}, "exp, kid or sig already"},
		{"with an expiry", signCmd{URL: "/shop/a.png?exp=1798761600"}, "exp, kid or sig already"},
		{"bad escape in the query", signCmd{URL: "/shop/a.png?bg=%zz"}, "hex digits"},
		{"expires soon", signCmd{URL: "/shop/a.png", Expires: "soon"}, "--expires: "},
		{"expires in the past", signCmd{URL: "/shop/a.png", Expires: "2001-01-01T00:00:00Z"}, "--expires: 2001-01-01T00:00:00Z is not in the future"},
		{"expires now", signCmd{URL: "/shop/a.png", Expires: "0s"}, "not in the future"},
		{"round alone", signCmd{URL: "/shop/a.png", Round: new(time.Hour)}, "--round: "},
		{"round to less than a second", signCmd{URL: "/shop/a.png", Expires: "1h", Round: new(time.Millisecond)}, "--round: "},
		{"round to a fraction", signCmd{URL: "/shop/a.png", Expires: "1h", Round: new(1500 * time.Millisecond)}, "--round: "},
		{"round to nothing", signCmd{URL: "/shop/a.png", Expires: "1h", Round: new(time.Duration(0))}, "--round: "},
		{"no such file", signCmd{URL: "/shop/a.png", KeyFile: "/no/such.key"}, "--key-file: open /no/such.key"},
		{"no key in the file", signCmd{URL: "/shop/a.png", KeyFile: bad}, "--key-file " + bad + ": not a signing key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.cmd.KeyFile == "" {
				tt.cmd.KeyFile = good
			}
			got := e.run(&tt.cmd, formatTable, "")
			if got.code != exitUsage || got.out != "" || !strings.Contains(got.err, tt.want) {
				t.Errorf("got %+v, want %s", got, tt.want)
			}
			if _, secret, _ := strings.Cut(testSigningKey, ":"); strings.Contains(got.err, secret) {
				t.Errorf("the error has the secret: %s", got.err)
			}
		})
	}
}

// TestSignEnd: ends are rounded up, never down, and to the same second for as long as the
// step.
func TestSignEnd(t *testing.T) {
	t.Parallel()
	at := func(clock string) time.Time {
		end, err := time.Parse(time.RFC3339Nano, "2026-11-30T"+clock+"Z")
		if err != nil {
			t.Fatal(err)
		}
		return end
	}
	for _, tt := range []struct{ now, expires, round, want string }{
		{"10:00:00", "1h", "", "11:00:00"},
		{"10:00:00.1", "1h", "", "11:00:01"},
		{"10:00:00", "1h", "1h", "11:00:00"},
		{"10:00:00.1", "1h", "1h", "12:00:00"},
		{"10:20:00", "1h", "1h", "12:00:00"},
		{"10:59:59", "1h", "1h", "12:00:00"},
		{"10:20:00", "1s", "15m", "10:30:00"},
		{"10:20:00", "2026-11-30T11:20:30Z", "1m", "11:21:00"},
		{"10:20:00", "2026-11-30T12:20:30+01:00", "1m", "11:21:00"},
	} {
		c := signCmd{Expires: tt.expires}
		if tt.round != "" {
			d, err := time.ParseDuration(tt.round)
			if err != nil {
				t.Fatal(err)
			}
			c.Round = &d
		}
		if got, err := c.end(at(tt.now)); err != nil || !got.Equal(at(tt.want)) {
			t.Errorf("%+v: got %v, %v", tt, got, err)
		}
	}
}
