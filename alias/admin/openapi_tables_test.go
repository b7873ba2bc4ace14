package admin

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ixmage/alias"
)

const httpPage = "../../docs/http.md"

// generated matches a generated part of a page: its name and its text.
var generated = regexp.MustCompile(`(?s)<!-- generated: ([a-z ]+) -->\n(.*?)<!-- end -->\n`)

// TestDocumentTables: the tables of docs/http.md are those of the document. -update writes
// them.
func TestDocumentTables(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(httpPage)
	if err != nil {
		t.Fatal(err)
	}
	tables := documentTables()
	seen := map[string]bool{}
	fresh := generated.ReplaceAllFunc(page, func(part []byte) []byte {
		m := generated.FindSubmatch(part)
		name := string(m[1])
		table, ok := tables[name]
		if !ok {
			t.Errorf("%s has a generated part %q, which nothing generates", httpPage, name)
			return part
		}
		seen[name] = true
		if string(m[2]) != table && !*update {
			t.Errorf("the table %q of %s is stale: run go test ./alias/admin -run TestDocument -update\ngot  %s\nwant %s", name, httpPage, m[2], table)
		}
		return []byte("<!-- generated: " + name + " -->\n" + table + "<!-- end -->\n")
	})
	for name := range tables {
		if !seen[name] {
			t.Errorf("%s lacks <!-- generated: %s --> and <!-- end -->", httpPage, name)
		}
	}
	if *update {
		if err := os.WriteFile(httpPage, fresh, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func documentTables() map[string]string {
	calls := testCalls()
	slices.SortStableFunc(calls, func(a, b description) int { return cmp.Compare(tagOf(a.path), tagOf(b.path)) })
	return map[string]string{
		"calls":             callTable(calls),
		"roles":             roleTable(calls),
		"alias fields":      fieldTable(calls, "POST "+aliasesPath, reflect.TypeFor[aliasJSON]()),
		"credential fields": fieldTable(calls, "POST "+credentialsPath, reflect.TypeFor[credentialJSON]()),
		"provision fields":  fieldTable(calls, "POST "+provisionPath, nil),
		"token fields":      fieldTable(calls, "POST "+tokensPath, reflect.TypeFor[newTokenJSON]()),
		"problems":          problemTable(),
	}
}

// table formats rows, the first of which is the head.
func table(rows ...[]string) string {
	var b strings.Builder
	for i, row := range rows {
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}

func callTable(calls []description) string {
	rows := [][]string{{"call", "roles", "answers", "does"}}
	for _, c := range calls {
		path := c.path
		var query []string
		for _, p := range c.query {
			query = append(query, p.name+"=")
		}
		does := sentence(c.summary)
		if len(query) > 0 {
			does += " `?" + strings.Join(query, "&") + "`"
		}
		var answers []string
		for _, status := range c.successes() {
			answers = append(answers, fmt.Sprint(status))
		}
		rows = append(rows, []string{"`" + c.method + " " + path + "`", roleText(c), strings.Join(answers, ", "), does})
	}
	return table(rows...)
}

// roleText names the roles that may make a call, besides admin.
func roleText(c description) string {
	switch {
	case c.public:
		return "no token"
	case slices.Equal(c.roles, anyToken):
		return "any"
	case len(c.roles) == 0:
		return "`admin`"
	}
	var names []string
	for _, r := range c.roles {
		names = append(names, "`"+string(r)+"`")
	}
	return strings.Join(names, ", ")
}

func roleTable(calls []description) string {
	head := []string{"call"}
	for _, r := range alias.TokenRoles {
		head = append(head, "`"+string(r)+"`")
	}
	rows := [][]string{append(head, "with bucket patterns")}
	for _, c := range calls {
		row := []string{"`" + c.method + " " + c.path + "`"}
		for _, r := range alias.TokenRoles {
			row = append(row, mark(c.public || (&alias.Token{Roles: []alias.TokenRole{r}}).May(c.roles)))
		}
		rows = append(rows, append(row, mark(!c.allBuckets)))
	}
	return table(rows...)
}

func mark(yes bool) string {
	if yes {
		return "✓"
	}
	return ""
}

// fieldTable lists the members of an object in the order of the answer, or of the body if
// there is none, with the defaults of the call that makes it.
func fieldTable(calls []description, call string, answer reflect.Type) string {
	i := slices.IndexFunc(calls, func(c description) bool { return c.method+" "+c.path == call })
	c := calls[i]
	like := []reflect.Type{answer, reflect.TypeFor[aliasJSON](), reflect.TypeFor[credentialJSON]()}
	rows := [][]string{{"field", "in a request", "means"}}
	add := func(f field, text string) {
		rows = append(rows, []string{"`" + f.name + "`", requestText(f), markdown(text)})
		for _, form := range f.read.forms {
			for _, inner := range form.fields {
				rows = append(rows, []string{"`" + f.name + "." + inner.name + "`", requestText(inner), markdown(descriptionOf(inner, like))})
			}
		}
	}
	seen := map[string]bool{}
	for _, m := range membersOf(answer) {
		name, _, _ := strings.Cut(m.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		f := field{name: name, readOnly: keptByServer}
		if i := slices.IndexFunc(c.fields, func(f field) bool { return f.name == name }); i >= 0 {
			f = c.fields[i]
		}
		seen[name] = true
		add(f, cmp.Or(f.doc, m.Tag.Get("description")))
	}
	for _, f := range c.fields {
		if !seen[f.name] && f.read.decode != nil {
			add(f, descriptionOf(f, like))
		}
	}
	return table(rows...)
}

func requestText(f field) string {
	switch {
	case f.read.decode == nil:
		return "read-only"
	case f.required:
		return "required"
	case f.read.preset == nil:
		return "optional"
	}
	text, _ := json.Marshal(f.read.preset)
	return "`" + string(text) + "`"
}

// markdown protects the characters that a table of Markdown reads.
func markdown(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", "&lt;").Replace(text)
}

func problemTable() string {
	rows := [][]string{{"status", "code", "means"}}
	seen := map[string]bool{}
	for _, k := range kinds {
		if key := fmt.Sprint(k.status, k.code); !seen[key] {
			seen[key] = true
			rows = append(rows, []string{fmt.Sprint(k.status), "`" + k.code + "`", markdown(k.title)})
		}
	}
	slices.SortStableFunc(rows[1:], func(a, b []string) int { return cmp.Compare(a[0], b[0]) })
	return table(rows...)
}
