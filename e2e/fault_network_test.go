package e2e

import (
	"crypto/tls"
	"net/http"
	"strings"
	"testing"
	"time"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// outage is a way in which S3 cannot be reached.
type outage struct {
	name     string
	endpoint string
	want     expectation
	end      func() // brings S3 back, at the same endpoint or at another
}

// network requests pictures from servers that are unreachable, or that present the
// wrong certificate.
func (f *faultEnv) network() {
	f.t.Helper()
	f.trials = nil
	before := f.s3.Total()
	outages := f.outages()
	for i := range outages {
		f.expose(&outages[i])
	}
	f.all(func(tr *trial) { tr.got = f.ask(tr) })
	f.waitQuiet()
	counts, log := f.samples(), f.wholeLog()
	for _, tr := range f.trials {
		f.t.Run(tr.name+"/"+tr.method, func(t *testing.T) {
			tr.check(t)
			checkLogged(t, tr, log)
			if calls := originCalls(counts, tr.alias); len(calls) != 1 || calls[tr.want.outcome] != 1 {
				t.Errorf("outcomes of calls are %v, want 1 %s", calls, tr.want.outcome)
			}
		})
	}
	if n := f.s3.Total() - before; n != 0 {
		f.t.Errorf("%d requests reached S3", n)
	}
	for _, o := range outages {
		o.end()
	}
	f.askRepaired()
	for _, end := range f.closers { // with the idle connections to them
		end()
	}
}

// outages lists the cases. The servers behind TLS have the same objects as f.s3 and
// certificates for the wrong names.
func (f *faultEnv) outages() []outage {
	gone := expectation{kind: isProblem, status: 502, code: "origin-unreachable", outcome: "network", says: "network"}
	late := expectation{kind: isProblem, status: 504, code: "origin-timeout", outcome: "timeout", says: "timeout"}
	move := func(name string) func() { return func() { f.move(name, f.s3.URL) } }
	secure := func(name string, cert tls.Certificate) outage {
		return outage{name: name, endpoint: "https://" + f.serveTLS(cert), want: gone, end: move(name)}
	}
	refusing := f.proxy(netfault.Refuse())
	silent := f.proxy(netfault.Hang())
	handshake := f.proxyTo(f.serveTLS(f.ca.issue(f.t, time.Hour, "127.0.0.1")), netfault.Hang())
	pass := func(p *netfault.Proxy) func() {
		return func() {
			if err := p.Set(netfault.Pass()); err != nil {
				f.t.Error(err)
			}
		}
	}
	return []outage{
		{name: "refused", endpoint: refusing.URL, want: gone, end: pass(refusing)},
		{name: "silent", endpoint: silent.URL, want: late, end: pass(silent)},
		{name: "unresolved", endpoint: "http://nowhere.invalid:9000", want: gone, end: move("unresolved")},
		{name: "handshake", endpoint: "https://" + handshake.Addr, want: late, end: pass(handshake)},
		{name: "plain", endpoint: strings.Replace(f.s3.URL, "http:", "https:", 1), want: gone, end: move("plain")},
		secure("untrusted", newAuthority(f.t).issue(f.t, time.Hour, "127.0.0.1")),
		secure("misnamed", f.ca.issue(f.t, time.Hour, "s3.example.com")),
		secure("expired", f.ca.issue(f.t, -time.Hour, "127.0.0.1")),
	}
}

func (f *faultEnv) proxy(m netfault.Mode) *netfault.Proxy {
	return f.proxyTo(strings.TrimPrefix(f.s3.URL, "http://"), m)
}

func (f *faultEnv) proxyTo(target string, m netfault.Mode) *netfault.Proxy {
	f.t.Helper()
	p := netfault.New(f.t, target)
	if err := p.Set(m); err != nil {
		f.t.Fatal(err)
	}
	return p
}

// serveTLS starts a server behind TLS with every object that is stored before an
// outage ends, and returns its address.
func (f *faultEnv) serveTLS(cert tls.Certificate) string {
	f.t.Helper()
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	if err != nil {
		f.t.Fatal(err)
	}
	fakeS3 := s3.Serve(ln)
	f.t.Cleanup(fakeS3.Close)
	f.closers = append(f.closers, fakeS3.Close)
	fakeS3.Put(faultBucket, faultPrefix+"a.png", s3.Object{Body: png(faultSize, "a.png"), ContentType: "image/png"})
	return ln.Addr().String()
}

// expose registers an outage's alias and its trials.
func (f *faultEnv) expose(o *outage) {
	f.t.Helper()
	body := png(faultSize, "a.png")
	f.s3.Put(faultBucket, faultPrefix+"a.png", s3.Object{Body: body, ContentType: "image/png"})
	for _, method := range []string{"get", "head", "part"} {
		name := o.name + "-" + method
		f.addAliasAt(name, o.endpoint)
		f.trials = append(f.trials, &trial{
			fault: &fault{name: o.name}, alias: name, key: "a.png",
			given: given{method: method, want: &o.want, body: body},
		})
	}
}

// move gives the aliases of an outage another endpoint.
func (f *faultEnv) move(name, endpoint string) {
	f.t.Helper()
	for _, method := range []string{"get", "head", "part"} {
		f.adminCall(http.MethodPatch, "/api/v1/aliases/"+name+"-"+method, map[string]any{"endpoint": endpoint}, http.StatusOK)
	}
}
