package proxy

import (
	"bytes"
	"errors"

	"ixmage/alias"
)

var (
	errBadKey  = errors.New("the path is not a valid key")
	errNoRoute = errors.New("the path is not /{alias}/{key}")
)

// target is the alias and the key in a request's path. Both strings are copies: fasthttp
// reuses the buffers of a request.
type target struct {
	alias string
	key   string // decoded, without the alias's prefix
}

// resolve reads a raw request target, in origin-form or absolute-form (RFC 9112, section
// 3.2). It is the only place where a path is decoded, and it decodes once. The key follows
// alias.IsPath, so it cannot lead out of the prefix that it is appended to. The query is
// ignored. With errBadKey the alias is set if the path names one.
func resolve(uri []byte) (target, error) {
	if bytes.IndexByte(uri, '#') >= 0 || bytes.IndexByte(uri, ' ') >= 0 {
		return target{}, errBadKey
	}
	path := pathOf(uri)
	if len(path) == 0 || path[0] != '/' {
		return target{}, errNoRoute
	}
	name, rest, ok := bytes.Cut(path[1:], []byte{'/'})
	if !ok || string(name) == "-" { // /-/healthz and its like, never an alias
		return target{}, errNoRoute
	}
	key, ok := alias.Unescape(rest)
	t := cloneTarget(name, key)
	switch {
	case !ok || !alias.IsPath(key):
		t.key = ""
		return t, errBadKey
	case t.alias == "":
		return target{}, errNoRoute
	}
	return t, nil
}

// cloneTarget copies alias and key out of the request's buffer, with one allocation. It
// leaves out an alias that is no valid name.
func cloneTarget(name, key []byte) target {
	if !alias.IsName(name) {
		return target{key: string(key)}
	}
	both := string(append(append(make([]byte, 0, 128), name...), key...))
	return target{alias: both[:len(name)], key: both[len(name):]}
}

// pathOf returns the path of a target, without scheme, authority and query.
func pathOf(uri []byte) []byte {
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		uri = uri[:i]
	}
	if len(uri) == 0 || uri[0] == '/' {
		return uri
	}
	scheme, rest, ok := bytes.Cut(uri, []byte("://"))
	if !ok || !isHTTP(scheme) {
		return nil
	}
	i := bytes.IndexByte(rest, '/')
	if i <= 0 { // no path, or no authority
		return nil
	}
	return rest[i:]
}

func isHTTP(scheme []byte) bool {
	return bytes.EqualFold(scheme, []byte("http")) || bytes.EqualFold(scheme, []byte("https"))
}
