package e2e

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/process"
	"ixmage/internal/awstest/s3"
)

// plain and raced are the binaries of the program, built once for all tests: plain
// as it ships, raced with the race detector, or "" without IXMAGE_RACE. The tests
// themselves are built without it: they are no part of the product, and their 2,000
// readers would take most of the time.
var plain, raced string

// program is the binary that a test runs if it does not measure it.
func program() string { return cmp.Or(raced, plain) }

// sharedGateway is the real S3 + IAM server, one for all tests, or nil if versitygw
// is not built. Tests get it from realS3.
var sharedGateway *gateway.Server

func TestMain(m *testing.M) {
	flag.Parse()
	if !flagGiven("test.parallel") {
		flag.Set("test.parallel", strconv.Itoa(4*runtime.GOMAXPROCS(0)))
	}
	if os.Getenv("IXMAGE_RACE") != "" && !flagGiven("test.run") {
		flag.Set("test.run", "^("+strings.Join(concurrentTests, "|")+")$")
	}
	os.Exit(testMain(m)) //nolint:forbidigo // as main does
}

// flagGiven reports whether a flag is on the command line. Without -parallel more
// tests run at once than there are processors, because most of them wait for
// processes and deadlines.
func flagGiven(name string) (found bool) {
	flag.Visit(func(f *flag.Flag) { found = found || f.Name == name })
	return found
}

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "ixmage-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if os.Getenv(envNamespace) != "" { // the first run has built it and has the gateway
		plain, raced = os.Getenv(envPlain), os.Getenv(envRaced)
		return m.Run()
	}
	if err := buildAll(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	sharedGateway, err = gateway.Start(context.Background(), filepath.Join(dir, "gateway"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "SKIPPING all tests against the real S3 server:", err)
	} else {
		defer sharedGateway.Stop()
	}
	return m.Run()
}

// buildAll builds the program in dir.
func buildAll(dir string) error {
	var err error
	if plain, err = process.Ixmage(dir); err != nil {
		return err
	}
	if os.Getenv("IXMAGE_RACE") == "" {
		return nil
	}
	raced = filepath.Join(dir, "ixmage-race")
	cmd := exec.Command("go", "build", "-race", "-ldflags=-s -w", "-o", raced, "..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, text)
	}
	return nil
}

// skipShort leaves a test that takes long to make test-long, which runs concurrentTests.
func skipShort(t testing.TB) {
	t.Helper()
	if name, _, _ := strings.Cut(t.Name(), "/"); !slices.Contains(concurrentTests, name) {
		t.Errorf("make test-long does not run it: add %s to concurrentTests", name)
	}
	if testing.Short() {
		t.Skip("SKIPPED with -short: it takes long")
	}
}

// realS3 returns the shared gateway, or skips the test if there is none.
func realS3(t testing.TB) *gateway.Server {
	t.Helper()
	if sharedGateway == nil {
		t.Skip("SKIPPED: versitygw is not there; run make tools")
	}
	return sharedGateway
}

// eventually polls until ok returns true, for four minutes, and less often the longer it
// takes: a look is dear, for it often reads all metrics. It is for changes in another process, which
// give a test no event to wait for.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	const often, seldom = 5 * time.Millisecond, 250 * time.Millisecond
	for end, pause := time.Now().Add(4*time.Minute), often; !ok(); pause = min(pause*3/2, seldom) {
		if time.Now().After(end) { // a busy machine is slow for long
			t.Fatalf("never happened: %s", what)
		}
		time.Sleep(pause) //nolint:forbidigo // across a process border there is no event
	}
}

// env is a running ixmage in front of a scripted S3 of its own, with the alias
// shop on the folder web/ of the bucket media.
type env struct {
	*server
	s3 *s3.Server
}

func newEnv(t testing.TB, args ...string) *env {
	t.Helper()
	return newEnvOn(t, start(t, args...))
}

func newEnvOn(t testing.TB, server *server) *env {
	t.Helper()
	s := &env{server: server, s3: s3.New(t)}
	s.s3.CreateBucket("media", "")
	s.open("shop", "media", "web/", nil)
	return s
}

// open registers an alias on the scripted S3.
func (s *env) open(name, bucket, prefix string, more map[string]any) {
	s.t.Helper()
	fields := map[string]any{
		"name": name, "bucket": bucket, "prefix": prefix, "endpoint": s.s3.URL, "path_style": true,
		"credential": map[string]string{"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "not-a-real-secret-key-" + name},
	}
	maps.Copy(fields, more)
	s.create(fields)
}

// put stores a picture under web/ of media.
func (s *env) put(key string, obj s3.Object) {
	if obj.ContentType == "" {
		obj.ContentType = "image/png"
	}
	s.s3.Put("media", "web/"+key, obj)
}

// patch changes an alias.
func (s *env) patch(name, body string) {
	s.t.Helper()
	if r := s.api(http.MethodPatch, "/api/v1/aliases/"+name, body); r.StatusCode != http.StatusOK {
		s.t.Fatalf("patch: %s: %s", r.Status, r.body)
	}
}

// calls is how often S3 was asked for web/key of media.
func (s *env) calls(key string) int { return s.s3.Count("media", "web/"+key) }
