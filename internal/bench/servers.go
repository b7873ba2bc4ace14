package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"ixmage/internal/awstest/process"
)

// Names of the servers that can be measured.
const (
	nameOurs    = "ixmage"
	nameBare    = "bare"
	namePlain   = "bare-plain"
	nameNginx   = "nginx"      // sendfile on
	nameCopying = "nginx-copy" // sendfile off
	nameVarnish = "varnish"
	// nameHeld is nginx with a cache manager that is awake.
	nameHeld = "nginx-held"
)

// otherServers are the servers besides ixmage.
var otherServers = []string{nameBare, namePlain, nameNginx, nameCopying, nameVarnish}

// hitTest tells from an answer's headers whether it came from the cache.
type hitTest func(http.Header) bool

// server is one process under test. Its user must stop it.
type server struct {
	name  string
	addr  string
	isHit hitTest
	child *process.Child
	// held is the number of bytes that the cache holds now. It is nil where nobody asks.
	held func(context.Context) (int64, error)
	// admin is that of ixmage.
	admin adminClient
	// access is how ixmage reads the origin.
	access ixmage
	// beforeStop ends what was started beside the process.
	beforeStop func()
}

func (s *server) stop() {
	if s.beforeStop != nil {
		s.beforeStop()
	}
	_ = s.child.Stop()
}

func (s *server) url(size int) string {
	return "http://" + s.addr + "/" + bucket + "/" + objectKey(size)
}

// env is the environment in which servers are started.
type env struct {
	dir        string // scratch, in memory where the machine has /dev/shm
	originAddr string
	sizes      []int
	cpu        int
	cores      string // instead of cpu: more than one
	// environ is added to the environment of ixmage.
	environ  []string
	binaries []binary
	// budget is the number of bytes that nginx and Varnish may hold.
	budget int64
	// openFiles are the directives of nginx for open files.
	openFiles string
	// manager are the options of nginx's cache manager.
	manager string
	// flags are more flags of ixmage.
	flags []string
	// headers are those of ixmage's answers by object key, once known.
	headers map[string][]headerLine
}

// start runs the named server on the environment's core, and checks that it caches.
func (e *env) start(ctx context.Context, name string) (*server, error) {
	s, err := e.begin(ctx, name)
	if err != nil {
		return nil, err
	}
	if err := s.verify(ctx, e.sizes); err != nil {
		s.stop()
		return nil, fmt.Errorf("check %s before it is measured: %w\n%s", name, err, s.child.Output())
	}
	return s, nil
}

// begin runs the named server.
func (e *env) begin(ctx context.Context, name string) (*server, error) {
	starters := map[string]func(context.Context) (*server, error){
		nameBare:    func(ctx context.Context) (*server, error) { return e.startBare(ctx, e.headers) },
		namePlain:   func(ctx context.Context) (*server, error) { return e.startBare(ctx, nil) },
		nameNginx:   func(ctx context.Context) (*server, error) { return e.startNginx(ctx, "on") },
		nameCopying: func(ctx context.Context) (*server, error) { return e.startNginx(ctx, "off") },
		nameVarnish: e.startVarnish,
		nameHeld:    e.startHeldNginx,
	}
	for _, b := range e.binaries {
		starters[b.name] = func(ctx context.Context) (*server, error) { return e.startOurs(ctx, b.path) }
	}
	begin, ok := starters[name]
	if !ok {
		return nil, fmt.Errorf("no server is called %q: want one of %s", name,
			strings.Join(slices.Sorted(maps.Keys(starters)), ", "))
	}
	s, err := begin(ctx)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.name = name
	return s, nil
}

// launch starts a pinned process. It closes pipe, to which the process may
// print, when the process has ended; a nil pipe is none.
func (e *env) launch(cmd *exec.Cmd, pipe *io.PipeWriter) (*server, error) {
	pinned := pinTo(cmp.Or(e.cores, strconv.Itoa(e.cpu)), cmd.Args...)
	path, err := exec.LookPath(pinned[0])
	if err != nil {
		return nil, err
	}
	cmd.Path, cmd.Args, cmd.Err = path, pinned, nil
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	child, err := process.Start(cmd.Args[len(pin(0))], cmd)
	if err != nil {
		return nil, err
	}
	if pipe != nil {
		go func() {
			<-child.Done()
			_ = pipe.Close()
		}()
	}
	return &server{child: child}, nil
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
