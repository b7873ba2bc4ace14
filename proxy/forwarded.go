package proxy

import (
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"
)

// forwardedClient finds the client in the headers of trusted proxies: the right-most
// address that is no trusted proxy. Addresses further left are what that client, or a
// proxy that is not trusted, has sent.
type forwardedClient struct {
	trusts func(netip.Addr) bool
	addr   netip.Addr // not valid if the right-most element that is no trusted proxy names none
}

// clientOf returns the client of a request that came from a trusted proxy: by Forwarded (RFC
// 7239) if the header is there, else by X-Forwarded-For. The result is not valid if
// neither names an address.
func clientOf(h *fasthttp.RequestHeader, trusts func(netip.Addr) bool) netip.Addr {
	c := forwardedClient{trusts: trusts}
	if lines := h.PeekAll(fasthttp.HeaderForwarded); len(lines) > 0 {
		for _, line := range lines {
			if !c.forwarded(string(line)) {
				return netip.Addr{}
			}
		}
		return c.addr
	}
	for _, line := range h.PeekAll(fasthttp.HeaderXForwardedFor) {
		for part := range strings.SplitSeq(string(line), ",") {
			if part = strings.Trim(part, " \t"); part != "" {
				c.note(part)
			}
		}
	}
	return c.addr
}

// note takes the next element of the list, which stands right of those before it.
func (c *forwardedClient) note(node string) {
	if addr := nodeAddr(node); !addr.IsValid() || !c.trusts(addr) {
		c.addr = addr
	}
}

// forwarded reads one line of Forwarded. It reports whether the line is well formed.
func (c *forwardedClient) forwarded(line string) bool {
	node, empty := "", true // of the element that is being read
	for {
		name, value, rest, ok := forwardedPair(line)
		if !ok {
			return false
		}
		empty = empty && name == ""
		if strings.EqualFold(name, "for") {
			node = value
		}
		line = strings.TrimLeft(rest, " \t")
		more := line != ""
		if more && line[0] == ';' {
			line = line[1:]
			continue
		}
		if !empty {
			c.note(node)
			node, empty = "", true
		}
		if !more {
			return true
		}
		if line[0] != ',' {
			return false
		}
		line = line[1:]
	}
}

// forwardedPair cuts a pair of a name and a value off the front, if there is one.
func forwardedPair(s string) (name, value, rest string, ok bool) {
	s = strings.TrimLeft(s, " \t")
	end := tokenEnd(s)
	if name, rest = s[:end], s[end:]; name == "" {
		return "", "", rest, true
	}
	value, rest, ok = forwardedValue(rest)
	return name, value, rest, ok
}

// forwardedValue cuts "=" and a value off the front: a quoted string, or a token. A token may
// also have the colons and brackets of an address with a port, which some proxies do not
// quote.
func forwardedValue(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, "=") {
		return "", "", false
	}
	s = s[1:]
	if !strings.HasPrefix(s, `"`) {
		end := strings.IndexAny(s, ";, \t\"")
		if end < 0 {
			end = len(s)
		}
		return s[:end], s[end:], end > 0
	}
	var unquoted []byte
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return string(unquoted), s[i+1:], true
		case '\\':
			if i++; i == len(s) {
				return "", "", false
			}
		}
		unquoted = append(unquoted, s[i])
	}
	return "", "", false
}

// nodeAddr returns the address of a node: an IPv4 address, or an IPv6 address in brackets
// or without, and perhaps a port. It is not valid for "unknown", an obfuscated identifier,
// and anything else.
func nodeAddr(node string) netip.Addr {
	host, port, hasPort := node, "", false
	if inner, bracketed := strings.CutPrefix(node, "["); bracketed {
		var closed bool
		if host, port, closed = strings.Cut(inner, "]"); !closed || !strings.Contains(host, ":") {
			return netip.Addr{}
		}
		if port, hasPort = strings.CutPrefix(port, ":"); !hasPort && port != "" {
			return netip.Addr{}
		}
	} else if strings.Count(node, ":") == 1 {
		host, port, hasPort = strings.Cut(node, ":")
	}
	if hasPort && !isNodePort(port) {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.WithZone("").Unmap()
}

// isNodePort reports whether s is a port, or an obfuscated one.
func isNodePort(s string) bool {
	if strings.HasPrefix(s, "_") {
		return len(s) > 1
	}
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return 1 <= len(s) && len(s) <= 5
}
