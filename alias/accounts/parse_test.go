package accounts

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const prodRole = "arn:aws:iam::111122223333:role/ixmage"

func TestParse(t *testing.T) {
	t.Parallel()
	list, problems := Parse("accounts.yaml", []byte(`
accounts:
  - id: "111122223333"
    name: prod
    role: arn:aws:iam::111122223333:role/platform/ixmage
    external_id: 4b3c-prod
    boundary: arn:aws:iam::111122223333:policy/ixmage-boundary
    buckets: [acme-*, media]
    adopt_users: ["ixmage-s3read*"]
    region: eu-central-1
  - id: 012345678901 # a number to YAML
    role: arn:aws-cn:iam::012345678901:role/ixmage
    no_boundary: true
    partition: aws-cn
    region: cn-north-1
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := []*Account{
		{ID: "111122223333", Name: "prod", Role: "arn:aws:iam::111122223333:role/platform/ixmage", ExternalID: "4b3c-prod",
			Boundary: "arn:aws:iam::111122223333:policy/ixmage-boundary", Buckets: []string{"acme-*", "media"},
			AdoptUsers: []string{"ixmage-s3read*"}, Partition: "aws", Region: "eu-central-1"},
		{ID: "012345678901", Role: "arn:aws-cn:iam::012345678901:role/ixmage", NoBoundary: true, Partition: "aws-cn",
			Region: "cn-north-1"},
	}
	if diff := cmp.Diff(want, list.All()); diff != "" {
		t.Errorf("accounts (-want +got):\n%s", diff)
	}
	if a, b := list.Find("prod"), list.Find("111122223333"); a != want[0] && (a == nil || a != b) {
		t.Errorf("by name %v, by id %v", a, b)
	}
	for _, none := range []string{"", "Prod", "999999999999"} {
		if a := list.Find(none); a != nil {
			t.Errorf("%q finds %v", none, a)
		}
	}
	if got, want := list.Unknown(), "name one of accounts.yaml (--accounts): prod (111122223333), 012345678901"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	var without *List
	if without.Find("prod") != nil || without.All() != nil || !strings.Contains(without.Unknown(), "--accounts") {
		t.Error("a server without the file has accounts")
	}
}

// TestProblems: every mistake is named with its line, column and field.
func TestProblems(t *testing.T) {
	t.Parallel()
	const id, role = `id: "111122223333"`, "role: " + prodRole
	one := func(fields string) string { return "accounts:\n- {" + id + ", " + role + ", " + fields + "}\n" }
	const at = "2:69: account 111122223333: "
	for _, row := range []struct{ name, text, want string }{
		{"good", one("name: prod"), ""},
		{"none", "accounts: []\n", ""},
		{"empty", "# nothing\n", "1:1: the file is empty: it needs a list below accounts:, or accounts: [] for none"},
		{"a list", "- id: 1\n", "1:1: the file must be a mapping with a list below accounts:, not a list"},
		{"no accounts", "{}\n", "1:1: accounts: is required: a list of accounts, or [] for none"},
		{"no list", "accounts:\n", "1:10: accounts: must be a list, each entry after a hyphen, or [] for none; not nothing"},
		{"unknown at the top", "accounts: []\naccount: []\n", "2:1: account: unknown field: the file has accounts: only"},
		{"two documents", "accounts: []\n---\naccounts: []\n", "3:1: the file must be one document"},
		{"not YAML", "accounts: [\n", "2:1: not valid YAML: did not find expected node content (while parsing a flow node, from line 2 on)"},
		{"not UTF-8", "accounts: [\xff]\n", "1:12: not UTF-8"},
		{"a text", "accounts:\n- prod\n", "2:3: an account must be a mapping of its fields, not a text"},
		{"unknown", one("external-id: x1"), at + "external-id: unknown field: an account has id, name, role, external_id, boundary, " +
			"no_boundary, buckets, adopt_users, partition, region"},
		{"a field twice", "accounts:\n- id: \"111122223333\"\n  role: " + prodRole + "\n  region: us-east-1\n  region: us-east-2\n",
			"5:3: account 111122223333: region: appears more than once, first on line 4"},
		{"a merge key", "accounts:\n- &a {" + id + ", " + role + "}\n- {<<: *a, id: \"444455556666\"}\n",
			"3:4: a merge key (<<) is not supported: write the fields out\n" +
				"3:8: a reference to an anchor (*) is not supported: write the value out"},
		{"a reference", "accounts:\n- {" + id + ", role: &r " + prodRole + ", name: *r}\n",
			"2:78: a reference to an anchor (*) is not supported: write the value out"},
		{"an anchor that blows up", "a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a]\n",
			"2:8: a reference to an anchor (*) is not supported: write the value out\n" +
				"2:11: a reference to an anchor (*) is not supported: write the value out"},
		{"no id and no role", "accounts:\n- {name: prod}\n", "2:3: id: is required\n2:3: role: is required"},
		{"a short id", "accounts:\n- {id: 12345, role: " + prodRole + "}\n", "2:8: id: must be the twelve digits of an AWS account"},
		{"an id that is a list", "accounts:\n- {id: [], role: " + prodRole + "}\n", "2:8: id: must be the twelve digits of an AWS account"},
		{"an id twice", "accounts:\n- {" + id + ", " + role + "}\n- {" + id + ", " + role + "}\n",
			"3:8: account 111122223333: id: appears more than once: 111122223333 is in the list already"},
		{"a name twice", "accounts:\n- {" + id + ", " + role + ", name: prod}\n- {id: \"444455556666\", role: arn:aws:iam::444455556666:role/x, name: prod}\n",
			"3:70: account prod (444455556666): name: appears more than once: it is that of the account 111122223333"},
		{"a name twice, the first without an id", "accounts:\n- {" + role + ", name: prod}\n- {" + id + ", " + role + ", name: prod}\n",
			"2:3: id: is required\n3:75: account prod (111122223333): name: appears more than once: it is that of another account"},
		{"a name with capitals", one("name: Prod"), "2:75: account 111122223333: name: must be 1 to 63 of a-z, 0-9 and hyphen, " +
			"and begin and end with a letter or digit"},
		{"a name like an id", one(`name: "444455556666"`), "2:75: account 111122223333: name: must not have the form of an account id"},
		{"a name that is a number", one("name: 7"), "2:75: account 111122223333: name: must be a text, not a number: put it in quotes"},
		{"a role of another account", "accounts:\n- {" + id + ", role: arn:aws:iam::444455556666:role/ixmage}\n",
			"2:30: account 111122223333: role: must be a role of the account 111122223333, not of 444455556666"},
		{"a role that is a user", "accounts:\n- {" + id + ", role: arn:aws:iam::111122223333:user/ixmage}\n",
			"2:30: account 111122223333: role: must be the ARN of a role, like arn:aws:iam::123456789012:role/pictures"},
		{"a short external id", one("external_id: x"), "2:82: account 111122223333: external_id: must be 2 to 1,224 of A-Z, a-z, 0-9 and _+=,.@:/-"},
		{"a boundary of another account", one("boundary: arn:aws:iam::444455556666:policy/b"),
			"2:79: account 111122223333: boundary: must be a policy of the account 111122223333, not of 444455556666"},
		{"a boundary of AWS", one("boundary: arn:aws:iam::aws:policy/b"), ""},
		{"a boundary of another partition", one("boundary: arn:aws-cn:iam::111122223333:policy/b"),
			"2:79: account 111122223333: boundary: must be in aws, the partition of role"},
		{"a boundary that is no ARN", one("boundary: b"), "2:79: account 111122223333: boundary: must be the ARN of a policy, " +
			"like arn:aws:iam::123456789012:policy/name"},
		{"boundary and none", one("boundary: arn:aws:iam::111122223333:policy/b, no_boundary: true"),
			"2:128: account 111122223333: no_boundary: contradicts boundary: use one of them"},
		{"no_boundary that is a text", one("no_boundary: maybe"), "2:82: account 111122223333: no_boundary: must be true or false, not a text"},
		{"buckets that are a text", one("buckets: acme"), "2:78: account 111122223333: buckets: must be a list, each entry after a hyphen, " +
			"or [] for none; not a text"},
		{"a bad pattern", one("buckets: [acme-*, Acme]"), "2:87: account 111122223333: buckets: must be a bucket name, in which * stands " +
			"for any text, such as acme-*"},
		{"a bad pattern of users", one("adopt_users: ['a b']"), "2:83: account 111122223333: adopt_users: must be the name of an IAM user, " +
			"in which * stands for any text, such as ixmage-s3read*"},
		{"another partition", one("partition: aws-cn"), "2:80: account 111122223333: partition: must be aws, the partition of role"},
		{"no partition", one("partition: Azure"), "2:80: account 111122223333: partition: must be the name of a partition, like aws or aws-cn"},
		{"a region of another partition", one("region: cn-north-1"), "2:77: account 111122223333: region: must be in aws, the partition of role; " +
			"cn-north-1 is in aws-cn"},
		{"no region", one("region: Frankfurt am Main"), "2:77: account 111122223333: region: must be a region, like eu-west-1"},
		{"all at once", "accounts:\n- {id: 1, role: r}\n- {" + id + ", " + role + ", buckets: [], regoin: x}\n",
			"2:8: id: must be the twelve digits of an AWS account\n" +
				"2:17: role: must be the ARN of a role, like arn:aws:iam::123456789012:role/pictures\n" +
				"3:82: account 111122223333: regoin: unknown field: an account has id, name, role, external_id, boundary, no_boundary, " +
				"buckets, adopt_users, partition, region"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			_, problems := Parse("f", []byte(row.text))
			var lines []string
			for _, p := range problems {
				lines = append(lines, strings.TrimPrefix(p.String(), "f:"))
			}
			if got := strings.Join(lines, "\n"); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// TestLoad: the file is read once, up to a size.
func TestLoad(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "accounts.yaml")
	if _, _, err := Load(file); !os.IsNotExist(err) {
		t.Errorf("missing: %v", err)
	}
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("accounts:\n- {id: \"111122223333\", role: " + prodRole + "}\n")
	if list, problems, err := Load(file); err != nil || len(problems) > 0 || list.Find("111122223333") == nil {
		t.Errorf("%v, %v, %v", list, problems, err)
	}
	write("accounts: []\n" + strings.Repeat("#", maxFile))
	if _, _, err := Load(file); err == nil || !strings.Contains(err.Error(), "larger than 4 MiB") {
		t.Errorf("large: %v", err)
	}
}

// FuzzParse: a file has problems with a place in it, or accounts that keep the rules.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "accounts: []", "accounts:\n- {id: \"111122223333\", role: " + prodRole + ", name: prod, buckets: [a-*]}\n",
		"accounts: &a [*a]\n", "accounts:\n- <<: {id: 1}\n", "accounts:\n- id: !!binary x\n  role:\n  - a\n", "? [a]\n: b\n",
		"accounts:\n- {id: 012345678901, role: arn:aws-cn:iam::012345678901:role/a/b, boundary: arn:aws:iam::aws:policy/p}\n---\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		list, problems := Parse("f.yaml", data)
		for _, p := range problems {
			if p.Line < 1 || p.Column < 1 || p.File != "f.yaml" || p.Detail == "" {
				t.Errorf("problem %+v", p)
			}
		}
		if len(problems) > 0 {
			return
		}
		seen := map[string]bool{}
		for _, a := range list.All() {
			if !idForm.MatchString(a.ID) || !strings.HasPrefix(a.Role, "arn:"+a.Partition+":iam::"+a.ID+":role/") ||
				a.Boundary != "" && a.NoBoundary || seen[a.ID] || a.Name != "" && seen[a.Name] {
				t.Errorf("account %+v", a)
			}
			seen[a.ID], seen[a.Name] = true, true
			if list.Find(a.ID) != a || a.Name != "" && list.Find(a.Name) != a {
				t.Errorf("%v is not found", a)
			}
		}
	})
}
