package e2e

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"ixmage/internal/awstest/s3"
)

// nginxAround is the rest of nginx.conf, for one folder.
const nginxAround = `daemon off;
worker_processes 1;
user root;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log warn;
events { worker_connections 1024; }
http {
access_log off;
client_body_temp_path %[1]s/body;
proxy_temp_path %[1]s/temp;
fastcgi_temp_path %[1]s/fastcgi;
uwsgi_temp_path %[1]s/uwsgi;
scgi_temp_path %[1]s/scgi;
%[2]s}
`

var nginxBlock = regexp.MustCompile("(?s)```nginx\n(.*?)```")

// startNginx runs the sample of docs/operations.md in front of s, with other addresses, files
// and what change replaces, and returns its address.
func startNginx(t *testing.T, s *server, change ...string) string {
	t.Helper()
	found := nginxBlock.FindSubmatch(readFile(t, "../docs/operations.md"))
	if found == nil {
		t.Fatal("docs/operations.md has no sample for nginx")
	}
	return runNginx(t, string(found[1]), append(change, "server 127.0.0.1:8080;", "server "+s.public+";")...).addr
}

// runNginx runs nginx with a sample for its http block, with other addresses, files and what
// change replaces.
func runNginx(t *testing.T, sample string, change ...string) *balancer {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: nginx IS ABSENT (apt-get install nginx)")
	}
	dir, addr := t.TempDir(), freeAddr(t)
	cert, key := certificate(t, "127.0.0.1")
	sample = replaceOnce(t, sample, append(change, "listen 443 ", "listen "+addr+" ",
		"/etc/ssl/pictures.pem", cert, "/etc/ssl/private/pictures.key", key)...)
	file := filepath.Join(dir, "nginx.conf")
	writeFile(t, file, fmt.Sprintf(nginxAround, dir, sample), 0o600)
	return startBalancer(t, addr, exec.Command(path, "-p", dir, "-c", file))
}

// anyServer is for self-signed certificates.
var anyServer = &tls.Config{InsecureSkipVerify: true} //nolint:forbidigo // the test is not about certificates

// TestNginxSample runs the sample of docs/operations.md with clients that do not read. They
// hold no request to S3 and are not cut. With proxy_max_temp_file_size 0 they hold all of
// them, and ixmage cuts some for others.
func TestNginxSample(t *testing.T) {
	t.Parallel()
	const slots = 4
	const setting = "proxy_max_temp_file_size"
	for _, tc := range []struct {
		name   string
		change []string
		size   int
		held   float64
	}{
		{"as it is", nil, 4 << 20, 0},
		// More than the sockets around nginx hold, up to 36 MiB by net.ipv4.tcp_rmem and tcp_wmem.
		{"without files", []string{setting + " 1024m;", setting + " 0;"}, 64 << 20, slots},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := newEnv(t, "--cache-object-max", "256KiB", "--origin-concurrency", "4", "--origin-alias-concurrency", "4",
				"--origin-queue-timeout", "40s") // a slow client is cut after an eighth of it
			addr := startNginx(t, s.server, tc.change...)
			s.put("large.png", s3.Object{Body: png(tc.size, "large")})
			var clients []*slowClient
			for range slots {
				c := slowOn(t, addr, "/shop/large.png", anyServer)
				if status := c.status(); status != "200 OK" {
					t.Fatalf("a slow client is answered %q", status)
				}
				clients = append(clients, c)
			}
			eventually(t, fmt.Sprintf("%v requests to S3 are held", tc.held), func() bool {
				return s.metric("ixmage_origin_open_bodies") == tc.held && s.calls("large.png") == slots
			})
			body := png(10_000, "cold")
			s.put("cold.png", s3.Object{Body: body})
			web := &http.Client{Transport: &http.Transport{TLSClientConfig: anyServer, DisableKeepAlives: true}}
			resp, err := web.Get("https://" + addr + "/shop/cold.png")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			cold := &response{Response: resp}
			cold.body, cold.err = io.ReadAll(resp.Body)
			wantPicture(t, cold, body)
			if cut := s.metric(cutsForSlots); (cut > 0) != (tc.held > 0) {
				t.Errorf("%v clients were cut", cut)
			}
			if tc.held > 0 {
				return
			}
			for _, c := range clients {
				n := 0
				for buf := make([]byte, 64<<10); n < tc.size; {
					k, err := c.in.Read(buf)
					if err != nil {
						t.Fatalf("a slow client gets %d bytes: %v", n, err)
					}
					n += k
				}
			}
		})
	}
}
