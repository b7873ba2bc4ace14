package proxy

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
)

var trustedForTest = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}

func trustsForTest(a netip.Addr) bool {
	return slices.ContainsFunc(trustedForTest, func(p netip.Prefix) bool { return p.Contains(a) })
}

// headerOf makes a request header of lines.
func headerOf(lines ...string) *fasthttp.RequestHeader {
	var h fasthttp.RequestHeader
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return &h
}

// TestClientOf has the examples of RFC 7239 and what attackers and proxies make of the two
// headers. A line is a header line; "" as the result means that no client is named.
func TestClientOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		lines []string
		want  string
	}{
		{nil, ""},
		{[]string{"X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 192.0.2.1, 10.1.2.3"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 198.51.100.9, 192.0.2.1, 10.1.2.3, 10.1.2.4"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 198.51.100.9", "X-Forwarded-For: 192.0.2.1"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 10.0.0.1"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 192.0.2.1:5678"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 2001:db8::1"}, "2001:db8::1"},
		{[]string{"X-Forwarded-For: [2001:db8::1]"}, "2001:db8::1"},
		{[]string{"X-Forwarded-For: [2001:db8::1]:443"}, "2001:db8::1"},
		{[]string{"X-Forwarded-For: ::ffff:192.0.2.1"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 192.0.2.1, ::ffff:10.0.0.1"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: fe80::1%eth0"}, "fe80::1"},
		{[]string{"X-Forwarded-For: 192.0.2.1,, "}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 10.0.0.1"}, ""},
		{[]string{"X-Forwarded-For: 192.0.2.1, unknown"}, ""},
		{[]string{"X-Forwarded-For: 192.0.2.1, garbage, 10.0.0.1"}, ""},
		{[]string{"X-Forwarded-For: garbage, 192.0.2.1"}, "192.0.2.1"},
		{[]string{"X-Forwarded-For: 192.0.2.1:x"}, ""},
		{[]string{"X-Forwarded-For: 192.0.2.256"}, ""},
		{[]string{"X-Forwarded-For: 192.0.2.01"}, ""},
		{[]string{`Forwarded: for="_gazonk"`}, ""},
		{[]string{`Forwarded: For="[2001:db8:cafe::17]:4711"`}, "2001:db8:cafe::17"},
		{[]string{"Forwarded: for=192.0.2.60;proto=http;by=203.0.113.43"}, "192.0.2.60"},
		{[]string{"Forwarded: for=192.0.2.43, for=198.51.100.17"}, "198.51.100.17"},
		{[]string{"Forwarded: for=192.0.2.43, for=10.0.0.9;by=10.0.0.1"}, "192.0.2.43"},
		{[]string{"Forwarded: for=192.0.2.43", "Forwarded: for=198.51.100.17"}, "198.51.100.17"},
		{[]string{"Forwarded: for=unknown"}, ""},
		{[]string{"Forwarded: for=192.0.2.43, for=unknown"}, ""},
		{[]string{"Forwarded: proto=https"}, ""},
		{[]string{"Forwarded: for=192.0.2.43, proto=https"}, ""},
		{[]string{`Forwarded: for="192.0.2.43:_port"`}, "192.0.2.43"},
		{[]string{`Forwarded: for=192.0.2.43:80`}, "192.0.2.43"},
		{[]string{`Forwarded: for="1\92.0.2.43"`}, "192.0.2.43"},
		{[]string{`Forwarded: by="a,b;for=198.51.100.1" ; for=192.0.2.43`}, "192.0.2.43"},
		{[]string{"Forwarded: ;;for=192.0.2.43;,"}, "192.0.2.43"},
		{[]string{`Forwarded: for="192.0.2.43`}, ""},
		{[]string{`Forwarded: for=192.0.2.43 for=192.0.2.44`}, ""},
		{[]string{`Forwarded: for 192.0.2.43`}, ""},
		{[]string{`Forwarded: for="[192.0.2.43]"`}, ""},
		{[]string{`Forwarded: for="[2001:db8::1"`}, ""},
		{[]string{`Forwarded: for="[2001:db8::1]x"`}, ""},
		{[]string{`Forwarded: for="[2001:db8:ffff::1]", for=10.0.0.1`}, ""},
		{[]string{"Forwarded: for=192.0.2.43", "X-Forwarded-For: 198.51.100.17"}, "192.0.2.43"},
		{[]string{"Forwarded: garbage", "X-Forwarded-For: 198.51.100.17"}, ""},
	} {
		t.Run(strings.Join(tc.lines, " | "), func(t *testing.T) {
			t.Parallel()
			got := ""
			if a := clientOf(headerOf(tc.lines...), trustsForTest); a.IsValid() {
				got = a.String()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzClientOf: whatever a line says, what stands right of it decides, no trusted proxy and
// no zone or IPv4 in IPv6 comes out.
func FuzzClientOf(f *testing.F) {
	for _, line := range []string{`for="[2001:db8::1]:443";by=a, for=_x`, "192.0.2.1, 10.0.0.1", `for="\`, ",;=", `a="b"c`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		for _, name := range []string{fasthttp.HeaderForwarded, fasthttp.HeaderXForwardedFor} {
			var h fasthttp.RequestHeader
			h.Add(name, line)
			if a := clientOf(&h, trustsForTest); a.IsValid() && (trustsForTest(a) || a.Is4In6() || a.Zone() != "") {
				t.Errorf("%s: %q names %v", name, line, a)
			}
		}
		var h fasthttp.RequestHeader
		h.Add(fasthttp.HeaderXForwardedFor, line)
		h.Add(fasthttp.HeaderXForwardedFor, "192.0.2.77")
		if a := clientOf(&h, trustsForTest); a.String() != "192.0.2.77" {
			t.Errorf("%q hides the proxy's word: %v", line, a)
		}
		c := forwardedClient{trusts: trustsForTest}
		if c.forwarded(line) && c.forwarded("for=192.0.2.77") && c.addr.String() != "192.0.2.77" {
			t.Errorf("%q hides the proxy's word: %v", line, c.addr)
		}
	})
}
