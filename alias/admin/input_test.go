package admin

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// good is the body of a registration that is accepted; the rows below spoil it.
const good = `{"name":"x","bucket":"acme-media","region":"eu-west-1","credential":null}`

func TestBodyRefused(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	const (
		aliases = "POST /api/v1/aliases"
		patch   = "PATCH /api/v1/aliases/shop"
		creds   = "POST /api/v1/credentials"
		put     = "PUT /api/v1/credentials/shop"
	)
	for _, c := range []struct {
		name, call, body string
		code, fields     string // fields, in order
		say              string // is in the detail
	}{
		{"empty", aliases, "", "bad-request", "", "JSON object"},
		{"blank", aliases, " \n", "bad-request", "", "JSON object"},
		{"not JSON", aliases, "name=x", "bad-request", "", "byte 2"},
		{"cut", aliases, good[:20], "bad-request", "", "not valid JSON"},
		{"trailing object", aliases, good + good, "bad-request", "", "after top-level value"},
		{"trailing text", patch, `{} x`, "bad-request", "", "after top-level value"},
		{"trailing comma", patch, `{"enabled":true,}`, "bad-request", "", "byte 17"},
		{"comment", patch, `{/*x*/}`, "bad-request", "", "not valid JSON"},
		{"byte order mark", patch, "\ufeff{}", "bad-request", "", "not valid JSON"},
		{"array", patch, `[{"op":"replace"}]`, "bad-request", "", "not an array"},
		{"string", patch, `"enabled"`, "bad-request", "", "not a string"},
		{"null", patch, `null`, "bad-request", "", "not null"},
		{"number", aliases, `-1e3`, "bad-request", "", "not a number"},
		{"boolean", aliases, `true`, "bad-request", "", "not a boolean"},
		{"deep array", patch, strings.Repeat("[", 30000), "bad-request", "", "not valid JSON"},
		{"deep object", patch, strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000), "invalid", "a", "unknown field"},
		{"deep known field", patch, `{"bucket":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + "}", "invalid", "bucket", "not an array"},
		{"invalid UTF-8", patch, "{\"prefix\":\"a\xff\"}", "bad-request", "", "byte 12"},
		{"invalid UTF-8 in a name", patch, "{\"\xc3\x28\":1}", "bad-request", "", "UTF-8"},
		{"half a surrogate pair", patch, `{"canary":"a\ud800b"}`, "bad-request", "", "surrogate"},
		{"low surrogate first", patch, `{"canary":"\udc00\ud800"}`, "bad-request", "", "surrogate"},

		{"unknown field", patch, `{"colour":1}`, "invalid", "colour", "unknown field"},
		{"other case", patch, `{"Enabled":true}`, "invalid", "Enabled", `did you mean "enabled"`},
		{"other spelling", patch, `{"pathStyle":true}`, "invalid", "pathStyle", `did you mean "path_style"`},
		{"long name", patch, `{"` + strings.Repeat("é", 500) + `":1}`, "invalid", strings.Repeat("é", 32) + "…", "unknown field"},
		{"empty name", patch, `{"":1}`, "invalid", "", "unknown field"},
		{"duplicate", patch, `{"enabled":true,"enabled":false}`, "invalid", "enabled", "more than once"},
		{"duplicate by escape", patch, `{"enabled":true,"en\u0061bled":false}`, "invalid", "enabled", "more than once"},
		{"read-only fields", patch, `{"name":"x","state":"active","revision":2,"created_at":"","updated_at":""}`,
			"invalid", "name state revision created_at updated_at", "read-only"},
		{"read-only of a new alias", aliases, `{"state":"active",` + good[1:], "invalid", "state", "read-only"},
		{"internal names", patch, `{"id":1,"epoch":9,"credential_id":3}`, "invalid", "id epoch credential_id", "unknown"},

		{"string for a boolean", patch, `{"enabled":"true"}`, "invalid", "enabled", "must be true or false, not a string"},
		{"number for a string", patch, `{"bucket":5}`, "invalid", "bucket", "must be a string, not a number"},
		{"number for a duration", patch, `{"ttl":3600}`, "invalid", "ttl", `"1h30m"`},
		{"bad duration", patch, `{"ttl":"1 hour"}`, "invalid", "ttl", `"1h30m"`},
		{"negative duration", patch, `{"ttl":"-1s"}`, "invalid", "ttl", "must be from 0s"},
		{"object for a string", patch, `{"prefix":{"a":1}}`, "invalid", "prefix", "not an object"},
		{"null for a required field", patch, `{"bucket":null}`, "invalid", "bucket", "not null"},
		{"null for the region on AWS", patch, `{"region":null}`, "invalid", "region", "required for AWS"},
		{"transforms", patch, `{"transforms":"on"}`, "invalid", "transforms", "must be off, templates, signed or open"},
		{"transforms: type", patch, `{"transforms":false}`, "invalid", "transforms", "must be a string, not a boolean"},
		{"access", patch, `{"access":"off"}`, "invalid", "access", "must be open or signed"},
		{"access that is empty", patch, `{"access":""}`, "invalid", "access", "must not be empty"},
		{"transforms that are empty", patch, `{"transforms":""}`, "invalid", "transforms", "must not be empty"},
		{"widths: type", patch, `{"widths":400}`, "invalid", "widths", "must be an array of whole numbers, not a number"},
		{"widths: a text", patch, `{"widths":[1,"2"]}`, "invalid", "widths", "entry 2 is not one"},
		{"widths: a fraction", patch, `{"widths":[1.5]}`, "invalid", "widths", "entry 1 is not one"},
		{"widths: null", patch, `{"widths":[null]}`, "invalid", "widths", "entry 1 is not one"},
		{"widths: too large a number", patch, `{"widths":[99999999999999999999]}`, "invalid", "widths", "entry 1 is not one"},
		{"widths: descending", patch, `{"widths":[2,1]}`, "invalid", "widths", "the widths ascend"},
		{"widths: null in a new alias", aliases, `{"widths":null,` + good[1:], "invalid", "widths", "not null"},
		{"templates: type", patch, `{"templates":["w=1"]}`, "invalid", "templates", "must be an object of templates by name, not an array"},
		{"templates: null in a new alias", aliases, `{"templates":null,` + good[1:], "invalid", "templates", "not null"},
		{"templates: one null in a new alias", aliases, `{"templates":{"t":null},` + good[1:], "invalid", "templates.t", "not null"},
		{"template: type", patch, `{"templates":{"t":5}}`, "invalid", "templates.t", "must be a query as a string"},
		{"template: empty", patch, `{"templates":{"t":""}}`, "invalid", "templates.t", "1 to 512 bytes"},
		{"template: empty object", patch, `{"templates":{"t":{}}}`, "invalid", "templates.t", "1 to 512 bytes"},
		{"template: an option of another type", patch, `{"templates":{"t":{"w":[1]}}}`, "invalid", "templates.t.w", "must be a string or a number, not an array"},
		{"template: an option twice", patch, `{"templates":{"t":{"w":1,"w":2}}}`, "invalid", "templates.t.w", "more than once"},
		{"template: name", patch, `{"templates":{"T":"w=1"}}`, "invalid", "templates", "the name of a template must be 1 to 63"},
		{"template twice", patch, `{"templates":{"t":"w=1","t":"w=2"}}`, "invalid", "templates.t", "more than once"},
		{"template: too long", patch, `{"templates":{"t":"` + strings.Repeat("a", 513) + `"}}`, "invalid", "templates.t", "1 to 512 bytes"},
		{"signing keys", patch, `{"signing_keys":[]}`, "invalid", "signing_keys", "unknown field"},
		{"signing key: a member", "POST /api/v1/aliases/x/signing-keys", `{"kid":"abcd"}`, "invalid", "kid", "unknown field"},
		{"signing key: an array", "POST /api/v1/aliases/x/signing-keys", `[]`, "bad-request", "", "must be a JSON object"},
		{"sign: no path", "POST /api/v1/aliases/x/sign", `{}`, "invalid", "path", "must be a URL of the alias"},
		{"sign: another alias", "POST /api/v1/aliases/x/sign", `{"path":"/y/a.jpg"}`, "invalid", "path", "like /x/a.jpg?w=400"},
		{"sign: no key", "POST /api/v1/aliases/x/sign", `{"path":"/x/"}`, "invalid", "path", "must be a URL of the alias"},
		{"sign: a URL with a host", "POST /api/v1/aliases/x/sign", `{"path":"https://h/x/a.jpg"}`, "invalid", "path", "from its first slash on"},
		{"sign: expires at once", "POST /api/v1/aliases/x/sign", `{"path":"/x/a.jpg","expires_in":"0s"}`, "invalid", "expires_in", "must be above 0s"},
		{"sign: expires in the past", "POST /api/v1/aliases/x/sign", `{"path":"/x/a.jpg","expires_in":"-1h"}`, "invalid", "expires_in", "must be above 0s"},
		{"sign: two ends", "POST /api/v1/aliases/x/sign", `{"path":"/x/a.jpg","expires_in":"1h","expires_at":"2099-01-31T00:00:00Z"}`, "invalid", "expires_at", "together with expires_in"},
		{"sign: an end in the past", "POST /api/v1/aliases/x/sign", `{"path":"/x/a.jpg","expires_at":"2001-01-31T00:00:00Z"}`, "invalid", "expires_at", "in the future"},
		{"sign: an end that is no time", "POST /api/v1/aliases/x/sign", `{"path":"/x/a.jpg","expires_at":"24h"}`, "invalid", "expires_at", "a time as RFC 3339"},
		{"sign: a number", "POST /api/v1/aliases/x/sign", `{"path":"/x/a.jpg","expires_in":60}`, "invalid", "expires_in", "a duration as a string"},
		{"null in a new alias", aliases, `{"ttl":null,` + good[1:], "invalid", "ttl", "not null"},
		{"no name", aliases, strings.Replace(good, `"name":"x",`, "", 1), "invalid", "name", "1 to 63"},
		{"no bucket", aliases, strings.Replace(good, `"bucket":"acme-media",`, "", 1), "invalid", "bucket", "required"},
		{"no region", aliases, strings.Replace(good, `"region":"eu-west-1",`, "", 1), "invalid", "region", "required"},
		{"nothing", aliases, `{}`, "invalid", "name bucket region credential", "required"},
		{"bad bucket", aliases, strings.Replace(good, "acme-media", "arn:aws:s3:::x", 1), "invalid", "bucket", "ARN"},
		{"bad prefix", patch, `{"prefix":"a*/"}`, "invalid", "prefix", "must not have *, ? or $"},
		{"private endpoint", patch, `{"endpoint":"https://127.0.0.1:9000"}`, "invalid", "endpoint", "--allow-private-endpoints"},
		{"everything at once", aliases, `{"name":"X","bucket":"b","region":7,"Prefix":"a","state":"x","ttl":"x","ttl":"1s","canary":"/","credential":"No"}`,
			"invalid", "region Prefix state ttl " + "ttl credential name bucket canary", "unknown field"},
		{"all of a patch at once", patch, `{"ttl":1,"x":2,"bucket":"B","endpoint":"http://10.0.0.1"}`,
			"invalid", "ttl x bucket endpoint", "unknown"},

		{"credential of a new alias: type", aliases, strings.Replace(good, "null", "5", 1), "invalid", "credential", "one of"},
		{"credential of a new alias: bad name", aliases, strings.Replace(good, "null", `"A B"`, 1), "invalid", "credential", "one of"},
		{"credential of a new alias: unknown name", aliases, strings.Replace(good, "null", `"nope"`, 1), "invalid", "credential", `no credential named "nope"`},
		{"credential of a new alias: empty object", aliases, strings.Replace(good, "null", `{}`, 1),
			"invalid", "credential.access_key_id credential.secret_access_key", "must be"},
		{"credential of a new alias: odd object", aliases, strings.Replace(good, "null", `{"access_key_id":1,"secret":"`+testSecret+`","access_key_id":2}`, 1),
			"invalid", "credential.access_key_id credential.secret credential.access_key_id credential.secret_access_key", "unknown"},
		{"credential of a patch: key pair", patch, `{"credential":` + keyPair + `}`, "invalid", "credential", "PUT /api/v1/credentials/{name}"},
		{"credential of a patch: type", patch, `{"credential":false}`, "invalid", "credential", "must be the name"},
		{"credential of a patch: unknown name", patch, `{"credential":"nope"}`, "invalid", "credential", `no credential named "nope"`},

		{"credential: nothing", creds, `{}`, "invalid", "name access_key_id secret_access_key", "must be"},
		{"credential: swapped", creds, `{"name":"n","access_key_id":"` + testSecret + `","secret_access_key":"` + testKeyID + `"}`, "invalid", "access_key_id", "must be"},
		{"credential: bad kind", creds, `{"name":"n","kind":"provisioned"}`, "invalid", "kind", "static"},
		{"credential: anonymous with a key", creds, `{"name":"n","kind":"anonymous","access_key_id":"a","secret_access_key":"b"}`,
			"invalid", "access_key_id secret_access_key", "anonymous"},
		{"credential: read-only", creds, `{"name":"n","kind":"anonymous","aliases":[],"version":1,"state":"active","user":null,"created_at":"","rotated_at":"",` +
			`"verified_at":"","scope":"","revision":1}`, "invalid",
			"aliases version state user created_at rotated_at verified_at scope revision", "read-only"},
		{"replacement: name", put, `{"name":"y",` + keyPair[1:], "invalid", "name", "read-only"},
		{"replacement: half", put, `{"access_key_id":"` + testKeyID + `"}`, "invalid", "secret_access_key", "must be"},
		{"replacement: half and wrong", put, `{"access_key_id":5,"x":1}`, "invalid", "access_key_id x secret_access_key", "must be"},
		{"replacement: null", put, `{"access_key_id":null,"secret_access_key":null}`, "invalid", "access_key_id secret_access_key", "not null"},
		{"replacement: secret as an array", put, `{"access_key_id":"` + testKeyID + `","secret_access_key":["` + testSecret + `"]}`,
			"invalid", "secret_access_key", "not an array"},
	} {
		t.Run(c.name, func(t *testing.T) {
			method, path, _ := strings.Cut(c.call, " ")
			r := a.do(method, path, c.body, "Content-Type", "application/json").want(400, c.code)
			if got := strings.Join(r.fields(), " "); got != c.fields {
				t.Errorf("fields:\n got %q\nwant %q\nbody %s", got, c.fields, r.body)
			}
			if d := r.problem().Detail; !strings.Contains(d, c.say) {
				t.Errorf("detail: got %q, want %q in it", d, c.say)
			}
		})
	}
	a.do("GET", "/api/v1/aliases/x", "").want(404, "")
	var left aliasJSON
	if a.do("GET", "/api/v1/aliases/shop", "").decode(&left); left.Revision != 1 {
		t.Errorf("refused patches made revision %d", left.Revision)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	var b strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&b, `"f%d":%d,`, i, i)
	}
	r := a.do("PATCH", "/api/v1/aliases/shop", "{"+strings.TrimSuffix(b.String(), ",")+"}").want(400, "invalid")
	if n := len(r.fields()); n != maxProblems || !strings.Contains(r.problem().Detail, "2950 more") {
		t.Errorf("got %d fields and the detail %q", n, r.problem().Detail)
	}
}

func TestMediaType(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	calls := []struct{ call, body, header, accepted string }{
		{"POST /api/v1/aliases", strings.Replace(good, "null", `"nope"`, 1), "Accept-Post", "application/json"},
		{"POST /api/v1/credentials", `{}`, "Accept-Post", "application/json"},
		{"PUT /api/v1/credentials/shop", `{}`, "Accept", "application/json"},
		{"PATCH /api/v1/aliases/shop", `{}`, "Accept-Patch", "application/json, application/merge-patch+json"},
	}
	for _, c := range calls {
		method, path, _ := strings.Cut(c.call, " ")
		for _, bad := range []string{
			"text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json-patch+json",
			"application/jsonx", "text/json", "application/json; charset=iso-8859-1", "application/json; charset", "application/json, text/plain", "-",
		} {
			header := []string{"Content-Type", bad}
			if bad == "-" {
				header[1] = "" // none
			}
			r := a.do(method, path, c.body, header...).want(http.StatusUnsupportedMediaType, "media-type")
			if got := r.header.Get(c.header); got != c.accepted {
				t.Errorf("%s with %q: %s: got %q, want %q", c.call, bad, c.header, got, c.accepted)
			}
		}
		for _, fine := range []string{"application/json", "Application/JSON", "application/json;charset=utf-8", `application/json; charset="UTF-8"`} {
			if r := a.do(method, path, c.body, "Content-Type", fine); r.status == http.StatusUnsupportedMediaType {
				t.Errorf("%s with %q: %s", c.call, fine, r.body)
			}
		}
		for _, coding := range []string{"gzip", "deflate", "br", "gzip, identity"} {
			r := a.do(method, path, c.body, "Content-Encoding", coding).want(http.StatusUnsupportedMediaType, "media-type")
			if got := r.header.Get("Accept-Encoding"); got != "identity" {
				t.Errorf("%s: Accept-Encoding: got %q", coding, got)
			}
		}
	}
	a.do("POST", "/api/v1/aliases", good, "Content-Type", "application/merge-patch+json").want(415, "media-type")
	a.do("POST", "/api/v1/aliases", good, "Content-Encoding", "identity").want(201, "")
}

func TestBodyLimit(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	pad := func(n int) string { return good + strings.Repeat(" ", n-len(good)) }
	a.do("POST", "/api/v1/aliases", pad(bodyLimit)).want(201, "")
	auth := "Host: localhost\r\nAuthorization: Bearer " + testToken + "\r\nContent-Type: application/json\r\n"
	for _, c := range []struct{ name, request string }{
		{"declared", fmt.Sprintf("POST /api/v1/aliases HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", auth, bodyLimit+1)},
		{"declared, unknown path", fmt.Sprintf("POST /nowhere HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", auth, 1<<20)},
		{"declared, without the token", fmt.Sprintf("POST /api/v1/aliases HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n", 1<<30)},
		{"chunked", fmt.Sprintf("POST /api/v1/aliases HTTP/1.1\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s", auth, bodyLimit+1, strings.Repeat(" ", bodyLimit+1))},
	} {
		r := a.raw(c.request).want(http.StatusRequestEntityTooLarge, "body")
		if !r.close {
			t.Errorf("%s: the connection stays open, with a body on it that nobody reads", c.name)
		}
	}
	a.raw("POST /api/v1/credentials HTTP/1.1\r\n"+auth+"Transfer-Encoding: chunked\r\n\r\n1c\r\n{\"name\":\"c\",\"kind\":\"anonymou\r\n3\r\ns\"}\r\n0\r\n\r\n").want(201, "")
}

func TestBodyWhereNoneIsTaken(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	a.register("shop")
	for _, call := range []string{"GET /api/v1/aliases", "GET /api/v1/aliases/shop", "DELETE /api/v1/aliases/shop", "DELETE /api/v1/credentials/shop"} {
		method, path, _ := strings.Cut(call, " ")
		a.do(method, path, `{}`).want(400, "bad-request")
	}
	a.do("GET", "/api/v1/aliases/shop", "").want(200, "")
}
