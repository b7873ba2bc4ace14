package admin

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

func TestAudit(t *testing.T) {
	t.Parallel()
	a := newAPI(t)
	if got := a.do("GET", "/api/v1/audit", "").want(200, "").body; got != `{"audit":[]}`+"\n" {
		t.Errorf("empty list: got %s", got)
	}
	a.put(func(tx alias.Tx) error {
		return errors.Join(
			tx.AddAudit(&alias.AuditEntry{
				At: moment, Actor: "admin@127.0.0.1", Action: "iam:CreateUser", User: "u", Policy: "p", AccessKeyID: testKeyID,
				Alias: "shop", Credential: "media", Outcome: "ok", Operation: "op-1", Detail: "a <user>",
			}),
			tx.AddAudit(&alias.AuditEntry{At: moment.Add(time.Second), Actor: "schedule", Action: "rotate", Outcome: "begun"}))
	})
	want := `{"audit":[{"id":2,"at":"2024-03-01T00:00:00.12Z","actor":"schedule","action":"rotate","user":"","policy":"","access_key_id":"",` +
		`"alias":"","credential":"","outcome":"begun","operation":"","detail":""},` +
		`{"id":1,"at":"` + momentText + `","actor":"admin@127.0.0.1","action":"iam:CreateUser","user":"u","policy":"p",` +
		`"access_key_id":"` + testKeyID + `","alias":"shop","credential":"media","outcome":"ok","operation":"op-1","detail":"a <user>"}]}` + "\n"
	if got := a.do("GET", "/api/v1/audit", "").want(200, "").body; got != want {
		t.Errorf("audit:\n got %s\nwant %s", got, want)
	}
	for query, want := range map[string]string{"limit=1": "2", "before=2": "1", "before=1": "", "before=99&limit=1": "2", "before=9223372036854775807": "2 1"} {
		var got auditJSON
		a.do("GET", "/api/v1/audit?"+query, "").want(200, "").decode(&got)
		ids := make([]string, len(got.Audit))
		for i, e := range got.Audit {
			ids[i] = fmt.Sprint(e.ID)
		}
		if s := strings.Join(ids, " "); s != want {
			t.Errorf("%s: got %q, want %q", query, s, want)
		}
	}
}
