package e2e

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/internal/awstest/process"
)

// balancer is a running load balancer, with TLS on its address.
type balancer struct {
	addr  string
	child *process.Child
}

// balancers start the load balancers of deploy/fleet in front of three nodes, with what change
// replaces.
var balancers = map[string]func(t *testing.T, nodes []string, change ...string) *balancer{
	"nginx": func(t *testing.T, nodes []string, change ...string) *balancer {
		return runNginx(t, string(readFile(t, "../deploy/fleet/nginx.conf")), append(nodeAddrs(nodes), change...)...)
	},
	"haproxy": func(t *testing.T, nodes []string, change ...string) *balancer {
		return runHAProxy(t, string(readFile(t, "../deploy/fleet/haproxy.cfg")), append(nodeAddrs(nodes), change...)...)
	},
}

// eachBalancer runs a test with each load balancer.
func eachBalancer(t *testing.T, test func(t *testing.T, start func(t *testing.T, nodes []string, change ...string) *balancer)) {
	t.Helper()
	for name, start := range balancers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start)
		})
	}
}

// nodeAddrs replaces the addresses of the samples.
func nodeAddrs(nodes []string) (change []string) {
	for i, addr := range nodes {
		change = append(change, fmt.Sprintf("192.0.2.1%d:8080", i+1), addr)
	}
	return change
}

func runHAProxy(t *testing.T, config string, change ...string) *balancer {
	t.Helper()
	path, err := exec.LookPath("haproxy")
	if err != nil {
		t.Skip("SKIPPED, NOT TESTED: haproxy IS ABSENT (apt-get install haproxy)")
	}
	dir, addr := t.TempDir(), freeAddr(t)
	cert, key := certificate(t, "127.0.0.1")
	both := filepath.Join(dir, "both.pem")
	writeFile(t, both, string(readFile(t, cert))+string(readFile(t, key)), 0o600)
	file := filepath.Join(dir, "haproxy.cfg")
	// These two limits are not those of the sample: a busy machine may hold a node for more than a second,
	// and a node that has died refuses connections.
	change = append(change, "timeout connect 1s", "timeout connect 1m\n    timeout check 1m")
	config = replaceOnce(t, config, append(change, "bind :443 ", "bind "+addr+" ", "/etc/ssl/private/pictures.pem", both)...)
	writeFile(t, file, config, 0o600)
	return startBalancer(t, addr, exec.Command(path, "-db", "-f", file))
}

// startBalancer returns when the balancer listens. The test ends it.
func startBalancer(t *testing.T, addr string, cmd *exec.Cmd) *balancer {
	t.Helper()
	name := filepath.Base(cmd.Path)
	child, err := process.Start(name, cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		child.Stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, tail(child.Output(), 4<<10))
		}
	})
	eventually(t, name+" listens", func() bool {
		select {
		case <-child.Done():
			t.Fatalf("%s has ended: %s", name, child.Output())
		default:
		}
		c, err := tls.Dial("tcp", addr, anyServer)
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
	return &balancer{addr, child}
}

// dial connects to the balancer from an address, "" for any.
func (b *balancer) dial(t *testing.T, from string) net.Conn {
	t.Helper()
	var d net.Dialer
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := tls.DialWithDialer(&d, "tcp", b.addr, anyServer)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// replaceOnce replaces pairs of texts, the first of which must be in text once.
func replaceOnce(t *testing.T, text string, change ...string) string {
	t.Helper()
	for i := 0; i < len(change); i += 2 {
		if n := strings.Count(text, change[i]); n != 1 {
			t.Fatalf("the sample has %q %d times", change[i], n)
		}
		text = strings.Replace(text, change[i], change[i+1], 1)
	}
	return text
}
