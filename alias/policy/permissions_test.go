package policy

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

// TestDocuments: the documents that operators copy and the table in docs/permissions.md are those of
// the table in permissions.go. With -update they are written.
func TestDocuments(t *testing.T) {
	t.Parallel()
	for name, signer := range map[string]Signer{"provisioner-policy.json": ByServer, "boundary-policy.json": ByKey} {
		want, err := CopiedPolicy(signer)
		if err != nil {
			t.Fatal(err)
		}
		generated(t, name, func([]byte) []byte { return want })
	}
	generated(t, "permissions.md", func(page []byte) []byte {
		const begin, end = "<!-- the table of permissions: go test ./alias/policy -update -->\n", "<!-- end of the table -->\n"
		before, rest, ok := bytes.Cut(page, []byte(begin))
		_, after, closed := bytes.Cut(rest, []byte(end))
		if !ok || !closed {
			t.Fatalf("docs/permissions.md has no place for the table: %s…%s", begin, end)
		}
		return slices.Concat(before, []byte(begin+permissionTable()+end), after)
	})
}

// generated compares a file in docs with what it must be.
func generated(t *testing.T, name string, want func(have []byte) []byte) {
	t.Helper()
	path := filepath.Join("..", "..", "docs", name)
	have, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	text := want(have)
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(text), string(have)); diff != "" {
		t.Errorf("docs/%s is not what the table says (-want +got); run with -update:\n%s", name, diff)
	}
}

// permissionTable is the table in Markdown.
func permissionTable() string {
	var b strings.Builder
	b.WriteString("| signed by | calls | on | if | what for | only for |\n|---|---|---|---|---|---|\n")
	statements := map[string]copied{}
	for _, st := range copies() {
		statements[st.Sid] = st
	}
	for _, p := range Permissions() {
		st := statements[p.Statement]
		on, only := "", st.only
		if p.Statement != "" {
			on = code(strings.ReplaceAll(fmt.Sprint(st.Resource), "arn:PARTITION:", ""))
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", p.Signer, shortActions(p.Actions), on, conditionText(st), p.For, only)
	}
	return b.String()
}

func code(list string) string {
	return "`" + strings.Join(strings.Fields(strings.Trim(list, "[]")), "`, `") + "`"
}

// shortActions names the service once for each run of its actions.
func shortActions(actions []string) string {
	var parts []string
	last := ""
	for _, action := range actions {
		service, name, _ := strings.Cut(action, ":")
		if service != last {
			name, last = action, service
		}
		parts = append(parts, "`"+name+"`")
	}
	return strings.Join(parts, ", ")
}

func conditionText(st copied) string {
	var parts []string
	for _, operator := range slices.Sorted(maps.Keys(st.Condition)) {
		for _, key := range slices.Sorted(maps.Keys(st.Condition[operator])) {
			values := code(strings.ReplaceAll(fmt.Sprint(st.Condition[operator][key]), "arn:PARTITION:", ""))
			parts = append(parts, "`"+key+"` "+map[string]string{
				"StringEquals": "is ", "StringEqualsIfExists": "is, if it is set, ", "ForAllValues:StringEquals": "are among ",
				"ArnLike": "is like ", "StringLike": "is like ", "Null": "is absent: ",
			}[operator]+values)
		}
	}
	return strings.ReplaceAll(strings.Join(parts, "; "), "is absent: `true`", "is absent")
}

// TestTableIsWhole: every Allow has actions, every row a statement of its signer, and each
// document fits in one managed policy with names of usual length.
func TestTableIsWhole(t *testing.T) {
	t.Parallel()
	sids := map[string]bool{}
	for _, signer := range []Signer{ByServer, ByKey} {
		for _, st := range statementsOf(signer) {
			if sids[st.Sid] {
				t.Errorf("two statements are named %s", st.Sid)
			}
			sids[st.Sid] = true
			if list, ok := st.Action.([]string); ok && len(list) == 0 {
				t.Errorf("%s has no action", st.Sid)
			}
			if strings.HasPrefix(st.Sid, "Only") != (st.only != "") && st.only != "`kms_key_arn`" {
				t.Errorf("%s is for %q: the name of a statement that may be left out begins with Only", st.Sid, st.only)
			}
		}
		doc, err := CopiedPolicy(signer)
		if err != nil {
			t.Fatal(err)
		}
		filled := strings.NewReplacer("PARTITION", "aws-us-gov", "ACCOUNT", "123456789012", "INSTALL", "production-eu",
			"BOUNDARY", "arn:aws-us-gov:iam::123456789012:policy/ixmage/ixmage-boundary", "BUCKETS", "acme-media-*",
			"TAGS", "cost-center", "ADOPT", "ixmage-s3read*").Replace(string(doc))
		size := 0
		for _, r := range filled {
			if !unicode.IsSpace(r) {
				size++
			}
		}
		if t.Logf("%s: %d characters", signer, size); size > maxManaged {
			t.Errorf("the document of the %s has %d characters, and IAM's quota is %d", signer, size, maxManaged)
		}
	}
	for _, p := range Permissions() {
		if p.For == "" || len(p.Actions) == 0 || p.Statement != "" && !sids[p.Statement] {
			t.Errorf("row %+v", p)
		}
	}
}
