package doctor

import (
	"strings"
	"testing"

	"ixmage/alias/accounts"
	"ixmage/internal/awstest/iam"
)

// TestAccounts: the roles of --accounts, with their external ids and without.
func TestAccounts(t *testing.T) {
	t.Parallel()
	e := newEnv(t)
	e.signAs(e.iam.AddUser("/", "server", ""))
	me := "arn:aws:iam::" + testAccount + ":user/server"
	e.iam.AddRole(iam.Role{Name: "power", Trust: iam.Trust("right-id", me)})
	for id, state := range map[string]FindingState{"right-id": Good, "wrong-id": Bad} {
		list, problems := accounts.Parse("accounts.yaml", []byte("accounts:\n  - id: \""+testAccount+"\"\n    name: shop\n    role: arn:aws:iam::"+
			testAccount+":role/power\n    external_id: "+id+"\n    no_boundary: true\n    buckets: [acme-*]\n"))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		e.cfg.Accounts = list
		r := e.examine()
		want(t, r, Account, state, "shop ("+testAccount+")")
		if asked := len(r.of(ExternalID)); asked != map[bool]int{true: 1, false: 0}[state == Good] {
			t.Errorf("%s: %d findings about the external id", id, asked)
		}
		for _, f := range r.Findings {
			if strings.Contains(f.Detail+f.Subject+f.Remedy, id) {
				t.Errorf("an external id is printed: %+v", f)
			}
		}
	}
}
