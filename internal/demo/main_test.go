package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/picture"
	"ixmage/internal/awstest/process"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lastLine calls done when the demo has printed everything.
type lastLine struct {
	bytes.Buffer
	done func()
}

func (l *lastLine) Write(b []byte) (int, error) {
	n, err := l.Buffer.Write(b)
	if strings.Contains(l.String(), "Ctrl-C ends it all.") {
		l.done()
	}
	return n, err
}

// TestRun runs the demo with the real programs, fetches every URL that it
// prints and ends it.
func TestRun(t *testing.T) {
	temp := t.TempDir()
	ixmage, err := process.Ixmage(temp)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(temp, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", folder)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	worker := builtWorker(t)
	out := &lastLine{}
	out.done = func() {
		fetchAll(t, out.String(), worker != "")
		cancel()
	}
	err = run(ctx, config{program: ixmage, worker: worker, listen: "127.0.0.1:0", admin: "127.0.0.1:0", out: out, messages: io.Discard})
	if errors.Is(err, gateway.ErrMissing) {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Ctrl-C ends it all.") {
		t.Errorf("printed only:\n%s", out)
	}
	nothingLeft(t, folder)
	for _, url := range urls(out.String()) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			t.Errorf("%s still answers", url)
			break
		}
	}
}

// urls are those that the demo printed on lines of their own.
func urls(printed string) []string {
	var found []string
	for line := range strings.Lines(printed) {
		if url := strings.TrimSpace(line); strings.HasPrefix(url, "http://") {
			found = append(found, url)
		}
	}
	return found
}

// builtWorker is the path of the worker, or empty if it was not built.
func builtWorker(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../bin/ixmage-worker")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Log("!!!!! NO bin/ixmage-worker: the transforms of the demo are NOT TESTED !!!!!")
		return ""
	}
	return path
}

// fetchAll expects 200 of every URL but the one that is said to be 404.
func fetchAll(t *testing.T, printed string, transforms bool) {
	t.Helper()
	found := urls(printed)
	want := 2*len(picture.Samples()) + 4
	if transforms {
		want += 4
	}
	if len(found) != want {
		t.Errorf("%d URLs, want %d", len(found), want)
	}
	if off := strings.Contains(printed, "transforms are off: "); off == transforms {
		t.Errorf("transforms are on: %t, and the demo says that they are off: %t", transforms, off)
	}
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	for _, url := range found {
		want := http.StatusOK
		if strings.Contains(url, "/shop/private/") {
			want = http.StatusNotFound
		}
		resp, err := client.Get(url)
		if err != nil {
			t.Error(err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: status %d, want %d", url, resp.StatusCode, want)
		}
	}
}

// TestRunFails lets a step fail: the error tells, and nothing is left.
func TestRunFails(t *testing.T) {
	folder := t.TempDir()
	for _, tt := range []struct {
		name string
		cfg  config
		want string
	}{
		{"ixmage ends at once", config{program: "/bin/false"}, "ixmage ended at once"},
		{"no ixmage", config{program: "/nonexistent/ixmage"}, "no such file"},
		{"no pictures", config{images: t.TempDir()}, "no pictures in"},
		{"no folder", config{images: "/nonexistent"}, "open IMAGES"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("TMPDIR", folder)
			tt.cfg.out, tt.cfg.messages = io.Discard, io.Discard
			err := run(t.Context(), tt.cfg)
			if errors.Is(err, gateway.ErrMissing) {
				t.Skipf("SKIPPED, NOT TESTED: %v", err)
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q in it", err, tt.want)
			}
			nothingLeft(t, folder)
		})
	}
}

// TestRunCancelled is Ctrl-C while things are being started.
func TestRunCancelled(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("TMPDIR", folder)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, config{program: "/bin/false", out: io.Discard, messages: io.Discard}); err != nil && !errors.Is(err, gateway.ErrMissing) {
		t.Errorf("got %v, want no error", err)
	}
	nothingLeft(t, folder)
}

func TestChoosePictures(t *testing.T) {
	t.Parallel()
	samples := picture.Samples()
	dir := t.TempDir()
	for name, body := range map[string][]byte{
		"b.png":           samples[0].Body,
		"deep/down/a.JPG": samples[1].Body,
		"no extension":    samples[2].Body,
		"icon.unknown":    samples[6].Body,
		"notes.txt":       []byte("no picture"),
		".hidden.png":     samples[0].Body,
		".git/c.png":      samples[0].Body,
		"line\nbreak.png": samples[0].Body,
		"back\\slash.png": samples[0].Body,
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, body, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	var messages bytes.Buffer
	found, err := choosePictures(config{images: link, messages: &messages})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, p := range found {
		got[p.name] = p.contentType
		if body, err := p.read(); err != nil || len(body) == 0 {
			t.Errorf("read %s: %d bytes, %v", p.name, len(body), err)
		}
	}
	want := map[string]string{
		"b.png": "image/png", "deep/down/a.JPG": "image/jpeg", "no extension": "image/gif", "icon.unknown": "image/x-icon",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("pictures (-want +got):\n%s", diff)
	}
	if n := strings.Count(messages.String(), "Skipped "); n != 3 {
		t.Errorf("%d messages, want 3:\n%s", n, &messages)
	}
}

func TestCounted(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{1: "1 picture", 2: "2 pictures"} {
		if got := counted(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
}

func TestSummary(t *testing.T) {
	t.Parallel()
	proven := checkResult{Name: "write", Verdict: alias.VerdictProven}
	absent := []alias.NotTried{{Name: "sts-federation", Why: alias.WhyNotImplemented}, {Name: "other-services", Why: alias.WhyNoProbe}}
	for _, tt := range []struct {
		scope  alias.Verdict
		checks []checkResult
		left   []alias.NotTried
		want   string
	}{
		{alias.VerdictProven, []checkResult{proven, proven}, nil, "scope proven: 2 of 2 checks proven"},
		{alias.VerdictProven, []checkResult{proven}, absent,
			"scope proven: 1 of 1 checks proven, 1 not tried because this test server has no such calls"},
		{alias.VerdictViolated, []checkResult{proven, {Name: "list", Verdict: alias.VerdictViolated}}, nil,
			"scope violated: 1 of 2 checks proven"},
	} {
		if got := (verification{Scope: tt.scope, Checks: tt.checks, NotTried: tt.left}).summary(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
	}
}

func TestListeners(t *testing.T) {
	t.Parallel()
	const public, admin = "time=x level=INFO msg=listening listener=public addr=127.0.0.1:8080 version=dev\n",
		"time=x level=INFO msg=listening listener=admin addr=[::]:8081 tls=false\n"
	for _, tt := range []struct{ name, log, public, admin string }{
		{"both", public + admin, "127.0.0.1:8080", "localhost:8081"},
		{"one", admin, "", "localhost:8081"},
		{"none", "level=WARN msg=other addr=127.0.0.1:1 listener=public\n", "", ""},
		{"half a line", admin + strings.TrimSuffix(public, "80 version=dev\n"), "", "localhost:8081"},
		{"all interfaces", strings.Replace(public, "127.0.0.1", "0.0.0.0", 1), "localhost:8080", ""},
		{"version 6", strings.Replace(public, "127.0.0.1", "[::1]", 1), "[::1]:8080", ""},
		{"quoted", strings.Replace(public, "127.0.0.1:8080", `"127.0.0.1:8080"`, 1), "127.0.0.1:8080", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if public, admin := listeners(tt.log); public != tt.public || admin != tt.admin {
				t.Errorf("got %q, %q, want %q, %q", public, admin, tt.public, tt.admin)
			}
		})
	}
}

func nothingLeft(t *testing.T, folder string) {
	t.Helper()
	left, err := os.ReadDir(folder)
	if err != nil || len(left) > 0 {
		t.Errorf("left in the folder for temporary files: %v, %v", left, err)
	}
}
