package origin

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"ixmage/alias"
	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	for _, status := range []int{301, 302, 303, 307, 308} {
		k := newEnv(t, nil)
		stranger := s3.New(t)
		stranger.Put("bucket-shop", "a.png", s3.Object{Body: noise(10)})
		r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
		k.s3.Hook(func(*s3.Request) *s3.Fault {
			return &s3.Fault{Status: status, Body: []byte{}, Header: func(h http.Header) {
				h.Set("Location", stranger.URL+"/bucket-shop/a.png")
			}}
		})
		_, err := k.Get(t.Context(), r)
		wantOutcome(t, err, OutcomeError)
		_, err = k.Head(t.Context(), r)
		wantOutcome(t, err, OutcomeError)
		if n := stranger.Total(); n != 0 {
			t.Errorf("%d: %d requests went where the redirect points", status, n)
		}
	}
}

// Addresses where no S3 server is: metadata services first of all. With the
// flag, private ones may be dialed, these not.
func TestForbiddenAddresses(t *testing.T) {
	t.Parallel()
	never := []string{
		"http://169.254.169.254", "http://169.254.170.2", "http://169.254.0.1", "http://[fd00:ec2::254]", "http://100.100.100.200",
		"http://[::ffff:169.254.169.254]", "http://[::ffff:100.100.100.200]", "http://0.0.0.0", "http://[::]", "http://[fe80::1]",
	}
	private := []string{"http://127.0.0.1:1", "http://[::1]:1", "http://10.0.0.1", "http://192.168.0.1", "http://172.16.0.1"}
	for _, allowed := range []bool{true, false} {
		k := newEnv(t, func(c *Config) { c.AllowPrivateEndpoints = allowed })
		endpoints := never
		if !allowed {
			endpoints = slices.Concat(private, never)
		}
		for _, endpoint := range endpoints {
			conn, err := k.sender.dial(t.Context(), "tcp", hostPort(t, endpoint))
			if err == nil {
				conn.Close()
				t.Errorf("%s was dialed", endpoint)
				continue
			}
			r := k.route("shop")
			r.Alias.Endpoint = endpoint
			if !allowed {
				r.Alias.Endpoint = "https" + strings.TrimPrefix(endpoint, "http") // plain http is refused before
			}
			_, err = k.Get(t.Context(), Request{Route: r, Key: "a.png"})
			if strings.Contains(endpoint, "[") {
				continue // the SDK itself refuses IPv6 literals
			}
			if e := wantOutcome(t, err, OutcomeNetwork); !strings.Contains(e.Error(), "addresses") {
				t.Errorf("text does not say why: %s", e)
			}
		}
	}
}

// An alias may have been registered while plain http was allowed.
func TestPlainHTTPNeedsTheFlag(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{true, false} {
		k := newEnv(t, func(c *Config) { c.AllowPrivateEndpoints = allowed })
		r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
		k.sender.dial = (&net.Dialer{}).DialContext // as if it were public
		_, err := k.read(t, r)
		if allowed {
			if err != nil {
				t.Error(err)
			}
			continue
		}
		if e := wantOutcome(t, err, OutcomeNetwork); !strings.Contains(e.Error(), errPlainHTTP.Error()) {
			t.Errorf("error: got %v, want it to name the flag", e)
		}
		if n := k.s3.Total(); n != 0 {
			t.Errorf("%d requests were sent in the clear", n)
		}
	}
}

func hostPort(t *testing.T, endpoint string) string {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// Names that resolve to a forbidden address, for custom endpoints and for AWS's
// own, and a name that changes between two requests.
func TestForbiddenAddressByName(t *testing.T) {
	t.Parallel()
	names := newDNS(t)
	names.set("s3.example.com", "169.254.169.254")
	names.set("bucket-shop.s3.eu-west-1.amazonaws.com", "169.254.169.254")
	k := newEnvResolving(t, names.resolver(), nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	port := hostPort(t, k.s3.URL)
	port = port[strings.LastIndexByte(port, ':'):]
	for name, loc := range map[string]alias.Location{
		"custom": {Bucket: "bucket-shop", Region: "eu-west-1", Endpoint: "http://s3.example.com" + port, PathStyle: true},
		"AWS":    {Bucket: "bucket-shop", Region: "eu-west-1"},
	} {
		r.Route.Alias.Location = loc
		_, err := k.Get(t.Context(), r)
		if e := wantOutcome(t, err, OutcomeNetwork); !strings.Contains(e.Error(), "169.254.169.254") {
			t.Errorf("%s: text does not name the address: %s", name, e)
		}
	}
	r.Route.Alias.Location = alias.Location{Bucket: "bucket-shop", Region: "eu-west-1", Endpoint: "http://s3.example.com" + port, PathStyle: true}
	names.set("s3.example.com", "127.0.0.1")
	if _, err := k.read(t, r); err != nil {
		t.Fatalf("allowed address: %v", err)
	}
	// The pooled connection is to the address that was checked. Without it the
	// name is looked up, and checked, again.
	k.sender.idle.closeIdle()
	names.set("s3.example.com", "169.254.169.254")
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeNetwork)
	names.set("s3.example.com", "")
	_, err = k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeNetwork)
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{})
	r.Route.Alias.Endpoint = "http://" + netfault.Refused(t)
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeNetwork)
	_, err = k.Head(t.Context(), r)
	wantOutcome(t, err, OutcomeNetwork)
	k.rec.wantCounts(t, map[string]int{"network": 2})
}

// Certificates that we do not trust, and a server that speaks no TLS.
// Clients may hold all descriptors. That is no news of S3.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	k.sender.dial = func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	}
	r := k.put("shop", "a.png", s3.Object{})
	_, err := k.Get(t.Context(), r)
	wantOverloaded(t, err)
	_, err = k.Head(t.Context(), r)
	wantOverloaded(t, err)
	k.rec.wantCounts(t, map[string]int{"network": 2})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	r.Route.Alias.Endpoint = strings.Replace(k.s3.URL, "http:", "https:", 1)
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeNetwork)

	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}})
	if err != nil {
		t.Fatal(err)
	}
	server := s3.Serve(ln)
	t.Cleanup(server.Close)
	r.Route.Alias.Endpoint = "https://" + ln.Addr().String()
	_, err = k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeNetwork)
	if server.Total() != 0 {
		t.Error("a request reached a server that we do not trust")
	}
}

func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(crand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// Connections are used again after every kind of answer that was read whole.
func TestConnectionReuse(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(bodySize)})
	ranged := r
	ranged.Range = &Range{10, 20}
	missing := r
	missing.Key = "missing.png"
	k.next(r, nil, s3.Chunked(), s3.Fail("AccessDenied"))
	for range 3 {
		for _, r := range []Request{r, ranged, missing} {
			_, _ = k.read(t, r)
			_, _ = k.Head(t.Context(), r)
		}
	}
	if n := k.s3.Accepted(); n != 1 {
		t.Errorf("%d connections for requests one after the other, want 1", n)
	}
}

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	if err := testConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"connect timeout":          func(c *Config) { c.ConnectTimeout = 0 },
		"first byte timeout":       func(c *Config) { c.FirstByteTimeout = -1 },
		"call timeout":             func(c *Config) { c.CallTimeout = 0 },
		"idle timeout":             func(c *Config) { c.IdleTimeout = 0 },
		"queue timeout":            func(c *Config) { c.QueueTimeout = 0 },
		"concurrency is 0":         func(c *Config) { c.Concurrency = 0 },
		"concurrency of one alias": func(c *Config) { c.AliasConcurrency = c.Concurrency + 1 },
		"queue is -1":              func(c *Config) { c.Queue = -1 },
		"breaker pause":            func(c *Config) { c.BreakerOpen = 0 },
		"breaker failures are -1":  func(c *Config) { c.BreakerFailures = -1 },
	} {
		cfg := testConfig()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
		if _, err := New(cfg, nil, nil); err == nil {
			t.Errorf("%s: New took it", name)
		}
	}
	if err := (Config{Queue: -1}).Validate(); strings.Count(err.Error(), "\n") != 8 {
		t.Errorf("not all mistakes at once: %v", err)
	}
}

// dns is a name server on loopback that answers A questions.
type dns struct {
	conn net.PacketConn

	mu     sync.Mutex // guards the fields below
	a      map[string]netip.Addr
	asking []net.Conn // of resolvers, which wait for seconds otherwise; nil at the end of the test
}

func newDNS(t *testing.T) *dns {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := &dns{conn: conn, a: map[string]netip.Addr{}, asking: []net.Conn{}}
	var wg sync.WaitGroup
	wg.Go(d.serve)
	t.Cleanup(func() {
		conn.Close()
		wg.Wait()
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, c := range d.asking {
			c.Close()
		}
		d.asking = nil
	})
	return d
}

func (d *dns) set(name, addr string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	a, _ := netip.ParseAddr(addr)
	d.a[name+"."] = a
}

func (d *dns) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "udp4", d.conn.LocalAddr().String())
		if err != nil {
			return nil, err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.asking == nil {
			conn.Close()
			return nil, net.ErrClosed
		}
		d.asking = append(d.asking, conn)
		return conn, nil
	}}
}

func (d *dns) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := d.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if a := d.answer(buf[:n]); a != nil {
			_, _ = d.conn.WriteTo(a, from)
		}
	}
}

// answer is RFC 1035 as far as it goes: one question, at most one record. Names that begin with
// fails get a failure of the server, those that begin with silent nothing.
func (d *dns) answer(q []byte) []byte {
	name, at := "", 12
	for q[at] != 0 {
		name += string(q[at+1:at+1+int(q[at])]) + "."
		at += 1 + int(q[at])
	}
	at += 5 // the root label, type and class
	d.mu.Lock()
	addr := d.a[name]
	d.mu.Unlock()
	out := append([]byte{}, q[:at]...)
	binary.BigEndian.PutUint16(out[2:], 0x8180) // an answer, recursion available
	copy(out[6:], []byte{0, 0, 0, 0, 0, 0})
	switch isA := q[at-3] == 1; {
	case strings.HasPrefix(name, "silent."):
		return nil
	case strings.Contains(name, "fails."):
		out[3] |= 2
	case !addr.IsValid():
		out[3] |= 3 // no such name
	case isA:
		out[7] = 1
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, addr.AsSlice()...)
	}
	return out
}

// TestUserAgent: a call of a probe may name itself, and the others are ixmage's.
func TestUserAgent(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	named := func(stack *middleware.Stack) error {
		return stack.Build.Add(middleware.BuildMiddlewareFunc("Named", func(
			ctx context.Context, in middleware.BuildInput, next middleware.BuildHandler,
		) (middleware.BuildOutput, middleware.Metadata, error) {
			in.Request.(*smithyhttp.Request).Header.Set("User-Agent", "probe/1")
			return next.HandleBuild(ctx, in)
		}), middleware.After)
	}
	client := k.Client(r.Route.Alias.Location, alias.KeyPair{})
	for _, options := range [][]func(*middleware.Stack) error{nil, {named}} {
		_, err := client.HeadBucket(t.Context(), &awss3.HeadBucketInput{Bucket: &r.Route.Alias.Bucket}, func(o *awss3.Options) {
			o.APIOptions = append(o.APIOptions, options...)
		})
		if _, ok := errors.AsType[*smithyhttp.ResponseError](err); err != nil && !ok {
			t.Fatal(err)
		}
	}
	var got []string
	for _, q := range k.s3.Requests() {
		got = append(got, q.Header.Get("User-Agent"))
	}
	if want := []string{"ixmage", "probe/1"}; !slices.Equal(got, want) {
		t.Errorf("user agents %q, want %q", got, want)
	}
}

// TestHint: an error without an answer has a hint, whatever it is.
func TestHint(t *testing.T) {
	t.Parallel()
	aws := alias.Location{Bucket: "media", Region: "eu-wset-1"}
	for err, want := range map[error]string{
		&net.DNSError{Name: "media.s3.eu-wset-1.amazonaws.com", IsNotFound: true}: "correct the alias's region",
		errors.New("something new"): "check the alias's endpoint and region",
	} {
		if got := Hint(aws, err); !strings.Contains(got, want) {
			t.Errorf("%v: %q", err, got)
		}
	}
}
