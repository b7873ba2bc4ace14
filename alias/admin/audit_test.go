package admin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/provision"
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

func TestOrphans(t *testing.T) {
	t.Parallel()
	var report provision.OrphanReport
	a := newAPI(t, with(&fake{orphans: func(context.Context) (provision.OrphanReport, error) { return report, nil }}))
	want := `{"scanned_at":null,"orphans":[],"skipped":""}` + "\n"
	if got := a.do("GET", "/api/v1/orphans", "").want(200, "").body; got != want {
		t.Errorf("before the first look:\n got %s\nwant %s", got, want)
	}
	report = provision.OrphanReport{
		ScannedAt: moment.Add(time.Hour), Skipped: "the database is older than its users",
		Orphans: []provision.Orphan{
			{Kind: "key", User: "u", AccessKeyID: testKeyID, Credential: "media", FoundAt: moment, State: "quarantined", Detail: "unknown"},
			{Kind: "user"},
		},
	}
	want = `{"scanned_at":"2024-03-01T00:59:59.12Z","orphans":[` +
		`{"kind":"key","user":"u","access_key_id":"` + testKeyID + `","credential":"media","found_at":"` + momentText + `","state":"quarantined","detail":"unknown"},` +
		`{"kind":"user","user":"","access_key_id":"","credential":"","found_at":null,"state":"","detail":""}],` +
		`"skipped":"the database is older than its users"}` + "\n"
	if got := a.do("GET", "/api/v1/orphans", "").want(200, "").body; got != want {
		t.Errorf("orphans:\n got %s\nwant %s", got, want)
	}
}

func TestOrphanDelete(t *testing.T) {
	t.Parallel()
	var users []string
	a := newAPI(t, with(&fake{removeOrphan: func(ctx context.Context, actor, user string) error {
		checkActor(t, actor)
		if at, ok := ctx.Deadline(); !ok || time.Until(at) < 4*time.Minute {
			t.Errorf("a deletion has %s", time.Until(at))
		}
		users = append(users, user)
		return nil
	}}))
	for _, path := range []string{"ixmage-s3read-shop-ab12", "A+=,.@_-z", "a%2B%3d%40b", strings.Repeat("x", 64)} {
		if r := a.do("DELETE", "/api/v1/orphans/"+path, "").want(204, ""); r.body != "" {
			t.Errorf("%s: body %q", path, r.body)
		}
	}
	if got, want := strings.Join(users, " "), "ixmage-s3read-shop-ab12 A+=,.@_-z a+=@b "+strings.Repeat("x", 64); got != want {
		t.Errorf("users:\n got %s\nwant %s", got, want)
	}
	for _, path := range []string{"a%2fb", "a%00", "a%20b", strings.Repeat("x", 65), "s%C3%BC%C3%9F", "a*"} {
		a.raw("DELETE /api/v1/orphans/"+path+" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(404, "not-found")
	}
	a.raw("DELETE /api/v1/orphans/%zz HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "+testToken+"\r\n\r\n").want(400, "bad-request")
	a.do("DELETE", "/api/v1/orphans/u", `{}`).want(400, "bad-request")
	if len(users) != 4 {
		t.Errorf("a refused call reached the Provisioner: %v", users)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	v := &alias.Verification{Alias: "shop", CheckedAt: moment, Checks: []alias.Check{
		{Name: "get-inside", Expected: "200", Got: "200", Verdict: alias.VerdictProven, Positive: true, At: moment},
		{Name: "list-bucket", Expected: "403", Got: "200", Verdict: alias.VerdictViolated, Failed: true, Detail: "it can list", At: moment},
	}}
	var calls []string
	a := newAPI(t, with(&fake{verify: func(ctx context.Context, actor string, name alias.Name) (*alias.Verification, error) {
		checkActor(t, actor)
		calls = append(calls, string(name))
		if at, ok := ctx.Deadline(); !ok || time.Until(at) < callTimeout {
			t.Errorf("a verification has %s", time.Until(at))
		}
		return v, nil
	}}))
	want := `{"alias":"shop","checked_at":"` + momentText + `","scope":"violated","checks":[` +
		`{"name":"get-inside","expected":"200","got":"200","verdict":"proven","detail":""},` +
		`{"name":"list-bucket","expected":"403","got":"200","verdict":"violated","detail":"it can list"}]}` + "\n"
	for _, body := range []string{"", "{}"} {
		if got := a.do("POST", "/api/v1/aliases/shop/verify", body).want(200, "").body; got != want {
			t.Errorf("verification:\n got %s\nwant %s", got, want)
		}
	}
	v = &alias.Verification{Alias: "shop", CheckedAt: moment}
	want = `{"alias":"shop","checked_at":"` + momentText + `","scope":"not-proven","checks":[]}` + "\n"
	if got := a.do("POST", "/api/v1/aliases/shop/verify", "").want(200, "").body; got != want {
		t.Errorf("without checks:\n got %s\nwant %s", got, want)
	}
	a.do("POST", "/api/v1/aliases/shop/verify", `{"full":true}`).want(400, "invalid")
	a.do("POST", "/api/v1/aliases/shop/verify", `x`).want(400, "bad-request")
	a.do("POST", "/api/v1/aliases/shop/verify?full=1", "").want(400, "invalid")
	a.do("POST", "/api/v1/aliases/SHOP/verify", "").want(404, "not-found")
	if len(calls) != 3 {
		t.Errorf("a refused call reached the Provisioner: %v", calls)
	}
}

func TestVerifyEndsAtShutdown(t *testing.T) {
	t.Parallel()
	entered := make(chan struct{})
	a := newAPI(t, with(&fake{verify: func(ctx context.Context, _ string, _ alias.Name) (*alias.Verification, error) {
		close(entered)
		<-ctx.Done()
		return nil, ctx.Err()
	}}))
	done := make(chan answer)
	go func() { done <- a.do("POST", "/api/v1/aliases/shop/verify", "") }()
	<-entered
	if err := a.server.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	(<-done).want(503, "not-ready")
}
