package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias"
)

// request is one without a problem.
func request() Request {
	return Request{
		Alias:    "shop",
		Location: alias.Location{Bucket: "acme-media", Prefix: "website-images/", Region: "eu-west-1"},
		Policy:   alias.PolicyInline, Tags: map[string]string{"team": "web"},
		Inside: "website-images/a.jpg", Outside: "private/b.jpg",
	}
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		change func(*Request)
		want   func(*Request)
	}{
		{"nothing", func(*Request) {}, func(*Request) {}},
		{"policy", func(r *Request) { r.Policy = "" }, func(*Request) {}},
		{"a policy that is given", func(r *Request) { r.Policy = "managed" }, func(r *Request) { r.Policy = "managed" }},
		{
			"no policy of a credential", func(r *Request) { r.Policy, r.Credential = "", "media" },
			func(r *Request) { r.Policy, r.Credential = "", "media" },
		},
		{"prefix", func(r *Request) { r.Prefix = "website-images" }, func(*Request) {}},
		{
			"endpoint", func(r *Request) { r.Endpoint, r.Region = "HTTPS://S3.example.com/", "" },
			func(r *Request) { r.Endpoint, r.Region = "https://s3.example.com", "us-east-1" },
		},
		{"no tags", func(r *Request) { r.Tags = map[string]string{} }, func(r *Request) { r.Tags = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, want := request(), request()
			tt.change(&got)
			tt.want(&want)
			for range 2 {
				Normalize(&got)
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestNewAlias(t *testing.T) {
	t.Parallel()
	req := request()
	a := NewAlias(&req)
	if err := a.Validate(alias.Policy{}); err != nil {
		t.Error(err)
	}
	want := &alias.Alias{
		Name: "shop", Location: req.Location, Enabled: true, Canary: "a.jpg", State: alias.StateProvisioning,
		TTL: time.Hour, NegativeTTL: 5 * time.Second, StaleWhileRevalidate: time.Minute, StaleIfError: 24 * time.Hour,
		Transforms: "templates", Access: "open", Widths: []int{20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840},
	}
	if diff := cmp.Diff(want, a); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, inside := range []string{"", "private/a.jpg", "website-images/", "website-images/../a.jpg"} {
		req.Inside = inside
		if a := NewAlias(&req); a.Canary != "" {
			t.Errorf("inside %q became the canary %q", inside, a.Canary)
		}
	}
}

func TestProblems(t *testing.T) {
	t.Parallel()
	tags := func(tags ...string) func(*Request) {
		return func(r *Request) {
			r.Tags = map[string]string{}
			for i := 0; i < len(tags); i += 2 {
				r.Tags[tags[i]] = tags[i+1]
			}
		}
	}
	many := func(n int) func(*Request) {
		return func(r *Request) {
			r.Tags = map[string]string{}
			for i := range n {
				r.Tags[fmt.Sprint("tag", i)] = ""
			}
		}
	}
	reuse := func(change func(*Request)) func(*Request) {
		return func(r *Request) {
			r.Credential, r.Tags = "media", nil
			change(r)
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*Request)
		want   string // fields
	}{
		{"nothing", func(*Request) {}, ""},

		{"policy managed", func(r *Request) { r.Policy = "managed" }, ""},
		{"policy read-only-access", func(r *Request) { r.Policy = "read-only-access" }, ""},
		{"policy unknown", func(r *Request) { r.Policy = "admin" }, "policy"},
		{"policy in capitals", func(r *Request) { r.Policy = "Inline" }, "policy"},
		{"policy left out, not normalized", func(r *Request) { r.Policy = "" }, "policy"},

		{"user name", func(r *Request) { r.UserName = "ixmage-s3read+=,.@_-A1" }, ""},
		{"user name of 64", func(r *Request) { r.UserName = strings.Repeat("u", 64) }, ""},
		{"user name of 65", func(r *Request) { r.UserName = strings.Repeat("u", 65) }, "user_name"},
		{"user name with a slash", func(r *Request) { r.UserName = "a/b" }, "user_name"},
		{"user name with a space", func(r *Request) { r.UserName = "a b" }, "user_name"},
		{"user name with a letter beyond ASCII", func(r *Request) { r.UserName = "é" }, "user_name"},
		{"user name with a line", func(r *Request) { r.UserName = "a\n" }, "user_name"},

		{"no tags", tags(), ""},
		{"45 tags", many(45), ""},
		{"46 tags", many(46), "tags"},
		{"tag in any script", tags("équipe 1:/=+-@_.", "Вэб 1:/=+-@_."), ""},
		{"tag without a value", tags("team", ""), ""},
		{"tag without a name", tags("", "x"), "tags"},
		{"tag's name of 128", tags(strings.Repeat("é", 128), ""), ""},
		{"tag's name of 129", tags(strings.Repeat("é", 129), ""), "tags"},
		{"tag's value of 256", tags("a", strings.Repeat("é", 256)), ""},
		{"tag's value of 257", tags("a", strings.Repeat("é", 257)), "tags"},
		{"tag's name with a comma", tags("a,b", ""), "tags"},
		{"tag's value with a quote", tags("a", `"`), "tags"},
		{"tag's value with a line", tags("a", "b\nc"), "tags"},
		{"tag's value not UTF-8", tags("a", "\xff"), "tags"},
		{"tag of AWS", tags("aws:x", ""), "tags"},
		{"tag of AWS in capitals", tags("AWS:x", ""), "tags"},
		{"tag's value of AWS", tags("x", "aws:y"), "tags"},
		{"tag of ours", tags("ixmage-alias", "x"), "tags"},
		{"tag that begins like ours", tags("ixmagery", "x"), "tags"},
		{"tag of ours in capitals", tags("Ixmage-Install", "x"), "tags"},
		{"tag managed-by", tags("managed-by", "x"), "tags"},
		{"tag Managed-By", tags("Managed-By", "x"), "tags"},
		{"tags that differ by case", tags("team", "a", "Team", "b"), "tags"},
		{"two bad tags", tags("a,b", "", "aws:x", ""), "tags, tags"},

		{"key", func(r *Request) { r.KMSKeyARN = euKey }, ""},
		{"key for many regions", func(r *Request) { r.KMSKeyARN, r.Region = usKey, "us-east-1" }, ""},
		{"key of China", func(r *Request) { r.KMSKeyARN, r.Region = cnKey, "cn-north-1" }, ""},
		{"key of another region", func(r *Request) { r.KMSKeyARN = usKey }, "kms_key_arn"},
		{"key by id", func(r *Request) { r.KMSKeyARN = "1234abcd-12ab-34cd-56ef-1234567890ab" }, "kms_key_arn"},
		{"key by alias", func(r *Request) { r.KMSKeyARN = strings.Replace(euKey, ":key/", ":alias/", 1) }, "kms_key_arn"},
		{"key of 11 digits", func(r *Request) { r.KMSKeyARN = strings.Replace(euKey, ":1234", ":123", 1) }, "kms_key_arn"},
		{"every key", func(r *Request) { r.KMSKeyARN = "arn:aws:kms:eu-west-1:123456789012:key/*" }, "kms_key_arn"},
		{"key of another service", func(r *Request) { r.KMSKeyARN = strings.Replace(euKey, ":kms:", ":s3:", 1) }, "kms_key_arn"},
		{"key and a line", func(r *Request) { r.KMSKeyARN = euKey + "\n" }, "kms_key_arn"},
		{"key and read-only-access", func(r *Request) { r.KMSKeyARN, r.Policy = euKey, "read-only-access" }, "kms_key_arn"},

		{"no probes", func(r *Request) { r.Inside, r.Outside = "", "" }, ""},
		{"inside deep", func(r *Request) { r.Inside = "website-images/a b/é'.jpg" }, ""},
		{"inside of a whole bucket", func(r *Request) { r.Prefix, r.Inside, r.Outside = "", "a.jpg", "" }, ""},
		{"inside is outside", func(r *Request) { r.Inside = "private/b.jpg" }, "probe.inside"},
		{"inside is the folder", func(r *Request) { r.Inside = "website-images/" }, "probe.inside"},
		{"inside is a sibling", func(r *Request) { r.Inside = "website-images-2/a.jpg" }, "probe.inside"},
		{"inside with dots", func(r *Request) { r.Inside = "website-images/../b.jpg" }, "probe.inside"},
		{"inside with two slashes", func(r *Request) { r.Inside = "website-images//b.jpg" }, "probe.inside"},
		{"inside ends with a slash", func(r *Request) { r.Inside = "website-images/b/" }, "probe.inside"},
		{"inside with a backslash", func(r *Request) { r.Inside = `website-images/a\b` }, "probe.inside"},
		{"inside with a line", func(r *Request) { r.Inside = "website-images/a\nb" }, "probe.inside"},
		{"inside not UTF-8", func(r *Request) { r.Inside = "website-images/\xff" }, "probe.inside"},
		{"inside of 1024", func(r *Request) { r.Inside = r.Prefix + strings.Repeat("k", 1024-len(r.Prefix)) }, ""},
		{"inside of 1025", func(r *Request) { r.Inside = r.Prefix + strings.Repeat("k", 1025-len(r.Prefix)) }, "probe.inside"},
		{"outside is a sibling", func(r *Request) { r.Outside = "website-images-2/b.jpg" }, ""},
		{"outside is inside", func(r *Request) { r.Outside = "website-images/b.jpg" }, "probe.outside"},
		{"outside of a whole bucket", func(r *Request) { r.Prefix, r.Inside, r.Outside = "", "a.jpg", "b.jpg" }, "probe.outside"},
		{"outside with dots", func(r *Request) { r.Outside = "./b.jpg" }, "probe.outside"},
		{"outside begins with a slash", func(r *Request) { r.Outside = "/b.jpg" }, "probe.outside"},
		{"outside of 1025", func(r *Request) { r.Outside = strings.Repeat("k", 1025) }, "probe.outside"},

		{"rotation of an hour", func(r *Request) { r.RotateEvery = time.Hour }, ""},
		{"rotation of ten years", func(r *Request) { r.RotateEvery = 10 * 365 * 24 * time.Hour }, ""},
		{"rotation below an hour", func(r *Request) { r.RotateEvery = time.Hour - 1 }, "rotate_every"},
		{"rotation above ten years", func(r *Request) { r.RotateEvery = 10*365*24*time.Hour + 1 }, "rotate_every"},
		{"rotation below zero", func(r *Request) { r.RotateEvery = -1 }, "rotate_every"},

		{"reuse", reuse(func(*Request) {}), ""},
		{"reuse without a policy", reuse(func(r *Request) { r.Policy = "" }), ""},
		{"reuse with an unknown policy", reuse(func(r *Request) { r.Policy = "admin" }), "policy"},
		{"reuse of no name", reuse(func(r *Request) { r.Credential = "Media!" }), "credential"},
		{"reuse and user name", reuse(func(r *Request) { r.UserName = "u" }), "user_name"},
		{"reuse and tags", reuse(tags("team", "web")), "tags"},
		{"reuse and rotation", reuse(func(r *Request) { r.RotateEvery = time.Hour }), "rotate_every"},
		{"reuse and key", reuse(func(r *Request) { r.KMSKeyARN = euKey }), ""},

		{"adopt", func(r *Request) { r.Adopt = "ixmage-s3read" }, ""},
		{"adopt and retire", func(r *Request) { r.Adopt, r.Retire = "ixmage-s3read", true }, ""},
		{"adopt and rotation", func(r *Request) { r.Adopt, r.RotateEvery = "ixmage-s3read", time.Hour }, ""},
		{"adopt no user name", func(r *Request) { r.Adopt = "a/b" }, "adopt"},
		{"adopt and user name", func(r *Request) { r.Adopt, r.UserName = "ixmage-s3read", "u" }, "adopt"},
		{"adopt and reuse", reuse(func(r *Request) { r.Adopt = "ixmage-s3read" }), "adopt"},
		{"retire alone", func(r *Request) { r.Retire = true }, "retire"},

		{"everything", func(r *Request) {
			*r = Request{
				Location: r.Location, Policy: "x", Credential: "X", UserName: "/", Tags: map[string]string{"aws:": ""},
				KMSKeyARN: "x", Inside: "x", Outside: r.Prefix + "x", RotateEvery: 1, Retire: true,
			}
		}, "policy, user_name, tags, kms_key_arn, probe.inside, probe.outside, rotate_every, retire, credential, user_name, tags, rotate_every"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := request()
			tt.change(&req)
			before := req
			before.Tags = maps.Clone(req.Tags)
			var fields []string
			for _, p := range requestProblems(&req) {
				fields = append(fields, p.Field)
				if p.Detail == "" || strings.Contains(p.Detail, "\n") || !utf8.ValidString(p.Detail) {
					t.Errorf("%s: %q", p.Field, p.Detail)
				}
			}
			if got := strings.Join(fields, ", "); got != tt.want {
				t.Errorf("got problems with %q, want %q: %v", got, tt.want, requestProblems(&req))
			}
			if diff := cmp.Diff(before, req); diff != "" {
				t.Errorf("the request was changed:\n%s", diff)
			}
		})
	}
}

func TestAllowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		patterns []string
		bucket   string
		want     bool
	}{
		{"no pattern", nil, "acme-media", false},
		{"an empty pattern", []string{""}, "acme-media", false},
		{"the name", []string{"acme-media"}, "acme-media", true},
		{"another name", []string{"acme-media"}, "acme-media-2", false},
		{"the beginning of a name", []string{"acme-media"}, "acme", false},
		{"begins so", []string{"acme-*"}, "acme-media", true},
		{"nothing for the wildcard", []string{"acme-*"}, "acme-", true},
		{"begins otherwise", []string{"acme-*"}, "xacme-media", false},
		{"hyphen missing", []string{"acme-*"}, "acme", false},
		{"ends so", []string{"*-media"}, "acme-media", true},
		{"ends otherwise", []string{"*-media"}, "acme-media-2", false},
		{"in the middle", []string{"acme-*-eu"}, "acme-media-eu", true},
		{"begin and end overlap", []string{"acme-*-eu"}, "acme-eu", false},
		{"two wildcards", []string{"a*b*c"}, "axxbxxbxxc", true},
		{"two wildcards, wrong order", []string{"a*b*c*d"}, "a-c-b-d", false},
		{"the last part is used once", []string{"a*bc*c"}, "abc", false},
		{"everything", []string{"*"}, "acme-media", true},
		{"two in a row", []string{"**"}, "acme-media", true},
		{"a dot is a dot", []string{"a.b"}, "axb", false},
		{"a question mark is none", []string{"a?b"}, "axb", false},
		{"one of several", []string{"other", "acme-*"}, "acme-media", true},
		{"none of several", []string{"other", "acme-*"}, "zoo", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := Allowed(tt.patterns, tt.bucket); got != tt.want {
				t.Errorf("got %t, want %t", got, tt.want)
			}
		})
	}
}

// TestRequestJSON: a request without the fields of this version is stored as the version
// before stored it, or the same request again would be another one.
func TestRequestJSON(t *testing.T) {
	t.Parallel()
	const before = `{"alias":"shop","bucket":"acme-media","bucket_owner":"","prefix":"website-images/","region":"eu-west-1",` +
		`"endpoint":"","path_style":false,"policy":"inline","credential":"","user_name":"","tags":{"team":"web"},"kms_key_arn":"",` +
		`"inside":"website-images/a.jpg","outside":"private/b.jpg","rotate_every":0`
	req := request()
	for _, tt := range []struct {
		change func(*Request)
		want   string
	}{
		{func(*Request) {}, before + "}"},
		{func(r *Request) { r.Adopt, r.Retire = "u", true }, before + `,"adopt":"u","retire":true}`},
	} {
		tt.change(&req)
		text, err := json.Marshal(req)
		if err != nil || string(text) != tt.want {
			t.Errorf("got %s, %v\nwant %s", text, err, tt.want)
		}
	}
}

func TestCheckTagKeys(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		tags    map[string]string
		allowed []string
		says    string // empty: allowed
	}{
		{"no tags", nil, nil, ""},
		{"none allowed", map[string]string{"team": "web"}, nil, `"team" is not among --provision-tags`},
		{"allowed", map[string]string{"team": "web"}, []string{"cost", "team"}, ""},
		{"one of two", map[string]string{"team": "web", "env": "prod"}, []string{"team"}, `"env" is not`},
		{"another case", map[string]string{"Team": "web"}, []string{"team"}, `"Team" is not`},
		{"no pattern", map[string]string{"team": "web"}, []string{"*"}, `"team" is not`},
	} {
		err := CheckTagKeys(&Request{Tags: tt.tags}, tt.allowed)
		if tt.says == "" && err != nil || tt.says != "" && (!errors.Is(err, alias.ErrForbidden) || !strings.Contains(err.Error(), tt.says)) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestTagKeyProblem(t *testing.T) {
	t.Parallel()
	for key, good := range map[string]bool{
		"team": true, "Cost Center": true, "équipe": true, strings.Repeat("k", 128): true,
		"": false, "aws:x": false, "AWS:x": false, "ixmage-generation": false, "Managed-By": false, "a*": false, strings.Repeat("k", 129): false,
	} {
		if got := TagKeyProblem(key); (got == "") != good {
			t.Errorf("%q: %q", key, got)
		}
	}
}

func TestUserPatternProblem(t *testing.T) {
	t.Parallel()
	for pattern, good := range map[string]bool{
		"ixmage-s3read": true, "ixmage-*": true, "*": true, "A.b_c@d=e+f": true, strings.Repeat("a", 64): true,
		"": false, "a/b": false, "a b": false, "a,b": false, "a?": false, strings.Repeat("a", 65): false, "a\n": false,
		"arn:aws:iam::123456789012:user/a": false,
	} {
		if got := UserPatternProblem(pattern); (got == "") != good {
			t.Errorf("%q: %q", pattern, got)
		}
	}
}

func TestPatternProblem(t *testing.T) {
	t.Parallel()
	for pattern, good := range map[string]bool{
		"acme-*": true, "acme.media": true, "*": true, strings.Repeat("a", 63): true,
		"": false, "Acme-*": false, "acme-?": false, "acme/*": false, "acme *": false, "a,b": false,
		"arn:aws:s3:::acme": false, strings.Repeat("a", 64): false, "acme-*\n": false,
	} {
		if got := PatternProblem(pattern); (got == "") != good {
			t.Errorf("%q: %q", pattern, got)
		}
	}
}

// TestProbeValidate: the keys of a probe follow the rules of a provision request.
func TestProbeValidate(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		probe  Probe
		prefix string
		fields string
	}{
		{"none", Probe{}, "shop/", ""},
		{"both", Probe{"shop/a.jpg", "private/b.jpg"}, "shop/", ""},
		{"whole bucket", Probe{Inside: "a.jpg"}, "", ""},
		{"inside is outside", Probe{Inside: "private/b.jpg"}, "shop/", "probe.inside"},
		{"inside is the prefix", Probe{Inside: "shop/"}, "shop/", "probe.inside"},
		{"outside is inside", Probe{Outside: "shop/b.jpg"}, "shop/", "probe.outside"},
		{"whole bucket has no outside", Probe{Outside: "b.jpg"}, "", "probe.outside"},
		{"two of no form", Probe{"shop/../a", "a//b"}, "shop/", "probe.inside probe.outside"},
	} {
		var got []string
		if invalid, ok := errors.AsType[*alias.ValidationError](tt.probe.Validate(tt.prefix)); ok {
			for _, p := range invalid.Problems {
				got = append(got, p.Field)
			}
		}
		if fields := strings.Join(got, " "); fields != tt.fields {
			t.Errorf("%s: problems with %q, want %q", tt.name, fields, tt.fields)
		}
	}
}

// TestNewAliasTransforms: a request says what its alias allows; what it does not say has the default
// of an alias. A stored request of before has none of it in its JSON.
func TestNewAliasTransforms(t *testing.T) {
	t.Parallel()
	req := request()
	before, err := json.Marshal(req)
	if err != nil || strings.Contains(string(before), "widths") || strings.Contains(string(before), "transforms") {
		t.Errorf("got %s, %v", before, err)
	}
	req.Transforms, req.Access, req.Widths = alias.TransformsSigned, alias.AccessSigned, []int{}
	req.Templates = map[string]string{"thumb": "W=1"}
	text, err := json.Marshal(req)
	if err != nil || !strings.Contains(string(text), `"widths":[]`) {
		t.Errorf("got %s, %v", text, err)
	}
	lower := alias.Policy{CheckTemplate: func(query string) (string, error) { return strings.ToLower(query), nil }}
	if err := Prepare(&req, lower); err != nil {
		t.Fatal(err)
	}
	a := NewAlias(&req)
	if a.Transforms != "signed" || a.Access != "signed" || len(a.Widths) > 0 || a.Templates["thumb"] != "w=1" {
		t.Errorf("got %+v", a)
	}
	req.Transforms, req.Access, req.Widths, req.Templates = "on", "off", []int{0}, map[string]string{"t": ""}
	v, ok := errors.AsType[*alias.ValidationError](Prepare(&req, lower))
	var fields []string
	if ok {
		for _, p := range v.Problems {
			fields = append(fields, p.Field)
		}
	}
	if got := strings.Join(fields, " "); got != "transforms access widths templates.t" {
		t.Errorf("got %q", got)
	}
}
