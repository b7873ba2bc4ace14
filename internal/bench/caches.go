package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// csp is the Content-Security-Policy that ixmage sends.
const csp = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"

// nginxConfig is tuned for speed: one worker for the one core, files in memory, open
// descriptors kept, no access log. The answer has the headers of ixmage's answer except
// Age, which nginx cannot compute.
//
// tcp_nopush is off: with it, Linux 6.18 holds the last bytes of a 64 KiB
// answer on loopback until the client's delayed acknowledgement, 40 ms, and
// nginx does 800 requests/s. sendfile is a variant because neither setting is
// best for every size: copying wins at 4 KiB, sendfile at 1 MiB.
const nginxConfig = `worker_processes 1;
user root;
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log warn;
events { worker_connections 4096; }
http {
  access_log off;
  server_tokens off;
  sendfile %[5]s;
  tcp_nopush off;
  output_buffers 2 1m;
  keepalive_timeout 120s;
  keepalive_requests 1000000000;
  %[6]s
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/temp;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  proxy_cache_path %[1]s/cache levels=1:2 keys_zone=bench:16m max_size=%[7]d inactive=1h use_temp_path=off %[8]s;
  upstream origin { server %[3]s; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen %[2]s backlog=4096;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache bench;
      proxy_cache_valid 200 1h;
      proxy_cache_lock on;
      add_header Cache-Control "public, max-age=3600";
      add_header Cache-Status "nginx; $upstream_cache_status";
      add_header X-Request-Id $request_id;
      add_header X-Content-Type-Options nosniff;
      add_header Content-Security-Policy "%[4]s";
    }
  }
}
`

// cachedFiles has nginx keep as many files open as ixmage does at most.
const cachedFiles = "open_file_cache max=8192 inactive=1h; open_file_cache_valid 1h;"

// startHeldNginx runs nginx so that it keeps to its budget. Its cache manager sleeps up to
// ten seconds, in which the cache grows without limit, but it begins with a look at the
// cache. So it is ended twice a second, and nginx starts another.
func (e *env) startHeldNginx(ctx context.Context) (*server, error) {
	eager := *e
	eager.manager = "manager_files=100000 manager_threshold=1s manager_sleep=10ms"
	s, err := eager.startNginx(ctx, "on")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	s.beforeStop = func() { cancel(); group.Wait() }
	group.Go(func() {
		for waitUntil(ctx, time.Now().Add(time.Second/2)) {
			endCacheManager(s.child.Pid())
		}
	})
	return s, nil
}

// endCacheManager ends that of an nginx. A failure leaves it asleep, which "held" shows.
func endCacheManager(nginx int) {
	children, err := childrenByParent()
	if err != nil {
		return
	}
	for _, pid := range children[nginx] {
		if strings.HasPrefix(readText(fmt.Sprintf("/proc/%d/cmdline", pid)), "nginx: cache manager") {
			_ = syscall.Kill(pid, syscall.SIGTERM)
		}
	}
}

func (e *env) startNginx(ctx context.Context, sendfile string) (*server, error) {
	dir, addr, err := e.place("nginx-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf(nginxConfig, dir, addr, e.originAddr, csp, sendfile, e.openFiles, e.budget, e.manager)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	isHit := func(h http.Header) bool { return h.Get("Cache-Status") == "nginx; HIT" }
	s, err := e.startCache(ctx, exec.CommandContext(ctx, "nginx", "-p", dir, "-c", file), addr, isHit)
	if err == nil {
		s.held = func(context.Context) (int64, error) { return bytesUnder(filepath.Join(dir, "cache")) }
	}
	return s, err
}

// proxyConfig stores nothing. The client has signed the URL for the host of the origin.
const proxyConfig = `worker_processes 1;
user root;
daemon off;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log warn;
events { worker_connections 4096; }
http {
  access_log off;
  server_tokens off;
  keepalive_timeout 120s;
  keepalive_requests 1000000000;
  client_body_temp_path %[1]s/body;
  proxy_temp_path %[1]s/temp;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  upstream origin { server %[3]s; keepalive 64; keepalive_requests 1000000000; }
  server {
    listen %[2]s backlog=4096;
    location / {
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_set_header Host %[3]s;
      proxy_max_temp_file_size 0;
      proxy_buffer_size 16k;
      proxy_buffers 16 64k;
      proxy_busy_buffers_size 512k;
    }
  }
}
`

func (e *env) startProxyNginx(ctx context.Context, origin string) (*server, error) {
	dir, addr, err := e.place("nginx-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, fmt.Appendf(nil, proxyConfig, dir, addr, origin), 0o600); err != nil {
		return nil, err
	}
	return e.startCache(ctx, exec.CommandContext(ctx, "nginx", "-p", dir, "-c", file), addr, nil)
}

// varnishConfig adds the headers of ixmage and removes the equivalent ones of Varnish,
// which sends Age itself.
const varnishConfig = `vcl 4.1;
backend default { .host = "%[1]s"; .port = "%[2]s"; }
sub vcl_backend_response { set beresp.ttl = 1h; }
sub vcl_deliver {
  if (obj.hits > 0) { set resp.http.Cache-Status = "varnish; hit; ttl=" + obj.ttl; }
  else { set resp.http.Cache-Status = "varnish; fwd=uri-miss"; }
  set resp.http.Cache-Control = "public, max-age=3600";
  set resp.http.X-Request-Id = req.xid;
  set resp.http.X-Content-Type-Options = "nosniff";
  set resp.http.Content-Security-Policy = "%[3]s";
  unset resp.http.X-Varnish;
  unset resp.http.Via;
}
`

func (e *env) startVarnish(ctx context.Context) (*server, error) {
	dir, addr, err := e.place("varnish-")
	if err != nil {
		return nil, err
	}
	// Its child runs as its own user, if that is installed.
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(e.originAddr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "bench.vcl")
	if err := os.WriteFile(file, fmt.Appendf(nil, varnishConfig, host, port, csp), 0o644); err != nil {
		return nil, err
	}
	isHit := func(h http.Header) bool { return strings.HasPrefix(h.Get("Cache-Status"), "varnish; hit") }
	work := filepath.Join(dir, "work")
	cmd := exec.CommandContext(ctx, "varnishd", "-F", "-n", work, "-a", addr,
		"-f", file, "-s", fmt.Sprintf("malloc,%d", e.budget), "-T", "none",
		"-p", "nuke_limit=100000") // a large object may push out many
	s, err := e.startCache(ctx, cmd, addr, isHit)
	if err == nil {
		s.held = func(ctx context.Context) (int64, error) { return varnishHolds(ctx, work) }
	}
	return s, err
}

// place makes a folder and finds an address for a server that has both in its configuration.
func (e *env) place(prefix string) (dir, addr string, err error) {
	if dir, err = os.MkdirTemp(e.dir, prefix); err != nil {
		return "", "", err
	}
	addr, err = freeAddr()
	return dir, addr, err
}

// startCache starts a server whose configuration has its address, and waits until it
// answers.
func (e *env) startCache(ctx context.Context, cmd *exec.Cmd, addr string, isHit hitTest) (*server, error) {
	s, err := e.launch(cmd, nil)
	if err != nil {
		return nil, err
	}
	s.addr, s.isHit = addr, isHit
	if err := awaitPort(ctx, addr); err != nil {
		s.stop()
		return nil, fmt.Errorf("%w\n%s", err, s.child.Output())
	}
	return s, nil
}

// bytesUnder is what the files below a folder take on the file system.
func bytesUnder(dir string) (sum int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return ignoreGone(err)
		}
		info, err := entry.Info()
		if err != nil {
			return ignoreGone(err)
		}
		if stat, ok := info.Sys().(*syscall.Stat_t); ok {
			sum += stat.Blocks * 512
		}
		return nil
	})
	return sum, err
}

// ignoreGone drops the error of a file that was removed after it was listed.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

var varnishBytes = regexp.MustCompile(`(?m)^SMA\.s0\.g_bytes\s+(\d+)`)

func varnishHolds(ctx context.Context, work string) (int64, error) {
	text, err := exec.CommandContext(ctx, "varnishstat", "-n", work, "-1", "-f", "SMA.s0.g_bytes").CombinedOutput()
	m := varnishBytes.FindSubmatch(text)
	if err != nil || m == nil {
		return 0, fmt.Errorf("ask varnishstat: %w: %.200s", err, text)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}
