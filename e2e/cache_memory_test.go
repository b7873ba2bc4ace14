package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The server asks for all memory of which it may have some.
const tooMuch = "1024GiB"

// TestMemoryOfCgroup: the budget follows the limit of a real cgroup, also of one around
// that of the process, and a limit of the address space is none.
func TestMemoryOfCgroup(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	group := newMemoryGroup(t, 400*mib)
	inner := *group
	inner.dir += "/inner"
	if err := os.Mkdir(inner.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(inner.dir) })
	for _, tc := range []struct {
		name   string
		group  *memoryGroup
		budget string
		want   int64
		warns  bool
	}{
		{"percentage", group, "25%", 100 * mib, false},
		{"bytes", group, "200MiB", 200 * mib, false},
		{"above the group", group, tooMuch, (400 - 128) * mib, true},
		{"group around it", &inner, "25%", 100 * mib, false},
		{"above the group around it", &inner, tooMuch, (400 - 128) * mib, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := tc.group.start(t, "--cache-memory", tc.budget)
			wantBudget(t, s, tc.want, tc.warns)
			s.process.Kill() // an empty group can be removed
		})
	}
}

// TestMemoryOfAddressSpace: a limit of the address space is no limit of memory.
func TestMemoryOfAddressSpace(t *testing.T) {
	t.Parallel()
	var want [2]int64
	for i, limit := range []string{"unlimited", "67108864"} { // 64 GiB
		data := filepath.Join(t.TempDir(), "data")
		shell := `ulimit -v ` + limit + ` && exec "$0" "$@"`
		args := append([]string{"-c", shell, plain}, serveArgs(data, "--cache-memory", "1%")...)
		want[i] = capacity(startCommand(t, data, exec.Command("sh", args...)))
	}
	if want[0] == 0 || want[0] != want[1] {
		t.Errorf("1%% is %d bytes without a limit and %d with one", want[0], want[1])
	}
}

// TestMemoryOfFixtures: the forms that containers and init systems give to the files of
// both versions of cgroups. The server sees the files of the fixture, mounted over its own.
func TestMemoryOfFixtures(t *testing.T) {
	t.Parallel()
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED: this process cannot make a mount namespace: %v: %s", err, out)
	}
	const (
		mib = 1 << 20
		v1  = "30 25 0:27 %[2]s %[1]s rw,nosuid shared:9 - cgroup cgroup rw,memory\n"       //nolint:dupword // type and source have one name
		v2  = "30 25 0:27 %[2]s %[1]s rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n" //nolint:dupword // the same
		big = "9223372036854771712"                                                         // no limit, in version 1
	)
	for _, tc := range []struct {
		name, mount, root, cgroup string
		files                     map[string]string
		want                      int64 // of 25 %; 0: that of the machine
	}{
		{"version 2", v2, "/", "0::/a\n", map[string]string{"a/memory.max": "419430400\n"}, 100 * mib},
		{"version 2, a group around it has less", v2, "/", "0::/a/b/c\n", map[string]string{
			"a/memory.max": "419430400\n", "a/b/memory.max": "max\n", "a/b/c/memory.max": "838860800\n",
		}, 100 * mib},
		{"version 2, namespace of a container", v2, "/", "0::/\n", map[string]string{"memory.max": "419430400\n"}, 100 * mib},
		{"version 2, path of the host in a container", v2, "/docker/1", "0::/docker/1\n",
			map[string]string{"memory.max": "419430400\n"}, 100 * mib},
		{"version 2, no limit", v2, "/", "0::/a\n", map[string]string{"a/memory.max": "max\n"}, 0},
		{"version 2, above the machine", v2, "/", "0::/a\n", map[string]string{"a/memory.max": "1125899906842624\n"}, 0},
		{"version 1", v1, "/", "9:name=systemd:/\n4:memory:/a\n", map[string]string{
			"a/memory.limit_in_bytes": "419430400\n", "a/memory.stat": "cache 0\nhierarchical_memory_limit 419430400\n",
		}, 100 * mib},
		{"version 1, a group around it has less", v1, "/", "4:cpu,memory:/a/b\n0::/\n", map[string]string{
			"a/b/memory.limit_in_bytes": big + "\n", "a/b/memory.stat": "hierarchical_memory_limit 419430400\n",
		}, 100 * mib},
		{"version 1, path of the host in a container", v1, "/docker/1", "4:memory:/docker/1\n", map[string]string{
			"memory.limit_in_bytes": "419430400\n", "memory.stat": "hierarchical_memory_limit 419430400\n",
		}, 100 * mib},
		{"version 1, no limit", v1, "/", "4:memory:/a\n", map[string]string{
			"a/memory.limit_in_bytes": big + "\n", "a/memory.stat": "hierarchical_memory_limit " + big + "\n",
		}, 0},
		{"damaged", v2, "/", "0::/a\n", map[string]string{"a/memory.max": "much\n"}, 0},
		{"no group", v2, "/", "", nil, 0},
		{"no mount", "", "", "0::/a\n", nil, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := startWithFixture(t, tc.mount, tc.root, tc.cgroup, tc.files)
			if tc.want == 0 {
				tc.want = machineMemory(t) / 100 * 25
			}
			wantBudget(t, s, tc.want, false)
		})
	}
}

// startWithFixture starts the server with a budget of 25 % and other files of cgroups. mount
// is a form of the line of mountinfo with the folder of files and root.
func startWithFixture(t *testing.T, mount, root, cgroup string, files map[string]string) *server {
	t.Helper()
	dir := t.TempDir()
	tree := filepath.Join(dir, "tree")
	if mount != "" {
		mount = fmt.Sprintf(mount, tree, root)
	}
	all := map[string]string{"mountinfo": mount, "cgroup": cgroup}
	for name, text := range files {
		all["tree/"+name] = text
	}
	for name, text := range all {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(t.TempDir(), "data")
	shell := `cd ` + dir + ` && mount --bind cgroup /proc/$$/cgroup && mount --bind mountinfo /proc/$$/mountinfo && exec "$0" "$@"`
	args := append([]string{"-m", "sh", "-c", shell, plain}, serveArgs(data, "--cache-memory", "25%")...)
	return startCommand(t, data, exec.Command("unshare", args...))
}

// wantBudget checks the capacity of the memory tier, and that the log has a warning with
// both numbers, or none.
func wantBudget(t *testing.T, s *server, want int64, warns bool) {
	t.Helper()
	if got := capacity(s); got != want {
		t.Errorf("the capacity is %d, want %d", got, want)
	}
	var line string
	for l := range strings.Lines(s.output()) {
		if strings.Contains(l, "level=WARN") && strings.Contains(l, "--cache-memory") {
			line = l
		}
	}
	if (line != "") != warns {
		t.Errorf("warnings: %q", line)
	}
	if warns && (!strings.Contains(line, fmt.Sprintf("cache_memory=%d ", 1<<40)) || !strings.Contains(line, fmt.Sprintf("used=%d\n", want))) {
		t.Errorf("the warning lacks a number: %s", line)
	}
}

// capacity reads the budget of the memory tier.
func capacity(s *server) int64 {
	s.t.Helper()
	return int64(s.metric(`ixmage_cache_capacity_bytes{tier="memory"}`))
}

// machineMemory is the memory of the machine as sysinfo(2) and the kernel tell it.
func machineMemory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text)) // MemTotal: N kB
	n, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n << 10
}

// TestMemoryAboveCgroup fills the cache of a server whose budget was above the limit of its
// cgroup. The kernel must not kill it, also while the files of the disk tier are in the page cache of the
// group. A server that took the budget as it was would end.
func TestMemoryAboveCgroup(t *testing.T) {
	t.Parallel()
	const (
		limit    = 200 << 20
		size     = 1 << 20
		pictures = 250
	)
	group := newMemoryGroup(t, limit)
	body := bytesOf(size, "above")
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		w.Header().Set("Content-Length", strconv.Itoa(size))
		w.Write(body)
	}))
	defer origin.Close()
	s := group.start(t, "--cache-memory", tooMuch, "--cache-disk", "1GiB", "--log-level", "warn")
	s.createOn("shop", origin.URL, "above")
	for i := range pictures {
		for range 2 {
			r := single(s.public, http.MethodGet, fmt.Sprintf("/shop/%d.png", i))
			if r.Response == nil || r.StatusCode != http.StatusOK || len(r.body) != size {
				t.Fatalf("picture %d: %s", i, summary(r))
			}
		}
	}
	t.Logf("%d MiB, peak %d of %d", group.read(group.usage)>>20, group.read(group.peak)>>20, limit>>20)
	if got := s.metric(`ixmage_cache_evictions_total{reason="capacity",tier="memory"}`); got == 0 {
		t.Error("nothing was evicted: the cache did not fill")
	}
	select {
	case <-s.process.Done():
		t.Errorf("the server ended: %v", s.process.State())
	default:
	}
}
