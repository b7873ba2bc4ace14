package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

func TestAliasCreateAllFields(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	r := a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","bucket_owner":"123456789012","prefix":"website-images",
		"region":"eu-west-1","endpoint":"","path_style":true,"credential":`+keyPair+`,"canary":"a&b.jpg","enabled":false,
		"ttl":"90m","negative_ttl":"1s","stale_while_revalidate":"0s","stale_if_error":"1h0.5s",
		"cache_control":"Public,MAX-AGE=060","cors_origins":["https://Shop.example.com:443"],"cors_headers":["X-Viewer","range"],"fallback":"none.svg",
		"cache_min":"1024KiB","cache_max":3221225472,"transforms":"signed","access":"signed","widths":[1,8192],
		"templates":{"thumb":"w=240&h=240","card":{"w":400,"dpr":1.5,"wm":"a b+c&.png,o50"}}}`).want(201, "")
	var got aliasJSON
	r.decode(&got)
	for name, at := range map[string]string{"created_at": got.CreatedAt, "updated_at": got.UpdatedAt} {
		if _, err := time.Parse(time.RFC3339Nano, at); err != nil || !strings.HasSuffix(at, "Z") {
			t.Errorf("%s: got %q, want RFC 3339 in UTC", name, at)
		}
	}
	// The whole text: the order of the fields is part of what people read.
	want := `{"name":"shop","bucket":"acme-media","bucket_owner":"123456789012","prefix":"website-images/","region":"eu-west-1",` +
		`"endpoint":"","path_style":true,"credential":"shop","canary":"a&b.jpg","enabled":false,"ttl":"1h30m0s","negative_ttl":"1s",` +
		`"stale_while_revalidate":"0s","stale_if_error":"1h0m0.5s",` +
		`"cache_control":"public, max-age=60","cors_origins":["https://shop.example.com"],"cors_headers":["X-Viewer","range"],"fallback":"none.svg",` +
		`"cache_min":"1MiB","cache_max":"3GiB","transforms":"signed","access":"signed","widths":[1,8192],` +
		`"templates":{"card":"w=400&dpr=1.5&wm=a%20b%2Bc%26.png%2Co50","thumb":"w=240&h=240"},"state":"active","revision":1,` +
		`"created_at":"` + got.CreatedAt + `","updated_at":"` + got.UpdatedAt + "\"}\n"
	if r.body != want {
		t.Errorf("alias:\n got %s\nwant %s", r.body, want)
	}
	if got := r.header.Get("Location"); got != "/api/v1/aliases/shop" {
		t.Errorf("Location: got %q", got)
	}
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type: got %q", got)
	}
	one := a.do("GET", r.header.Get("Location"), "").want(200, "")
	if one.body != r.body {
		t.Errorf("read after create:\n got %s\nwant %s", one.body, r.body)
	}
	for _, r := range []answer{r, one} {
		if got := r.header.Get("ETag"); got != `"1"` {
			t.Errorf("ETag: got %q, want \"1\" in quotes", got)
		}
	}
}

func TestAliasCreateDefaults(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	var got aliasJSON
	a.do("POST", "/api/v1/aliases", `{"name":"pub","bucket":"open-data","region":"eu-west-1","credential":null}`).want(201, "").decode(&got)
	got.CreatedAt, got.UpdatedAt = "", ""
	want := aliasJSON{
		Name: "pub", Bucket: "open-data", Region: "eu-west-1", Credential: "pub", Enabled: true,
		TTL: "1h0m0s", NegativeTTL: "5s", StaleWhileRevalidate: "1m0s", StaleIfError: "24h0m0s", State: "active", Revision: 1,
		CORSOrigins: []string{}, CORSHeaders: []string{},
		Transforms: "templates", Access: "open", Widths: []int{20, 40, 60, 120, 250, 330, 500, 960, 1280, 1920, 3840},
		Templates: map[string]string{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("alias:\n got %+v\nwant %+v", got, want)
	}
}

func TestAliasCredentialForms(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.do("POST", "/api/v1/credentials", `{"name":"shared","access_key_id":"`+testKeyID+`","secret_access_key":"`+testSecret+`"}`).want(201, "")
	for _, c := range []struct{ name, credential, wantName, wantKind string }{
		{"by-name", `"shared"`, "shared", "static"},
		{"by-pair", keyPair, "by-pair", "static"},
		{"by-null", `null`, "by-null", "anonymous"},
	} {
		var got aliasJSON
		a.do("POST", "/api/v1/aliases", `{"name":"`+c.name+`","bucket":"acme-media","region":"eu-west-1","credential":`+c.credential+`}`).
			want(201, "").decode(&got)
		if string(got.Credential) != c.wantName {
			t.Errorf("%s: credential: got %q, want %q", c.name, got.Credential, c.wantName)
		}
		var cred credentialJSON
		a.do("GET", "/api/v1/credentials/"+c.wantName, "").want(200, "").decode(&cred)
		if string(cred.Kind) != c.wantKind || len(cred.Aliases) != 1 || string(cred.Aliases[0]) != c.name {
			t.Errorf("%s: credential: got %+v", c.name, cred)
		}
	}
	r := a.do("POST", "/api/v1/aliases", `{"name":"none","bucket":"acme-media","region":"eu-west-1"}`).want(400, "invalid")
	for _, form := range []string{"name of a registered credential", "access_key_id", "null"} {
		if d := r.problem().Detail; !strings.Contains(d, form) {
			t.Errorf("without a credential: %q does not explain %q", d, form)
		}
	}
	a.do("GET", "/api/v1/aliases/none", "").want(404, "not-found")
}

func TestAliasCreateConflict(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	r := a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"other-bucket","region":"eu-west-1","credential":null}`).want(409, "exists")
	if d := r.problem().Detail; !strings.Contains(d, "alias shop") {
		t.Errorf("detail: got %q, want the alias named", d)
	}
	a.do("POST", "/api/v1/credentials", `{"name":"used","access_key_id":"`+testKeyID+`","secret_access_key":"`+testSecret+`"}`).want(201, "")
	r = a.do("POST", "/api/v1/aliases", `{"name":"used","bucket":"acme-media","region":"eu-west-1","credential":`+keyPair+`}`).want(409, "exists")
	if d := r.problem().Detail; !strings.Contains(d, "credential used") {
		t.Errorf("detail: got %q, want the credential named", d)
	}
}

func TestAliasList(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	if got := a.do("GET", "/api/v1/aliases", "").want(200, "").body; got != `{"aliases":[]}`+"\n" {
		t.Errorf("empty list: got %s", got)
	}
	// All on one connection: a name that kept pointing into fasthttp's buffers
	// would change under the registry.
	for _, n := range []string{"ccc", "a-1", "bbb", "a", "zz9"} {
		a.do("POST", "/api/v1/aliases", `{"name":"`+n+`","bucket":"acme-media","region":"eu-west-1","credential":null}`).want(201, "")
	}
	for _, c := range []struct{ query, want string }{
		{"", "a a-1 bbb ccc zz9"},
		{"?limit=2", "a a-1"},
		{"?after=a-1&limit=2", "bbb ccc"},
		{"?after=bbb", "ccc zz9"},
		{"?after=b", "bbb ccc zz9"}, // a name that is not there is a place all the same
		{"?after=zz9", ""},
		{"?after=", "a a-1 bbb ccc zz9"},
		{"?limit=1000", "a a-1 bbb ccc zz9"},
		{"?limit=99999999999999999999", "a a-1 bbb ccc zz9"},
		{"?aft%65r=ccc", "zz9"},
	} {
		a.lax.Store(len(c.query) > 20) // the library that compares has no such integer
		var got aliasesJSON
		a.do("GET", "/api/v1/aliases"+c.query, "").want(200, "").decode(&got)
		var names []string
		for _, a := range got.Aliases {
			names = append(names, string(a.Name))
		}
		if got := strings.Join(names, " "); got != c.want {
			t.Errorf("%s: got %q, want %q", c.query, got, c.want)
		}
	}
}

func TestListQueryRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for _, c := range []struct{ query, code, fields string }{
		{"limit=0", "invalid", "limit"},
		{"limit=-1", "invalid", "limit"},
		{"limit=", "invalid", "limit"},
		{"limit=ten", "invalid", "limit"},
		{"limit=1.5", "invalid", "limit"},
		{"limit=-99999999999999999999", "invalid", "limit"},
		{"limit=1&limit=2", "invalid", "limit"},
		{"after=UPPER", "invalid", "after"},
		{"limit=x&after=%2f", "invalid", "limit after"},
		{"After=a", "invalid", "After"},
		{"offset=1&page=2&limit=1", "invalid", "offset page"},
		{"access_token=x", "invalid", "access_token"},
		{"limit=%zz", "bad-request", ""},
		{"limit=1;after=a", "bad-request", ""},
	} {
		for _, list := range []string{"aliases", "credentials"} {
			r := a.do("GET", "/api/v1/"+list+"?"+c.query, "").want(400, c.code)
			if got := strings.Join(r.fields(), " "); got != c.fields {
				t.Errorf("%s: fields: got %q, want %q", c.query, got, c.fields)
			}
		}
	}
	a.register("shop")
	for _, call := range [][3]string{
		{"GET", "/api/v1/aliases/shop?limit=1", ""}, {"DELETE", "/api/v1/aliases/shop?force=1", ""},
		{"PATCH", "/api/v1/aliases/shop?x", `{"enabled":false}`}, {"GET", "/api/v1/credentials/shop?x=1", ""},
	} {
		a.do(call[0], call[1], call[2]).want(400, "invalid")
	}
	a.do("GET", "/api/v1/aliases/shop", "").want(200, "")
}

// TestListCap registers more than a page through the registry's own write path.
func TestListCap(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.put(func(tx alias.Tx) error { // a thousand calls take seconds
		var err error
		for i := range maxPageSize + 1 {
			err = errors.Join(err, tx.InsertCredential(&alias.Credential{
				ID: int64(100 + i), Name: alias.Name(fmt.Sprintf("c%04d", i)), Provider: alias.Anonymous{},
				Version: 1, State: alias.CredentialActive, Revision: 1, CreatedAt: moment, UpdatedAt: moment,
			}))
		}
		return err
	})
	for _, query := range []string{"", "?limit=1001", "?limit=5000"} {
		var got credentialsJSON
		a.do("GET", "/api/v1/credentials"+query, "").want(200, "").decode(&got)
		if n := len(got.Credentials); n != maxPageSize || got.Credentials[n-1].Name != "c0999" {
			t.Errorf("%q: got %d credentials, want the first %d", query, n, maxPageSize)
		}
	}
}

func TestAliasPatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, patch string
		want        func(*aliasJSON)
	}{
		{"one field", `{"enabled":false}`, func(a *aliasJSON) { a.Enabled = false }},
		{"several", `{"bucket":"other-bucket","prefix":"x","ttl":"2m","path_style":false}`, func(a *aliasJSON) {
			a.Bucket, a.Prefix, a.TTL, a.PathStyle = "other-bucket", "x/", "2m0s", false
		}},
		{"null is the default", `{"prefix":null,"canary":null,"enabled":null,"ttl":null,"negative_ttl":null,` +
			`"stale_while_revalidate":null,"stale_if_error":null,"path_style":null,"bucket_owner":null,` +
			`"cache_control":null,"cors_origins":null,"cors_headers":null,"fallback":null,"cache_min":null,"cache_max":null}`, func(a *aliasJSON) {
			a.CacheMin, a.CacheMax = "", ""
			a.CacheControl, a.CORSOrigins, a.CORSHeaders, a.Fallback = "", []string{}, []string{}, fallbackJSON{}
			a.Prefix, a.Canary, a.Enabled, a.PathStyle, a.BucketOwner = "", "", true, false, ""
			a.TTL, a.NegativeTTL, a.StaleWhileRevalidate, a.StaleIfError = "1h0m0s", "5s", "1m0s", "24h0m0s"
		}},
		{"endpoint gone", `{"endpoint":null}`, func(*aliasJSON) {}},
		{"region of a custom endpoint", `{"endpoint":"https://s3.example.com","region":null}`, func(a *aliasJSON) {
			a.Endpoint, a.Region = "https://s3.example.com", "us-east-1"
		}},
		{"fallback of both", `{"fallback":"x.png"}`, func(a *aliasJSON) { a.Fallback = fallbackJSON{"x.png", "x.png"} }},
		{"fallback of none", `{"fallback":""}`, func(a *aliasJSON) { a.Fallback = fallbackJSON{} }},
		{"fallback of one", `{"fallback":{"broken":"x.png"}}`, func(a *aliasJSON) { a.Fallback.Broken = "x.png" }},
		{"fallback of one gone", `{"fallback":{"missing":null}}`, func(a *aliasJSON) { a.Fallback.Missing = "" }},
		{"fallback of one empty", `{"fallback":{"broken":""}}`, func(a *aliasJSON) { a.Fallback.Broken = "" }},
		{"fallback as it is", `{"fallback":{}}`, func(*aliasJSON) {}},
		{"origins", `{"cors_origins":["http://a.example:80","https://b.example:8443"]}`, func(a *aliasJSON) {
			a.CORSOrigins = []string{"http://a.example", "https://b.example:8443"}
		}},
		{"a floor", `{"cache_min":"512KiB"}`, func(a *aliasJSON) { a.CacheMin = "512KiB" }},
		{"a floor of the ceiling", `{"cache_min":1048576}`, func(a *aliasJSON) { a.CacheMin = "1MiB" }},
		{"no floor", `{"cache_min":0}`, func(a *aliasJSON) { a.CacheMin = "" }},
		{"no ceiling", `{"cache_max":""}`, func(a *aliasJSON) { a.CacheMax = "" }},
		{"floor and ceiling", `{"cache_max":"2GiB","cache_min":"1GiB"}`, func(a *aliasJSON) { a.CacheMin, a.CacheMax = "1GiB", "2GiB" }},
		{"headers", `{"cors_headers":["X-B","x-a"]}`, func(a *aliasJSON) { a.CORSHeaders = []string{"X-B", "x-a"} }},
		{"no headers", `{"cors_headers":[]}`, func(a *aliasJSON) { a.CORSHeaders = []string{} }},
		{"no origins", `{"cors_origins":[]}`, func(a *aliasJSON) { a.CORSOrigins = []string{} }},
		{"another credential", `{"credential":"other"}`, func(a *aliasJSON) { a.Credential = "other" }},
		{"escaped field name", `{"enabl\u0065d":false}`, func(a *aliasJSON) { a.Enabled = false }},
		{"white space", " {\r\n\t\"enabled\" : false } \n", func(a *aliasJSON) { a.Enabled = false }},
		{"surrogate pair", `{"canary":"\ud83d\ude00.jpg"}`, func(a *aliasJSON) { a.Canary = "😀.jpg" }},
		{"what only looks like a surrogate", `{"canary":"\u0064800\"\u00e9"}`, func(a *aliasJSON) { a.Canary = `d800"é` }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := newAPI(t)
			a.do("POST", "/api/v1/credentials", `{"name":"other","kind":"anonymous"}`).want(201, "")
			var want, got aliasJSON
			a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","bucket_owner":"123456789012","prefix":"p/","region":"eu-west-1",
				"path_style":true,"credential":`+keyPair+`,"canary":"c.jpg","enabled":true,"ttl":"7s","negative_ttl":"7s",
				"stale_while_revalidate":"7s","stale_if_error":"7s","cache_control":"no-cache","cors_origins":["*"],"cors_headers":["X-A"],
				"cache_min":"1KiB","cache_max":"1MiB","fallback":{"missing":"m.png","broken":"b.png"}}`).want(201, "").decode(&want)
			r := a.do("PATCH", "/api/v1/aliases/shop", c.patch, "Content-Type", "application/merge-patch+json").want(200, "")
			r.decode(&got)
			before := want
			c.want(&want)
			if !reflect.DeepEqual(want, before) {
				want.Revision = 2
				if got.UpdatedAt <= want.UpdatedAt {
					t.Errorf("updated_at: got %s, want it after %s", got.UpdatedAt, want.UpdatedAt)
				}
				want.UpdatedAt = got.UpdatedAt
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("alias:\n got %+v\nwant %+v", got, want)
			}
			if tag := r.header.Get("ETag"); tag != etag(want.Revision) {
				t.Errorf("ETag: got %s, want %s", tag, etag(want.Revision))
			}
			var stored aliasJSON
			a.do("GET", "/api/v1/aliases/shop", "").decode(&stored)
			if !reflect.DeepEqual(stored, got) {
				t.Errorf("stored:\n got %+v\nwant %+v", stored, got)
			}
		})
	}
}

func TestAliasPatchPublic(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.do("POST", "/api/v1/credentials", `{"name":"named","access_key_id":"`+testKeyID+`","secret_access_key":"`+testSecret+`"}`).want(201, "")
	a.do("POST", "/api/v1/aliases", `{"name":"shop","bucket":"acme-media","region":"eu-west-1","credential":"named"}`).want(201, "")
	var got aliasJSON
	a.do("PATCH", "/api/v1/aliases/shop", `{"credential":null}`).want(200, "").decode(&got)
	var cred credentialJSON
	a.do("GET", "/api/v1/credentials/"+string(got.Credential), "").want(200, "").decode(&cred)
	if got.Credential != "shop" || cred.Kind != "anonymous" {
		t.Errorf("got credential %q of kind %q", got.Credential, cred.Kind)
	}
}

func TestAliasDelete(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("own")
	a.register("lender")
	a.do("POST", "/api/v1/aliases", `{"name":"borrower","bucket":"acme-media","region":"eu-west-1","credential":"lender"}`).want(201, "")
	if r := a.do("DELETE", "/api/v1/aliases/own", "").want(204, ""); r.body != "" || r.header.Get("Content-Type") != "" {
		t.Errorf("204 has a body %q of type %q", r.body, r.header.Get("Content-Type"))
	}
	a.do("GET", "/api/v1/aliases/own", "").want(404, "not-found")
	a.do("DELETE", "/api/v1/aliases/own", "").want(404, "not-found")
	a.do("GET", "/api/v1/credentials/own", "").want(404, "not-found")
	a.do("DELETE", "/api/v1/aliases/lender", "").want(204, "")
	a.do("GET", "/api/v1/credentials/lender", "").want(200, "") // borrower still signs with it
	a.do("DELETE", "/api/v1/aliases/borrower", "").want(204, "")
	a.do("GET", "/api/v1/credentials/lender", "").want(200, "") // it does not bear that alias's name
}

func TestUnknownNameIs404(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	for _, resource := range []string{"alias", "credential"} {
		path := map[string]string{"alias": "/api/v1/aliases/", "credential": "/api/v1/credentials/"}[resource]
		change := map[string]string{"alias": "PATCH", "credential": "PUT"}[resource]
		body := map[string]string{"alias": `{"enabled":true}`, "credential": keyPair}[resource]
		// What a cache in front could take for a picture must not be the alias.
		for _, name := range []string{
			"nope", "SHOP", "Shop", "shop.png", "shop;x.png", "shop%2fx.png", "shop%00.png", "sh%6fp", "-", "a_b",
			"shop%20", "%2e%2e", strings.Repeat("x", 64), strings.Repeat("y", 3000), "shop%0d%0aX: y", "a<b>",
		} {
			for _, call := range [][2]string{{"GET", ""}, {change, body}, {"DELETE", ""}} {
				r := a.raw(fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
					call[0], path+strings.ReplaceAll(name, " ", "%20"), testToken, len(call[1]), call[1])).want(404, "not-found")
				shown := name[:min(len(name), 64)]
				if d := r.problem().Detail; !strings.Contains(d, resource) || !strings.Contains(d, strings.ReplaceAll(shown, " ", "%20")) || len(d) > 300 {
					t.Errorf("%s %q: detail does not name it: %q", resource, name, d)
				}
			}
		}
	}
	a.do("GET", "/api/v1/aliases/shop", "").want(200, "")
}

func TestUnknownPathIs404(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	for _, path := range []string{
		"/x", "/console", "/api", "/api/", "/api/v1", "/api/v2/aliases", "/api/v1/aliases/", "/api/v1/aliases.png", "/api/v1/aliases;x.png",
		"/api/v1/aliases%2fshop", "/api/v1/aliases%00.png", "/api/v1/aliases/shop/", "/api/v1/aliases/shop/x.png", "/API/v1/aliases",
		"/api/V1/aliases", "/api/v1/Aliases", "//api/v1/aliases", "/api//v1/aliases", "/api/v1/./aliases", "/api/v1/x/../aliases",
		"/apix", "/metrics", "/metrics.png", "/-/healthz/", "/-/healthz.png", "/-/HEALTHZ", "/-/", "/shop/a.jpg",
		// calls that have another method or place
		"/api/v1/operations/", "/api/v1/operations/x/y", "/api/v1/orphans/", "/api/v1/explain/shop/a.jpg", "/api/v1/audit/1", "/api/v1/verify",
	} {
		a.raw("GET "+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(404, "not-found")
	}
	for _, path := range []string{"/api/v1/provision/", "/api/v1/provision/run", "/api/v1/rotate", "/api/v1/purge/shop"} {
		a.do("POST", path, `{}`).want(404, "not-found")
	}
}

// UnmarshalJSON reads what MarshalJSON writes.
func (f *fallbackJSON) UnmarshalJSON(raw []byte) error {
	if typeOf(raw) == "a string" {
		err := json.Unmarshal(raw, &f.Missing)
		f.Broken = f.Missing
		return err
	}
	return json.Unmarshal(raw, (*fallbackPair)(f))
}

func TestFallbackForms(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	for i, c := range []struct{ in, out string }{
		{`null`, `""`},
		{`""`, `""`},
		{`{}`, `""`},
		{`{"missing":null,"broken":""}`, `""`},
		{`"a/b.png"`, `"a/b.png"`},
		{`{"missing":"a&b.png","broken":"a&b.png"}`, `"a&b.png"`},
		{`{"missing":"a.png"}`, `{"missing":"a.png","broken":""}`},
		{`{"broken":"b.png","missing":"a.png"}`, `{"missing":"a.png","broken":"b.png"}`},
	} {
		body := fmt.Sprintf(`{"name":"a%d","bucket":"acme-media","region":"eu-west-1","credential":null,"fallback":%s}`, i, c.in)
		r := a.do("POST", "/api/v1/aliases", body).want(201, "")
		if !strings.Contains(r.body, `"fallback":`+c.out+`,`) {
			t.Errorf("%s: got %s, want %s", c.in, r.body, c.out)
		}
	}
}

// Everything that cannot be an answer is refused under the name of its field.
func TestAnswerFieldsRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	for _, c := range []struct{ member, fields string }{
		{`"fallback":7`, "fallback"},
		{`"fallback":["a.png"]`, "fallback"},
		{`"fallback":"/a.png"`, "fallback"},
		{`"fallback":{"missing":"a//b","broken":"b.png"}`, "fallback.missing"},
		{`"fallback":{"missing":"a.png","broken":"../b"}`, "fallback.broken"},
		{`"fallback":{"missing":"/","broken":"//"}`, "fallback.missing fallback.broken"},
		{`"fallback":{"missing":true}`, "fallback.missing"},
		{`"fallback":{"gone":"a.png"}`, "fallback.gone"},
		{`"fallback":{"missing":"a.png","missing":"b.png"}`, "fallback.missing"},
		{`"cors_origins":"*"`, "cors_origins"},
		{`"cors_origins":{}`, "cors_origins"},
		{`"cors_origins":[null]`, "cors_origins"},
		{`"cors_origins":["https://a.example",7]`, "cors_origins"},
		{`"cors_origins":["*","https://a.example"]`, "cors_origins"},
		{`"cors_origins":["https://a.example/"]`, "cors_origins"},
		{`"cors_headers":"*"`, "cors_headers"},
		{`"cors_headers":{}`, "cors_headers"},
		{`"cors_headers":[null]`, "cors_headers"},
		{`"cors_headers":["X-A",7]`, "cors_headers"},
		{`"cors_headers":["*","X-A"]`, "cors_headers"},
		{`"cors_headers":["X A"]`, "cors_headers"},
		{`"cors_headers":["X-A\r\nX: y"]`, "cors_headers"},
		{`"cache_control":7`, "cache_control"},
		{`"cache_min":"1MB"`, "cache_min"},
		{`"cache_min":"much"`, "cache_min"},
		{`"cache_min":true`, "cache_min"},
		{`"cache_min":["1MiB"]`, "cache_min"},
		{`"cache_min":-1`, "cache_min"},
		{`"cache_min":"-1"`, "cache_min"},
		{`"cache_min":1.5`, "cache_min"},
		{`"cache_min":1e6`, "cache_min"},
		{`"cache_max":"16385GiB"`, "cache_max"},
		{`"cache_max":"25%"`, "cache_max"},
		{`"cache_max":{}`, "cache_max"},
		{`"cache_min":"2MiB","cache_max":"1MiB"`, "cache_min"},
		{`"cache_control":["public"]`, "cache_control"},
		{`"cache_control":"forever"`, "cache_control"},
		{`"cache_control":"public\r\nSet-Cookie: a=b"`, "cache_control"},
	} {
		r := a.do("PATCH", "/api/v1/aliases/shop", "{"+c.member+"}").want(400, "invalid")
		if got := strings.Join(r.fields(), " "); got != c.fields {
			t.Errorf("%s: got problems with %q, want %q", c.member, got, c.fields)
		}
		body := `{"name":"new","bucket":"acme-media","region":"eu-west-1","credential":null,` + c.member + `}`
		r = a.do("POST", "/api/v1/aliases", body).want(400, "invalid")
		if got := strings.Join(r.fields(), " "); got != c.fields {
			t.Errorf("%s at registration: got problems with %q, want %q", c.member, got, c.fields)
		}
	}
	for _, member := range []string{`"cors_origins":null`, `"cors_headers":null`, `"cache_control":null`, `"cache_max":null`} { // null means something in a patch only
		body := `{"name":"new","bucket":"acme-media","region":"eu-west-1","credential":null,` + member + `}`
		a.do("POST", "/api/v1/aliases", body).want(400, "invalid")
	}
}

// TestPatchUnderStricterPolicy has an alias from a time when private endpoints
// were allowed.
func TestPatchUnderStricterPolicy(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	err := a.store.Update(t.Context(), func(tx alias.Tx) error {
		c := &alias.Credential{
			ID: 1, Name: "pub", Provider: alias.Anonymous{}, Version: 1, State: alias.CredentialActive, Revision: 1,
		}
		if err := tx.InsertCredential(c); err != nil {
			return err
		}
		return tx.InsertAlias(&alias.Alias{
			Transforms: alias.TransformsOff, Access: alias.AccessOpen,
			ID: 1, Name: "old", CredentialID: 1, Enabled: true, State: alias.StateActive, Epoch: 1, Revision: 1,
			Location: alias.Location{Bucket: "media", Region: "us-east-1", Endpoint: "http://10.0.0.1:9000"},
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		patch  string
		status int
		fields []string
	}{
		{`{"enabled":false}`, 200, nil},
		{`{"endpoint":"http://10.0.0.1:9000","ttl":"1m"}`, 200, nil},
		{`{"enabled":true,"colour":"red"}`, 400, []string{"colour"}},
		{`{"endpoint":"http://10.0.0.2:9000"}`, 400, []string{"endpoint"}},
		{`{"endpoint":"http://10.0.0.2:9000","colour":"red"}`, 400, []string{"colour", "endpoint"}},
		{`{"endpoint":null}`, 200, nil},
		{`{"endpoint":"http://10.0.0.1:9000"}`, 400, []string{"endpoint"}},
	} {
		code := ""
		if row.status == 400 {
			code = "invalid"
		}
		r := a.do("PATCH", aliasesPath+"/old", row.patch).want(row.status, code)
		if code == "" {
			continue
		}
		got := r.problem().Errors
		for i, f := range row.fields {
			if len(got) != len(row.fields) || got[i].Field != f {
				t.Errorf("%s: got %v, want problems with %v", row.patch, got, row.fields)
				break
			}
		}
	}
}
