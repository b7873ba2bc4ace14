package e2e

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestTokens provisions with a named token at the real server, is refused with another one, and
// restarts the program.
func TestTokens(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	makeToken := func(name, roles string) string {
		r := s.api("POST", "/api/v1/tokens", `{"name":"`+name+`","roles":[`+roles+`]}`)
		var made struct{ Token string }
		if err := json.Unmarshal(r.body, &made); err != nil || r.StatusCode != 201 {
			t.Fatalf("%s %s, %v", r.Status, r.body, err)
		}
		return "Bearer " + made.Token
	}
	builder, reader := makeToken("builder", `"provision"`), makeToken("reader", `"read"`)
	body := provisionBody(g, "shop", bucket)
	wantProblem(t, s.api("POST", "/api/v1/provision", body, "Authorization", reader), 403, "forbidden")
	wantProblem(t, s.api("DELETE", "/api/v1/aliases/shop", nil, "Authorization", builder), 403, "forbidden")
	if r := s.api("POST", "/api/v1/provision", body, "Authorization", builder, "Prefer", "wait=60"); r.StatusCode != 200 {
		t.Fatalf("provision: %s %s", r.Status, r.body)
	}
	wantProblem(t, s.api("POST", "/api/v1/purge", `{"alias":"shop"}`, "Authorization", builder), 403, "forbidden")
	var audit struct {
		Audit []struct{ Actor, Action string }
	}
	s.read("/api/v1/audit", &audit)
	actors := map[string]string{}
	for _, e := range audit.Audit {
		actors[e.Action] = e.Actor
	}
	if actors["iam:CreateUser"] != "builder@127.0.0.1" || actors["create-token"] != "admin@127.0.0.1" {
		t.Errorf("the audit names %v", actors)
	}

	signIn := s.api("POST", "/api/v1/session", `{"token":"`+strings.TrimPrefix(reader, "Bearer ")+`"}`)
	cookie, _, _ := strings.Cut(signIn.Header.Get("Set-Cookie"), ";")
	bySession := func() *response {
		return s.do("GET", "http://"+s.admin+"/api/v1/session", nil, "Cookie", cookie, "Sec-Fetch-Site", "same-origin")
	}
	if r := bySession(); r.StatusCode != 200 || !strings.Contains(string(r.body), `"reader"`) {
		t.Errorf("session: %s %s", r.Status, r.body)
	}
	for _, text := range []string{reader[len("Bearer ixmage_"):], cookie[strings.Index(cookie, "=")+1:]} {
		if strings.Contains(s.wholeLog(), text) {
			t.Error("the log has the text of a token or a cookie")
		}
	}

	s.stop()
	s = startIn(t, s.data)
	wantProblem(t, bySession(), 401, "unauthorized")
	if r := s.api("GET", "/api/v1/session", nil, "Authorization", reader); r.StatusCode != 200 {
		t.Errorf("a token after a restart: %s", r.Status)
	}
	s.api("DELETE", "/api/v1/tokens/reader", nil)
	wantProblem(t, s.api("GET", "/api/v1/session", nil, "Authorization", reader), 401, "unauthorized")
}
