package admin

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

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
		{`"cache_control":7`, "cache_control"},
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
	for _, member := range []string{`"cors_origins":null`, `"cache_control":null`} { // null means something in a patch only
		body := `{"name":"new","bucket":"acme-media","region":"eu-west-1","credential":null,` + member + `}`
		a.do("POST", "/api/v1/aliases", body).want(400, "invalid")
	}
}
