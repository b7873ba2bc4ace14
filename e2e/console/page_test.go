package console

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// page is a tab with its own cookies, on the console of a server.
type page struct {
	t      *testing.T
	server *server
	origin string          // of the console
	ctx    context.Context //nolint:containedctx // the library keeps the tab in it

	watched  atomic.Bool // whether problems fail the test
	mu       sync.Mutex  // guards the fields below
	problems []string    // errors of the console of the browser, violations of the policy, foreign requests
	requests []string    // METHOD URL
}

// open opens the console in a new tab. When the test ends, the tab must have had no error, no
// violation of the Content-Security-Policy, and no request to another origin.
func open(t *testing.T, s *server) *page {
	t.Helper()
	p := &page{t: t, server: s, origin: s.admin}
	p.watched.Store(true)
	var cancel context.CancelFunc
	p.ctx, cancel = chromedp.NewContext(setup.browser, chromedp.WithNewBrowserContext(), chromedp.WithListener(p.watch))
	t.Cleanup(cancel)
	t.Cleanup(p.check)
	call(p, network.Enable, network.EnableParams{})
	call(p, cdplog.Enable, cdp.Empty{})
	call(p, audits.Enable, cdp.Empty{})
	call(p, runtime.Enable, cdp.Empty{})
	call(p, cdppage.AddScriptToEvaluateOnNewDocument, cdppage.AddScriptToEvaluateOnNewDocumentParams{Source: toastsStay})
	p.resize(1280, 800)
	call(p, cdppage.Navigate, cdppage.NavigateParams{URL: p.origin + "/"})
	return p
}

// toastsStay keeps short messages, which go after 5 s and more, until the next click of the test: a busy
// machine may not have looked at the page by then.
const toastsStay = `{
	const later = window.setTimeout;
	window.setTimeout = (f, ms, ...args) => ms >= 5000 ? 0 : later(f, ms, ...args);
}`

// call makes a call of the protocol of the browser.
func call[P, R any](p *page, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	result, err := chromedp.Call(p.ctx, command, params)
	if err != nil {
		p.t.Fatalf("%s: %v", command.Method, err)
	}
	return result
}

// check reports what went wrong in the tab, and shows it if the test has failed.
func (p *page) check() {
	p.mu.Lock()
	for _, problem := range p.problems {
		if p.watched.Load() {
			p.t.Error(problem)
		}
	}
	p.mu.Unlock()
	if !p.t.Failed() {
		return
	}
	text, _ := chromedp.Run(p.ctx, chromedp.Evaluate[string]("document.body.innerText"))
	file := filepath.Join(os.TempDir(), "ixmage-"+strings.ReplaceAll(p.t.Name(), "/", "-")+".png")
	p.save(file)
	p.t.Logf("%s and this text are what the page shows:\n%s\nthe log of ixmage:\n%s", file, text, p.server.output())
}

// watch keeps what went wrong in the tab.
func (p *page) watch(event any) {
	var problem string
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		text, _ := json.Marshal(e.ExceptionDetails)
		problem = "exception: " + string(text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			text, _ := json.Marshal(e.Args)
			problem = "console: " + string(text)
		}
	case *cdplog.EventEntryAdded:
		// Statuses from 400 are answers that a screen shows.
		if e.Entry.Level == cdplog.EntryLevelError && e.Entry.Source != cdplog.EntrySourceNetwork {
			problem = "log: " + e.Entry.Text
		}
	case *audits.EventIssueAdded:
		if d := e.Issue.Details; d != nil && d.ContentSecurityPolicyIssueDetails != nil {
			problem = "Content-Security-Policy: " + d.ContentSecurityPolicyIssueDetails.ViolatedDirective + " " + d.ContentSecurityPolicyIssueDetails.BlockedURL
		}
	case *network.EventRequestWillBeSent:
		p.mu.Lock()
		p.requests = append(p.requests, e.Request.Method+" "+e.Request.URL)
		p.mu.Unlock()
		if !strings.HasPrefix(e.Request.URL, p.origin+"/") && !strings.HasPrefix(e.Request.URL, "data:") && !strings.HasPrefix(e.Request.URL, "blob:"+p.origin) {
			problem = "request to another origin: " + e.Request.URL
		}
	}
	if problem != "" {
		p.mu.Lock()
		p.problems = append(p.problems, problem)
		p.mu.Unlock()
	}
}

// eval returns the value of an expression in the page.
func eval[T any](p *page, expression string, args ...any) T {
	p.t.Helper()
	quoted := make([]any, len(args))
	for i, a := range args {
		text, _ := json.Marshal(a)
		quoted[i] = text
	}
	if len(args) > 0 {
		expression = fmt.Sprintf(expression, quoted...)
	}
	value, err := chromedp.Run(p.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		p.t.Fatalf("%.1000s: %v", expression, err)
	}
	return value
}

// on calls a function with an element as this, and reports whether it returned true.
func (p *page) on(id runtime.RemoteObjectID, function string, args ...any) bool {
	p.t.Helper()
	// A CallArgument that is empty, like "", would not be sent.
	list, _ := json.Marshal(append([]any{}, args...))
	r := call(p, runtime.CallFunctionOn, runtime.CallFunctionOnParams{
		FunctionDeclaration: fmt.Sprintf("function() { return (%s).apply(this, %s) }", function, list), ObjectID: id,
	})
	if r.ExceptionDetails != nil {
		p.t.Fatal(r.ExceptionDetails.Text)
	}
	return string(r.Result.Value) == "true"
}

// wait waits until an expression is true.
func (p *page) wait(what, expression string, args ...any) {
	p.t.Helper()
	eventually(p.t, what, func() bool { return eval[bool](p, "!!("+expression+")", args...) })
}

// sees waits until the page shows a text.
func (p *page) sees(text string) {
	p.t.Helper()
	p.wait("the page shows "+text, `(document.body?.innerText ?? '').replace(/\s+/g, " ").includes(%s)`, text)
}

// hidden waits until the page does not show a text.
func (p *page) hidden(text string) {
	p.t.Helper()
	p.wait("the page does not show "+text, `!(document.body?.innerText ?? '').replace(/\s+/g, " ").includes(%s)`, text)
}

// go goes to a screen and waits for a text.
func (p *page) visit(hash, text string) {
	p.t.Helper()
	eval[any](p, `(location.hash = %s, null)`, hash)
	p.sees(text)
}

// finder finds what a person sees under a name: the newest dialog first, if one is open.
const finder = `(kind, name) => {
	const root = [...document.querySelectorAll('dialog[open]')].at(-1) ?? document;
	const clean = (s) => (s ?? '').replace(/\s+/g, ' ').trim();
	const names = (e) => {
		const label = e.labels?.length ? [...e.labels].map((l) => clean(l.textContent)).join(' ') : '';
		return [clean(e.getAttribute('aria-label')), label.replace(/ \*$/, ''), clean(e.textContent), clean(e.innerText)];
	};
	const selector = { button: 'button, [role=button], a.button, summary', link: 'a[href]', field: 'input, textarea, select', any: '*' }[kind];
	const shown = [...root.querySelectorAll(selector)].filter((e) => e.getClientRects().length);
	return shown.find((e) => names(e).includes(name)) ?? null;
}`

// find waits for an element and returns it.
func (p *page) find(kind, name string) runtime.RemoteObjectID {
	p.t.Helper()
	var id runtime.RemoteObjectID
	eventually(p.t, "there is a "+kind+" "+name, func() bool {
		r := call(p, runtime.Evaluate, runtime.EvaluateParams{Expression: fmt.Sprintf("(%s)(%s, %s)", finder, quote(kind), quote(name))})
		id = r.Result.ObjectID
		return id != ""
	})
	return id
}

func quote(s string) string {
	text, _ := json.Marshal(s)
	return string(text)
}

// click clicks with the mouse into the middle of an element. It first closes the short messages, so that
// the test sees only messages about this click.
func (p *page) click(kind, name string) {
	p.t.Helper()
	eventually(p.t, "the "+kind+" "+name+" is clicked", func() bool {
		eval[any](p, "(document.querySelectorAll('.toast .close').forEach((b) => b.click()), null)")
		return p.tryClick(p.find(kind, name))
	})
}

// guardClick lets the mouse reach an element and nothing else, until guardEnd is called, which reports
// whether a click did.
const guardClick = `function() {
	let hit = false;
	const kinds = ['mousedown', 'mouseup', 'click'];
	const guard = (e) => {
		if (!this.contains(e.target)) {
			e.preventDefault();
			e.stopImmediatePropagation();
		} else if (e.type === 'click') {
			hit = true;
		}
	};
	kinds.forEach((k) => window.addEventListener(k, guard, true));
	window.guardEnd = () => {
		kinds.forEach((k) => window.removeEventListener(k, guard, true));
		return hit;
	};
}`

// tryClick clicks an element, and reports whether the click reached it. A page that loads may move or
// replace it at any moment.
func (p *page) tryClick(id runtime.RemoteObjectID) bool {
	p.t.Helper()
	if _, err := chromedp.Call(p.ctx, dom.ScrollIntoViewIfNeeded, dom.ScrollIntoViewIfNeededParams{ObjectID: id}); err != nil {
		return false
	}
	place, err := chromedp.Call(p.ctx, dom.GetContentQuads, dom.GetContentQuadsParams{ObjectID: id})
	if err != nil || len(place.Quads) == 0 {
		return false
	}
	p.on(id, guardClick)
	q := place.Quads[0]
	if err := chromedp.Do(p.ctx, chromedp.MouseClickXY((q[0]+q[4])/2, (q[1]+q[5])/2)); err != nil {
		p.t.Fatal(err)
	}
	return eval[bool](p, "window.guardEnd()")
}

// fill replaces the text of a field. A page that loads may replace the field, or take the focus from it
// before the text is inserted.
func (p *page) fill(name, text string) {
	p.t.Helper()
	eventually(p.t, "the field "+name+" is filled", func() bool {
		id := p.find("field", name)
		if _, err := chromedp.Call(p.ctx, dom.Focus, dom.FocusParams{ObjectID: id}); err != nil {
			return false
		}
		p.on(id, "function() { this.select?.() }")
		call(p, input.InsertText, input.InsertTextParams{Text: text})
		return p.on(id, "function(text) { return document.activeElement === this && this.value === text }", text)
	})
}

// choose chooses an option of a select by its text.
func (p *page) choose(name, option string) {
	p.t.Helper()
	eventually(p.t, option+" is chosen", func() bool {
		return p.on(p.find("field", name), `function(text) {
			this.value = [...this.options].find((o) => o.textContent.trim() === text).value;
			this.dispatchEvent(new Event('input', { bubbles: true }));
			this.dispatchEvent(new Event('change', { bubbles: true }));
			return this.isConnected;
		}`, option)
	})
}

// press presses keys.
func (p *page) press(keys string) {
	p.t.Helper()
	if err := chromedp.Do(p.ctx, chromedp.KeyEvent(keys)); err != nil {
		p.t.Fatal(err)
	}
}

// focused is the name of the element with the focus.
func (p *page) focused() string {
	p.t.Helper()
	return eval[string](p, `(() => { const e = document.activeElement; return (e.labels?.[0]?.textContent ?? e.getAttribute('aria-label') ?? e.textContent).replace(/\s+/g, ' ').trim().replace(/ \*$/, ''); })()`)
}

// focusGoes waits until an element has the focus. The page moves it after it has shown why.
func (p *page) focusGoes(name string) {
	p.t.Helper()
	eventually(p.t, name+" has the focus", func() bool { return p.focused() == name })
}

// tabTo presses Tab until an element has the focus, and fails if that does not come.
func (p *page) tabTo(name string) {
	p.t.Helper()
	var seen []string
	for range 60 {
		if p.focused() == name {
			return
		}
		p.press(kb.Tab)
		seen = append(seen, p.focused())
	}
	p.t.Fatalf("Tab never reaches %q: %q", name, seen)
}

// signIn signs in with a token and waits for the first screen.
func (p *page) signIn(token string) {
	p.t.Helper()
	p.fill("Token", token)
	p.click("button", "Sign in")
	p.find("button", "Sign out")
}

// resize sets the size of the window.
func (p *page) resize(width, height int64) {
	p.t.Helper()
	call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: width, Height: height, DeviceScaleFactor: 1, Mobile: width < 600,
	})
}

// dark makes the system prefer dark colours.
func (p *page) dark() {
	p.t.Helper()
	call(p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: "dark"}},
	})
}

// save writes a picture of the window.
func (p *page) save(file string) {
	shot, err := chromedp.Call(p.ctx, cdppage.CaptureScreenshot, cdppage.CaptureScreenshotParams{})
	if err == nil {
		err = os.WriteFile(file, shot.Data, 0o644)
	}
	if err != nil {
		p.t.Errorf("picture of the window: %v", err)
	}
}

// screenshot writes a picture for docs/console.md, with -screenshots.
func (p *page) screenshot(name string) {
	p.t.Helper()
	if !*screenshots {
		return
	}
	eval[any](p, "([...document.querySelectorAll('.toast .close')].forEach((b) => b.click()), document.activeElement.blur(), null)")
	call(p, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: input.DispatchMouseEventTypeMouseMoved, X: 1, Y: 799})
	p.settled()
	file := filepath.Join("..", "..", "docs", "console", name+".png")
	p.save(file)
	if info, err := os.Stat(file); err != nil || info.Size() > 200_000 {
		p.t.Errorf("%s is more than 200 KB: %v", file, err)
	}
}

// sent are the requests so far that begin with METHOD /path of the API.
func (p *page) sent(prefix string) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	method, path, _ := strings.Cut(prefix, " ")
	return slices.DeleteFunc(slices.Clone(p.requests), func(r string) bool {
		return !strings.HasPrefix(r, method+" "+p.origin+"/api/v1"+path)
	})
}

// cookie is the cookie of the session.
func (p *page) cookie() *http.Cookie {
	p.t.Helper()
	cookies := call(p, network.GetCookies, network.GetCookiesParams{}).Cookies
	if len(cookies) != 1 || !cookies[0].HTTPOnly || cookies[0].SameSite != network.CookieSameSiteStrict {
		p.t.Fatalf("cookies %+v, want one that is HttpOnly and SameSite=Strict", cookies)
	}
	return &http.Cookie{Name: cookies[0].Name, Value: cookies[0].Value}
}

// withCookie is the status of a call with a cookie, as the console would make it.
func (s *server) withCookie(cookie *http.Cookie) int {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.admin+"/api/v1/session", http.NoBody)
	if err != nil {
		s.t.Fatal(err)
	}
	req.AddCookie(cookie)
	req.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}
