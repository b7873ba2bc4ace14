package deploy

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// directives are the lines NAME=VALUE of a unit file, in their order.
func directives(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			found[name] = append(found[name], value)
		}
	}
	return found
}

const service, socket = "systemd/ixmage.service", "systemd/ixmage.socket"

// analyze runs systemd-analyze, or skips the test where it is absent.
func analyze(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("SKIPPED, NOT TESTED: systemd-analyze is absent")
	}
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", args...).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// TestUnits: systemd knows every line of both units, and has nothing to say about them.
func TestUnits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, file := range []string{service, socket} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/local/bin/ixmage"), []byte(program)) // which must exist
		for _, name := range []string{"LoadCredential", "Environment"} {                // the optional lines too
			text = bytes.ReplaceAll(text, []byte("\n#"+name+"="), []byte("\n"+name+"="))
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out := analyze(t, "verify", "--man=no", filepath.Join(dir, "ixmage.service"), filepath.Join(dir, "ixmage.socket"))
	if out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
}

// TestUnitSecurity: what systemd-analyze thinks of the restrictions. 0 is best, 10 worst; what
// remains is the network and the file system, which the server needs.
func TestUnitSecurity(t *testing.T) {
	t.Parallel()
	const most = 1.2
	out := analyze(t, "security", "--offline=true", "--no-pager", service)
	m := regexp.MustCompile(`Overall exposure level for ixmage\.service: ([0-9.]+)`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("systemd-analyze security says:\n%s", out)
	}
	if level, err := strconv.ParseFloat(m[1], 64); err != nil || level > most {
		t.Errorf("exposure level %s, want %v at most:\n%s", m[1], most, out)
	}
}

// TestUnitAgrees: the unit waits longer than the server drains, and knows its exit statuses.
func TestUnitAgrees(t *testing.T) {
	t.Parallel()
	d := directives(t, service)
	for name, want := range map[string]string{
		"Type": "notify", "Restart": "on-failure", "RestartPreventExitStatus": "2", "TimeoutStopSec": "40",
		"ExecStart": "/usr/local/bin/ixmage serve", "StateDirectory": "ixmage", "DynamicUser": "yes", "LimitNOFILE": "65536",
	} {
		if got := strings.Join(d[name], " "); got != want {
			t.Errorf("%s=%s, want %s", name, got, want)
		}
	}
	if !slices.Contains(d["Environment"], "IXMAGE_DATA=/var/lib/"+d["StateDirectory"][0]) {
		t.Errorf("Environment=%v", d["Environment"])
	}
	if got := directives(t, socket)["FileDescriptorName"]; !slices.Equal(got, []string{"public"}) {
		t.Errorf("FileDescriptorName=%v", got)
	}
}

// confined is a running ixmage under restrictions.
type confined struct {
	cmd    *exec.Cmd
	log    bytes.Buffer
	addr   map[string]string // by listener
	exited chan struct{}
}

var listening = regexp.MustCompile(`msg=listening listener=(\w+) addr=(\S+)`)

// startConfined starts the server, and returns when it listens.
func startConfined(t *testing.T, cmd *exec.Cmd) *confined {
	t.Helper()
	c := &confined{cmd: cmd, addr: map[string]string{}, exited: make(chan struct{})}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(stderr)
	for c.addr["public"] == "" && lines.Scan() {
		fmt.Fprintln(&c.log, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			c.addr[m[1]] = m[2]
		}
	}
	if c.addr["public"] == "" {
		t.Fatalf("the server does not start:\n%s", &c.log)
	}
	go func() {
		defer close(c.exited)
		for lines.Scan() {
			fmt.Fprintln(&c.log, lines.Text())
		}
	}()
	return c
}

// work calls every part of the server that uses the machine in another way: both listeners, the
// database, the disk cache, a connection to S3 that fails, and the end.
func (c *confined) work(t *testing.T, token string) {
	t.Helper()
	call := func(method, url, body string, want int) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token)
		if method == http.MethodGet && body == "" {
			req.Body = http.NoBody
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if text, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != want {
			t.Errorf("%s %s: %s, want %d: %s", method, url, resp.Status, want, text)
		}
	}
	public, admin := "http://"+c.addr["public"], "http://"+c.addr["admin"]
	call(http.MethodGet, public+"/-/readyz", "", http.StatusOK)
	call(http.MethodPost, admin+"/api/v1/aliases", `{"name":"shop","bucket":"media","endpoint":"http://127.0.0.1:1","path_style":true,`+
		`"credential":{"access_key_id":"AKIAIOSFODNN7EXAMPLE","secret_access_key":"not-a-real-secret-key"}}`, http.StatusCreated)
	call(http.MethodGet, public+"/shop/a.png", "", http.StatusBadGateway)
	call(http.MethodPost, admin+"/api/v1/purge", `{"alias":"shop"}`, http.StatusOK)
	call(http.MethodGet, admin+"/metrics", "", http.StatusOK)
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-c.exited
	if err := c.cmd.Wait(); err != nil {
		t.Errorf("the end: %v", err)
	}
	for line := range strings.Lines(c.log.String()) {
		if strings.Contains(line, "not permitted") || strings.Contains(line, "ermission denied") || strings.Contains(line, "read-only file system") ||
			strings.Contains(line, "can enter the data folder") || strings.Contains(line, "memfd_create") {
			t.Errorf("the restrictions hinder the server: %s", line)
		}
	}
}

// needNamespaces skips the test where this process may not mount.
func needNamespaces(t *testing.T) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "unshare", "-m", "setpriv", "--reuid", "65532", "true").CombinedOutput(); err != nil {
		t.Skipf("SKIPPED, NOT TESTED: no mount namespace and other user here: %v: %s", err, out)
	}
}

// TestServiceConfined runs the program as the unit does, as far as that goes without systemd: as a
// user without capabilities, on a read-only file system but for its folder, with the system calls and
// address families of the unit, and with the token and the key set as LoadCredential= passes them.
func TestServiceConfined(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	calls := systemCalls(t, directives(t, service)["SystemCallFilter"])
	dir := sharedDir(t)
	const token = "0123456789abcdef0123456789abcdef"
	keyset := newKeyset(t)
	for name, text := range map[string]string{"admin-token": token, "master.keyset": keyset} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, 0, 65532); err != nil { // the group stands for the access list of systemd
			t.Fatal(err)
		}
		if err := os.Chmod(path, 0o440); err != nil {
			t.Fatal(err)
		}
	}
	state := filepath.Join(dir, "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(state, 65532, 65532); err != nil {
		t.Fatal(err)
	}
	const restrict = `mount --make-rprivate / && mount --bind "$STATE" "$STATE" && mount -o remount,bind,ro / && cd / && ` +
		`exec setpriv --reuid 65532 --regid 65532 --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs "$@"`
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	launcher := filepath.Join(dir, "launcher") // go test keeps its own in a folder of root
	copyFile(t, self, launcher)
	cmd := exec.Command("unshare", "-m", "sh", "-c", restrict, "sh", launcher, program, "serve",
		"--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--allow-private-endpoints", "--cache-disk=64MiB", "--cache-memory=20%")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "STATE=" + state, asConfined + "=" + strings.Join(calls, " "), "IXMAGE_DATA=" + state,
		"IXMAGE_ADMIN_TOKEN_FILE=" + dir + "/admin-token", "IXMAGE_MASTER_KEY=file:" + dir + "/master.keyset",
	}
	startTransforming(t, cmd, dir).work(t, token)
}

// startTransforming starts the server with a copy in dir of the worker of make worker, and requires
// that the worker runs in its sandbox. Without a worker it starts the server alone.
func startTransforming(t *testing.T, cmd *exec.Cmd, dir string) *confined {
	t.Helper()
	files, err := filepath.Glob("../bin/libvips-cpp.so.*")
	if err != nil {
		t.Fatal(err)
	}
	const worker = "../bin/ixmage-worker"
	if _, err := os.Stat(worker); err != nil {
		t.Logf("SKIPPED, NOT TESTED: transforms: %v", err)
		return startConfined(t, cmd)
	}
	for _, file := range append(files, worker) {
		copyFile(t, file, filepath.Join(dir, filepath.Base(file)))
	}
	cmd.Env = append(cmd.Env, "IXMAGE_TRANSFORM_WORKER="+filepath.Join(dir, filepath.Base(worker)))
	c := startConfined(t, cmd)
	if !strings.Contains(c.log.String(), `msg="transforms on"`) {
		t.Errorf("the restrictions hinder the worker:\n%s", &c.log)
	}
	return c
}

// TestContainerConfined runs the program as the image does in the chart: a root that has nothing but
// the program, certificates and the folder of the volume, read-only but for that.
func TestContainerConfined(t *testing.T) {
	t.Parallel()
	needNamespaces(t)
	dir := sharedDir(t)
	root := filepath.Join(dir, "root")
	if err := os.MkdirAll(filepath.Join(root, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"dev", "proc", "sys"} { // the runtime makes these
		if err := os.Mkdir(filepath.Join(root, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	copyFile(t, program, filepath.Join(root, "ixmage"))
	volume := filepath.Join(dir, "volume")
	if err := os.Mkdir(volume, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(volume, 0, 65532); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(volume, 0o2775|os.ModeSetgid); err != nil { // as fsGroup leaves it
		t.Fatal(err)
	}
	const restrict = `mount --make-rprivate / && mount --bind "$ROOT" "$ROOT" && mount -o remount,bind,ro "$ROOT" && mount --bind "$VOLUME" "$ROOT/data" && ` +
		`mount --rbind /dev "$ROOT/dev" && mount --rbind /proc "$ROOT/proc" && mount --rbind /sys "$ROOT/sys" && ` +
		`exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all chroot --userspec=65532:65532 --groups= "$ROOT" "$@"`
	cmd := exec.Command("unshare", "-m", "sh", "-c", strings.Replace(restrict, "--bounding-set=-all", "--bounding-set=-all,+sys_chroot,+setuid,+setgid", 1),
		"sh", "/ixmage", "serve", "--listen=127.0.0.1:0", "--allow-private-endpoints", "--cache-disk=64MiB", "--cache-disk-path=/data/cache", "--cache-memory=20%")
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "ROOT=" + root, "VOLUME=" + volume, "IXMAGE_DATA=/data/ixmage", "IXMAGE_ADMIN_LISTEN=127.0.0.1:0",
		"IXMAGE_ADMIN_TOKEN=0123456789abcdef",
	}
	startConfined(t, cmd).work(t, "0123456789abcdef")
	got := slices.Sorted(maps.Keys(namesIn(t, volume)))
	if want := []string{"cache", "ixmage"}; !slices.Equal(got, want) {
		t.Errorf("the volume has %v, want %v", got, want)
	}
}

func namesIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, e := range entries {
		names[e.Name()] = true
	}
	return names
}

// sharedDir is a folder that other users can enter.
func sharedDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ixmage-confined-") //nolint:usetesting // folders of t.TempDir are in one that only root enters
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	// No process that starts meanwhile inherits the open file, which could not be executed then.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(to, text, 0o755); err != nil {
		t.Fatal(err)
	}
}

// newKeyset is a key set that the program has made.
func newKeyset(t *testing.T) string {
	t.Helper()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program, "serve", "--data", data, "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0")
	c := startConfined(t, cmd)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	<-c.exited
	text, err := os.ReadFile(filepath.Join(data, "master.keyset"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
