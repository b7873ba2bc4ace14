package console

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// startTransforms runs ixmage with a worker that transforms pictures, and the alias shop.
func startTransforms(t *testing.T) *server {
	t.Helper()
	worker, err := filepath.Abs("../../bin/ixmage-worker")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(worker); err != nil {
		t.Skip("SKIPPED, NOT TESTED: bin/ixmage-worker is absent; run make worker")
	}
	// The longest time, and no share of the workers' time: a busy machine is slow.
	s := start(t, "--transform-worker", worker, "--transform-timeout", "10s", "--transform-alias-share", "100", "--transform-client-share", "100")
	s.pictures("shop")
	return s
}

func (s *server) alias(name string) map[string]any {
	s.t.Helper()
	return s.api(http.MethodGet, "/aliases/"+name, nil, http.StatusOK)
}

// get requests a URL as a client does.
func get(t *testing.T, url string) (*http.Response, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

// invalid waits until a field is marked with an error, and returns it.
func (p *page) invalid(name string) string {
	p.t.Helper()
	p.wait(name+" is marked", `document.querySelector('[name=%s]')?.getAttribute('aria-invalid') === 'true'`, name)
	return eval[string](p, `((e) => document.getElementById(e.getAttribute('aria-describedby').split(' ').at(-1)).textContent)(document.querySelector('[name=%s]'))`, name)
}

// chips are the widths that the form shows.
func (p *page) chips() string {
	return eval[string](p, `[...document.querySelectorAll('.chips li')].map((e) => e.firstChild.textContent).join(' ')`)
}

// TestTransformRules sets what URLs of an alias may ask for, with the mouse and with the keyboard, on
// a server without a worker: the screen says why no picture is transformed, and how that changes.
func TestTransformRules(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	s := start(t)
	s.pictures("shop")
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/aliases/shop", "What the key can do")
	p.sees("templates and widths")
	p.click("link", "Transforms")
	p.sees("This server transforms no pictures")
	p.sees("--transform-worker")
	p.sees("Who may ask for what")
	if got := p.chips(); got != "20 40 60 120 250 330 500 960 1280 1920 3840" {
		t.Errorf("the widths are %s", got)
	}
	p.click("button", "Remove 20")
	p.focusGoes("Widths")
	p.press("640x")   // only digits stay
	p.press(kb.Enter) // adds it, and does not send the form
	p.wait("the width is added", `[...document.querySelectorAll('.chips li')].some((e) => e.firstChild.textContent === '640')`)
	p.fill("Widths", "9000")
	p.click("button", "Add")
	p.axe(source, "transforms")
	p.click("button", "Save")
	p.sees("entry 12 must be from 1 to 8192")
	if len(p.sent("PATCH /aliases/shop")) != 1 {
		t.Errorf("sent: %v", p.sent("PATCH /aliases/shop"))
	}
	p.axe(source, "a wrong width")
	p.click("button", "Remove 9000")
	p.click("button", "Save")
	p.sees("Saved")
	if got := s.alias("shop"); len(got["widths"].([]any)) != 11 || got["transforms"] != "templates" || got["access"] != "open" {
		t.Errorf("saved: %v", got)
	}
	p.click("button", "Restore the default")
	p.click("field", "Open")
	p.tabTo("Open")
	p.press(kb.ArrowUp) // signed URLs only
	p.wait("the widths have gone", `!document.querySelector('.chips')`)
	p.click("button", "Save")
	eventually(t, "the mode is stored", func() bool { return s.alias("shop")["transforms"] == "signed" })

	s.api(http.MethodPatch, "/aliases/shop", map[string]any{"ttl": "2h", "access": "signed"}, http.StatusOK)
	p.click("field", "Off")
	p.click("button", "Save")
	p.sees("It has changed in the meantime")
	p.click("button", "Save")
	eventually(t, "the mode is stored after a conflict", func() bool { return s.alias("shop")["transforms"] == "off" })
	if got := s.alias("shop"); got["ttl"] != "2h0m0s" || got["access"] != "signed" {
		t.Errorf("the change of somebody else has gone: %v", got)
	}
	p.sees("Transforms of this alias are off")
}

// TestTemplates makes, tries, changes and deletes a template; each try shows the picture that the
// server makes.
func TestTemplates(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	s := startTransforms(t)
	s.api(http.MethodPatch, "/aliases/shop", map[string]any{"transforms": "open"}, http.StatusOK)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/aliases/shop/transforms", "No template yet.")
	p.seesPicture("The original morning.png", 320, 200)
	p.fill("Picture", "noon.jpg")
	p.seesPicture("The original noon.jpg", 640, 400)
	p.fill("Width", "120")
	p.fill("Height", "120")
	p.choose("Fit", "cover")
	p.seesPicture("The result of w=120&h=120&fit=cover", 120, 120)
	p.wait("the facts of the result", `/120 × 120 · [0-9.]+ (Ki)?B · (avif|webp) · [0-9]+ % smaller · [0-9]+ ms/.test(document.querySelector('.preview').innerText)`)
	p.choose("A browser that shows", "neither")
	p.wait("a JPEG", `/ · jpeg · /.test(document.querySelectorAll('.preview figcaption')[1].innerText)`)
	p.fill("Quality", "101")
	if got := p.invalid("query"); !strings.Contains(got, "q") || !strings.Contains(got, "100") {
		t.Errorf("the error of the quality is %q", got)
	}
	p.axe(source, "a wrong option")
	p.fill("Quality", "")
	p.seesPicture("The result of w=120&h=120&fit=cover", 120, 120)
	p.fill("Name of the template", "Thumb!")
	p.click("button", "Save as a template")
	p.invalid("name")
	p.fill("Name of the template", "thumb")
	p.click("button", "Save as a template")
	p.sees("The template thumb is saved")
	p.sees(s.public + "/shop/noon.jpg?t=thumb")
	if resp, body := get(t, s.public+"/shop/noon.jpg?t=thumb"); resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "image/jpeg" {
		t.Errorf("the template: %s %.100s", resp.Status, body)
	}
	p.fill("Picture", "morning.png") // a small one, for the size of the picture of the docs
	p.seesPicture("The original morning.png", 320, 200)
	p.settled()
	p.screenshot("transforms")

	p.click("button", "Add a template")
	p.wait("the bench is empty", `document.querySelector('[name=query]').value === ''`)
	p.click("button", "Try or edit thumb")
	p.wait("the template is on the bench", `document.querySelector('[name=query]').value.includes('fit=cover') && document.querySelector('[name=h]').value === '120'`)
	p.fill("Options", "w=90&gray=1")
	p.seesPicture("The result of w=90&gray=1", 90, 56)
	p.click("button", "Replace thumb")
	eventually(t, "the template is replaced", func() bool {
		return strings.Contains(s.alias("shop")["templates"].(map[string]any)["thumb"].(string), "gray=1")
	})
	p.click("button", "Delete thumb")
	p.sees("are answered with 400 from then on")
	p.axe(source, "the question")
	p.confirm()
	p.sees("No template yet.")
	if got := s.alias("shop")["templates"].(map[string]any); len(got) != 0 {
		t.Errorf("templates: %v", got)
	}
}

// TestPreviewEscapes types what would break a page that does not escape.
func TestPreviewEscapes(t *testing.T) {
	t.Parallel()
	s := startTransforms(t)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/aliases/shop/transforms", "Try options")
	p.fill("Picture", `<img src=x onerror=alert(1)>"&#.png`)
	p.sees("404")
	p.fill("Options", `w=<b>&t="><script>alert(1)</script>`)
	p.sees("404")
	p.fill("Picture", "noon.jpg")
	p.seesPicture("The original noon.jpg", 640, 400)
	p.invalid("query")
	if eval[bool](p, `!!document.querySelector('main b, main script, main img[src=x]')`) {
		t.Error("text became elements")
	}
	if got := eval[string](p, "sessionStorage.getItem('ixmage-preview-shop')"); got != "noon.jpg" {
		t.Errorf("remembered: %q", got)
	}
}

// TestSigning makes a signing key where the preview needs one, signs a URL, and deletes the key after
// a question that says what breaks.
func TestSigning(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	s := startTransforms(t)
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/aliases/shop/transforms", "Try options")
	p.fill("Options", "w=100")
	p.sees("rounded up to 120")
	p.fill("Options", "w=100&gray=1")
	p.sees("the alias has no signing key")
	p.axe(source, "no signing key")
	p.click("button", "Make a signing key")
	p.sees("it is shown only once")
	secret := eval[string](p, `document.querySelector('dialog[open] pre').textContent`)
	p.axe(source, "the secret")
	p.click("button", "I have copied it")
	p.seesPicture("The result of w=100&gray=1", 100, 62)
	if len(secret) < 43 || strings.Contains(eval[string](p, "document.documentElement.outerHTML"), secret) {
		t.Errorf("the page still has the secret of %d characters", len(secret))
	}
	p.sees("Only a signed URL may ask for this")
	p.click("link", "Make a signed URL")
	p.sees("Signing keys")
	p.choose("Expires", "in 1 hour")
	p.click("button", "Sign")
	p.sees("Open it")
	url := eval[string](p, `[...document.querySelectorAll('.code pre')].at(-1).textContent`)
	if resp, body := get(t, url); resp.StatusCode != http.StatusOK || !strings.Contains(url, "exp=") || !strings.HasPrefix(url, s.public+"/shop/morning.png?w=100&gray=1") {
		t.Errorf("%s: %s %.200s", url, resp.Status, body)
	}
	p.axe(source, "a signed URL")
	p.settled()
	p.screenshot("signing")

	kid := eval[string](p, `document.querySelector('td code').textContent`)
	p.click("button", "Delete "+kid)
	p.sees("answered with 403 at once")
	p.sees("then no URL can be signed")
	p.axe(source, "the question")
	p.fill("Type "+kid+" to confirm", kid)
	p.click("button", "Delete")
	p.sees("No signing key yet.")
	p.sees("Make a signing key first.")
	if resp, _ := get(t, url); resp.StatusCode != http.StatusForbidden {
		t.Errorf("with a deleted key: %s", resp.Status)
	}
	if strings.Contains(s.output(), secret) {
		t.Error("the log has the secret")
	}
}

// TestSignedAccess: thumbnails and the test picture of an alias that answers signed URLs only are
// shown; the last key is named as such before it is deleted.
func TestSignedAccess(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.pictures("shop")
	s.api(http.MethodPost, "/aliases/shop/signing-keys", nil, http.StatusCreated)
	s.api(http.MethodPatch, "/aliases/shop", map[string]any{"access": "signed"}, http.StatusOK)
	if resp, _ := get(t, s.public+"/shop/noon.jpg"); resp.StatusCode != http.StatusForbidden {
		t.Fatalf("without a signature: %s", resp.Status)
	}
	p := open(t, s)
	p.signIn(s.token)
	p.wait("the thumbnail", "document.querySelectorAll('.cell img.picture').length === 1")
	p.click("link", "shop")
	p.seesPicture("The picture morning.png", 320, 200)
	p.sees("signed URLs only")
	p.click("link", "Signed URLs")
	p.sees("Every request to this alias needs a signed URL.")
	kid := eval[string](p, `document.querySelector('td code')?.textContent ?? ''`)
	if kid == "" {
		p.sees("Created")
		p.wait("the key", `document.querySelector('td code')`)
		kid = eval[string](p, `document.querySelector('td code').textContent`)
	}
	p.click("button", "Delete "+kid)
	p.sees("no picture of shop can be fetched then")
}

// TestTransformsReadOnly: a token that may only read sees the settings, tries options, and can change
// nothing.
func TestTransformsReadOnly(t *testing.T) {
	t.Parallel()
	s := startTransforms(t)
	s.api(http.MethodPatch, "/aliases/shop", map[string]any{"templates": map[string]string{"thumb": "w=80"}}, http.StatusOK)
	p := open(t, s)
	p.signIn(s.makeToken("reader", "read"))
	p.visit("#/aliases/shop/transforms", "thumb")
	p.fill("Options", "t=thumb")
	p.seesPicture("The result of t=thumb", 80, 50)
	for _, name := range []string{"Add a template", "Delete thumb"} {
		p.click("button", name+" (This needs a token with the role alias)")
	}
	p.visit("#/aliases/shop/signing", "No signing key yet.")
	p.click("button", "Make a signing key (This needs a token with the role alias)")
	if calls := slices.Concat(p.sent("PATCH /aliases"), p.sent("POST /aliases"), p.sent("DELETE /aliases")); len(calls) != 0 {
		t.Errorf("the console tried %v", calls)
	}
}

// TestExplainOptions explains URLs with options: what they ask for, and why they are refused.
func TestExplainOptions(t *testing.T) {
	t.Parallel()
	source := axeSource(t)
	s := startTransforms(t)
	s.fetch("/shop/noon.jpg?w=100&v=2")
	p := open(t, s)
	p.signIn(s.token)
	p.visit("#/explain", "URL or path")
	p.fill("URL or path", s.public+"/shop/noon.jpg?w=100&v=2")
	p.click("button", "Explain")
	p.sees("100, rounded up to 120")
	p.sees("Ignored v")
	p.axe(source, "options")
	p.fill("URL or path", s.public+"/shop/noon.jpg?gray=1")
	p.click("button", "Explain")
	p.sees("They need a good signature.")
	p.sees("Clients get 403 signature")
	p.fill("URL or path", s.public+"/shop/noon.jpg?w=0")
	p.click("button", "Explain")
	p.sees("An option is not valid.")
}
