package origin

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"

	"ixmage/alias"
)

// Cause says why there was no reply of S3: the field cause of explain.
type Cause string

// Causes of failures without a reply.
const (
	CauseDNS          Cause = "dns"           // the host name has no address, or no server of names answers
	CauseRefused      Cause = "refused"       // nothing listens at the address
	CauseUnreachable  Cause = "unreachable"   // there is no route
	CauseTimeout      Cause = "timeout"       // no connection, or no reply, in time
	CauseReset        Cause = "reset"         // the connection ended before the reply
	CauseTLS          Cause = "tls"           // the handshake failed
	CauseProtocol     Cause = "protocol"      // the reply is no HTTP/1.1
	CauseAddressGuard Cause = "address-guard" // dialCheck refused the address
)

// diagnose finds the cause of a failure without a reply, and what an operator can do about
// it: the hint names the field or flag and contains no secret.
func diagnose(err error, at variant) (Cause, string) {
	var guard *addressError
	var dns *net.DNSError
	var proto *protocolError
	switch {
	case err == nil:
		return "", ""
	case errors.As(err, &guard):
		return CauseAddressGuard, guard.hint()
	case errors.As(err, &dns):
		return CauseDNS, dnsHint(dns, at)
	case isTLS(err):
		return CauseTLS, tlsHint(err, at)
	case errors.As(err, &proto):
		return CauseProtocol, proto.hint()
	case errors.Is(err, syscall.ECONNREFUSED):
		return CauseRefused, "Nothing listens at the address and port of S3: check the alias's endpoint, and that " +
			"the S3 server runs."
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return CauseUnreachable, "There is no route to the address of S3: check the alias's endpoint and the " +
			"network of this host."
	case isTimeout(err) && isDial(err):
		return CauseTimeout, "S3 cannot be reached: no connection was made within --origin-connect-timeout, so the " +
			"address is wrong, " +
			"or a firewall drops packets. Check the alias's endpoint and region, and the network from this host."
	case isTimeout(err), errors.Is(err, errSlow):
		return CauseTimeout, slowHint
	case isConnBroken(err):
		return CauseReset, resetHint(at)
	}
	return "", ""
}

// slowHint is about a server that takes a request and does not answer it.
const slowHint = "S3 sent no answer in time (--origin-first-byte-timeout, --origin-call-timeout): check the state " +
	"of the S3 service and the network, and that the port of the alias's endpoint is that of the S3 server."

func (f *addressError) hint() string {
	switch {
	case errors.Is(f, errPlainHTTP):
		return "The alias's endpoint begins with http://: use https://, or start ixmage with --allow-private-endpoints."
	case f.private:
		return "The alias's endpoint leads to a private address: start ixmage with --allow-private-endpoints if " +
			"that is meant."
	}
	return "The alias's endpoint leads to an address that no S3 server may have (link-local, metadata, " +
		"multicast): correct " +
		"the endpoint, or the DNS that this host asks. No flag allows it."
}

// hostHint is about hosts that begin with the name of the bucket.
func hostHint(at variant) string {
	if at.endpoint == "" || at.pathStyle {
		return ""
	}
	return " The host name begins with the bucket: if the server expects the bucket in the path, set path_style " +
		"to true on the alias."
}

func dnsHint(err *net.DNSError, at variant) string {
	name := clip(err.Name, 255)
	switch {
	case !err.IsNotFound: // some servers fail for names that do not exist
		field := "endpoint"
		if at.endpoint == "" {
			field = "region"
		}
		return "The DNS of this host did not resolve " + name + ": its name servers fail or do not answer. Check " +
			"/etc/resolv.conf, the network, and the alias's " + field + "." + hostHint(at)
	case at.endpoint == "":
		return "The host name " + name + " does not exist: correct the alias's region, or the DNS that this host asks."
	}
	return "The host name " + name + " does not exist." + hostHint(at) +
		" Otherwise correct the alias's endpoint, or the DNS that this host asks."
}

func tlsHint(err error, at variant) string {
	var record tls.RecordHeaderError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &record):
		return "The S3 server does not speak TLS on this port: if it is plain HTTP, the alias's endpoint must " +
			"begin with http:// (see " +
			"--allow-private-endpoints); else correct the port."
	case errors.As(err, &host):
		return "The certificate of the S3 server is for another host name." + hostHint(at) +
			" Otherwise correct the alias's endpoint, or the certificate."
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "The certificate of the S3 server has expired or is not valid yet: renew it, or correct the clock " +
			"of this host."
	case errors.As(err, &unknown), errors.As(err, &invalid):
		return "The certificate of the S3 server is not signed by an authority that this host trusts: name the " +
			"authority's certificate with " +
			"--origin-ca FILE, or add it to the system's (SSL_CERT_FILE)."
	case isConnBroken(err):
		return "The connection ended during the TLS handshake: check that the port of the alias's endpoint speaks " +
			"TLS; if it is plain " +
			"HTTP, the endpoint must begin with http://."
	}
	if isTimeout(err) || errors.Is(err, context.Canceled) {
		return "The TLS handshake was not answered: check that the port of the alias's endpoint speaks TLS; if it is " +
			"plain HTTP, the endpoint must begin with http:// (see --allow-private-endpoints)."
	}
	return "The TLS handshake with the S3 server failed: it must speak TLS 1.2 or later on this port, and ask " +
		"for no certificate of the client."
}

func resetHint(at variant) string {
	hint := "S3 cannot be reached: the connection ended before the answer. Check the S3 server, and what stands " +
		"before it."
	if strings.HasPrefix(at.endpoint, "http:") {
		hint += " If the port speaks TLS, the alias's endpoint must begin with https://."
	}
	return hint
}

// protocolError is a reply that is no final reply of HTTP/1.1.
type protocolError struct {
	text string
	tls  bool // it shows that the server expects TLS
}

func (e *protocolError) Error() string { return e.text }

func (e *protocolError) hint() string {
	if e.tls {
		return "The S3 server speaks TLS on this port: the alias's endpoint must begin with https://."
	}
	return "S3's answer made no sense, because it is no answer of HTTP/1.1: check the host and port of the " +
		"alias's endpoint."
}

// replyError marks an error of the parser, which has no type, as that of a reply that is no
// HTTP.
func replyError(err error) error {
	if _, network := errors.AsType[net.Error](err); network || isConnBroken(err) {
		return err
	}
	return &protocolError{text: err.Error()}
}

// expectTLS are texts of replies to plain HTTP on a port for TLS: of Go, nginx and Apache.
var expectTLS = [][]byte{
	[]byte("Client sent an HTTP request to an HTTPS server"),
	[]byte("plain HTTP request was sent to HTTPS port"),
	[]byte("speaking plain HTTP to an SSL-enabled server port"),
}

// wantsTLS returns an error if a 400 to plain HTTP says that the server expects TLS.
func wantsTLS(status int, text []byte) error {
	for _, known := range expectTLS {
		if bytes.Contains(text, known) {
			return &protocolError{text: fmt.Sprintf("status %d: %s", status, known), tls: true}
		}
	}
	return nil
}

// newAddressError is for an address that alias.CheckAddr refused.
func newAddressError(addr netip.Addr, err error) *addressError {
	return &addressError{err, alias.CheckAddr(addr, alias.Policy{AllowPrivateEndpoints: true}) == nil}
}
