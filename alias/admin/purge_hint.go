package admin

import (
	"fmt"
	"math"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/text/unicode/norm"

	"ixmage/alias"
)

// hintEntries is the most entries of the cache that are compared with the key of a purge.
// Other spellings that can be computed are looked up, however many entries there are.
const hintEntries = 16 << 10

// maxSpellings bounds the combinations of mistakes in one path.
const maxSpellings = 64

// keyForm ends every hint.
const keyForm = "a key or prefix is the path after /%s/ as it is in S3 without the alias's prefix: " +
	"percent-decoded once, without host and query, in the same case"

// hint names the objects that an operator may have meant by a purge of a key or prefix that
// matched nothing: in the spelling of the URL or of S3, in another case or Unicode form, or a
// folder. It is empty if no such object is known and the path does not look like a URL.
func (h purges) hint(r PurgeRequest) string {
	var found string
	switch {
	case r.Key != "":
		found = h.keyHint(r.Alias, r.Key)
	case r.Prefix != "":
		found = h.prefixHint(r.Alias, r.Prefix)
	}
	if found == "" {
		return ""
	}
	return "nothing was purged: " + found + "; " + fmt.Sprintf(keyForm, r.Alias.Name)
}

func (h purges) keyHint(a *alias.Alias, key string) string {
	others := spellings(a, key)
	for _, path := range others {
		if h.purger.Stored(a, path) {
			return cachedKey(key, path)
		}
	}
	folds := []string{fold(key)}
	for _, path := range others {
		folds = append(folds, fold(path))
	}
	same, folder := "", ""
	h.purger.Search(a, hintEntries, func(path string) bool {
		switch {
		case slices.Contains(folds, fold(path)):
			same = path
		case strings.HasPrefix(path, key+"/"):
			folder = key + "/"
		}
		return same == ""
	})
	switch {
	case same != "":
		return cachedKey(key, same)
	case folder != "":
		return fmt.Sprintf("the cache has objects with the prefix %q", folder)
	case strings.HasSuffix(key, "*"):
		return wildcardHint(a, key)
	}
	if plain := plainPath(a, key); plain != key && len(a.PathProblems("key", plain)) == 0 {
		return fmt.Sprintf("if this is a URL or a key of S3, its key is %q, which is not in the cache", plain)
	}
	return ""
}

// cachedKey says that the cache has path, in place of key. Two forms of Unicode look the same.
func cachedKey(key, path string) string {
	if norm.NFC.String(key) == norm.NFC.String(path) {
		return fmt.Sprintf("the cache has the key %q in another Unicode form, %+q", path, path)
	}
	return fmt.Sprintf("the cache has the key %q", path)
}

func (h purges) prefixHint(a *alias.Alias, prefix string) string {
	others := spellings(a, prefix)
	folded, other, best := fold(prefix), "", len(others)
	h.purger.Search(a, math.MaxInt, func(path string) bool {
		i := slices.IndexFunc(others[:best], func(s string) bool { return strings.HasPrefix(path, s) })
		switch {
		case i >= 0:
			best = i
		case other == "" && strings.HasPrefix(fold(path), folded):
			other = path
		}
		return best > 0
	})
	switch {
	case plainPath(a, prefix) == "":
		return wholeAlias
	case strings.HasSuffix(prefix, "*"):
		return wildcardHint(a, prefix)
	case best < len(others):
		return fmt.Sprintf("the cache has objects with the prefix %q", others[best])
	case other != "":
		return fmt.Sprintf("the cache has objects such as %q", other)
	}
	if plain := plainPath(a, prefix); plain != prefix {
		return fmt.Sprintf("if this is of a URL or a key of S3, the prefix is %q, which nothing in the cache has", plain)
	}
	return ""
}

const wholeAlias = "to purge the whole alias, leave out key and prefix"

// wildcardHint is about a path that ends in an asterisk, as in a pattern.
func wildcardHint(a *alias.Alias, pattern string) string {
	prefix := plainPath(a, strings.TrimRight(pattern, "*"))
	if prefix == "" {
		return wholeAlias
	}
	return fmt.Sprintf("an asterisk is no wildcard: the prefix is %q", prefix)
}

// meant returns the end of the problem of a key that is no path: the key that the operator may
// have meant, if it is one.
func meant(a *alias.Alias, key string) string {
	plain := plainPath(a, key)
	if plain == key || len(a.PathProblems("key", plain)) > 0 {
		return ""
	}
	return fmt.Sprintf("; did you mean %q?", plain)
}

// edit turns a wrong spelling of a path into a better one, or returns it unchanged.
type edit func(a *alias.Alias, path string) string

// plainEdits turn a URL, or the key of an object in S3, into the path after the alias, in
// this order.
var plainEdits = []edit{
	withoutHost,
	func(_ *alias.Alias, path string) string { path, _, _ = strings.Cut(path, "#"); return path },
	func(_ *alias.Alias, path string) string { path, _, _ = strings.Cut(path, "?"); return path },
	func(_ *alias.Alias, path string) string { return strings.TrimLeft(path, "/") },
	func(a *alias.Alias, path string) string { return strings.TrimPrefix(path, string(a.Name)+"/") },
	decoded,
	func(a *alias.Alias, path string) string { return strings.TrimPrefix(path, a.Prefix) },
}

// otherEdits are right for some paths only.
var otherEdits = []edit{
	func(_ *alias.Alias, path string) string { return strings.ReplaceAll(path, "+", " ") },
	func(_ *alias.Alias, path string) string { return strings.TrimRight(path, "/") },
	func(_ *alias.Alias, path string) string { return strings.TrimSpace(path) },
	func(_ *alias.Alias, path string) string { return norm.NFC.String(path) },
	func(_ *alias.Alias, path string) string { return norm.NFD.String(path) },
	// The key may be escaped in S3.
	func(_ *alias.Alias, path string) string { return (&url.URL{Path: path}).EscapedPath() },
	func(_ *alias.Alias, path string) string { return strings.ToLower(path) },
}

func withoutHost(_ *alias.Alias, path string) string {
	scheme, rest, found := strings.Cut(path, "://")
	if !found || strings.Contains(scheme, "/") {
		return path
	}
	_, path, _ = strings.Cut(rest, "/")
	return path
}

func decoded(_ *alias.Alias, path string) string {
	if plain, err := url.PathUnescape(path); err == nil {
		return plain
	}
	return path
}

// plainPath is a path after all plainEdits.
func plainPath(a *alias.Alias, path string) string {
	for _, e := range plainEdits {
		path = e(a, path)
	}
	return path
}

// spellings returns other spellings of a path, those with the fewest edits first.
func spellings(a *alias.Alias, path string) []string {
	all := []string{path}
	for i := 0; i < len(all) && len(all) < maxSpellings; i++ {
		for _, e := range slices.Concat(plainEdits, otherEdits) {
			if s := e(a, all[i]); s != "" && len(s) <= alias.MaxKey && !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all[1:]
}

// fold is the same for paths that differ in case or Unicode form only.
func fold(path string) string { return strings.ToLower(norm.NFC.String(path)) }
