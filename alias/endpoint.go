package alias

import (
	"errors"
	"fmt"
	"net/netip"
)

// Errors of CheckAddr.
var (
	errForbiddenAddr = errors.New("link-local, metadata, unspecified and multicast addresses are never allowed")
	errPrivateAddr   = errors.New("loopback and private addresses need serve --allow-private-endpoints")
)

// CheckAddr returns an error if no S3 server may be at addr. It is called for an
// address in an endpoint, and again, after DNS, for the address that is dialled: a name
// may resolve to another address later.
func CheckAddr(addr netip.Addr, p Policy) error {
	if !addr.IsValid() {
		return errForbiddenAddr
	}
	addr = addr.Unmap().WithZone("")
	if isForbidden(addr) {
		return fmt.Errorf("%s: %w", addr, errForbiddenAddr)
	}
	if isPrivate(addr) && !p.AllowPrivateEndpoints {
		return fmt.Errorf("%s: %w", addr, errPrivateAddr)
	}
	for _, inner := range embedded(addr) {
		if err := CheckAddr(inner, p); err != nil {
			return fmt.Errorf("%s stands for %w", addr, err)
		}
	}
	return nil
}

// forbidden are the networks, beyond those that netip knows by a method, at
// which no S3 server can be, or at which clouds return credentials of the machine.
var forbidden = prefixes(
	"0.0.0.0/8",          // this host, on Linux
	"100.100.100.200/32", // metadata of Alibaba Cloud
	"168.63.129.16/32",   // metadata of Azure
	"192.0.0.0/24",       // protocol assignments; metadata of Oracle Cloud
	"240.0.0.0/4",        // reserved, and broadcast
	"fd00:ec2::/32",      // metadata and pod credentials of AWS
	"fd20:ce::/32",       // metadata of Google Cloud
)

// private are the networks, beyond those that netip knows by a method, that are
// not the public Internet.
var private = prefixes(
	"100.64.0.0/10", // carrier-grade NAT
	"198.18.0.0/15", // benchmarks
	"fec0::/10",     // site-local, the predecessor of fc00::/7
)

func isForbidden(addr netip.Addr) bool {
	return addr.IsUnspecified() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || within(addr, forbidden)
}

func isPrivate(addr netip.Addr) bool {
	return addr.IsLoopback() || addr.IsPrivate() || within(addr, private)
}

// carriers are the IPv6 networks whose addresses contain the IPv4 address to which the
// packet is forwarded, and the bytes that hold it.
var carriers = []struct {
	net   netip.Prefix
	at    [4]int
	flip  byte
	about string
}{
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}, 0, "IPv4-compatible"},
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [4]int{12, 13, 14, 15}, 0, "IPv4-translated, RFC 2765"},
	{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}, 0, "NAT64, RFC 6052"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}, 0, "NAT64 with a /96, RFC 8215"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{9, 10, 11, 12}, 0, "NAT64 with a /64, RFC 8215"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{7, 9, 10, 11}, 0, "NAT64 with a /56, RFC 8215"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}, 0, "NAT64 with a /48, RFC 8215"},
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}, 0, "6to4, RFC 3056"},
	{netip.MustParsePrefix("2001::/32"), [4]int{12, 13, 14, 15}, 0xff, "Teredo, RFC 4380"},
}

// embedded lists the IPv4 addresses to which packets for an IPv6 address may be
// forwarded. NAT64 with a prefix of the operator cannot be distinguished from plain
// IPv6.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() || addr.IsLoopback() {
		return nil
	}
	var inner []netip.Addr
	b := addr.As16()
	for _, c := range carriers {
		if !c.net.Contains(addr) {
			continue
		}
		var v4 [4]byte
		for i, at := range c.at {
			v4[i] = b[at] ^ c.flip
		}
		inner = append(inner, netip.AddrFrom4(v4))
	}
	return inner
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		list[i] = netip.MustParsePrefix(s)
	}
	return list
}

func within(addr netip.Addr, list []netip.Prefix) bool {
	for _, p := range list {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
