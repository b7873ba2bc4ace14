package console

import (
	"strings"
	"testing"
)

// TestPageFindsProblems: a page of the tests notices an error, a violation of the policy, a request to
// another origin, and a finding of axe.
func TestPageFindsProblems(t *testing.T) {
	t.Parallel()
	s := start(t)
	for _, tc := range []struct{ name, script, want string }{
		{"exception", "(setTimeout(() => { throw new Error('broken') }), null)", "exception: "},
		{"message", "(console.error('broken'), null)", "console: "},
		{"inline code", "(document.body.append(Object.assign(document.createElement('script'), { textContent: '1' })), null)", "Content-Security-Policy"},
		{"inline style", "(document.body.setAttribute('style', 'color: red'), null)", "Content-Security-Policy"},
		{"call to another origin", "(fetch('http://127.0.0.1:1/').catch(() => {}), null)", "Content-Security-Policy: connect-src"},
		{"another origin", "(location.assign('http://127.0.0.1:1/'), null)", "request to another origin: http://127.0.0.1:1/"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := open(t, s)
			p.find("button", "Sign in")
			eval[any](p, tc.script)
			found := func() bool {
				p.mu.Lock()
				defer p.mu.Unlock()
				for _, problem := range p.problems {
					if strings.Contains(problem, tc.want) {
						p.problems = nil
						return true
					}
				}
				return false
			}
			eventually(t, tc.want, found)
			p.watched.Store(false) // one problem may be reported in several ways
		})
	}
	t.Run("axe", func(t *testing.T) {
		t.Parallel()
		p := open(t, s)
		p.find("button", "Sign in")
		eval[any](p, "(document.querySelector('main').append(document.createElement('button')), null)")
		if found := p.findings(axeSource(t)); len(found) != 1 || found[0].ID != "button-name" {
			t.Errorf("a button without a name: %+v", found)
		}
	})
}
