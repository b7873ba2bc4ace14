package console

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"testing"
)

// TestDocsPictures looks at a server that has something to show, and writes the pictures of
// docs/console.md with -screenshots.
func TestDocsPictures(t *testing.T) {
	t.Parallel()
	needGateway(t)
	s := start(t, "--public-url", "https://pictures.example.com", "--usage-flush", "100ms")
	keys := []string{"morning.png", "noon.jpg", "day.gif", "dusk.webp", "favicon.ico", "logo.svg"}
	for i, name := range []string{"blog", "catalogue", "docs", "press", "shop", "team"} {
		s.provisionOn(name, keys[i])
		for n := range 6 + 9*i%17 {
			s.fetch("/" + name + "/" + keys[n%(1+i)])
		}
	}
	s.pictures("partner")
	s.api(http.MethodPatch, "/aliases/partner", map[string]any{"enabled": false}, http.StatusOK)
	s.fetch("/shop/none.png")
	p := open(t, s)
	p.signIn(s.token)
	p.find("link", "team")
	p.wait("every thumbnail", "document.querySelectorAll('.cell img.picture').length === 6")
	p.wait("the usage", "document.querySelectorAll('.spark polyline').length >= 12")
	p.screenshot("aliases")
	p.click("link", "blog")
	p.seesPicture("The picture morning.png", 320, 200)
	p.screenshot("alias")
	eval[any](p, "([...document.querySelectorAll('h2')].find((h) => h.textContent === 'Usage').scrollIntoView(), null)")
	p.screenshot("alias-checks")
	p.visit("#/cache", "Aliases in memory")
	p.screenshot("cache")
	p.dark()
	p.visit("#/aliases", "partner")
	p.wait("every thumbnail", "document.querySelectorAll('.cell img.picture').length === 6")
	p.screenshot("aliases-dark")
}

// fetch requests a picture as a client does.
func (s *server) fetch(path string) {
	s.t.Helper()
	resp, err := http.Get(s.public + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		s.t.Fatal(err)
	}
}

var shownPicture = regexp.MustCompile(`!\[([^\]]*)\]\(console/([a-z-]+\.png)\)`)

// TestDocs: docs/console.md shows every picture of docs/console, each with a text for people who do
// not see it.
func TestDocs(t *testing.T) {
	if *screenshots {
		t.Skip("the pictures are being written")
	}
	t.Parallel()
	text, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, m := range shownPicture.FindAllStringSubmatch(string(text), -1) {
		shown[m[2]] = true
		if len(m[1]) < 10 {
			t.Errorf("%s has the text %q", m[2], m[1])
		}
	}
	files, err := os.ReadDir("../../docs/console")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !shown[f.Name()] {
			t.Errorf("docs/console.md does not show %s", f.Name())
		}
		delete(shown, f.Name())
		if info, err := f.Info(); err != nil || info.Size() > 200_000 {
			t.Errorf("%s has %d bytes", f.Name(), info.Size())
		}
	}
	if len(shown) > 0 {
		t.Errorf("docs/console.md shows files that do not exist: %s", fmt.Sprint(shown))
	}
}
