package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

const testTTL = time.Hour

func TestCacheControl(t *testing.T) {
	t.Parallel()
	const byTTL = "public, max-age=3600"
	for header, tc := range map[string]struct {
		fresh time.Duration
		text  string
	}{
		"":                    {testTTL, byTTL},
		"max-age=60":          {time.Minute, "max-age=60"},
		"Max-Age=60":          {time.Minute, "max-age=60"},
		"public, max-age=60":  {time.Minute, "public, max-age=60"},
		"public,max-age=60":   {time.Minute, "public, max-age=60"},
		" ,, max-age=60 ,\t,": {time.Minute, "max-age=60"},
		"max-age=\"60\"":      {time.Minute, "max-age=\"60\""},
		"max-age=060":         {time.Minute, "max-age=060"},
		"max-age=60, immutable, stale-while-revalidate=5": {time.Minute, "max-age=60, immutable, stale-while-revalidate=5"},

		// Without a lifetime of its own the alias's counts.
		"public":                      {testTTL, "public"},
		"immutable":                   {testTTL, "immutable"},
		"must-revalidate":             {testTTL, "must-revalidate"},
		"no-transform":                {testTTL, "no-transform"},
		"stale-if-error=1":            {testTTL, "stale-if-error=1"},
		"x-max-age=5":                 {testTTL, "x-max-age=5"},
		"foo=\"max-age=5, no-store\"": {testTTL, "foo=\"max-age=5, no-store\""},

		// A shared cache heeds s-maxage first.
		"max-age=60, s-maxage=120": {2 * time.Minute, "max-age=60, s-maxage=120"},
		"s-maxage=120, max-age=60": {2 * time.Minute, "s-maxage=120, max-age=60"},
		"s-maxage=0, max-age=60":   {0, "s-maxage=0, max-age=60"},
		"s-maxage=120":             {2 * time.Minute, "s-maxage=120"},
		"s-maxage=, max-age=60":    {0, "s-maxage=0, max-age=60"},

		// No-store is for those who do not understand.
		"must-understand, no-store":          {testTTL, "must-understand, no-store"},
		"no-store, must-understand":          {testTTL, "no-store, must-understand"},
		"must-understand, private, no-store": {0, "must-understand, private, no-store"},
		"must-understand x, no-store":        {0, "no-store"},
		"x-must-understand, no-store":        {0, "x-must-understand, no-store"},

		// Never without asking.
		"max-age=0":                    {0, "max-age=0"},
		"no-store":                     {0, "no-store"},
		"NO-STORE":                     {0, "no-store"},
		"no-cache":                     {0, "no-cache"},
		"private":                      {0, "private"},
		"private, max-age=60":          {0, "private, max-age=60"},
		"max-age=60, no-store":         {0, "max-age=60, no-store"},
		"max-age=60, no-cache":         {0, "max-age=60, no-cache"},
		"no-cache=\"Set-Cookie\"":      {0, "no-cache=\"Set-Cookie\""},
		"private=\"X-A, X-B\", public": {0, "private=\"X-A, X-B\", public"},
		"private=x":                    {0, "private=x"},
		"no-store s-maxage=5":          {0, "no-store"},
		"no-store=":                    {0, "no-store"},
		"private=\"x":                  {0, "private"},
		"foo=\"x, no-store":            {0, "no-store"},
		"foo=\"a\\\"b\", no-store":     {0, "no-store"},
		"(, no-store":                  {0, "no-store"},

		// What cannot be read forbids to serve stale.
		"must-revalidate x":          {testTTL, "must-revalidate"},
		"proxy-revalidate=":          {testTTL, "proxy-revalidate"},
		"stale-while-revalidate=":    {testTTL, "stale-while-revalidate=0"},
		"stale-if-error=5 x":         {testTTL, "stale-if-error=0"},
		"stale-while-revalidate = 5": {testTTL, "stale-while-revalidate=0"},

		// A lifetime that cannot be read is none.
		"max-age":               {0, "max-age"},
		"max-age=":              {0, "max-age=0"},
		"max-age=\"\"":          {0, "max-age=\"\""},
		"max-age=\"60":          {0, "max-age=0"},
		"max-age=abc":           {0, "max-age=abc"},
		"max-age=-1":            {0, "max-age=-1"},
		"max-age=+1":            {0, "max-age=+1"},
		"max-age=1.5":           {0, "max-age=1.5"},
		"max-age=1e9":           {0, "max-age=1e9"},
		"max-age=60 60":         {0, "max-age=0"},
		"max-age = 60":          {0, "max-age=0"},
		"max-age=60;s-maxage=1": {0, "max-age=0"},

		// Of two, the shorter.
		"max-age=60, max-age=120":   {time.Minute, "max-age=60, max-age=120"},
		"max-age=120, max-age=60":   {time.Minute, "max-age=120, max-age=60"},
		"max-age=60, max-age=x":     {0, "max-age=60, max-age=x"},
		"s-maxage=60, s-maxage=0":   {0, "s-maxage=60, s-maxage=0"},
		"max-age=99999999999999999": {(1 << 31) * time.Second, "max-age=99999999999999999"},
		"max-age=2147483648":        {(1 << 31) * time.Second, "max-age=2147483648"},

		// Garbage is left out.
		";;;":                              {testTTL, byTTL},
		"=5":                               {testTTL, byTTL},
		"\"max-age=5\"":                    {testTTL, byTTL},
		"max age=5":                        {testTTL, byTTL},
		"f\xc3\xb6\xc3\xb6=1":              {testTTL, byTTL},
		"a\r\nSet-Cookie: x=y":             {testTTL, byTTL},
		"public, x=\"a\r\nb\", max-age=60": {time.Minute, "public, max-age=60"},
		"public, x=\"a\x00b\", max-age=60": {time.Minute, "public, max-age=60"},
		"public\x00, max-age=60":           {time.Minute, "max-age=60"},
		"x=\"\xff\", max-age=60":           {time.Minute, "max-age=60"},
		"x=\"\", max-age=60":               {time.Minute, "x=\"\", max-age=60"},
		"x=\"a\tb\", max-age=60":           {time.Minute, "x=\"a\tb\", max-age=60"},
	} {
		t.Run(fmt.Sprintf("%q", header), func(t *testing.T) {
			t.Parallel()
			list := parseCacheControl(header)
			if got := lifetimesOf(freshHeaders{cacheControl: header}, &alias.Alias{TTL: testTTL}).fresh; got != tc.fresh {
				t.Errorf("fresh for %s, want %s", got, tc.fresh)
			}
			if got := formatCacheControl(list, testTTL); got != tc.text {
				t.Errorf("written again it is %q, want %q", got, tc.text)
			}
		})
	}
}

func FuzzCacheControl(f *testing.F) {
	for _, s := range []string{
		"public, max-age=60", "no-store", "private=\"a, b\"", "x=\"", "a=\"b\\\"c\", no-cache", "max-age=\r\n5",
		",,,", "max-age=99999999999999999999", "\x00", "é=1", "max-age=1 no-store", "must-understand, no-store",
		"stale-while-revalidate=5, stale-if-error=x", "must-revalidate x", "s-maxage=5, stale-if-error=9", "public",
	} {
		f.Add(s, "")
		f.Add(s, noon)
		f.Add(s, "0")
	}
	a := &alias.Alias{TTL: testTTL, StaleWhileRevalidate: time.Minute, StaleIfError: 24 * time.Hour}
	f.Fuzz(func(t *testing.T, header, expires string) {
		h := freshHeaders{cacheControl: header, expires: expires, date: atNoon, received: atNoon}
		l := lifetimesOf(h, a)
		for _, d := range []time.Duration{l.fresh, l.staleWhile, l.staleError} {
			if d < 0 || d > maxDelta || d > 0 && !l.store {
				t.Fatalf("%q and %q give %+v", header, expires, l)
			}
		}
		list := parseCacheControl(header)
		text := cacheControlFor(h, testTTL, "")
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\t' && r < ' ' || r >= 0x7f }) {
			t.Fatalf("%q is written again as %q", header, text)
		}
		// What we tell others is what we do ourselves, in whole seconds.
		again := freshHeaders{cacheControl: text}
		got := lifetimesOf(again, a)
		if l.fresh = l.fresh.Truncate(time.Second); got != l && (len(list) > 0 || expires != "") {
			t.Fatalf("%q and %q give %+v and %q %+v", header, expires, l, text, got)
		}
		if got := cacheControlFor(again, testTTL, ""); got != text {
			t.Fatalf("%q becomes %q", text, got)
		}
	})
}
