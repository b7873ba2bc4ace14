// Package console tests the console of the built program in a real Chromium. It is a module of its
// own, to keep the library that drives the browser out of the product's.
package console

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

var screenshots = flag.Bool("screenshots", false, "write the pictures of docs/console.md")

const bucket = "acme-media"

// setup is what all tests share.
var setup struct {
	program string // ixmage
	servers string // runs a server that ixmage calls
	gateway map[string]string
	browser context.Context //nolint:containedctx // the library keeps the browser in it
	missing string          // why tests cannot run here
}

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(testMain(m)) //nolint:forbidigo // as main does
}

func testMain(m *testing.M) int {
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		fmt.Fprintln(os.Stderr, "!!!!! SKIPPING all tests of the console: chromium is absent !!!!!")
		return 0
	}
	dir, err := os.MkdirTemp("", "ixmage-console-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	setup.program = filepath.Join(dir, "ixmage")
	setup.servers = filepath.Join(dir, "servers")
	builds := map[string]string{setup.program: ".", setup.servers: "./internal/awstest/cmd/run"}
	if built := os.Getenv("IXMAGE_BUILT"); built != "" { // by make test, for all packages
		delete(builds, setup.program)
		setup.program = built
	}
	for out, pkg := range builds {
		cmd := exec.Command("go", "-C", "../..", "build", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", pkg, err, text)
			return 1
		}
	}
	where, stop, err := startOther("gateway")
	if err != nil {
		fmt.Fprintln(os.Stderr, "!!!!! SKIPPING the tests of the console that need pictures:", err, "!!!!!")
	} else {
		setup.gateway = where
		defer stop()
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(chromium), chromedp.WindowSize(1280, 800), chromedp.UserDataDir(filepath.Join(dir, "profile")),
		chromedp.WSURLReadTimeout(5*time.Minute), // until it has started
		chromedp.Flag("force-prefers-reduced-motion", true), chromedp.Flag("hide-scrollbars", true))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox)
	}
	allocator, cancel := chromedp.NewExecAllocator(context.Background(), options...)
	defer cancel()
	browser, cancel := chromedp.NewContext(allocator)
	defer cancel()
	if err := chromedp.Do(browser); err != nil {
		fmt.Fprintln(os.Stderr, "start Chromium:", err)
		return 1
	}
	setup.browser = browser //nolint:fatcontext // the same one
	return m.Run()
}

// startOther starts a server that ixmage calls, gateway or minio, and returns where it is and its
// keys.
func startOther(name string) (where map[string]string, stop func(), err error) {
	cmd := exec.Command(setup.servers, name, bucket)
	cmd.Dir = "../.." // bin/versitygw and bin/minio are there
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, nil, err
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	if err := json.NewDecoder(stdout).Decode(&where); err != nil {
		_ = cmd.Wait()
		return nil, nil, errors.New(strings.TrimSpace(stderr.String()))
	}
	return where, func() { stdin.Close(); _ = cmd.Wait() }, nil
}

// server is a running ixmage.
type server struct {
	t                    *testing.T
	cmd                  *exec.Cmd
	public, admin, token string

	mu  sync.Mutex // guards log
	log bytes.Buffer
}

var listening = regexp.MustCompile(`msg=listening listener=(\w+) addr=(\S+)`)

// start runs ixmage, with the real S3 and IAM server if there is one. The test ends it.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	g := setup.gateway
	args = append([]string{
		"serve", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--allow-private-endpoints",
		"--provision", "--provision-buckets", bucket, "--iam-endpoint", g["iam"], "--log-level", "debug",
		// A busy machine answers late.
		"--origin-connect-timeout", "1m", "--origin-first-byte-timeout", "1m", "--origin-call-timeout", "2m", "--origin-idle-timeout", "1m",
		// A real IAM is slow to show a change; this one is not.
		"--provision-verify-interval", "20ms", "--provision-refused-interval", "20ms", "--provision-confirm-interval", "20ms",
	}, args...)
	if g == nil {
		args = slices.DeleteFunc(args, func(a string) bool {
			return strings.HasPrefix(a, "--provision") || a == "--iam-endpoint" || a == "" || a == bucket || a == "20ms"
		})
	}
	s := &server{t: t, cmd: exec.Command(setup.program, args...)}
	s.cmd.Env = append(slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "IXMAGE_") || strings.HasPrefix(kv, "AWS_")
	}), "AWS_ACCESS_KEY_ID="+g["root_id"], "AWS_SECRET_ACCESS_KEY="+g["root_secret"], "AWS_REGION="+g["region"], "AWS_EC2_METADATA_DISABLED=true")
	stderr, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	ready := make(chan bool)
	go func() {
		lines := bufio.NewScanner(stderr)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			s.mu.Lock()
			fmt.Fprintln(&s.log, lines.Text())
			s.mu.Unlock()
			switch m := listening.FindStringSubmatch(lines.Text()); {
			case m == nil:
			case m[1] == "admin":
				s.admin = "http://" + m[2]
			case m[1] == "public":
				s.public = "http://" + m[2]
				ready <- true
			}
		}
		close(ready)
	}()
	if !<-ready {
		t.Fatalf("ixmage ended:\n%s", s.output())
	}
	token, err := os.ReadFile(filepath.Join(data, "admin-token"))
	if err != nil {
		t.Fatal(err)
	}
	s.token = strings.TrimSpace(string(token))
	return s
}

func (s *server) output() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := s.log.String()
	return text[max(0, len(text)-8<<10):]
}

// api makes a call with the token of the server, and returns the answer. The status must be want.
func (s *server) api(method, path string, body any, want int) map[string]any {
	s.t.Helper()
	var reader io.Reader = http.NoBody
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			s.t.Fatal(err)
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.admin+"/api/v1"+path, reader)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != want {
		s.t.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, want, text)
	}
	var answer map[string]any
	_ = json.Unmarshal(text, &answer)
	return answer
}

// makeToken makes a named token and returns its text.
func (s *server) makeToken(name string, roles ...string) string {
	s.t.Helper()
	return s.api(http.MethodPost, "/tokens", map[string]any{"name": name, "roles": roles, "buckets": []string{}}, http.StatusCreated)["token"].(string)
}

// pictures registers an alias on the pictures of the bucket.
func (s *server) pictures(name string) {
	s.t.Helper()
	needGateway(s.t)
	g := setup.gateway
	s.api(http.MethodPost, "/aliases", map[string]any{
		"name": name, "bucket": bucket, "prefix": "pictures/", "endpoint": g["s3"], "region": g["region"], "path_style": true, "canary": "morning.png",
		"credential": map[string]string{"access_key_id": g["reader_id"], "secret_access_key": g["reader_secret"]},
	}, http.StatusCreated)
}

// provision makes an alias with a user of its own and the canary noon.jpg, and waits until it is open.
func (s *server) provision(name string) { s.provisionOn(name, "noon.jpg") }

func (s *server) provisionOn(name, canary string) {
	s.t.Helper()
	needGateway(s.t)
	g := setup.gateway
	text, err := json.Marshal(map[string]any{
		"alias": name, "bucket": bucket, "prefix": "pictures/", "endpoint": g["s3"], "region": g["region"], "path_style": true,
		"probe": map[string]string{"inside": "pictures/" + canary, "outside": "private/noon.jpg"},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.admin+"/api/v1/provision", bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Prefer", "wait=300")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	if answer, _ := io.ReadAll(resp.Body); !bytes.Contains(answer, []byte(`"state":"done"`)) {
		s.t.Fatalf("provision: %s: %s", resp.Status, answer)
	}
}

func needGateway(t *testing.T) {
	t.Helper()
	if setup.gateway == nil {
		t.Skip("SKIPPED, NOT TESTED: versitygw is not there; run make tools")
	}
}

// eventually polls until is returns true. The browser is another process, so there is no event; a
// busy machine is slow for long.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for range 1200 {
		if is() {
			return
		}
		time.Sleep(50 * time.Millisecond) //nolint:forbidigo // across a process border there is no event
	}
	t.Fatalf("never happened: %s", what)
}
