package alias

import (
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// AnyOrigin as the only entry of Alias.CORSOrigins means every web page.
const AnyOrigin = "*"

// maxOrigins is the most origins of an alias: each request of a browser is compared
// with all of them.
const maxOrigins = 32

// normalOrigins returns a new list, in which origins are as browsers write them. It
// keeps other text unchanged; Validate refuses it.
func normalOrigins(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	own := make([]string, len(list))
	for i, s := range list {
		own[i] = normalOrigin(s)
	}
	return own
}

// normalOrigin returns the serialisation of RFC 6454, 6.2, which omits the default port
// of the scheme.
func normalOrigin(s string) string {
	u, err := url.Parse(s)
	if err != nil || hasExtra(s, u) || strings.HasSuffix(s, "/") || strings.ContainsFunc(s, notASCII) {
		return s // such as a letter whose lower case is ASCII
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if port := defaultPorts[scheme]; port != "" {
		host = strings.TrimSuffix(host, ":"+port)
	}
	return scheme + "://" + host
}

func notASCII(r rune) bool { return r >= 0x80 }

var defaultPorts = map[string]string{"http": "80", "https": "443"}

func (a *Alias) originProblems() []Problem {
	var problems []Problem
	add := func(detail string) { problems = append(problems, Problem{"cors_origins", detail}) }
	if len(a.CORSOrigins) > maxOrigins {
		add(fmt.Sprintf("must have at most %d origins", maxOrigins))
		return problems
	}
	for i, s := range a.CORSOrigins {
		if detail := originProblem(s, len(a.CORSOrigins)); detail != "" {
			add(fmt.Sprintf("entry %d %s", i+1, detail))
		}
		if slices.Contains(a.CORSOrigins[:i], s) {
			add(fmt.Sprintf("entry %d is there already", i+1))
		}
	}
	return problems
}

const originForm = "must be an origin as browsers send it, scheme://host or scheme://host:port, " +
	"such as https://shop.example.com"

// originProblem describes the problem of one entry of a list of n, or is empty.
func originProblem(s string, n int) string {
	switch {
	case s == AnyOrigin && n > 1:
		return "must be the only one: * stands for every origin"
	case s == AnyOrigin:
		return ""
	case s == "null":
		return "must not be null, which every sandboxed page and local file sends; use * for every origin"
	}
	return formProblem(s)
}

func formProblem(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || defaultPorts[u.Scheme] == "":
		return originForm
	case u.Path != "" || hasExtra(s, u):
		return originForm + ": no slash or path, user or query after the host"
	case normalOrigin(s) != s:
		return originForm + ": in lower case, without the scheme's own port"
	case !validPort(u) || strings.HasPrefix(u.Port(), "0") || !isOriginHost(u):
		return originForm
	}
	return ""
}

// isOriginHost accepts names in ASCII, as browsers write every name, and addresses in
// canonical form.
func isOriginHost(u *url.URL) bool {
	host := u.Hostname()
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return isHostName(host) && !strings.HasPrefix(u.Host, "[")
	}
	literal := addr.String()
	if addr.Is6() {
		literal = "[" + literal + "]"
	}
	return addr.Zone() == "" && !addr.Is4In6() && (u.Host == literal || u.Host == literal+":"+u.Port())
}
