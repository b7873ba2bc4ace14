package proxy

import (
	"bufio"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// The object of these tests was changed at noon.
const (
	before = "Wed, 15 Nov 2023 11:59:59 GMT"
	noon   = "Wed, 15 Nov 2023 12:00:00 GMT"
	after  = "Wed, 15 Nov 2023 12:00:01 GMT"
)

var atNoon = time.Date(2023, time.November, 15, 12, 0, 0, 0, time.UTC)

func TestEvaluate(t *testing.T) {
	t.Parallel()
	strong := validators{etag: `"a"`, modified: atNoon}
	weak := validators{etag: `W/"a"`, modified: atNoon}
	dateless := validators{etag: `"a"`}
	tagless := validators{modified: atNoon}
	for name, tc := range map[string]struct {
		c    conditions
		v    validators
		want preconditionResult
	}{
		"nothing": {conditions{}, strong, proceed},

		// Step 1: If-Match, strong comparison.
		"If-Match holds":                    {conditions{ifMatch: `"a"`}, strong, proceed},
		"If-Match fails":                    {conditions{ifMatch: `"b"`}, strong, preconditionFailed},
		"If-Match in a list":                {conditions{ifMatch: `"b", "a"`}, strong, proceed},
		"If-Match not in a list":            {conditions{ifMatch: `"b", "c"`}, strong, preconditionFailed},
		"If-Match star":                     {conditions{ifMatch: `*`}, strong, proceed},
		"If-Match star without a tag":       {conditions{ifMatch: `*`}, tagless, proceed},
		"If-Match weak against strong":      {conditions{ifMatch: `W/"a"`}, strong, preconditionFailed},
		"If-Match strong against weak":      {conditions{ifMatch: `"a"`}, weak, preconditionFailed},
		"If-Match weak against weak":        {conditions{ifMatch: `W/"a"`}, weak, preconditionFailed},
		"If-Match without a tag":            {conditions{ifMatch: `"a"`}, tagless, preconditionFailed},
		"If-Match garbage":                  {conditions{ifMatch: `a`}, strong, preconditionFailed},
		"If-Match beats If-Unmod., holds":   {conditions{ifMatch: `"a"`, ifUnmodifiedSince: before}, strong, proceed},
		"If-Match beats If-Unmod., fails":   {conditions{ifMatch: `"b"`, ifUnmodifiedSince: after}, strong, preconditionFailed},
		"If-Match then If-None-Match holds": {conditions{ifMatch: `"a"`, ifNoneMatch: `"a"`}, strong, notModified},
		"If-Match fails before step 3":      {conditions{ifMatch: `"b"`, ifNoneMatch: `"a"`}, strong, preconditionFailed},

		// Step 2: If-Unmodified-Since, where there is no If-Match.
		"If-Unmod. before":                {conditions{ifUnmodifiedSince: before}, strong, preconditionFailed},
		"If-Unmod. the same second":       {conditions{ifUnmodifiedSince: noon}, strong, proceed},
		"If-Unmod. after":                 {conditions{ifUnmodifiedSince: after}, strong, proceed},
		"If-Unmod. garbage":               {conditions{ifUnmodifiedSince: "yesterday"}, strong, proceed},
		"If-Unmod. without a date":        {conditions{ifUnmodifiedSince: before}, dateless, proceed},
		"If-Unmod. fails before step 3":   {conditions{ifUnmodifiedSince: before, ifNoneMatch: `"a"`}, strong, preconditionFailed},
		"If-Unmod. then If-None-Match":    {conditions{ifUnmodifiedSince: after, ifNoneMatch: `"a"`}, strong, notModified},
		"If-Unmod. then If-Mod.":          {conditions{ifUnmodifiedSince: noon, ifModifiedSince: noon}, strong, notModified},
		"If-Unmod. fails before If-Mod.":  {conditions{ifUnmodifiedSince: before, ifModifiedSince: after}, strong, preconditionFailed},
		"If-Unmod. two dates are garbage": {conditions{ifUnmodifiedSince: before + ", " + before}, strong, proceed},

		// Step 3: If-None-Match, weak comparison.
		"If-None-Match same":               {conditions{ifNoneMatch: `"a"`}, strong, notModified},
		"If-None-Match other":              {conditions{ifNoneMatch: `"b"`}, strong, proceed},
		"If-None-Match weak, ours strong":  {conditions{ifNoneMatch: `W/"a"`}, strong, notModified},
		"If-None-Match strong, ours weak":  {conditions{ifNoneMatch: `"a"`}, weak, notModified},
		"If-None-Match list":               {conditions{ifNoneMatch: `"b", W/"a"`}, strong, notModified},
		"If-None-Match star":               {conditions{ifNoneMatch: `*`}, strong, notModified},
		"If-None-Match star, no tag":       {conditions{ifNoneMatch: `*`}, tagless, notModified},
		"If-None-Match without a tag":      {conditions{ifNoneMatch: `"a"`}, tagless, proceed},
		"If-None-Match garbage":            {conditions{ifNoneMatch: `a`}, strong, proceed},
		"If-None-Match beats If-Mod. miss": {conditions{ifNoneMatch: `"b"`, ifModifiedSince: after}, strong, proceed},
		"If-None-Match beats If-Mod. hit":  {conditions{ifNoneMatch: `"a"`, ifModifiedSince: before}, strong, notModified},
		"garbage beats If-Mod. as well":    {conditions{ifNoneMatch: `a`, ifModifiedSince: after}, strong, proceed},

		// Step 4: If-Modified-Since, where there is no If-None-Match.
		"If-Mod. before":                    {conditions{ifModifiedSince: before}, strong, proceed},
		"If-Mod. the same second":           {conditions{ifModifiedSince: noon}, strong, notModified},
		"If-Mod. after":                     {conditions{ifModifiedSince: after}, strong, notModified},
		"If-Mod. garbage":                   {conditions{ifModifiedSince: "tomorrow"}, strong, proceed},
		"If-Mod. without a date":            {conditions{ifModifiedSince: after}, dateless, proceed},
		"If-Mod. RFC 850, same second":      {conditions{ifModifiedSince: "Wednesday, 15-Nov-23 12:00:00 GMT"}, strong, notModified},
		"If-Mod. RFC 850, before":           {conditions{ifModifiedSince: "Wednesday, 15-Nov-23 11:59:59 GMT"}, strong, proceed},
		"If-Mod. asctime, same second":      {conditions{ifModifiedSince: "Wed Nov 15 12:00:00 2023"}, strong, notModified},
		"If-Mod. asctime, before":           {conditions{ifModifiedSince: "Wed Nov 15 11:59:59 2023"}, strong, proceed},
		"If-Mod. seconds since the epoch":   {conditions{ifModifiedSince: "1800000000"}, strong, proceed},
		"If-Mod. RFC 3339":                  {conditions{ifModifiedSince: "2024-01-01T00:00:00Z"}, strong, proceed},
		"If-Mod. day that does not exist":   {conditions{ifModifiedSince: "Thu, 31 Feb 2030 00:00:00 GMT"}, strong, proceed},
		"If-Mod. two dates are garbage":     {conditions{ifModifiedSince: after + ", " + after}, strong, proceed},
		"If-Mod. another zone is no date":   {conditions{ifModifiedSince: "Wed, 15 Nov 2023 14:00:00 CET"}, strong, proceed},
		"Range and If-Range decide nothing": {conditions{byteRange: "bytes=99-", ifRange: `"x"`, ranges: 1}, strong, proceed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := tc.c.evaluate(tc.v); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestPart(t *testing.T) {
	t.Parallel()
	strong := validators{etag: `"a"`, modified: atNoon}
	weak := validators{etag: `W/"a"`, modified: atNoon}
	for name, tc := range map[string]struct {
		v       validators
		ifRange string
		ranges  int
		want    rangeKind
	}{
		"no If-Range":              {strong, "", 1, rangeSatisfiable},
		"no Range":                 {strong, "", 0, rangeNone},
		"two Range lines":          {strong, "", 2, rangeNone},
		"same tag":                 {strong, `"a"`, 1, rangeSatisfiable},
		"other tag":                {strong, `"b"`, 1, rangeNone},
		"weak tag":                 {strong, `W/"a"`, 1, rangeNone},
		"weak tag of a weak one":   {weak, `W/"a"`, 1, rangeNone},
		"strong tag of a weak one": {weak, `"a"`, 1, rangeNone},
		"a list is no tag":         {strong, `"a", "b"`, 1, rangeNone},
		"star is no tag":           {strong, `*`, 1, rangeNone},
		"bare word":                {strong, `a`, 1, rangeNone},
		"no tag to compare":        {validators{modified: atNoon}, `"a"`, 1, rangeNone},
		"an empty tag":             {validators{modified: atNoon}, `""`, 1, rangeNone},
		"same date":                {strong, noon, 1, rangeSatisfiable},
		"same date, RFC 850":       {strong, "Wednesday, 15-Nov-23 12:00:00 GMT", 1, rangeSatisfiable},
		"later date":               {strong, after, 1, rangeNone},
		"earlier date":             {strong, before, 1, rangeNone},
		"no date to compare":       {validators{etag: `"a"`}, noon, 1, rangeNone},
		"two dates":                {strong, noon + ", " + noon, 1, rangeNone},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := conditions{ifRange: tc.ifRange, ranges: tc.ranges, byteRange: "bytes=1-2"}
			if tc.ranges == 0 {
				c.byteRange = ""
			}
			r, got := c.selectRange(tc.v, 10)
			if got != tc.want || (got == rangeSatisfiable && r != byteRange{1, 2}) {
				t.Errorf("got %v, %d; want %d", r, got, tc.want)
			}
		})
	}
}

func TestMatchList(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]bool{
		`"a"`: true, ` "a" `: true, "\t\"a\"": true, `"b","a"`: true, `"b" , "a"`: true, `, ,"a",,`: true,
		`"a,b", "a"`: true, `"b", "a", c`: true, `W/"b", "a"`: true, `*`: true, ` * `: true,
		`"a`: false, `a"`: false, `a`: false, `'a'`: false, `""`: false, `"A"`: false, `"a "`: false, `"b" "a"`: false,
		`w/"a"`: false, `W/a`: false, `W/`: false, `W`: false, `"b`: false, `c, "a"`: false, `"b"x, "a"`: false,
		`*, "b"`: false, `"b", *`: false, `"*"`: false, `"b, "a"`: false, ``: false, `,`: false, "\"\x01\", \"a\"": false,
	} {
		if got := matchList(list, `"a"`, strongMatch); got != want {
			t.Errorf("%q: got %v, want %v", list, got, want)
		}
	}
}

func FuzzMatchList(f *testing.F) {
	for _, s := range []string{`"a"`, `*`, `W/"a", "b"`, `,,"`, `W/`, `"a" "b"`, `"a",`, "\x00"} {
		f.Add(s, "a")
	}
	f.Fuzz(func(t *testing.T, list, opaque string) {
		tag := `"` + opaque + `"`
		strong, weak := matchList(list, tag, strongMatch), matchList(list, tag, weakMatch)
		star := strings.Trim(list, " \t") == "*"
		if strong && !weak {
			t.Fatalf("%q matches %q strongly and not weakly", list, tag)
		}
		if weak && !star && !strings.Contains(list, tag) {
			t.Fatalf("%q matches %q, which is not in it", list, tag)
		}
		if _, rest, ok := scanETag(tag); ok && rest == "" && !matchList(`"x y", `+tag, tag, strongMatch) &&
			!matchList(`"xy" , `+tag, tag, strongMatch) {
			t.Fatalf("%q does not match a list that has it", tag)
		}
	})
}

// The headers as they come: names in any case, lines joined, an empty one absent.
func TestScanConditions(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		lines []string
		want  conditions
	}{
		"none":      {[]string{"Accept: */*", "Ifx: 1", "Rangex: 2", "Referer: r", "If-None-Matc: x"}, conditions{}},
		"one":       {[]string{`If-Match: "a"`}, conditions{any: true, ifMatch: `"a"`}},
		"any case":  {[]string{`if-none-match: "a"`, "RANGE: bytes=0-1"}, conditions{any: true, ifNoneMatch: `"a"`, byteRange: "bytes=0-1", ranges: 1}},
		"joined":    {[]string{`If-None-Match: "a"`, "X: y", `If-None-Match: "b"`}, conditions{any: true, ifNoneMatch: `"a", "b"`}},
		"two dates": {[]string{"If-Modified-Since: " + noon, "If-Modified-Since: " + noon}, conditions{any: true, ifModifiedSince: noon + ", " + noon}},
		"two ranges": {[]string{"Range: bytes=0-1", "Range: bytes=2-3"},
			conditions{any: true, byteRange: "bytes=2-3", ranges: 2}},
		"all": {[]string{`If-Match: *`, "If-Unmodified-Since: u", "If-Modified-Since: m", `If-Range: "r"`},
			conditions{any: true, ifMatch: "*", ifUnmodifiedSince: "u", ifModifiedSince: "m", ifRange: `"r"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var h fasthttp.RequestHeader
			text := "GET / HTTP/1.1\r\nHost: x\r\n" + strings.Join(tc.lines, "\r\n") + "\r\n\r\n"
			must(t, h.Read(bufio.NewReader(strings.NewReader(text))))
			got := scanConditions(&h)
			if diff := cmp.Diff(tc.want, got, cmp.AllowUnexported(conditions{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
