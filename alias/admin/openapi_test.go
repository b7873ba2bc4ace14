package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"ixmage/alias"
	"ixmage/internal/apitest"
	"ixmage/proxy"
)

var update = flag.Bool("update", false, "write docs/openapi.json and the tables of docs/http.md")

const documentFile = "../../docs/openapi.json"

// testCalls are the calls of a server that has all parts.
func testCalls() []description {
	return New(Config{Log: slog.New(slog.DiscardHandler), Tokens: new(alias.Tokens)}).routes.calls
}

// contract is the document with which every answer of the tests is compared. The explanation
// of a URL is compared in e2e, where there is a real one.
var contract = sync.OnceValue(func() *apitest.Contract {
	spec, err := describeAPI(testCalls(), nil)
	if err != nil {
		panic(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		panic(err)
	}
	c, err := apitest.Load(text)
	if err != nil {
		panic(err)
	}
	return c
})

// checkCoverage returns 1 if all tests ran, and no test made some call of the document
// succeed.
func checkCoverage() int {
	for _, part := range []string{"test.run", "test.skip", "test.list", "test.fuzz", "test.bench"} {
		if flag.Lookup(part).Value.String() != "" {
			return 0
		}
	}
	missing := contract().Missing()
	for _, m := range missing {
		fmt.Fprintln(os.Stderr, "no test made this call succeed with this status:", m)
	}
	return min(len(missing), 1)
}

// documentText returns the document as docs/openapi.json has it.
func documentText(t *testing.T) []byte {
	t.Helper()
	spec, err := describeAPI(testCalls(), proxy.Explanation{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	return b.Bytes()
}

func TestDocumentIsCommitted(t *testing.T) {
	t.Parallel()
	text := documentText(t)
	if *update {
		if err := os.WriteFile(documentFile, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(documentFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, text) {
		t.Errorf("%s differs from the document of the API: run go test ./alias/admin -run 'TestDocument' -update", documentFile)
	}
}

// TestDocumentCall: the document is the same in each answer, and a client that has it does
// not get it again.
func TestDocumentCall(t *testing.T) {
	t.Parallel()
	a := newAPI(t, func(c *Config) { c.Explanation = proxy.Explanation{} })
	r := a.do("GET", openapiPath, "").want(200, "")
	var want bytes.Buffer
	if err := json.Compact(&want, documentText(t)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String()+"\n", r.body); diff != "" {
		t.Errorf("it differs from %s: %s", documentFile, diff)
	}
	tag := r.header.Get("ETag")
	if again := a.do("GET", openapiPath, "", "If-None-Match", tag).want(304, ""); again.body != "" || again.header.Get("ETag") != tag {
		t.Errorf("got %q %v", again.body, again.header)
	}
	if other := a.do("GET", openapiPath, "", "If-None-Match", `"x"`).want(200, ""); other.header.Get("ETag") != tag || tag == "" {
		t.Errorf("ETag: got %q, want %q", other.header.Get("ETag"), tag)
	}
	a.do("GET", openapiPath, "", "Authorization", "").want(401, "unauthorized")
}

// TestDocumentIsOpenAPI validates the document with the schema that the OpenAPI Initiative
// has published (https://spec.openapis.org/oas/3.1/schema/2022-10-07).
func TestDocumentIsOpenAPI(t *testing.T) {
	t.Parallel()
	c := jsonschema.NewCompiler()
	meta := c.MustCompile("testdata/oas31-schema.json")
	valid := func(edit func(map[string]any)) error {
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(documentText(t)))
		if err != nil {
			t.Fatal(err)
		}
		edit(doc.(map[string]any))
		return meta.Validate(doc)
	}
	if err := valid(func(map[string]any) {}); err != nil {
		t.Error(err)
	}
	for name, edit := range map[string]func(map[string]any){
		"no title":       func(d map[string]any) { delete(d["info"].(map[string]any), "title") },
		"unknown member": func(d map[string]any) { d["path"] = map[string]any{} },
		"bad path":       func(d map[string]any) { d["paths"].(map[string]any)["x"] = map[string]any{} },
	} {
		if valid(edit) == nil {
			t.Errorf("%s: it is valid", name)
		}
	}
}

// TestUndescribed: each thing that is not described is an error that says what to add.
func TestUndescribed(t *testing.T) {
	t.Parallel()
	type silent struct {
		Size int `json:"size"`
	}
	type own struct {
		Own sameJSON `json:"own" description:"It."`
	}
	ok := description{method: "GET", path: "/api/v1/x", summary: "x", statuses: []int{200}, media: mediaJSON}
	for name, row := range map[string]struct {
		edit func(*description)
		want string
	}{
		"member":   {func(d *description) { d.out = reflect.TypeFor[silent]() }, "the member size of admin.silent has no description"},
		"own JSON": {func(d *description) { d.out = reflect.TypeFor[own]() }, "admin.sameJSON writes its own JSON"},
		"no type":  {func(d *description) { d.out = reflect.TypeFor[none]() }, "an answer with status 200 has no type"},
		"field":    {func(d *description) { d.fields = []field{{name: "x", read: into(new(string), asString)}} }, "the member GetXRequest.x has no description"},
		"no forms": {func(d *description) {
			d.fields = []field{{name: "x", doc: "It.", read: reader{decode: into(new(string), asString).decode}}}
		}, "does not say what it accepts"},
		"same call": {func(d *description) { d.path = aliasesPath }, "operation already exists"},
		"same name": {func(d *description) { d.path = "/api/v1/aliases/{name}/{id}" }, "has the operationId getAlias of another"},
	} {
		d := ok
		d.out = reflect.TypeFor[countJSON]()
		row.edit(&d)
		_, err := describeAPI(append(testCalls(), d), nil)
		if err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %s", name, err, row.want)
		}
	}
}

type sameJSON struct{}

func (sameJSON) MarshalJSON() ([]byte, error) { return []byte("1"), nil }

// TestEveryRouteIsDescribed: no call of the API is mounted past the descriptions.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	s, _, _ := newTestServer(t)
	described := map[string]bool{}
	for _, c := range s.routes.calls {
		described[c.method+" "+c.path] = true
	}
	for path, methods := range s.routes.methods {
		for _, m := range methods {
			if isAPI(path) && !described[m+" "+path] {
				t.Errorf("%s %s has no description: mount it as an endpoint", m, path)
			}
		}
	}
}

// TestContractSeesDifferences: the comparison of the tests finds an answer that is not as
// described.
func TestContractSeesDifferences(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	good := a.register("shop")
	answer := func(old, with string) apitest.Exchange {
		return apitest.Exchange{Method: "GET", Target: "/api/v1/aliases/shop", Status: 200,
			AnswerHeader: good.header.Clone(), Answer: []byte(strings.Replace(good.body, old, with, 1))}
	}
	spec, err := describeAPI(testCalls(), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, _ := json.Marshal(spec)
	c, err := apitest.Load(text)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		x    apitest.Exchange
		want string // "" is no difference
	}{
		"as it is":       {answer("", ""), ""},
		"member added":   {answer(`"state"`, `"color":"red","state"`), "color"},
		"member missing": {answer(`"enabled":true,`, ""), "enabled"},
		"wrong enum":     {answer(`"state":"active"`, `"state":"sleeping"`), "state"},
		"wrong type":     {answer(`"revision":1`, `"revision":"1"`), "revision"},
		"no time":        {answer(`"created_at":"2`, `"created_at":"x2`), "created_at"},
		"null":           {answer(`"cors_origins":[]`, `"cors_origins":null`), "cors_origins"},
		"status":         {func() apitest.Exchange { x := answer("", ""); x.Status = 206; return x }(), "206"},
		"header":         {func() apitest.Exchange { x := answer("", ""); x.AnswerHeader.Set("X-Other", "1"); return x }(), "X-Other"},
		"no ETag":        {func() apitest.Exchange { x := answer("", ""); x.AnswerHeader.Del("ETag"); return x }(), "ETag"},
		"media type": {func() apitest.Exchange {
			x := answer("", "")
			x.AnswerHeader.Set("Content-Type", "text/html")
			return x
		}(), "text/html"},
		"call not described": {apitest.Exchange{Method: "GET", Target: "/api/v1/other", Status: 200}, "is not in the document"},
		"request": {apitest.Exchange{Method: "POST", Target: aliasesPath, Header: http.Header{"Content-Type": {"application/json"}}, Body: []byte(`{"bucket":"b"}`),
			Status: 201, AnswerHeader: good.header, Answer: []byte(good.body)}, "forbids"},
	} {
		row.x.AnswerHeader = row.x.AnswerHeader.Clone()
		if row.x.Method == "GET" {
			row.x.AnswerHeader.Del("Location")
		}
		err := c.Check(row.x)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, want %q", name, err, row.want)
		}
	}
	if missing := c.Missing(); slices.Contains(missing, "getAlias 200") || !slices.Contains(missing, "createAlias 201") {
		t.Errorf("missing: %q", missing)
	}
}

// TestEnumsAreComplete: a constant of a type that is an enumeration is in the document.
func TestEnumsAreComplete(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("../*.go")
	more, moreErr := filepath.Glob("../policy/*.go")
	doctors, doctorErr := filepath.Glob("../doctor/*.go")
	own, ownErr := filepath.Glob("*.go")
	if err = errors.Join(err, moreErr, doctorErr, ownErr); err != nil {
		t.Fatal(err)
	}
	files = slices.Concat(files, more, doctors, own)
	found := map[string][]string{} // values by type
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 {
				return true
			}
			typ, isTyped := v.Type.(*ast.Ident)
			text, isText := v.Values[0].(*ast.BasicLit)
			if isTyped && isText && text.Kind == token.STRING {
				value, _ := strconv.Unquote(text.Value)
				name := f.Name.Name + "." + typ.Name
				found[name] = append(found[name], value)
			}
			return true
		})
	}
	for typ, values := range enums {
		var have []string
		for _, v := range values {
			have = append(have, reflect.ValueOf(v).String())
		}
		slices.Sort(have)
		slices.Sort(found[typ.String()])
		if !slices.Equal(have, found[typ.String()]) {
			t.Errorf("%v: the document has %q, the package has %q: correct enums", typ, have, found[typ.String()])
		}
	}
}

// TestFieldsAcceptWhatTheySay: a reader refuses a value of a JSON type exactly if no form
// of the document has that type.
func TestFieldsAcceptWhatTheySay(t *testing.T) {
	t.Parallel()
	samples := map[string]string{
		"null": `null`, "boolean": `true`, "integer": `5`, "array": `[]`, "object": `{}`,
	}
	var check func(where string, fields []field)
	check = func(where string, fields []field) {
		for _, f := range fields {
			if f.read.decode == nil {
				continue
			}
			s := newSchemas()
			var types []string
			for _, form := range f.read.forms {
				types = append(types, typesOf(s, s.form("x", form, nil))...)
				check(where+"."+f.name, form.fields)
			}
			for typ, sample := range samples {
				problems := f.read.decode(f.name, json.RawMessage(sample))
				if refused := len(problems) > 0; refused == slices.Contains(types, typ) {
					t.Errorf("%s.%s: the document allows %q, and %s has the problems %v", where, f.name, types, sample, problems)
				}
			}
		}
	}
	for _, c := range testCalls() {
		check(c.method+" "+c.path, c.fields)
	}
}

// typesOf lists the JSON types of a schema.
func typesOf(s *schemas, one schema) []string {
	if ref, ok := one["$ref"].(string); ok {
		one = s.components[strings.TrimPrefix(ref, schemaPath)]
	}
	if typ, ok := one["type"].(string); ok {
		return []string{typ}
	}
	var all []string
	several, _ := one["oneOf"].([]any)
	for _, o := range several {
		all = append(all, typesOf(s, o.(schema))...)
	}
	return all
}

// TestRequiredMembers: an empty object is refused for each required member.
func TestRequiredMembers(t *testing.T) {
	t.Parallel()
	a := newAPI(t, with(&fake{}))
	for _, c := range testCalls() {
		var want []string
		for _, f := range c.fields {
			if f.required {
				want = append(want, f.name)
			}
		}
		if len(want) == 0 {
			continue
		}
		path := strings.NewReplacer("{name}", "shop", "{id}", "1").Replace(c.path)
		got := a.do(c.method, path, `{"no such member":1}`).want(400, "invalid").fields()
		for _, name := range want {
			if !slices.Contains(got, name) {
				t.Errorf("%s %s: the document requires %s, and the server has problems with %q", c.method, c.path, name, got)
			}
		}
	}
}

// FuzzDurationForm: every duration that the server takes has the form of the document.
func FuzzDurationForm(f *testing.F) {
	for _, s := range []string{"90s", "1h30m", "0", "-1.5h", ".5s", "1.µs", "", "1", "5m5", "+3μs"} {
		f.Add(s)
	}
	form := regexp.MustCompile(durationForm)
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := time.ParseDuration(s); err == nil && !form.MatchString(s) {
			t.Errorf("%q is a duration, and not of the form", s)
		}
	})
}
