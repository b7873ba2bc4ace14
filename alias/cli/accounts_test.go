package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"ixmage/alias"
	"ixmage/alias/client"
)

// TestAccounts: the commands about users name an account of --accounts, and the list of orphans
// shows it.
func TestAccounts(t *testing.T) {
	t.Parallel()
	var query string
	var body map[string]any
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.Method {
		case http.MethodDelete:
			query = r.URL.Path + "?" + r.URL.RawQuery
			w.WriteHeader(http.StatusNoContent)
		case http.MethodPost:
			_ = json.NewDecoder(r.Body).Decode(&body)
			_, _ = w.Write([]byte(`{"user":{},"steps":[],"commands":[]}`))
		default:
			_, _ = w.Write([]byte(`{"scanned_at":null,"skipped":"","orphans":[{"kind":"user","account":"111122223333","user":"ixmage-x"}]}`))
		}
	}))
	t.Cleanup(server.Close)
	c, err := client.New(server.URL, alias.NewSecret(testToken))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.CloseIdle)
	e := &env{t: t, client: c}
	if got := e.run(&orphansLsCmd{}, formatTable, ""); !strings.Contains(got.out, "ACCOUNT") || !strings.Contains(got.out, "111122223333") {
		t.Errorf("%s%s", got.out, got.err)
	}
	for account, want := range map[string]string{"": "/api/v1/orphans/ixmage-x?", "prod": "/api/v1/orphans/ixmage-x?account=prod"} {
		if got := e.run(&orphansRmCmd{User: "ixmage-x", Account: account, confirmed: confirmed{Yes: true}}, formatTable, ""); got.code != exitOK || query != want {
			t.Errorf("%d %s: %s, want %s", got.code, got.err, query, want)
		}
	}
	provision := &provisionCmd{Name: "shop", DryRun: true, provisionFields: provisionFields{Account: new("prod")}}
	if got := e.run(provision, formatTable, ""); got.code != exitOK || body["account"] != "prod" {
		t.Errorf("%d %s: %v", got.code, got.err, body)
	}
}
