package console

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// TestProvision provisions an alias with a form that shows the policy while it is typed, watches
// the steps until they end, and sees the picture of the new alias.
func TestProvision(t *testing.T) {
	t.Parallel()
	needGateway(t)
	at, letGo := heldIAM(t, setup.gateway["iam"]) // or the operation may end before the page looks at it
	s := start(t, "--iam-endpoint", at)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/provision", "What will be made")
	p.sees("Still needed: Alias")
	g := setup.gateway
	p.fill("Alias", "shop")
	p.fill("Bucket", "other-media")
	p.fill("Prefix", "pictures/")
	p.fill("Region", g["region"])
	p.fill("Endpoint", g["s3"])
	p.click("field", "Path style: host/bucket/key instead of bucket.host/key")
	p.fill("Key that it must read", "pictures/morning.png")
	p.fill("Key that it must not read", "private/noon.jpg")
	p.sees(`"arn:aws:s3:::other-media/pictures/*"`)
	p.click("button", "Provision")
	p.sees("--provision-buckets")
	if calls := p.sent("POST /provision"); len(calls) < 2 {
		t.Errorf("calls: %v", calls)
	}
	p.fill("Bucket", bucket)
	p.sees(`"arn:aws:s3:::` + bucket + `/pictures/*"`)
	p.sees("IAM and S3 have not been called yet.")
	p.visit("#/operations", "No operation yet")
	p.visit("#/provision", "IAM and S3 have not been called yet.") // what was typed is kept
	p.screenshot("provision")
	p.click("button", "Provision")
	p.wait("an operation", `location.hash.startsWith('#/operations/')`)
	id := strings.TrimPrefix(eval[string](p, "location.hash"), "#/operations/")
	eventually(t, "the page follows the operation", func() bool { return len(p.sent("GET /operations/"+id+"/events")) > 0 })
	letGo()
	p.ended()
	operation := s.api(http.MethodGet, "/operations/"+id, nil, http.StatusOK)
	if operation["state"] != "done" {
		t.Errorf("the operation is %v", operation["state"])
	}
	steps := operation["steps"].([]any)
	p.wait("every step is done", `document.querySelectorAll('.steps li.done').length === %s`, len(steps))
	if events := p.sent("GET /operations/" + id + "/events"); len(events) != 1 {
		t.Errorf("the steps came by %d streams of events", len(events))
	}
	p.seesPicture("The picture morning.png, as clients get it", 320, 200)
	p.settled()
	p.screenshot("provisioned")
	p.visit("#/aliases/shop", "What the key can do")
	p.sees("proven")
	p.visit("#/audit", "iam:CreateAccessKey")
	p.settled()
	p.screenshot("audit")
}

// heldIAM starts a proxy of an IAM server and returns its URL. Calls of operations wait until letGo is
// called, at the end of the test at the latest, because Close waits for them.
func heldIAM(t *testing.T, to string) (at string, letGo func()) {
	t.Helper()
	target, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	through := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		r.Out.Host = r.In.Host // it is part of the signature
	}}
	released := make(chan struct{})
	letGo = sync.OnceFunc(func() { close(released) })
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.UserAgent(), "ixmage-operation/") {
			<-released
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		letGo()
		front.Close()
	})
	return front.URL, letGo
}

// TestRotate rotates a provisioned key and watches it.
func TestRotate(t *testing.T) {
	t.Parallel()
	s := start(t, "--rotation-soak", "20ms", "--rotation-quiet", "20ms", "--rotation-soak-inactive", "20ms")
	s.provision("made")
	before := s.api(http.MethodGet, "/credentials/made", nil, http.StatusOK)["access_key_id"]
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/credentials/made", "provisioned")
	p.click("button", "Rotate")
	p.confirm()
	p.wait("an operation", `location.hash.startsWith('#/operations/')`)
	p.ended()
	if after := s.api(http.MethodGet, "/credentials/made", nil, http.StatusOK)["access_key_id"]; after == before {
		t.Errorf("the key is still %v", after)
	}
}

// ended waits for the end of the operation that the page shows.
func (p *page) ended() {
	p.t.Helper()
	p.wait("the end of the operation", `document.querySelector('.result .badge')?.textContent === 'done'`)
}

// confirm presses the button of the open dialog that does it.
func (p *page) confirm() {
	p.t.Helper()
	name := ""
	eventually(p.t, "there is a dialog", func() bool {
		name = eval[string](p, `[...document.querySelectorAll('dialog[open] form button:not([type=button])')].at(-1)?.textContent.trim() ?? ''`)
		return name != ""
	})
	p.click("button", name)
}

// TestExplain explains why a picture is missing, and one that is there.
func TestExplain(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.pictures("shop")
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/explain", "URL or path")
	p.fill("URL or path", s.public+"/shop/missing.png?w=100")
	p.click("button", "Explain")
	p.sees("Not known before S3 is asked")
	p.click("button", "Probe S3")
	p.sees("Clients get 404 not-found")
	remedy := s.api(http.MethodGet, "/explain?path=/shop/missing.png&probe=true", nil, http.StatusOK)["remedy"].(string)
	p.sees(remedy)
	p.settled()
	p.screenshot("explain")
	p.fill("URL or path", "https://pictures.example.com/shop/noon.jpg")
	p.click("button", "Explain")
	p.click("button", "Probe S3")
	p.sees("Clients get 200")
	p.seesPicture("The picture noon.jpg", 640, 400)
	p.fill("URL or path", "/nothing/a.png")
	p.click("button", "Explain")
	p.sees("There is no alias of this name")
	if got := eval[string](p, "location.hash"); !strings.Contains(got, "nothing") {
		t.Errorf("the address is %s", got)
	}
}

// TestTokens makes a token, signs in with it, revokes it and is signed out.
func TestTokens(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/tokens", "What the roles allow")
	p.click("button", "Make a token")
	p.fill("Name", "deploy")
	p.click("button", "Make the token")
	p.sees("Copy it now")
	token := eval[string](p, `document.querySelector('dialog[open] pre').textContent`)
	if !strings.HasPrefix(token, "ixmage_") {
		t.Errorf("the token is %q", token)
	}
	p.click("button", "I have copied it")
	if html := eval[string](p, "document.documentElement.outerHTML"); strings.Contains(html, token) {
		t.Error("the page still has the token")
	}
	p.settled()
	p.screenshot("tokens")

	reader := open(t, s)
	reader.signIn(token)
	reader.sees("No alias yet")
	p.click("button", "Revoke deploy")
	p.fill("Type deploy to confirm", "deploy")
	p.click("button", "Revoke")
	p.sees("The token deploy is revoked")
	reader.visit("#/credentials", "Your session has ended")
}
