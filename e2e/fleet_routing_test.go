package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/s3"
)

// starter starts a load balancer of deploy/fleet.
type starter = func(t *testing.T, nodes []string, change ...string) *balancer

// fleet is three nodes on addresses that stay theirs. Each has a registry of its own, with
// the same aliases; the ttl of an alias is an hour on the first node, two on the second, three
// on the third, so that an answer tells where it comes from.
type fleet struct {
	t        *testing.T
	nodes    []*server
	addrs    []string
	args     []string
	pictures []sample // by path
}

func startFleet(t *testing.T, args ...string) *fleet {
	t.Helper()
	f := &fleet{t: t, args: args}
	for i := range 3 {
		f.addrs = append(f.addrs, freeAddr(t))
		f.nodes = append(f.nodes, nil)
		f.start(i, filepath.Join(t.TempDir(), "data"))
	}
	return f
}

// start starts a node, again if data is that of an earlier process.
func (f *fleet) start(i int, data string) {
	f.t.Helper()
	f.nodes[i] = startIn(f.t, data, append([]string{"--listen", f.addrs[i]}, f.args...)...)
}

// open registers an alias on every node.
func (f *fleet) open(name, endpoint, bucket string, pair map[string]string) {
	f.t.Helper()
	for i, n := range f.nodes {
		n.create(map[string]any{
			"name": name, "bucket": bucket, "endpoint": endpoint, "path_style": true, "credential": pair,
			"ttl": fmt.Sprintf("%dh", i+1),
		})
	}
}

// fleetSmall is the size of the pictures that a load asks for, and that stand under several keys.
const fleetSmall = 80_000

// fleetBuckets counts the buckets that openPictures has made.
var fleetBuckets atomic.Int32

// openPictures puts real pictures into a bucket of the real S3 server, each under several
// keys, and opens the alias shop for it.
func (f *fleet) openPictures() {
	f.t.Helper()
	gw, ctx := realS3(f.t), f.t.Context()
	bucket := fmt.Sprintf("fleet-%d", fleetBuckets.Add(1))
	if err := gw.CreateBucket(ctx, bucket); err != nil {
		f.t.Fatal(err)
	}
	for _, p := range realPictures(f.t) {
		if p.kind == "" {
			continue
		}
		keys := 4
		if len(p.body) > fleetSmall {
			keys = 1
		}
		for i := range keys {
			key := fmt.Sprintf("page %d/ä+%s", i, p.name)
			if err := gw.PutObject(ctx, bucket, key, s3.Object{Body: p.body, ContentType: p.kind}); err != nil {
				f.t.Fatal(err)
			}
			f.pictures = append(f.pictures, sample{fmt.Sprintf("/shop/page%%20%d/%%C3%%A4%%2b%s", i, p.name), p.kind, p.body})
		}
	}
	pair, err := gw.ReadOnlyUser(ctx, bucket, bucket, "")
	if err != nil {
		f.t.Fatal(err)
	}
	f.open("shop", gw.S3URL, bucket, map[string]string{
		"access_key_id": pair.AccessKeyID, "secret_access_key": pair.SecretAccessKey.Reveal(),
	})
}

// openScripted opens the alias slow for a scripted S3.
func (f *fleet) openScripted() *s3.Server {
	f.t.Helper()
	fake := s3.New(f.t)
	fake.CreateBucket("slow", "")
	f.open("slow", fake.URL, "slow", map[string]string{
		"access_key_id": testPair.AccessKeyID, "secret_access_key": testPair.SecretAccessKey.Reveal(),
	})
	return fake
}

var maxAge = regexp.MustCompile(`max-age=(\d+)`)

// ownerOf is the number of the node that has answered.
func ownerOf(t *testing.T, h http.Header) int {
	t.Helper()
	m := maxAge.FindStringSubmatch(h.Get("Cache-Control"))
	if m == nil {
		t.Fatalf("no node has answered: %v", h)
	}
	seconds, _ := strconv.Atoi(m[1])
	return seconds/3600 - 1
}

// owners asks for every picture and returns the nodes that have answered.
func (f *fleet) owners(web *http.Client, b *balancer) (list []int) {
	f.t.Helper()
	for _, p := range f.pictures {
		r := askWeb(f.t, web, http.MethodHead, b, p.name)
		if r.StatusCode != http.StatusOK || r.ContentLength != int64(len(p.body)) {
			f.t.Fatal(summary(r))
		}
		list = append(list, ownerOf(f.t, r.Header))
	}
	return list
}

// webClient trusts every certificate.
func webClient(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	tr := &http.Transport{TLSClientConfig: anyServer.Clone(), ForceAttemptHTTP2: http2, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

func askWeb(t *testing.T, web *http.Client, method string, b *balancer, path string, headers ...string) *response {
	t.Helper()
	req, err := http.NewRequest(method, "https://"+b.addr+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := web.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	r := &response{Response: resp}
	r.body, r.err = io.ReadAll(resp.Body)
	return r
}

// TestFleetURLHasNode: each URL is answered by one node, whatever its query, the method, the
// range and the version of HTTP, and S3 is asked once for it.
func TestFleetURLHasNode(t *testing.T) {
	t.Parallel()
	eachBalancer(t, func(t *testing.T, start starter) {
		f := startFleet(t)
		f.openPictures()
		b := f.startStrict(start)
		web, web2 := webClient(t, false), webClient(t, true)
		counts := make([]float64, len(f.nodes))
		for _, p := range f.pictures {
			r := askWeb(t, web, http.MethodGet, b, p.name)
			wantPicture(t, r, p.body)
			owner := ownerOf(t, r.Header)
			counts[owner]++
			for what, r := range map[string]*response{
				"a query":      askWeb(t, web, http.MethodGet, b, p.name+"?v=1"),
				"HTTP/2":       askWeb(t, web2, http.MethodGet, b, p.name),
				"and a query":  askWeb(t, web2, http.MethodGet, b, p.name+"?w=100&h=2%2F"),
				"HEAD":         askWeb(t, web, http.MethodHead, b, p.name),
				"a range":      askWeb(t, web, http.MethodGet, b, p.name, "Range", "bytes=10-19"),
				"another host": askWeb(t, web2, http.MethodGet, b, p.name, "Host", "other.example.com"),
			} {
				if got := ownerOf(t, r.Header); got != owner {
					t.Errorf("%s, %s: node %d has answered, want %d", p.name, what, got, owner)
				}
				want, status := p.body, http.StatusOK
				switch what {
				case "HEAD":
					want = nil
				case "a range":
					want, status = p.body[10:20], http.StatusPartialContent
				}
				if r.StatusCode != status || !bytes.Equal(r.body, want) || what == "HEAD" && r.ContentLength != int64(len(p.body)) {
					t.Errorf("%s, %s: %s", p.name, what, summary(r))
				}
				if what == "HTTP/2" && r.ProtoMajor != 2 {
					t.Errorf("%s: %s", what, r.Proto)
				}
			}
		}
		for i, n := range f.nodes {
			n.waitInFlight(0)
			got := n.metric(`ixmage_cache_requests_total{alias="shop",cache="miss"}`)
			if got != counts[i] || got < float64(len(f.pictures))/10 {
				t.Errorf("node %d has asked S3 for %v of %d pictures, want %v", i, got, len(f.pictures), counts[i])
			}
		}
		// The admin listener is not behind the balancer.
		for _, path := range []string{"/metrics", "/api/v1/aliases", "/api/v1/session", "/"} {
			if r := askWeb(t, web, http.MethodGet, b, path); r.StatusCode != http.StatusNotFound {
				t.Errorf("%s: %s", path, r.Status)
			}
		}
	})
}

// fleetLoad is clients that send requests until they are stopped.
type fleetLoad struct {
	group  sync.WaitGroup
	end    chan struct{}
	served atomic.Int64

	mu     sync.Mutex // guards failed and cut
	failed []error    // requests that got no answer, or one of an error
	cut    []error    // bodies that ended early
}

// load starts clients, each with a connection of its own, which ask for the smaller pictures
// in turn. They do not use net/http, which would repeat a request whose connection breaks.
func (f *fleet) load(b *balancer, clients int) *fleetLoad {
	f.t.Helper()
	l := &fleetLoad{end: make(chan struct{})}
	small := slices.DeleteFunc(slices.Clone(f.pictures), func(p sample) bool { return len(p.body) > fleetSmall })
	for c := range clients {
		l.group.Go(func() {
			tick := time.NewTicker(25 * time.Millisecond)
			defer tick.Stop()
			var conn net.Conn
			var in *bufio.Reader
			for i := c; ; i++ {
				select {
				case <-l.end:
					return
				case <-tick.C:
				}
				if conn == nil {
					conn = b.dial(f.t, "")
					in = bufio.NewReader(conn)
				}
				if p := small[i%len(small)]; !l.exchange(conn, in, p) {
					conn.Close()
					conn = nil
				}
			}
		})
	}
	return l
}

// exchange sends one request, and reports whether the connection can be used again.
func (l *fleetLoad) exchange(conn net.Conn, in *bufio.Reader, p sample) bool {
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", p.name)
	resp, err := http.ReadResponse(in, nil)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	list := &l.failed
	if err == nil {
		var got []byte
		if got, err = io.ReadAll(resp.Body); err == nil && !bytes.Equal(got, p.body) {
			err = fmt.Errorf("%d wrong bytes", len(got))
		}
		list = &l.cut
	}
	if err != nil {
		l.mu.Lock()
		*list = append(*list, fmt.Errorf("%s: %w", p.name, err))
		l.mu.Unlock()
		return false
	}
	l.served.Add(1)
	return !resp.Close
}

// more waits until n further requests have been served.
func (l *fleetLoad) more(t *testing.T, n int64) {
	t.Helper()
	n += l.served.Load()
	eventually(t, "requests are served", func() bool { return l.served.Load() >= n })
}

// stop ends the clients.
func (l *fleetLoad) stop() {
	close(l.end)
	l.group.Wait()
}

// TestFleetNodeKilled kills a node under load. Its URLs move to the others and come back with
// it, the other URLs stay, and no request fails whose body has not begun.
func TestFleetNodeKilled(t *testing.T) {
	t.Parallel()
	eachBalancer(t, func(t *testing.T, start starter) {
		f := startFleet(t)
		f.openPictures()
		b := f.startStrict(start)
		web := webClient(t, false)
		before := f.owners(web, b)
		load := f.load(b, 4)
		load.more(t, 100)
		const dead = 1
		f.nodes[dead].kill()
		load.more(t, 150)
		during := f.owners(web, b)
		moved := 0
		for i, owner := range before {
			switch {
			case during[i] == dead:
				t.Errorf("%s: the dead node has answered", f.pictures[i].name)
			case owner == dead:
				moved++
			case during[i] != owner:
				t.Errorf("%s has moved from node %d to %d, which both live", f.pictures[i].name, owner, during[i])
			}
		}
		if all := len(before); moved < all/10 || moved > all*6/10 {
			t.Errorf("%d of %d URLs have moved", moved, all)
		}
		f.start(dead, f.nodes[dead].data)
		eventually(t, "the URLs are back", func() bool { return slices.Equal(f.owners(web, b), before) })
		load.stop()
		if len(load.failed) > 0 {
			t.Errorf("%d of %d requests have failed, as %v", len(load.failed), load.served.Load(), load.failed[0])
		}
		t.Logf("%d of %d URLs have moved; %d requests served, %d bodies cut", moved, len(before), load.served.Load(), len(load.cut))
	})
}

// startStrict starts a balancer without the bounded load of HAProxy, which sends a few requests
// to another node even if there is hardly a load.
func (f *fleet) startStrict(start starter) *balancer {
	f.t.Helper()
	if strings.HasSuffix(f.t.Name(), "haproxy") {
		return start(f.t, f.addrs, "hash-balance-factor 200", "hash-balance-factor 0")
	}
	return start(f.t, f.addrs)
}

// underWay are requests for objects of the alias slow, for which S3 does not answer yet.
type underWay struct {
	release chan struct{}
	waiting []*bufio.Reader  // for the first byte
	begun   []*http.Response // bodies of which a half has come
}

const halves = 200_000 // bytes of a body of underWay.begun

// ask sends n requests of each kind.
func (f *fleet) ask(b *balancer, fake *s3.Server, n int) *underWay {
	f.t.Helper()
	u := &underWay{release: make(chan struct{})}
	send := func(kind string, size int, after int64) *bufio.Reader {
		key := fmt.Sprintf("%s%d.png", kind, len(u.waiting)+len(u.begun))
		fake.Put("slow", key, s3.Object{Body: png(size, key), ContentType: "image/png"})
		fake.Next("slow", key, s3.StallAfter(after, u.release))
		c := b.dial(f.t, "")
		fmt.Fprintf(c, "GET /slow/%s HTTP/1.1\r\nHost: x\r\n\r\n", key)
		return bufio.NewReader(c)
	}
	for range n {
		u.waiting = append(u.waiting, send("wait", 1000, s3.BeforeHeaders))
		in := send("body", halves, halves/2)
		resp, err := http.ReadResponse(in, nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			f.t.Fatalf("%v, %v", resp, err)
		}
		u.begun = append(u.begun, resp)
	}
	eventually(f.t, "all requests are at S3", func() bool { return fake.InFlight() == 2*n })
	return u
}

// finish reads all answers. Bodies of node cut, if it is not negative, must end early; all
// others are complete.
func (u *underWay) finish(t *testing.T, cut int) {
	t.Helper()
	close(u.release)
	for i, in := range u.waiting {
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Errorf("request %d: %v", i, err)
			continue
		}
		if got, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(got) != 1000 {
			t.Errorf("request %d: %s, %d bytes, %v", i, resp.Status, len(got), err)
		}
	}
	for i, resp := range u.begun {
		got, err := io.ReadAll(resp.Body)
		if early := err != nil || len(got) < halves; early != (ownerOf(t, resp.Header) == cut) {
			t.Errorf("body %d of node %d: %d bytes, %v", i, ownerOf(t, resp.Header), len(got), err)
		}
	}
}

// TestFleetKilledUnderWay kills a node with requests under way. Those that wait for the first
// byte are answered by other nodes; bodies that have begun end early and are not repeated.
func TestFleetKilledUnderWay(t *testing.T) {
	t.Parallel()
	eachBalancer(t, func(t *testing.T, start starter) {
		f := startFleet(t)
		fake := f.openScripted()
		b := start(t, f.addrs)
		const n = 16
		u := f.ask(b, fake, n)
		dead := ownerOf(t, u.begun[0].Header)
		left := slices.DeleteFunc(slices.Clone(u.begun), func(r *http.Response) bool { return ownerOf(t, r.Header) == dead })
		f.nodes[dead].kill()
		eventually(t, "the bodies of the dead node have ended", func() bool { return fake.OpenBodies() == len(left) })
		u.finish(t, dead)
	})
}

// TestFleetRollingRestart restarts every node under load, one after the other, the first one
// with bodies under way. No request fails.
func TestFleetRollingRestart(t *testing.T) {
	t.Parallel()
	eachBalancer(t, func(t *testing.T, start starter) {
		f := startFleet(t)
		f.openPictures()
		fake := f.openScripted()
		b := start(t, f.addrs)
		load := f.load(b, 4)
		load.more(t, 100)
		u := f.ask(b, fake, 8)
		first := ownerOf(t, u.begun[0].Header)
		for k := range f.nodes {
			i := (first + k) % len(f.nodes)
			n := f.nodes[i]
			n.process.Signal(syscall.SIGTERM)
			if k == 0 {
				eventually(t, "the node is not ready", func() bool {
					c, err := net.Dial("tcp", n.public)
					if err == nil {
						c.Close()
					}
					return err != nil
				})
				load.more(t, 50)
				u.finish(t, -1)
			}
			if code := n.process.State().ExitCode(); code != 0 {
				t.Errorf("node %d ends with status %d", i, code)
			}
			load.more(t, 50)
			f.start(i, n.data)
			eventually(t, "the node has requests again", func() bool {
				return f.nodes[i].metric(`ixmage_cache_requests_total{alias="shop",cache="miss"}`) > 0
			})
		}
		load.more(t, 50)
		load.stop()
		if bad := slices.Concat(load.failed, load.cut); len(bad) > 0 {
			t.Errorf("%d of %d requests have failed, as %v", len(bad), load.served.Load(), bad[0])
		}
		t.Logf("%d requests served", load.served.Load())
	})
}

// fakeNodes starts three servers that see what a balancer sends.
func fakeNodes(t *testing.T, serve func(node int, w http.ResponseWriter, r *http.Request)) (addrs []string) {
	t.Helper()
	for i := range 3 {
		node := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(i, w, r) }))
		t.Cleanup(node.Close)
		addrs = append(addrs, node.Listener.Addr().String())
	}
	return addrs
}

// TestFleetSize: two balancers agree about the node of a URL, and one whose configuration has a
// node less differs for the URLs of that node only, whichever it is.
func TestFleetSize(t *testing.T) {
	t.Parallel()
	eachBalancer(t, func(t *testing.T, start starter) {
		addrs := fakeNodes(t, func(i int, w http.ResponseWriter, _ *http.Request) { w.Header().Set("Node", strconv.Itoa(i)) })
		web := webClient(t, false)
		owners := func(b *balancer) (list []string) {
			for k := range 400 { // of fewer, a node may have too few or too many by chance: its place on the ring depends on its port
				list = append(list, askWeb(t, web, http.MethodGet, b, fmt.Sprintf("/shop/%d.png", k)).Header.Get("Node"))
			}
			return list
		}
		change := []string{}
		server := func(i int) string { return "    server " + addrs[i] }
		if strings.HasSuffix(t.Name(), "haproxy") {
			change = []string{"hash-balance-factor 200", "hash-balance-factor 0"}
			server = func(i int) string { return fmt.Sprintf("    server node-%d", i+1) }
		}
		all := owners(start(t, addrs, change...))
		if again := owners(start(t, addrs, change...)); !slices.Equal(all, again) {
			t.Error("two balancers differ")
		}
		for gone := range addrs {
			less := owners(start(t, addrs, append(change, server(gone), "    # "+server(gone))...))
			moved := 0
			for k, owner := range all {
				switch {
				case owner == strconv.Itoa(gone):
					moved++
				case less[k] != owner:
					t.Errorf("without node %d, URL %d has moved from %s to %s", gone, k, owner, less[k])
				}
			}
			if moved < len(all)/6 || moved > len(all)/2 {
				t.Errorf("without node %d, %d of %d URLs have moved", gone, moved, len(all))
			}
		}
	})
}

// TestFleetRequest: a node gets the path, the range and the conditions as the client has sent
// them, the address of the client from the balancer alone, and few connections.
func TestFleetRequest(t *testing.T) {
	t.Parallel()
	eachBalancer(t, func(t *testing.T, start starter) {
		var got atomic.Pointer[http.Request]
		var conns sync.Map // by the address of the balancer's end; not those of health checks, of which each has its own
		body := bytesOf(16<<20, "node")
		addrs := fakeNodes(t, func(_ int, w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/-/readyz" {
				return
			}
			conns.Store(r.RemoteAddr, true)
			got.Store(r)
			if r.URL.Path == "/large.png" {
				w.Write(body)
			}
		})
		b := start(t, addrs)
		for _, target := range []string{
			"/shop/a.png", "/shop/a.png?x=%2f&y", "/shop/%C3%A4%2b%2F%25+~.png", "/shop//a///b.png", "/shop/a/%2e%2E/b.png", "/shop/%61.png", "/shop/a;b=c,d@e!.png",
		} {
			c := b.dial(t, "127.0.0.1")
			fmt.Fprintf(c, "HEAD %s HTTP/1.1\r\nHost: pictures.example.com\r\nRange: bytes=5-\r\nIf-None-Match: \"a\"\r\n"+
				"X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 203.0.113.8\r\nForwarded: for=203.0.113.9\r\n\r\n", target)
			resp, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: http.MethodHead})
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: %v, %v", target, resp, err)
				continue
			}
			r := got.Load()
			if r.Method != http.MethodHead || r.RequestURI != target || r.Host != "pictures.example.com" {
				t.Errorf("%s: the node gets %s %s of %s", target, r.Method, r.RequestURI, r.Host)
			}
			for name, want := range map[string][]string{
				"Range": {"bytes=5-"}, "If-None-Match": {`"a"`}, "X-Forwarded-For": {"127.0.0.1"}, "Forwarded": nil,
			} {
				if !slices.Equal(r.Header.Values(name), want) {
					t.Errorf("%s: the node gets %s %q, want %q", target, name, r.Header.Values(name), want)
				}
			}
		}
		for i := range 100 {
			if got := ask(b.dial(t, ""), fmt.Sprintf("/shop/%d.png", i)); got != "200" {
				t.Error(got)
			}
		}
		n := 0
		conns.Range(func(any, any) bool { n++; return true })
		if n > 30 {
			t.Errorf("the nodes have got %d connections for 107 requests, one after the other", n)
		}
		if r := askWeb(t, webClient(t, false), http.MethodGet, b, "/large.png"); !bytes.Equal(r.body, body) {
			t.Errorf("%d bytes came", len(r.body))
		}
	})
}

// TestFleetReadiness: HAProxy sends nothing to a node that is not ready, though the node would
// answer.
func TestFleetReadiness(t *testing.T) {
	t.Parallel()
	var unready atomic.Bool
	addrs := fakeNodes(t, func(i int, w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Node", strconv.Itoa(i))
		if r.URL.Path == "/-/readyz" && i == 1 && unready.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	b := balancers["haproxy"](t, addrs)
	web := webClient(t, false)
	answered := func() bool { // by node 1
		for k := range 20 {
			if askWeb(t, web, http.MethodGet, b, fmt.Sprintf("/shop/%d.png", k)).Header.Get("Node") == "1" {
				return true
			}
		}
		return false
	}
	if !answered() {
		t.Error("a ready node has no requests")
	}
	unready.Store(true)
	eventually(t, "a node that is not ready has no requests", func() bool { return !answered() })
	unready.Store(false)
	eventually(t, "a node that is ready again has requests", answered)
}

// TestFleetClients: a node counts the requests of each client behind the balancer, whatever
// the client says.
func TestFleetClients(t *testing.T) {
	t.Parallel()
	if !inNamespace(t, network) {
		return
	}
	eachBalancer(t, func(t *testing.T, start starter) {
		f := startFleet(t, "--client-connections", "1", "--trusted-proxies", "127.0.0.0/8")
		fake := f.openScripted()
		fake.Put("slow", "hot.png", s3.Object{Body: png(1000, "")})
		b := start(t, f.addrs)
		release := make(chan struct{})
		fake.Hook(func(r *s3.Request) *s3.Fault {
			if r.Key != "hot.png" {
				return s3.StallAfter(s3.BeforeHeaders, release)
			}
			return nil
		})
		defer close(release)
		// One request of the client on each node; those that are too many are refused.
		var refused atomic.Int32
		const n = 40
		for i := range n {
			key := fmt.Sprintf("stuck%d.png", i)
			fake.Put("slow", key, s3.Object{Body: png(1000, "")})
			c := b.dial(t, "192.0.2.1")
			go func() {
				if ask(c, "/slow/"+key) == "503" {
					refused.Add(1)
				}
			}()
		}
		eventually(t, "each node has one request of the client", func() bool {
			return int(refused.Load()) == n-len(f.nodes) && fake.InFlight() == len(f.nodes)
		})
		for from, want := range map[string]string{"192.0.2.1": "503", "192.0.2.2": "200"} {
			for _, line := range []string{"", "X-Forwarded-For: 203.0.113.7", "Forwarded: for=203.0.113.7"} {
				if got := ask(b.dial(t, from), "/slow/hot.png", line); got != want {
					t.Errorf("from %s, %q: %s, want %s", from, line, got, want)
				}
			}
		}
	})
}
