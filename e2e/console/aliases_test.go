package console

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// TestRegister registers an alias with a form: wrong values are marked at their fields with the
// sentences of the API, and the right ones show a picture of the bucket.
func TestRegister(t *testing.T) {
	t.Parallel()
	needGateway(t)
	s := start(t)
	p := open(t, s)
	p.signIn(s.token)
	p.click("button", "Register an alias")
	p.fill("Name", "Shop!")
	p.fill("Bucket", bucket)
	p.click("button", "Register")
	p.wait("the name is marked", `document.querySelector('[name=name]')?.getAttribute('aria-invalid') === 'true'`)
	p.focusGoes("Name")
	wrong := s.api(http.MethodPost, "/aliases", map[string]any{"name": "Shop!", "bucket": bucket, "credential": nil}, http.StatusBadRequest)
	p.sees(wrong["errors"].([]any)[0].(map[string]any)["detail"].(string))

	g := setup.gateway
	p.fill("Name", "shop")
	p.fill("Prefix", "pictures/")
	p.fill("Region", g["region"])
	p.fill("Endpoint", g["s3"])
	p.fill("Canary", "noon.jpg")
	p.fill("Access key id", g["reader_id"])
	p.fill("Secret access key", g["reader_secret"])
	p.click("field", "Path style: host/bucket/key instead of bucket.host/key")
	p.screenshot("register")
	p.click("button", "Register")
	p.seesPicture("The picture noon.jpg", 640, 400)
	p.sees("s3://" + bucket)
	a := s.api(http.MethodGet, "/aliases/shop", nil, http.StatusOK)
	if a["prefix"] != "pictures/" || a["canary"] != "noon.jpg" || a["path_style"] != true {
		t.Errorf("registered: %v", a)
	}
	if html := eval[string](p, "document.documentElement.outerHTML"); strings.Contains(html, g["reader_secret"]) {
		t.Error("the page has the secret access key")
	}
}

// seesPicture waits until a picture is drawn in its own size.
func (p *page) seesPicture(alt string, width, height int) {
	p.t.Helper()
	p.wait("a picture "+alt, `[...document.querySelectorAll('img')].some((i) => i.alt === %s && i.complete && i.naturalWidth === %s && i.naturalHeight === %s)`,
		alt, width, height)
}

// TestPurge purges a picture, and a whole alias after a question.
func TestPurge(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.pictures("shop")
	fetch := func() string {
		resp, err := http.Get(s.public + "/shop/noon.jpg")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil { // a request during the fetch would join it
			t.Fatal(err)
		}
		return resp.Header.Get("Cache-Status")
	}
	fetch()
	if got := fetch(); !strings.Contains(got, "hit") {
		t.Fatalf("before the purge: %s", got)
	}
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/aliases/shop", "What the key can do")
	p.fill("Key", "noon.jpg") // the first field of this name is of the picture to test
	p.choose("What", "one picture")
	p.on(p.find("field", "Hard: drop the pictures at once"), "function() { this.scrollIntoView() }")
	eval[any](p, `(document.querySelector('[name=key]').focus(), null)`)
	p.press("noon.jpg")
	p.click("field", "Hard: drop the pictures at once")
	p.click("button", "Purge")
	p.sees("Purged: 1 picture")
	if got := fetch(); strings.Contains(got, "hit") {
		t.Errorf("after the purge: %s", got)
	}
	p.choose("What", "the whole alias")
	p.click("button", "Purge")
	p.sees("Purge the whole alias?")
	if calls := p.sent("POST /purge"); len(calls) != 1 {
		t.Errorf("before the answer: %v", calls)
	}
	p.click("button", "Purge all")
	p.sees("negative entr")
	p.hidden("Purge the whole alias?")
	if calls := p.sent("POST /purge"); len(calls) != 2 {
		t.Errorf("after the answer: %v", calls)
	}
}

// TestChangedInTheMeantime: a change of what somebody else has changed is refused, and works when it is
// tried again at once, because the page has the new state by then. A form that would send old values closes.
func TestChangedInTheMeantime(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.pictures("shop")
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/aliases/shop", "What the key can do")
	s.api(http.MethodPatch, "/aliases/shop", map[string]any{"ttl": "2h"}, http.StatusOK)
	p.click("button", "Disable")
	p.sees("another revision than If-Match says")
	p.click("button", "Disable")
	p.sees("shop is disabled")

	s.api(http.MethodPatch, "/aliases/shop", map[string]any{"ttl": "3h"}, http.StatusOK)
	p.click("button", "Remove")
	p.fill("Type shop to confirm", "shop")
	p.click("button", "Remove the alias")
	p.sees("It has changed in the meantime")
	p.click("button", "Remove the alias")
	p.sees("Alias shop removed")

	pair := map[string]string{"access_key_id": setup.gateway["reader_id"], "secret_access_key": setup.gateway["reader_secret"]}
	s.api(http.MethodPost, "/credentials", map[string]string{
		"name": "spare", "access_key_id": pair["access_key_id"], "secret_access_key": pair["secret_access_key"],
	}, http.StatusCreated)
	p.visit("#/credentials/spare", "A key pair that an operator registered")
	s.api(http.MethodPut, "/credentials/spare", pair, http.StatusOK)
	p.click("button", "Change its expected scope")
	p.click("button", "Save")
	p.sees("another revision than If-Match says")
	p.wait("the form has closed", `!document.querySelector('dialog[open]')`)
	p.click("button", "Change its expected scope")
	p.click("button", "Save")
	p.sees("Credential spare changed")

	s.api(http.MethodPut, "/credentials/spare", pair, http.StatusOK)
	p.click("button", "Remove")
	p.fill("Type spare to confirm", "spare")
	p.click("button", "Remove")
	p.sees("It has changed in the meantime")
	p.click("button", "Remove")
	p.sees("Credential spare removed")
}

// TestReadOnly: a token that may only read sees everything and can change nothing: buttons say which
// role they need, and the API refuses the call without them.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.pictures("shop")
	p := open(t, s)
	p.signIn(s.makeToken("reader", "read"))
	p.find("link", "shop")
	p.click("button", "Register an alias (This needs a token with the role alias)")
	if got := eval[string](p, "location.hash"); strings.Contains(got, "register") {
		t.Errorf("the button leads to %s", got)
	}
	p.click("link", "shop")
	p.seesPicture("The picture morning.png", 320, 200)
	for _, name := range []string{"Disable", "Remove"} {
		p.click("button", name+" (This needs a token with the role alias)")
	}
	p.click("button", "Verify now (This needs a token with the role alias or provision)")
	status := eval[int](p, `fetch('/api/v1/aliases/shop', { method: 'DELETE', headers: { 'X-Ixmage-Console': '1' } }).then((r) => r.status)`)
	if status != http.StatusForbidden {
		t.Errorf("a direct call: %d", status)
	}
	for _, method := range []string{"PATCH /aliases", "POST /aliases"} {
		if calls := p.sent(method); len(calls) != 0 {
			t.Errorf("the console tried %v", calls)
		}
	}
	s.api(http.MethodGet, "/aliases/shop", nil, http.StatusOK)
}

// TestManyAliases: with 10,000 aliases the page has few rows at a time, in whatever part of the list.
func TestManyAliases(t *testing.T) {
	t.Parallel()
	s := start(t, "--log-level", "error")
	const n = 10_000
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			for i := w; i < n; i += 8 {
				s.api(http.MethodPost, "/aliases", map[string]any{"name": fmt.Sprintf("shop-%05d", i), "bucket": "media", "region": "eu-west-1", "credential": nil}, http.StatusCreated)
			}
		})
	}
	workers.Wait()
	p := open(t, s)
	p.signIn(s.token)
	const lead = `document.querySelector('header.page p')?.textContent.replace(/[^0-9a-z]/g, '')`
	p.wait("the number of aliases", lead+` === '10000aliases'`)
	p.find("link", "shop-00000")
	const rows, most = `document.querySelectorAll('[role=table] [role=row], table tr').length`, 60
	if got := eval[int](p, rows); got < 5 || got > most {
		t.Errorf("%d rows in the page", got)
	}
	if got := eval[int](p, "document.querySelectorAll('*').length"); got > 3000 {
		t.Errorf("%d elements in the page", got)
	}
	const scroller = `[...document.querySelectorAll('*')].filter((e) => e.scrollHeight > 100000 && e.scrollHeight > e.clientHeight).at(-1)`
	for _, at := range []int{5000, n - 1} {
		eval[any](p, `((e, part) => { e.scrollTop = part * e.scrollHeight; return null })(`+scroller+`, %s)`, float64(at)/n)
		p.wait("another part of the list", `[...document.querySelectorAll('a')].some((a) => Math.abs(Number(a.textContent.slice(5)) - %s) < 20 && a.getClientRects().length)`, at)
		if got := eval[int](p, rows); got > most {
			t.Errorf("%d rows in the page at %d", got, at)
		}
	}
	p.fill("Search", "shop-0777")
	p.find("link", "shop-07770")
	p.wait("the number of those found", lead+` === '10of10000'`)
}
