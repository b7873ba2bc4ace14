package console

import (
	"net/http"
	"testing"

	"github.com/chromedp/chromedp/kb"
)

// TestSignIn: a wrong token is refused with a reason, the right one shows the aliases, and signing
// out ends the session: its cookie is worth nothing any more.
func TestSignIn(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s)
	p.sees("Token")
	p.screenshot("sign-in")
	p.fill("Token", "not-the-token-of-this-server")
	p.click("button", "Sign in")
	p.sees("This token is wrong, or was revoked.")
	p.focusGoes("Token")
	p.signIn(s.token)
	p.sees("No alias yet")
	if eval[string](p, "document.cookie") != "" {
		t.Error("scripts can read the cookie")
	}
	if eval[int](p, "Object.keys(localStorage).length + Object.keys(sessionStorage).length") != 0 {
		t.Error("something of the session is stored")
	}
	cookie := p.cookie()
	if got := s.withCookie(cookie); got != http.StatusOK {
		t.Errorf("with the cookie of the session: %d", got)
	}
	p.click("button", "Sign out")
	p.find("field", "Token")
	if got := s.withCookie(cookie); got != http.StatusUnauthorized {
		t.Errorf("with the cookie after signing out: %d", got)
	}
}

// TestSessionEnds: when the session has ended, the screen asks for the token again and goes on where
// it was.
func TestSessionEnds(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s)
	p.signIn(s.makeToken("eve", "admin"))
	p.visit("#/register", "Register an alias")
	p.fill("Name", "half-typed")
	s.api(http.MethodDelete, "/tokens/eve", nil, http.StatusNoContent)
	p.click("button", "Register")
	p.sees("Your session has ended")
	p.fill("Token", s.makeToken("eve", "admin")) // of the same name: another one starts anew
	p.click("button", "Sign in")
	p.find("field", "Name")
	if got := eval[string](p, `document.querySelector('[name=name]')?.value ?? ''`); got != "half-typed" {
		t.Errorf("the form has %q", got)
	}
	p.hidden("Your session has ended")
}

// TestKeyboard: everything from the sign-in to another screen works with the keyboard alone.
func TestKeyboard(t *testing.T) {
	t.Parallel()
	s := start(t)
	p := open(t, s)
	p.find("field", "Token")
	p.tabTo("Token")
	p.press(s.token)
	p.press(kb.Enter)
	p.sees("No alias yet")
	p.tabTo("Skip to the content")
	p.press(kb.Enter)
	if got := eval[string](p, "document.activeElement.id"); got != "main" {
		t.Errorf("the link to the content leads to %q", got)
	}
	p.tabTo("Register an alias")
	p.press(kb.Enter)
	p.find("field", "Name")
	p.tabTo("Name")
	p.press("shop")
	if got := eval[string](p, `document.querySelector('[name=name]').value`); got != "shop" {
		t.Errorf("the field has %q", got)
	}
}
