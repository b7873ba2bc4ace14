package provision

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// called are the calls that ixmage made in all tests of this package.
var called = callLog{signers: map[string]policy.Signer{}}

type callLog struct {
	mu      sync.Mutex               // guards signers
	signers map[string]policy.Signer // by call: who signed it, and its action
}

// add takes the calls of ixmage from those that a fake received. Tests make calls too, with
// the key of the server but without its mark.
func (l *callLog) add(w *env) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range w.iam.Calls() {
		signer := policy.ByKey
		switch {
		case strings.Contains(c.UserAgent, "ixmage-operation/"):
			signer = policy.ByServer
		case c.AccessKeyID == w.iam.Root.AccessKeyID || c.AccessKeyID == w.power.AccessKeyID || c.Action == "":
			continue
		case c.AccessKeyID == "":
			signer = policy.Unsigned
		}
		l.signers[string(signer)+" "+c.Service+":"+c.Action] = signer
	}
}

// byDoctor are the calls of the table that only alias/doctor makes; TestOwnCredentials there sees them.
var byDoctor = []string{"server iam:SimulatePrincipalPolicy", "server sts:GetCallerIdentity"}

// TestMain fails the package if ixmage made a call that is not in the table of permissions. If
// all tests ran, it fails for a row of the table too that no call used.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		missing, unused := called.compare(policy.Permissions())
		for _, call := range missing {
			fmt.Fprintf(os.Stderr, "FAIL: call signed by %s: it has no row in alias/policy/permissions.go\n", call)
			code = 1
		}
		all := flag.Lookup("test.run").Value.String() == "" && flag.Lookup("test.skip").Value.String() == ""
		for _, call := range unused {
			if all && !slices.Contains(byDoctor, call) {
				fmt.Fprintf(os.Stderr,
					"FAIL: call signed by %s: it has a row in alias/policy/permissions.go, and no test made it\n", call)
				code = 1
			}
		}
	}
	os.Exit(code) //nolint:forbidigo // m.Run has its own code, which is not this one
}

// compare lists the calls without a row, and those of rows that nobody made.
func (l *callLog) compare(table []policy.Permission) (missing, unused []string) {
	rows := map[string]bool{} // whether the call must be made
	for _, p := range table {
		for _, action := range p.Actions {
			call := string(p.Signer) + " " + action
			rows[call] = rows[call] || !p.Implied
		}
	}
	for call := range l.signers {
		if _, ok := rows[call]; !ok {
			missing = append(missing, call)
		}
	}
	for call := range maps.Keys(rows) {
		if _, made := l.signers[call]; !made && rows[call] {
			unused = append(unused, call)
		}
	}
	slices.Sort(missing)
	slices.Sort(unused)
	return missing, unused
}

// TestCallsAreInTheTable: one life of an alias makes calls of all signers, and one that is not
// in the table is found, as is a row that no call uses.
func TestCallsAreInTheTable(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	pasted := w.iam.AddUser("/", "by-hand", "")
	at := alias.New()
	at.Name, at.State, at.Location = "pasted", alias.StateActive, w.request("pasted").Location
	if _, err := p.registry.CreateAlias(t.Context(), at, alias.CredentialRef{KeyPair: &pasted}); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Verify(t.Context(), actor, "pasted", policy.Probe{}); err != nil {
		t.Fatal(err)
	}
	l := callLog{signers: map[string]policy.Signer{}}
	l.add(w)
	if missing, _ := l.compare(policy.Permissions()); len(missing) > 0 {
		t.Errorf("calls without a row: %v", missing)
	}
	table := []policy.Permission{
		{Signer: policy.ByServer, Actions: []string{"iam:CreateUser", "iam:CreateRole"}},
		{Signer: policy.ByServer, Actions: []string{"iam:TagRole"}, Implied: true},
		{Signer: policy.ByKey, Actions: []string{"s3:GetObject", "iam:CreateUser"}},
	}
	missing, unused := l.compare(table)
	if !slices.Contains(missing, "server iam:CreateAccessKey") || !slices.Contains(missing, "key sts:GetCallerIdentity") ||
		slices.Contains(missing, "server iam:CreateUser") {
		t.Errorf("missing: %v", missing)
	}
	if want := []string{"key iam:CreateUser", "server iam:CreateRole"}; !slices.Equal(unused, want) {
		t.Errorf("unused: %v, want %v", unused, want)
	}
}
