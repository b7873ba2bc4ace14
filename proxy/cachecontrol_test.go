package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"
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

		// Never stored.
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
		"must-understand, no-store":    {0, "must-understand, no-store"},
		"no-store s-maxage=5":          {0, "no-store"},
		"no-store=":                    {0, "no-store"},
		"private=\"x":                  {0, "private"},
		"foo=\"x, no-store":            {0, "no-store"},
		"foo=\"a\\\"b\", no-store":     {0, "no-store"},
		"(, no-store":                  {0, "no-store"},

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
			if got := freshness(list, testTTL); got != tc.fresh {
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
		",,,", "max-age=99999999999999999999", "\x00", "é=1", "max-age=1 no-store",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, header string) {
		list := parseCacheControl(header)
		fresh := freshness(list, testTTL)
		if fresh < 0 || fresh > max(testTTL, (1<<31)*time.Second) {
			t.Fatalf("%q is fresh for %s", header, fresh)
		}
		text := formatCacheControl(list, testTTL)
		if strings.ContainsFunc(text, func(r rune) bool { return r != '\t' && r < ' ' || r >= 0x7f }) {
			t.Fatalf("%q is written again as %q", header, text)
		}
		if len(list) == 0 {
			return
		}
		// What we tell others is what we do ourselves.
		again := parseCacheControl(text)
		if got := freshness(again, testTTL); got != fresh {
			t.Fatalf("%q is fresh for %s and %q for %s", header, fresh, text, got)
		}
		if got := formatCacheControl(again, testTTL); got != text {
			t.Fatalf("%q becomes %q", text, got)
		}
	})
}
