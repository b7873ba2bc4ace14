package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Variables of a test that runs again in a network namespace of its own.
const (
	envNamespace = "IXMAGE_TEST_NAMESPACE" // the name of the test
	envPlain     = "IXMAGE_TEST_PLAIN"     // the binaries that the first run has built
	envRaced     = "IXMAGE_TEST_RACED"
)

// inNamespace reports whether the test runs in a network namespace of its own. If
// not, it runs the test again in one, after the shell commands in setup, and the
// caller must return. Addresses, routes and the size of packets can be chosen there.
func inNamespace(t *testing.T, setup string) bool {
	t.Helper()
	if os.Getenv(envNamespace) == t.Name() {
		return true
	}
	if out, err := exec.Command("unshare", "-n", "sh", "-c", setup).CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this process cannot make a network namespace: %v: %s", err, out)
	}
	pattern := "^" + strings.ReplaceAll(t.Name(), "/", "$/^") + "$"
	cmd := exec.Command("unshare", "-n", "sh", "-c", setup+` && exec "$0" "$@"`,
		os.Args[0], "-test.run", pattern, "-test.v", "-test.timeout", "30m")
	cmd.Env = append(os.Environ(), envNamespace+"="+t.Name(), envPlain+"="+plain, envRaced+"="+raced)
	r := runCommand(t, 30*time.Minute, cmd)
	switch {
	case r.code != 0:
		t.Fatalf("in the namespace:\n%s%s", tail(r.stdout, 16<<10), tail(r.stderr, 4<<10))
	case strings.Contains(r.stdout, "--- SKIP"):
		t.Skip(tail(r.stdout, 1<<10))
	}
	t.Log(tail(r.stdout, 2<<10))
	return false
}

// memoryGroup is a cgroup that limits memory.
type memoryGroup struct {
	dir                string
	limit, peak, usage string // names of files
}

// newMemoryGroup makes a memory cgroup with a limit, of version 2 or 1. It skips the
// test where this process can make neither.
func newMemoryGroup(t *testing.T, limit int64) *memoryGroup {
	t.Helper()
	name := fmt.Sprintf("ixmage-test-%d-%d", os.Getpid(), time.Now().UnixNano())
	groups := []*memoryGroup{
		{"/sys/fs/cgroup/" + name, "memory.max", "memory.peak", "memory.current"},
		{"/sys/fs/cgroup/memory/" + name, "memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.usage_in_bytes"},
	}
	var why error
	for _, g := range groups {
		if _, why = os.Stat(filepath.Dir(g.dir) + "/cgroup.procs"); why != nil {
			continue
		}
		if why = os.Mkdir(g.dir, 0o755); why != nil {
			continue
		}
		t.Cleanup(func() { os.Remove(g.dir) })
		if why = os.WriteFile(filepath.Join(g.dir, g.limit), []byte(strconv.FormatInt(limit, 10)), 0o644); why == nil {
			return g
		}
	}
	t.Skipf("SKIPPED: this process cannot make a memory cgroup of version 1 or 2: %v", why)
	return nil
}

// read returns the number in a file of the group.
func (g *memoryGroup) read(file string) int64 {
	text, _ := os.ReadFile(filepath.Join(g.dir, file))
	n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n
}

// start is startPlain in the group.
func (g *memoryGroup) start(t *testing.T, args ...string) *server {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	shell := `echo $$ > ` + g.dir + `/cgroup.procs && exec "$0" "$@"`
	return startCommand(t, data, exec.Command("sh", append([]string{"-c", shell, plain}, serveArgs(data, args...)...)...))
}
