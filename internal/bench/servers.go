package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Names of the servers that can be measured.
const (
	nameOurs    = "ixmage"
	nameBare    = "bare"
	namePlain   = "bare-plain"
	nameNginx   = "nginx"      // sendfile on
	nameCopying = "nginx-copy" // sendfile off
	nameVarnish = "varnish"
)

var allServers = []string{nameOurs, nameBare, namePlain, nameNginx, nameCopying, nameVarnish}

// hitTest tells from an answer's headers whether it came from the cache.
type hitTest func(http.Header) bool

// server is one process under test. stop ends it.
type server struct {
	name   string
	addr   string
	pid    int
	isHit  hitTest
	stop   func()
	stderr *tail
}

func (s *server) url(size int) string {
	return "http://" + s.addr + "/" + bucket + "/" + objectKey(size)
}

// stage is what starting a server needs to know.
type stage struct {
	dir    string // scratch, in memory where the machine has /dev/shm
	origin *origin
	sizes  []int
	cpu    int
	binary string // bin/ixmage
	// headers are those of our answers by object key, once known.
	headers map[string][]headerLine
}

// start runs the named server on the stage's core.
func (st *stage) start(ctx context.Context, name string) (*server, error) {
	starters := map[string]func(context.Context) (*server, error){
		nameOurs:    st.startOurs,
		nameBare:    func(ctx context.Context) (*server, error) { return st.startBare(ctx, st.headers) },
		namePlain:   func(ctx context.Context) (*server, error) { return st.startBare(ctx, nil) },
		nameNginx:   func(ctx context.Context) (*server, error) { return st.startNginx(ctx, "on") },
		nameCopying: func(ctx context.Context) (*server, error) { return st.startNginx(ctx, "off") },
		nameVarnish: st.startVarnish,
	}
	begin, ok := starters[name]
	if !ok {
		return nil, fmt.Errorf("no server is called %q: want one of %s",
			name, strings.Join(allServers, ", "))
	}
	s, err := begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.name = name
	if err := s.verify(ctx, st.sizes); err != nil {
		s.stop()
		return nil, fmt.Errorf("%s does not do what is to be measured: %w\n%s", name, err, s.stderr)
	}
	return s, nil
}

// launch starts a pinned process and gathers the end of what it prints on
// standard error, a copy of which goes to watch.
func (st *stage) launch(cmd *exec.Cmd, watch io.Writer) (*server, error) {
	pinned := pin(st.cpu, cmd.Args...)
	path, err := exec.LookPath(pinned[0])
	if err != nil {
		return nil, err
	}
	cmd.Path, cmd.Args, cmd.Err = path, pinned, nil
	end := &tail{}
	cmd.Stderr = io.MultiWriter(end, watch)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &server{pid: cmd.Process.Pid, stderr: end}
	s.stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}
	return s, nil
}

// verify fetches every object twice: the second answer must be a hit, and its
// body the one the origin holds.
func (s *server) verify(ctx context.Context, sizes []int) error {
	for _, n := range sizes {
		var h http.Header
		for range 2 {
			header, body, err := fetch(ctx, s.url(n))
			if err != nil {
				return err
			}
			if sha256.Sum256(body) != sha256.Sum256(objectBody(n)) {
				return fmt.Errorf("%s: %d bytes came that are not the object", s.url(n), len(body))
			}
			h = header
		}
		if !s.isHit(h) {
			return fmt.Errorf("%s: the second answer is no hit: %v", s.url(n), h)
		}
	}
	return nil
}

// client is for the few requests of our own.
var client = &http.Client{Timeout: time.Minute}

func fetch(ctx context.Context, url string) (http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %.200s", url, resp.Status, body)
	}
	return resp.Header, body, err
}

// headerLines are the headers of a hit as they came over the wire, by object
// key: the lengths of their values are what the bare handler must send.
func (s *server) headerLines(ctx context.Context, sizes []int) (map[string][]headerLine, error) {
	all := make(map[string][]headerLine, len(sizes))
	for _, n := range sizes {
		h, _, err := fetch(ctx, s.url(n))
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(h)) {
			for _, v := range h[name] {
				all[objectKey(n)] = append(all[objectKey(n)], headerLine{name, v})
			}
		}
	}
	return all, nil
}

// startOurs runs the built binary and registers an alias on the origin.
func (st *stage) startOurs(ctx context.Context) (*server, error) {
	dir, err := os.MkdirTemp(st.dir, "ixmage-")
	if err != nil {
		return nil, err
	}
	return st.startIxmage(ctx, ixmage{
		dir: dir, endpoint: "http://" + st.origin.addr, bucket: bucket,
		accessKey: "BENCHBENCHBENCHBENCH", secretKey: "benchbenchbenchbenchbenchbenchbenchbench",
	})
}

// ixmage is how the binary is to be set up.
type ixmage struct {
	dir, endpoint, bucket, accessKey, secretKey string
	flags                                       []string
}

func (st *stage) startIxmage(ctx context.Context, x ixmage) (*server, error) {
	args := append([]string{"serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0",
		"--data", x.dir, "--allow-private-endpoints"}, x.flags...)
	lines, watch := io.Pipe()
	s, err := st.launch(exec.CommandContext(ctx, st.binary, args...), watch)
	if err != nil {
		return nil, err
	}
	s.isHit = func(h http.Header) bool { return strings.HasPrefix(h.Get("Cache-Status"), "ixmage; hit") }
	addrs, err := listeners(lines)
	if err == nil {
		s.addr = addrs["public"]
		err = register(ctx, addrs["admin"], x)
	}
	if err != nil {
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, s.stderr)
	}
	return s, nil
}

var listening = regexp.MustCompile(`msg=listening.*listener=(\w+).*addr=(\S+)`)

// listeners reads log lines until both listeners have said where they are, and
// has the rest read, so that the server's writes never block.
func listeners(log io.Reader) (map[string]string, error) {
	defer func() { go func() { _, _ = io.Copy(io.Discard, log) }() }()
	addrs := make(map[string]string)
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			addrs[m[1]] = m[2]
		}
		if addrs["public"] != "" && addrs["admin"] != "" {
			return addrs, nil
		}
	}
	return nil, errors.New("the log ended before both listeners were up")
}

// register makes the alias through the admin API.
func register(ctx context.Context, admin string, x ixmage) error {
	token, err := os.ReadFile(filepath.Join(x.dir, "admin-token"))
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]any{
		"name": bucket, "bucket": x.bucket, "region": "us-east-1", "endpoint": x.endpoint, "path_style": true,
		"credential": map[string]string{"access_key_id": x.accessKey, "secret_access_key": x.secretKey},
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+"/api/v1/aliases", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		text, _ := io.ReadAll(resp.Body)
		return fmt.Errorf("register the alias: %s: %s", resp.Status, text)
	}
	return nil
}

// startBare runs this program again as the bare server. It lives until its
// standard input closes.
func (st *stage) startBare(ctx context.Context, headers map[string][]headerLine) (*server, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, bareCommand)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s, err := st.launch(cmd, io.Discard)
	if err != nil {
		return nil, err
	}
	s.isHit = func(http.Header) bool { return true } // there is nothing to miss
	err = gob.NewEncoder(stdin).Encode(bareSpec{Sizes: st.sizes, Headers: headers})
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	s.addr = strings.TrimPrefix(strings.TrimSpace(line), "addr=")
	if err != nil || s.addr == "" {
		s.stop()
		return nil, fmt.Errorf("the bare server did not come up: %w\n%s", err, s.stderr)
	}
	return s, nil
}

// freeAddr finds a loopback port for servers that cannot pick one themselves.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String(), nil
}

// awaitPort waits until addr takes connections.
func awaitPort(ctx context.Context, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", addr)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on %s: %w", addr, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
