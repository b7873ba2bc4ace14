package e2e

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// hostile is an SVG that tries to run scripts, which leave a mark in the
// document, and to load things from the server at url.
func hostile(url string) []byte {
	return []byte(strings.ReplaceAll(`<?xml version="1.0"?>
<?xml-stylesheet type="text/css" href="URL/sheet.css"?>
<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="200" height="200"
  onload="document.documentElement.setAttribute('data-onload','ran')">
<style>@import url("URL/import.css"); rect { fill: url("URL/paint.svg#p") }</style>
<script>
document.documentElement.setAttribute('data-script','ran');
fetch('URL/fetch', {mode: 'no-cors'});
new Image().src = 'URL/image-of-script';
</script>
<script href="URL/script.js"/>
<image href="URL/image.png" width="10" height="10"/>
<image xlink:href="URL/xlink.png" width="10" height="10" onerror="document.documentElement.setAttribute('data-onerror','ran')"/>
<image href="data:image/png;base64,AAAA" width="10" height="10" onerror="document.documentElement.setAttribute('data-onerror','ran')"/>
<use href="URL/use.svg#u"/>
<filter id="f"><feImage href="URL/filter.png"/></filter>
<rect width="100" height="100" filter="url(#f)"/>
<foreignObject width="100" height="100">
<body xmlns="http://www.w3.org/1999/xhtml">
<iframe src="URL/frame"/><img src="URL/img.png"/><object data="URL/object"/><link rel="stylesheet" href="URL/link.css"/>
<form action="URL/form" id="form"><input name="a"/></form>
</body>
</foreignObject>
<text y="150">hostile</text>
</svg>
`, "URL", url))
}

// TestSVGInBrowser opens a hostile SVG in Chromium, as a user who follows a link
// does: from ixmage, where nothing of it may come to life, and without its
// headers, where it must, or this test could see nothing.
func TestSVGInBrowser(t *testing.T) {
	t.Parallel()
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("SKIPPED: no chromium; install it to see what a browser does with a hostile SVG")
	}
	var asked atomic.Int64
	outside := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer outside.Close()
	svg := hostile(outside.URL)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Write(svg)
	}))
	defer plain.Close()
	fakeS3 := s3.New(t)
	fakeS3.Put("svg", "declared.svg", s3.Object{Body: svg, ContentType: "image/svg+xml"})
	fakeS3.Put("svg", "generic", s3.Object{Body: svg, ContentType: "binary/octet-stream"})
	s := start(t)
	s.createOn("shop", fakeS3.URL, "svg")

	dom := browse(t, chromium, plain.URL+"/hostile.svg")
	wantAll(t, "the document without our headers", dom, `data-script="ran"`, `data-onload="ran"`, `data-onerror="ran"`, ">hostile<")
	if asked.Load() < 3 {
		t.Errorf("without our headers the other server was asked %d times, want several", asked.Load())
	}
	asked.Store(0)
	for _, path := range []string{"/shop/declared.svg", "/shop/generic", "/shop/declared.svg?a=b"} {
		dom := browse(t, chromium, "http://"+s.public+path)
		wantAll(t, "the document", dom, ">hostile<") // it was shown at all
		if strings.Contains(dom, `="ran"`) {
			t.Errorf("%s: a script ran:\n%s", path, dom)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the other server was asked %d times", n)
	}
}

// browse opens a page in a fresh Chromium and returns its document after the
// load event.
func browse(t *testing.T, chromium, url string) string {
	t.Helper()
	profile, err := os.MkdirTemp("", "ixmage-chromium-") //nolint:usetesting // the browser may still write there when it has ended
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--disable-background-networking", "--disable-sync", "--disable-extensions", "--no-first-run", "--no-proxy-server",
		"--user-data-dir="+profile, "--virtual-time-budget=2000", "--dump-dom", url)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("chromium: %v\n%s", err, tail(stderr.String(), 2<<10))
	}
	if stdout.Len() == 0 {
		t.Fatalf("chromium shows nothing of %s:\n%s", url, tail(stderr.String(), 2<<10))
	}
	return stdout.String()
}
