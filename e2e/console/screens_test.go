package console

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// screens are all screens, each with a text that it shows when it is complete.
var screens = []struct{ name, hash, text string }{
	{"aliases", "#/aliases", "made"},
	{"register", "#/register", "Access key id"},
	{"alias", "#/aliases/made", "Hard: drop the pictures at once"},
	{"alias-edit", "#/aliases/made/edit", "Canary"},
	{"transforms", "#/aliases/made/transforms", "Try options"},
	{"signing", "#/aliases/made/signing", "Make a signed URL"},
	{"credentials", "#/credentials", "provisioned"},
	{"credential", "#/credentials/made", "provisioned"},
	{"provision", "#/provision", "What will be made"},
	{"operations", "#/operations", "done"},
	{"orphans", "#/orphans", "Orphans"},
	{"audit", "#/audit", "iam:CreateUser"},
	{"explain", "#/explain?path=/shop/noon.jpg", "The way of the request"},
	{"explain-missing", "#/explain?path=/made/none.png", "The way of the request"},
	{"cache", "#/cache", "memory"},
	{"nodes", "#/nodes", "(this one)"},
	{"tokens", "#/tokens", "What the roles allow"},
	{"about", "#/about", "Version"},
	{"unknown", "#/nothing", "There is no page at this address"},
	{"unknown-alias", "#/aliases/nothing", "Request"},
}

// axeSource is axe-core, which finds what a person with a screen reader would stumble over.
func axeSource(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../bin/axe.min.js")
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: axe-core is absent, run make bin/axe.min.js: %v", err)
	}
	return string(text)
}

// violation is a finding of axe-core.
type violation struct {
	ID, Help string
	Nodes    []struct {
		HTML           string
		FailureSummary string
	}
}

// axe reports the findings on the page.
func (p *page) axe(source, where string) {
	p.t.Helper()
	for _, v := range p.findings(source) {
		for _, n := range v.Nodes {
			p.t.Errorf("%s: %s: %s\n%s\n%s", where, v.ID, v.Help, n.HTML, n.FailureSummary)
		}
	}
}

func (p *page) findings(source string) []violation {
	p.t.Helper()
	eval[any](p, "(() => {"+source+"})(), null")
	return eval[[]violation](p, "axe.run(document, { resultTypes: ['violations'] }).then((r) => r.violations)")
}

// filled is a server with an alias of a key pair, a provisioned one, requests, and errors.
func filled(t *testing.T) *server {
	t.Helper()
	needGateway(t)
	s := start(t)
	s.pictures("shop")
	s.provision("made")
	for _, path := range []string{"/shop/noon.jpg", "/shop/noon.jpg", "/made/morning.png", "/made/none.png"} {
		resp, err := http.Get(s.public + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	return s
}

// TestScreens looks at every screen, in light and dark, on a wide window and on a phone: axe finds
// nothing, and nothing is wider than the window. That there is no error and no violation of the policy
// is checked at the end of every test.
func TestScreens(t *testing.T) {
	t.Parallel()
	s := filled(t)
	source := axeSource(t)
	for _, dark := range []bool{false, true} {
		t.Run(fmt.Sprintf("dark=%t", dark), func(t *testing.T) {
			t.Parallel()
			p := open(t, s)
			if dark {
				p.dark()
			}
			p.find("button", "Sign in")
			p.axe(source, "sign-in")
			p.signIn(s.token)
			background := eval[string](p, "getComputedStyle(document.body).backgroundColor")
			var r, g, b int
			if _, err := fmt.Sscanf(background, "rgb(%d, %d, %d)", &r, &g, &b); err != nil || (r+g+b < 300) != dark {
				t.Errorf("the background is %s", background)
			}
			for _, screen := range screens {
				p.resize(1280, 800)
				p.visit(screen.hash, screen.text)
				p.settled()
				p.axe(source, screen.name)
				p.shot(screen.name, dark, false)
				p.resize(390, 844)
				p.settled()
				p.axe(source, screen.name+" on a phone")
				p.shot(screen.name, dark, true)
				if got := eval[int](p, "document.documentElement.scrollWidth"); got > 390 {
					t.Errorf("%s: %d pixels wide on a phone of 390: %s", screen.name, got, p.widest())
				}
			}
		})
	}
}

// settled waits until nothing loads any more.
func (p *page) settled() {
	p.t.Helper()
	p.wait("the screen is complete", `!document.querySelector('[aria-busy=true]') && !/Loading|so far…/.test(document.body.innerText) && document.readyState === 'complete'`)
	eval[any](p, "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(() => r(null))))")
}

// widest names the elements that are wider than the window.
func (p *page) widest() string {
	return strings.Join(eval[[]string](p, `[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1).slice(0, 5).map((e) => e.outerHTML.slice(0, 150))`), "\n")
}

// shot writes a picture of a screen into the folder of IXMAGE_SHOTS, for people who look at all.
func (p *page) shot(name string, dark, phone bool) {
	if dir := os.Getenv("IXMAGE_SHOTS"); dir != "" {
		p.save(fmt.Sprintf("%s/%s%s%s.png", dir, name, map[bool]string{true: "-phone"}[phone], map[bool]string{true: "-dark"}[dark]))
	}
}
