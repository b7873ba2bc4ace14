package origin

import (
	"bufio"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"ixmage/internal/awstest/netfault"
)

// listen starts a server that calls serve for each connection and closes it then.
func listen(t *testing.T, serve func(net.Conn)) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				serve(c)
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return ln.Addr().String()
}

// saying answers a request, or a TLS hello, with a text.
func saying(text string) func(net.Conn) {
	return func(c net.Conn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, text)
		_ = c.(*net.TCPConn).CloseWrite()
		_, _ = io.Copy(io.Discard, c) // so that no reset overtakes the text
	}
}

// servingTLS serves 404 over TLS.
func servingTLS(cert tls.Certificate) func(net.Conn) {
	return func(c net.Conn) {
		tc := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		if _, err := http.ReadRequest(bufio.NewReader(tc)); err == nil {
			_, _ = io.WriteString(tc, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// issued makes an authority, and a certificate that it has signed for a name.
func issued(t *testing.T, name string, notAfter time.Time) (*x509.CertPool, tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter, DNSNames: []string{name}}
	caDER, err := x509.CreateCertificate(crand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leafDER, err := x509.CreateCertificate(crand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(caDER)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	return pool, tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key}
}

// TestCauses has a request fail in each way in which S3 gives no answer. The error names
// the cause, and the flag or field to change.
func TestCauses(t *testing.T) {
	t.Parallel()
	roots, right := issued(t, "s3.example.com", time.Now().Add(time.Hour))
	lateRoots, late := issued(t, "s3.example.com", time.Now().Add(-time.Minute))
	dialError := func(errno error) func(*env) {
		return func(k *env) {
			k.sender.dial = func(context.Context, string, string) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errno}
			}
		}
	}
	named := func(serve func(net.Conn), scheme, name string) func(t *testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			_, port, _ := net.SplitHostPort(listen(t, serve))
			return scheme + "://" + name + ":" + port
		}
	}
	at := func(url string) func(*testing.T) string { return func(*testing.T) string { return url } }
	plain400 := "HTTP/1.0 400 Bad Request\r\nConnection: close\r\n\r\n"
	for _, tc := range []struct {
		name     string
		endpoint func(t *testing.T) string // empty: AWS
		virtual  bool                      // not path_style
		public   bool                      // without --allow-private-endpoints
		roots    *x509.CertPool
		change   func(*env)
		cause    Cause
		hint     []string
		outcome  Outcome // network if empty
	}{
		{name: "no such host", endpoint: at("http://nowhere.example.com:9000"), cause: CauseDNS, hint: []string{"nowhere.example.com", "does not exist", "endpoint"}},
		{name: "bucket in the host", endpoint: at("http://minio.example.com:9000"), virtual: true, cause: CauseDNS, hint: []string{"bucket-shop.minio.example.com", "path_style"}},
		{name: "no such region", endpoint: at(""), virtual: true, cause: CauseDNS, hint: []string{"region"}},
		{name: "DNS fails", endpoint: at("http://fails.example.com:9000"), cause: CauseDNS, hint: []string{"fails.example.com", "resolv.conf"}},
		{name: "DNS fails for the bucket in the host", endpoint: at("http://fails.example.com:9000"), virtual: true, cause: CauseDNS, hint: []string{"bucket-shop.fails.example.com", "resolv.conf", "path_style", "endpoint"}},
		{name: "DNS is silent", endpoint: at("http://silent.example.com:9000"), cause: CauseDNS, hint: []string{"silent.example.com", "resolv.conf"}},
		{name: "refused", endpoint: func(t *testing.T) string { return "http://" + netfault.Refused(t) }, cause: CauseRefused, hint: []string{"Nothing listens", "port"}},
		{name: "no route to the host", endpoint: at("http://127.0.0.1:1"), change: dialError(syscall.EHOSTUNREACH), cause: CauseUnreachable, hint: []string{"route"}},
		{name: "no route to the network", endpoint: at("http://127.0.0.1:1"), change: dialError(syscall.ENETUNREACH), cause: CauseUnreachable, hint: []string{"route"}},
		{name: "dropped packets", endpoint: at("http://127.0.0.1:1"), change: dialError(syscall.ETIMEDOUT), cause: CauseTimeout, hint: []string{"--origin-connect-timeout", "firewall"}},
		{name: "closed", endpoint: named(func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }, "http", "127.0.0.1"), cause: CauseReset, hint: []string{"connection ended", "https://"}},
		{name: "unknown authority", endpoint: named(servingTLS(right), "https", "s3.example.com"), cause: CauseTLS, hint: []string{"--origin-ca", "SSL_CERT_FILE"}},
		{name: "another authority", endpoint: named(servingTLS(right), "https", "s3.example.com"), roots: lateRoots, cause: CauseTLS, hint: []string{"--origin-ca"}},
		{name: "another host name", endpoint: named(servingTLS(right), "https", "other.example.com"), roots: roots, cause: CauseTLS, hint: []string{"another host name", "endpoint"}},
		{name: "bucket before the certificate's name", endpoint: named(servingTLS(right), "https", "s3.example.com"), virtual: true, roots: roots, cause: CauseTLS, hint: []string{"another host name", "path_style"}},
		{name: "expired", endpoint: named(servingTLS(late), "https", "s3.example.com"), roots: lateRoots, cause: CauseTLS, hint: []string{"expired", "clock"}},
		{name: "plain HTTP on the port", endpoint: named(saying(plain400), "https", "127.0.0.1"), cause: CauseTLS, hint: []string{"does not speak TLS", "http://"}},
		{name: "SSH on the port, asked by TLS", endpoint: named(saying("SSH-2.0-OpenSSH_9.6\r\n"), "https", "127.0.0.1"), cause: CauseTLS, hint: []string{"does not speak TLS"}},
		{name: "closed in the handshake", endpoint: named(func(c net.Conn) { _, _ = c.Read(make([]byte, 4096)) }, "https", "127.0.0.1"), cause: CauseTLS, hint: []string{"handshake", "http://"}},
		{name: "TLS alert", endpoint: named(saying("\x15\x03\x03\x00\x02\x02\x28"), "https", "127.0.0.1"), cause: CauseTLS, hint: []string{"handshake"}},
		{name: "TLS on the port, of Go", endpoint: named(saying(plain400+"Client sent an HTTP request to an HTTPS server.\n"), "http", "127.0.0.1"), cause: CauseProtocol, hint: []string{"https://"}, outcome: OutcomeError},
		{name: "TLS on the port, of nginx", endpoint: named(saying("HTTP/1.1 400 Bad Request\r\nContent-Length: 69\r\nContent-Type: text/html\r\n\r\n<center>The plain HTTP request was sent to HTTPS port</center>\r\n12345"), "http", "127.0.0.1"), cause: CauseProtocol, hint: []string{"https://"}, outcome: OutcomeError},
		{name: "TLS on the port, by an alert", endpoint: named(saying("\x15\x03\x01\x00\x02\x02\x46"), "http", "127.0.0.1"), cause: CauseProtocol, hint: []string{"https://"}, outcome: OutcomeError},
		{name: "SSH on the port", endpoint: named(saying("SSH-2.0-OpenSSH_9.6\r\n"), "http", "127.0.0.1"), cause: CauseProtocol, hint: []string{"no answer of HTTP/1.1"}, outcome: OutcomeError},
		{name: "101", endpoint: named(saying("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"), "http", "127.0.0.1"), cause: CauseProtocol, hint: []string{"no answer of HTTP/1.1"}, outcome: OutcomeError},
		{name: "private address", endpoint: at("https://127.0.0.1:9000"), public: true, cause: CauseAddressGuard, hint: []string{"private", "--allow-private-endpoints"}},
		{name: "private address by name", endpoint: at("https://s3.example.com:9000"), public: true, cause: CauseAddressGuard, hint: []string{"private", "--allow-private-endpoints"}},
		{name: "metadata address", endpoint: at("http://169.254.169.254"), cause: CauseAddressGuard, hint: []string{"No flag allows it"}},
		{name: "plain HTTP without the flag", endpoint: at("http://s3.example.com"), public: true, cause: CauseAddressGuard, hint: []string{"https://", "--allow-private-endpoints"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			names := newDNS(t)
			for _, name := range []string{"s3.example.com", "other.example.com", "bucket-shop.s3.example.com"} {
				names.set(name, "127.0.0.1")
			}
			k := newEnvResolving(t, names.resolver(), func(c *Config) {
				if c.AllowPrivateEndpoints = !tc.public; tc.name == "DNS is silent" {
					c.ConnectTimeout = 500 * time.Millisecond
				}
			})
			k.sender.tls.RootCAs = tc.roots
			if tc.change != nil {
				tc.change(k)
			}
			r := Request{Route: k.route("shop"), Key: "a.png"}
			r.Route.Alias.Endpoint, r.Route.Alias.PathStyle = tc.endpoint(t), !tc.virtual
			k.wantCause(t, r, cmp.Or(tc.outcome, OutcomeNetwork), tc.cause, tc.hint)
		})
	}
}

// wantCause has a GET and a HEAD fail, and checks what their errors say.
func (k *env) wantCause(t *testing.T, r Request, outcome Outcome, cause Cause, hint []string) {
	t.Helper()
	for method, ask := range map[string]func(context.Context, Request) (*Object, error){"GET": k.Get, "HEAD": k.Head} {
		_, err := ask(t.Context(), r)
		e := wantOutcome(t, err, outcome)
		if e.Cause != cause {
			t.Errorf("%s: cause %q, want %q: %v", method, e.Cause, cause, e)
		}
		for _, part := range hint {
			if !strings.Contains(e.Hint, part) || !strings.Contains(e.Error(), part) {
				t.Errorf("%s: no %q in %q", method, part, e.Hint)
			}
		}
		last, ok := k.LastFailure(r.Route.Alias.ID)
		if kept, is := errors.AsType[*Error](last.Err); !ok || !is || kept.Cause != e.Cause || kept.Hint != e.Hint {
			t.Errorf("%s: the last failure is kept as %+v", method, last)
		}
	}
}

// TestSilent: the cause of a server that takes a connection and says nothing.
func TestSilent(t *testing.T) {
	t.Parallel()
	for scheme, tc := range map[string]struct {
		cause Cause
		hint  []string
	}{
		"https": {CauseTLS, []string{"handshake", "http://", "port"}},
		"http":  {CauseTimeout, []string{"no answer in time", "port", "--origin-call-timeout"}},
	} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := newBubbleEnv(t, func(c *Config) { c.CallTimeout = time.Second })
				k.sender.dial = func(context.Context, string, string) (net.Conn, error) {
					client, server := net.Pipe()
					go func() { _, _ = io.Copy(io.Discard, server) }()
					return pipeConn{client}, nil
				}
				r := Request{Route: k.route("shop"), Key: "a.png"}
				r.Route.Alias.Endpoint = scheme + "://127.0.0.1:1"
				k.wantCause(t, r, OutcomeTimeout, tc.cause, tc.hint)
			})
		})
	}
}
