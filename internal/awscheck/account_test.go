package main

import (
	"slices"
	"strings"
	"testing"

	"ixmage/internal/awstest/iam"
)

// calls are the actions that the account was asked for, each once.
func (f *fake) actions() []string {
	var list []string
	for _, c := range f.Calls() {
		list = append(list, c.Action)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// TestAsk: unless the answer is the account id, nothing is called but GetCallerIdentity.
func TestAsk(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, typed, says string }{
		"no answer":       {"", "", envAccount},
		"an empty line":   {"", "\n", "is not the id"},
		"yes":             {"", "yes\n", "is not the id"},
		"another account": {"", "123456789013\n", "is not the id"},
		"the variable":    {"210987654321", "", "is not the id"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newAccount(t, iam.Config{})
			cmd := f.command(c.answer)
			cmd.Stdin = strings.NewReader(c.typed)
			got := f.end(cmd)
			if got.code != exitRefused || !strings.Contains(got.out, c.says) || got.report != nil {
				t.Errorf("exit status %d:\n%s", got.code, got.out)
			}
			if calls := f.actions(); !slices.Equal(calls, []string{"GetCallerIdentity"}) {
				t.Errorf("called %v", calls)
			}
			f.nothingLeft()
		})
	}
}

// TestTyped: the account id may be typed.
func TestTyped(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	cmd := f.command("", "-only", "^sts-clock$")
	cmd.Stdin = strings.NewReader(accountID + "\n")
	if got := f.end(cmd); got.code != exitGood || got.row(t, "sts-clock").Verdict != measured {
		t.Errorf("exit status %d:\n%s", got.code, got.out)
	}
	f.nothingLeft()
}

// TestUsed: an account that ixmage or somebody else uses is refused, and nothing is changed.
func TestUsed(t *testing.T) {
	t.Parallel()
	const nothing = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`
	buckets := func(f *fake) {
		for _, name := range []string{"one", "two", "three"} {
			f.CreateBucket(name)
		}
	}
	for name, c := range map[string]struct {
		cfg  iam.Config
		use  func(*fake)
		says string // empty: it runs
	}{
		"a user of ixmage":    {use: func(f *fake) { f.AddUser("/ixmage/prod/", "shop", "") }, says: "user shop under /ixmage/"},
		"a policy of ixmage":  {use: func(f *fake) { f.AddPolicy("/ixmage/prod/", "shop", nothing) }, says: "policy arn:"},
		"a role of a run":     {use: func(f *fake) { f.AddRole(iam.Role{Name: "r", Path: "/ixmage-test/t/", Trust: iam.Trust("", "*")}) }, says: "role r under"},
		"three buckets":       {use: buckets, says: "has 3 buckets"},
		"four users":          {use: func(f *fake) { f.AddUser("/", "a", ""); f.AddUser("/", "b", ""); f.AddUser("/", "c", "") }, says: "has 4 users"},
		"six roles":           {use: func(f *fake) { addRoles(f, "/", 6) }, says: "has 6 roles"},
		"six roles of AWS":    {use: func(f *fake) { addRoles(f, "/aws-service-role/x/", 6) }},
		"another alias":       {cfg: iam.Config{AccountAlias: "acme"}, use: buckets, says: "create-account-alias"},
		"the alias for tests": {cfg: iam.Config{AccountAlias: "ixmage-test-7"}, use: buckets},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newAccount(t, c.cfg)
			c.use(f)
			got := f.run(accountID, "-only", "^sts-clock$")
			if c.says == "" {
				if got.code != exitGood {
					t.Errorf("exit status %d:\n%s", got.code, got.out)
				}
				return
			}
			if got.code != exitRefused || !strings.Contains(got.out, c.says) {
				t.Errorf("exit status %d:\n%s", got.code, got.out)
			}
			for _, action := range f.actions() {
				if !strings.HasPrefix(action, "List") && !strings.HasPrefix(action, "Get") {
					t.Errorf("called %s", action)
				}
			}
		})
	}
}

func addRoles(f *fake, path string, n int) {
	for i := range n {
		f.AddRole(iam.Role{Name: "role-" + string(rune('a'+i)), Path: path, Trust: iam.Trust("", "*")})
	}
}

// TestFlags: mistakes of the command line are refused before any call.
func TestFlags(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	for says, args := range map[string][]string{
		"unknown argument": {"now"}, "neither": {"-endpoint-s3", ""}, "--only": {"-only", "("}, "build it": {"-program", "/nothing"},
	} {
		if got := f.run(accountID, args...); got.code != exitRefused || !strings.Contains(got.out, says) {
			t.Errorf("%v: exit status %d:\n%s", args, got.code, got.out)
		}
	}
	for _, action := range f.actions() {
		if action != "GetCallerIdentity" {
			t.Errorf("called %s", action)
		}
	}
}
