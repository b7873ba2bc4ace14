package alias

import (
	"errors"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// good is an alias without a fault, for tests to put one in.
func good() *Alias {
	a := New()
	a.Name, a.State = "shop", StateActive
	a.Location = Location{Bucket: "acme-media", Prefix: "website-images/", Region: "eu-west-1"}
	return a
}

// fields lists the fields that an error is about.
func fields(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *ValidationError
	if !errors.As(err, &e) {
		t.Fatalf("got %T (%v), want a *ValidationError", err, err)
	}
	list := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		list[i] = p.Field
		if p.Detail == "" {
			t.Errorf("%s: no detail", p.Field)
		}
	}
	return list
}

// wantField checks that exactly the field is wrong, or nothing for "".
func wantField(t *testing.T, err error, field string) {
	t.Helper()
	if got := strings.Join(fields(t, err), " "); got != field {
		t.Errorf("got problems with %q (%v), want with %q", got, err, field)
	}
}

func TestValidateChange(t *testing.T) {
	t.Parallel()
	everything := func(a *Alias) {
		*a = Alias{
			Name: "A", Location: Location{Bucket: "-", BucketOwner: "1", Prefix: "*/", Region: "-", Endpoint: "x"},
			Canary: "/", TTL: -1, NegativeTTL: -1, StaleWhileRevalidate: -1, StaleIfError: -1, State: "x",
			CacheControl: "x", CORSOrigins: []string{"x"}, CORSHeaders: []string{"x x"}, Fallback: Fallback{"/", "/a"}, CacheMin: -1, CacheMax: -1,
			Transforms: "x", Access: "x", Widths: []int{0}, Templates: map[string]string{"x": "", "-": ""},
		}
	}
	every := "name bucket bucket_owner prefix region endpoint canary ttl negative_ttl stale_while_revalidate stale_if_error " +
		"cache_control cors_origins cors_headers fallback.missing fallback.broken cache_min cache_max transforms access widths templates templates.x state"
	plain := func(a *Alias) { a.Endpoint = "http://s3.example.com" }
	for _, row := range []struct {
		name      string
		old, edit func(*Alias)
		want      string
	}{
		{"nothing is wrong", func(*Alias) {}, func(a *Alias) { a.Enabled = true }, ""},
		{"wrong before, another field changes", plain, func(a *Alias) { a.Enabled = true; a.Bucket = "other" }, ""},
		{"everything is wrong before", everything, func(*Alias) {}, ""},
		{"everything becomes wrong", func(*Alias) {}, everything, every},
		{"everything is wrong in another way", everything, func(a *Alias) {
			*a = Alias{
				Name: "B", Location: Location{Bucket: "+", BucketOwner: "2", Prefix: "?/", Region: "+", Endpoint: "y"},
				Canary: "//", TTL: -2, NegativeTTL: -2, StaleWhileRevalidate: -2, StaleIfError: -2, State: "y",
				CacheControl: "y", CORSOrigins: []string{"y"}, CORSHeaders: []string{"y y"}, Fallback: Fallback{"//", "//a"}, CacheMin: -2, CacheMax: -2,
				Transforms: "y", Access: "y", Widths: []int{-1}, Templates: map[string]string{"x": "?", "--": ""},
			}
		}, every},
		{"wrong before, and in the same way with another value", plain, func(a *Alias) { a.Endpoint = "http://s3.example.org" }, "endpoint"},
		{"mended", plain, func(a *Alias) { a.Endpoint = "" }, ""},
		{"another field is wrong now", plain, func(a *Alias) { a.TTL = -1 }, "ttl"},
		{
			"a field that was good suffers from another", func(a *Alias) { a.Canary = strings.Repeat("a", 600) },
			func(a *Alias) { a.Prefix = strings.Repeat("a", 500) + "/" }, "canary",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			old := good()
			row.old(old)
			next := *old
			row.edit(&next)
			wantField(t, next.ValidateChange(old, Policy{}), row.want)
		})
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	for name, valid := range map[string]bool{
		"a": true, "0": true, "a-b": true, "a--b": true, "0a": true, "xn--a": true,
		strings.Repeat("a", 63): true, strings.Repeat("a", 64): false,
		"": false, "-": false, "-a": false, "a-": false, "A": false, "aB": false, "a_b": false, "a.b": false, "a b": false,
		"a/b": false, "ä": false, "a\x00": false, "a\n": false, "..": false, "\xff": false,
	} {
		got, err := ParseName(name)
		if (err == nil) != valid || string(got) != name {
			t.Errorf("ParseName(%q): got %q, %v, want valid %v", name, got, err, valid)
		}
		if !valid {
			wantField(t, err, "name")
		}
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	long := func(n int) string { return strings.Repeat("a", n-1) + "/" }
	for _, row := range []struct {
		name  string
		edit  func(*Alias)
		field string // what is wrong, or empty
	}{
		{"good", func(*Alias) {}, ""},
		{"name", func(a *Alias) { a.Name = "Shop" }, "name"},

		{"bucket empty", func(a *Alias) { a.Bucket = "" }, "bucket"},
		{"bucket of 2", func(a *Alias) { a.Bucket = "ab" }, "bucket"},
		{"bucket of 3", func(a *Alias) { a.Bucket = "a.b" }, ""},
		{"bucket of 63", func(a *Alias) { a.Bucket = strings.Repeat("a", 63) }, ""},
		{"bucket of 64", func(a *Alias) { a.Bucket = strings.Repeat("a", 64) }, "bucket"},
		{"bucket with dots and hyphens", func(a *Alias) { a.Bucket = "0a.b-c.d9" }, ""},
		{"bucket in upper case", func(a *Alias) { a.Bucket = "Acme" }, "bucket"},
		{"bucket with underscore", func(a *Alias) { a.Bucket = "acme_media" }, "bucket"},
		{"bucket with slash", func(a *Alias) { a.Bucket = "acme/media" }, "bucket"},
		{"bucket with a wide letter", func(a *Alias) { a.Bucket = "acme\u0161media" }, "bucket"}, // its low byte is a letter
		{"bucket that begins with a dot", func(a *Alias) { a.Bucket = ".acme" }, "bucket"},
		{"bucket that ends with a hyphen", func(a *Alias) { a.Bucket = "acme-" }, "bucket"},
		{"bucket with two dots", func(a *Alias) { a.Bucket = "acme..media" }, "bucket"},
		{"bucket as an address", func(a *Alias) { a.Bucket = "192.168.5.4" }, "bucket"},
		{"bucket like an address", func(a *Alias) { a.Bucket = "999.1.1.256" }, "bucket"},
		{"bucket of five numbers", func(a *Alias) { a.Bucket = "1.2.3.4.5" }, ""},
		{"bucket as an ARN", func(a *Alias) { a.Bucket = "arn:aws:s3:::acme" }, "bucket"},
		{"access point ARN", func(a *Alias) { a.Bucket = "arn:aws:s3:eu-west-1:123456789012:accesspoint/x" }, "bucket"},
		{"directory bucket", func(a *Alias) { a.Bucket = "acme--euw1-az1--x-s3" }, "bucket"},
		{"object lambda", func(a *Alias) { a.Bucket = "acme--ol-s3" }, "bucket"},
		{"access point alias", func(a *Alias) { a.Bucket = "acme-s3alias" }, "bucket"},
		{"multi-region access point", func(a *Alias) { a.Bucket = "acme.mrap" }, "bucket"},
		{"table bucket", func(a *Alias) { a.Bucket = "acme--table-s3" }, "bucket"},
		{"xn--", func(a *Alias) { a.Bucket = "xn--acme" }, "bucket"},
		{"sthree-", func(a *Alias) { a.Bucket = "sthree-acme" }, "bucket"},
		{"amzn-s3-demo-", func(a *Alias) { a.Bucket = "amzn-s3-demo-bucket" }, "bucket"},
		{"reserved words elsewhere", func(a *Alias) { a.Bucket = "a-sthree-xn--x-s3-b" }, ""},

		{"owner", func(a *Alias) { a.BucketOwner = "012345678901" }, ""},
		{"owner of 11", func(a *Alias) { a.BucketOwner = "01234567890" }, "bucket_owner"},
		{"owner of 13", func(a *Alias) { a.BucketOwner = "0123456789012" }, "bucket_owner"},
		{"owner with a letter", func(a *Alias) { a.BucketOwner = "01234567890a" }, "bucket_owner"},

		{"no prefix", func(a *Alias) { a.Prefix = "" }, ""},
		{"prefix with every mark", func(a *Alias) { a.Prefix = "Az09/!_.'()@=+,-/" }, ""},
		{"prefix without slash", func(a *Alias) { a.Prefix = "a" }, "prefix"},
		{"prefix with two slashes", func(a *Alias) { a.Prefix = "a//" }, "prefix"},
		{"prefix with an empty segment", func(a *Alias) { a.Prefix = "a//b/" }, "prefix"},
		{"prefix of a slash", func(a *Alias) { a.Prefix = "/" }, "prefix"},
		{"prefix that begins with a slash", func(a *Alias) { a.Prefix = "/a/" }, "prefix"},
		{"prefix with a dot segment", func(a *Alias) { a.Prefix = "a/./b/" }, "prefix"},
		{"prefix of two dots", func(a *Alias) { a.Prefix = "../" }, "prefix"},
		{"prefix with three dots", func(a *Alias) { a.Prefix = ".../" }, ""},
		{"prefix of 512", func(a *Alias) { a.Prefix = long(512) }, ""},
		{"prefix of 513", func(a *Alias) { a.Prefix = long(513) }, "prefix"},

		{"region empty", func(a *Alias) { a.Region = "" }, "region"},
		{"region auto", func(a *Alias) { a.Region = "auto" }, ""},
		{"region in upper case", func(a *Alias) { a.Region = "EU-WEST-1" }, "region"},
		{"region with a dot", func(a *Alias) { a.Region = "eu.evil" }, "region"},
		{"region with a slash", func(a *Alias) { a.Region = "x.evil.com/" }, "region"},
		{"region that begins with a hyphen", func(a *Alias) { a.Region = "-eu" }, "region"},
		{"region of 64", func(a *Alias) { a.Region = strings.Repeat("a", 64) }, "region"},

		{"canary", func(a *Alias) { a.Canary = "a b/ü?*.jpg" }, ""},
		{"canary with leading slash", func(a *Alias) { a.Canary = "/a" }, "canary"},
		{"canary with trailing slash", func(a *Alias) { a.Canary = "a/" }, "canary"},
		{"canary with empty segment", func(a *Alias) { a.Canary = "a//b" }, "canary"},
		{"canary with dot segment", func(a *Alias) { a.Canary = "a/./b" }, "canary"},
		{"canary with two dots", func(a *Alias) { a.Canary = "../b" }, "canary"},
		{"canary with control byte", func(a *Alias) { a.Canary = "a\x1fb" }, "canary"},
		{"canary with NUL", func(a *Alias) { a.Canary = "a\x00b" }, "canary"},
		{"canary with DEL", func(a *Alias) { a.Canary = "a\x7fb" }, "canary"},
		{"canary with backslash", func(a *Alias) { a.Canary = `a\b` }, "canary"},
		{"canary that is no UTF-8", func(a *Alias) { a.Canary = "a\xffb" }, "canary"},
		{"canary that just fits", func(a *Alias) { a.Canary = strings.Repeat("c", 1024-len(a.Prefix)) }, ""},
		{"canary that does not fit", func(a *Alias) { a.Canary = strings.Repeat("c", 1025-len(a.Prefix)) }, "canary"},

		{"ttl zero", func(a *Alias) { a.TTL, a.NegativeTTL, a.StaleWhileRevalidate, a.StaleIfError = 0, 0, 0, 0 }, ""},
		{"ttl negative", func(a *Alias) { a.TTL = -1 }, "ttl"},
		{"ttl at the limit", func(a *Alias) { a.TTL = 87600 * time.Hour }, ""},
		{"ttl above", func(a *Alias) { a.TTL = 87600*time.Hour + 1 }, "ttl"},
		{"negative_ttl negative", func(a *Alias) { a.NegativeTTL = -1 }, "negative_ttl"},
		{"negative_ttl at the limit", func(a *Alias) { a.NegativeTTL = time.Hour }, ""},
		{"negative_ttl above", func(a *Alias) { a.NegativeTTL = time.Hour + 1 }, "negative_ttl"},
		{"stale_while_revalidate negative", func(a *Alias) { a.StaleWhileRevalidate = -1 }, "stale_while_revalidate"},
		{"stale_while_revalidate above", func(a *Alias) { a.StaleWhileRevalidate = 87601 * time.Hour }, "stale_while_revalidate"},
		{"stale_if_error negative", func(a *Alias) { a.StaleIfError = -1 }, "stale_if_error"},
		{"stale_if_error above", func(a *Alias) { a.StaleIfError = 1<<63 - 1 }, "stale_if_error"},

		{"state provisioning", func(a *Alias) { a.State = StateProvisioning }, ""},
		{"state failed", func(a *Alias) { a.State = StateFailed }, ""},
		{"state unknown", func(a *Alias) { a.State = "open" }, "state"},
		{"state empty", func(a *Alias) { a.State = "" }, "state"},

		{"everything at once", func(a *Alias) {
			*a = Alias{Name: "-", Location: Location{Bucket: "-", BucketOwner: "-", Prefix: "*", Region: "-", Endpoint: "-"}, Canary: "/", TTL: -1, NegativeTTL: -1, StaleWhileRevalidate: -1, StaleIfError: -1, State: "-", CacheControl: "-", CORSOrigins: []string{"-"}, CORSHeaders: []string{"-,"}, Fallback: Fallback{"-/", "-/"}, CacheMin: -1, CacheMax: -1}
		}, "name bucket bucket_owner prefix region endpoint canary ttl negative_ttl stale_while_revalidate stale_if_error cache_control cors_origins cors_headers fallback cache_min cache_max transforms access state"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := good()
			row.edit(a)
			before := *a
			wantField(t, a.Validate(Policy{}), row.field)
			if !a.same(&before) {
				t.Error("Validate changed the alias")
			}
		})
	}
}

// TestPrefixCharacters goes through every ASCII character and some others.
func TestPrefixCharacters(t *testing.T) {
	t.Parallel()
	const refused = "*?$\\\x7f"
	for c := range rune(0x80) {
		prefix := "x" + string(c) + "x/"
		want := c >= ' ' && !strings.ContainsRune(refused, c)
		if got := prefixProblem(prefix) == ""; got != want {
			t.Errorf("prefix %q: got valid %v, want %v", prefix, got, want)
		}
	}
	for text, want := range map[string]bool{
		"ö": true, "o\u0308": true, "日本": true, "💥": true, "\u202e": true, "\u2028": true, "\u00a0": true, " ": true, "~": true,
		"\x80": false, "\xff": false, "\xc3": false, "\xed\xa0\x80": false, "\u0085": false, "\u009f": false, "\ufffd": false,
		"${*}": false, "${aws:username}": false, "{a}": true, "%2e%2e": true, "%2F": true,
	} {
		for _, prefix := range []string{text + "/", "x" + text + "/", "a/" + text + "x/b/"} {
			if got := prefixProblem(prefix) == ""; got != want {
				t.Errorf("prefix %q: got valid %v, want %v", prefix, got, want)
			}
		}
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, prefix, endpoint, region, wantPrefix, wantEndpoint, wantRegion string }{
		{name: "nothing to do", prefix: "a/", region: "eu-west-1", wantPrefix: "a/", wantRegion: "eu-west-1"},
		{name: "slash", prefix: "a/b", wantPrefix: "a/b/"},
		{name: "no second slash", prefix: "a//", wantPrefix: "a//"},
		{name: "whole bucket", prefix: "", wantPrefix: ""},
		{name: "region of AWS is not guessed", region: "", wantRegion: ""},
		{name: "region of an endpoint", endpoint: "https://h", wantEndpoint: "https://h", wantRegion: "us-east-1"},
		{name: "region kept", endpoint: "https://h", region: "fra1", wantEndpoint: "https://h", wantRegion: "fra1"},
		{name: "endpoint", endpoint: "HTTPS://S3.Example.COM:9000/", wantEndpoint: "https://s3.example.com:9000", wantRegion: "us-east-1"},
		{name: "endpoint with a path is not mended", endpoint: "https://H/p", wantEndpoint: "https://H/p", wantRegion: "us-east-1"},
		{name: "endpoint with a query is not mended", endpoint: "https://H?", wantEndpoint: "https://H?", wantRegion: "us-east-1"},
		{name: "endpoint with a user is not mended", endpoint: "https://u@H", wantEndpoint: "https://u@H", wantRegion: "us-east-1"},
		{name: "no URL", endpoint: "%", wantEndpoint: "%", wantRegion: "us-east-1"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			a := Alias{Location: Location{Prefix: row.prefix, Endpoint: row.endpoint, Region: row.region}}
			for range 2 { // the second time nothing is left to do
				a.Normalize()
				if a.Prefix != row.wantPrefix || a.Endpoint != row.wantEndpoint || a.Region != row.wantRegion {
					t.Errorf("got prefix %q, endpoint %q, region %q", a.Prefix, a.Endpoint, a.Region)
				}
			}
			if a.State != StateActive {
				t.Errorf("got state %q", a.State)
			}
		})
	}
}

func TestKeyPairProblems(t *testing.T) {
	t.Parallel()
	const id, secret = "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	for _, row := range []struct{ name, id, secret, field string }{
		{"AWS", id, secret, ""},
		{"shortest", "a", "b", ""},
		{"R2", "8d1a4f0c2b6e7a9d8d1a4f0c2b6e7a9d", strings.Repeat("0f", 32), ""},
		{"MinIO", "minio.admin-1@example_com", "minio:admin!", ""},
		{"longest", strings.Repeat("a", 128), strings.Repeat("b", 256), ""},
		{"no id", "", secret, "access_key_id"},
		{"id too long", strings.Repeat("a", 129), secret, "access_key_id"},
		{"id with space", "AKIA X", secret, "access_key_id"},
		{"id with slash", "AKIA/X", secret, "access_key_id"},
		{"id with comma", "AKIA,X", secret, "access_key_id"},
		{"id with equals sign", "AKIA=X", secret, "access_key_id"},
		{"id with quote", `AKIA"X`, secret, "access_key_id"},
		{"id with line break", "AKIA\n", secret, "access_key_id"},
		{"id not ASCII", "AKIÄ", secret, "access_key_id"},
		{"temporary id", "ASIAIOSFODNN7EXAMPLE", secret, "access_key_id"},
		{"no secret", id, "", "secret_access_key"},
		{"secret too long", id, strings.Repeat("b", 257), "secret_access_key"},
		{"secret with space", id, secret + " ", "secret_access_key"},
		{"secret with line break", id, secret + "\n", "secret_access_key"},
		{"secret not ASCII", id, "ß", "secret_access_key"},
		{"swapped", secret, id + " ", "access_key_id secret_access_key"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			err := invalid(KeyPair{AccessKeyID: row.id, SecretAccessKey: NewSecret(row.secret)}.problems())
			wantField(t, err, row.field)
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("error %q shows a secret", err)
			}
		})
	}
}

func FuzzParseName(f *testing.F) {
	for _, s := range []string{"shop", "", "-", "a-b", "A", "\x00", strings.Repeat("a", 64)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := ParseName(s)
		if err != nil {
			return
		}
		if string(name) != s || len(s) == 0 || len(s) > 63 || strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" ||
			strings.HasPrefix(s, "-") || strings.HasSuffix(s, "-") {
			t.Errorf("ParseName(%q) accepted it", s)
		}
	})
}

// FuzzValidate: whatever passes is safe in an IAM policy, in a host name and as
// the beginning of a key.
func FuzzValidate(f *testing.F) {
	f.Add("shop", "acme-media", "website-images", "eu-west-1", "", "a.jpg")
	f.Add("a", "a.b", "*", "x", "https://host:1/", "..")
	f.Add("a", "a-b", "Größe & (100%)/a+b/\"💥\"", "x", "", "é b.jpg")
	f.Add("a", "arn:aws:s3:::x", "a/../b/", "", "http://169.254.169.254", "\xff")
	f.Fuzz(func(t *testing.T, name, bucket, prefix, region, endpoint, canary string) {
		a := good()
		a.Name, a.Canary = Name(name), canary
		a.Location = Location{Bucket: bucket, Prefix: prefix, Region: region, Endpoint: endpoint}
		a.Normalize()
		once := *a
		if a.Normalize(); !a.same(&once) {
			t.Errorf("Normalize twice: got %+v, want %+v", *a, once)
		}
		if a.Validate(Policy{}) != nil {
			return
		}
		checkPrefix(t, a.Prefix)
		if strings.ContainsAny(a.Bucket+a.Region, "/:@?#%* \\") || strings.Contains(a.Bucket, "..") || strings.Contains(a.Region, ".") {
			t.Errorf("bucket %q or region %q would leave its place in a host name", a.Bucket, a.Region)
		}
		if key := a.Prefix + a.Canary; len(key) > MaxKey || !utf8.ValidString(key) || strings.Contains("/"+key+"/", "/../") {
			t.Errorf("key %q", key)
		}
		if a.Endpoint != "" && (!strings.HasPrefix(a.Endpoint, "https://") || strings.ContainsAny(a.Endpoint[8:], "/?#@\\ ")) {
			t.Errorf("endpoint %q", a.Endpoint)
		}
	})
}

func checkPrefix(t *testing.T, prefix string) {
	t.Helper()
	switch {
	case prefix == "":
	case strings.ContainsAny(prefix, "*?$\\\x00\ufffd") || strings.ContainsFunc(prefix, unicode.IsControl) || !utf8.ValidString(prefix):
		t.Errorf("prefix %q has a wildcard, or a character with two meanings", prefix)
	case !strings.HasSuffix(prefix, "/") || strings.HasSuffix(prefix, "//") || strings.HasPrefix(prefix, "/"):
		t.Errorf("prefix %q does not end in one slash, or begins with one", prefix)
	case strings.Contains("/"+prefix, "/../") || strings.Contains("/"+prefix, "/./") || len(prefix) > maxPrefix:
		t.Errorf("prefix %q", prefix)
	}
}
