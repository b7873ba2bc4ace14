package alias

import (
	"strings"
	"testing"
)

// TestParseSize: sizes are read and written, and anything else is refused.
func TestParseSize(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text string
		want Size
		form string // how it is written; "" refused
	}{
		{"0", 0, "0"},
		{"1", 1, "1"},
		{"1023", 1023, "1023"},
		{"1024", 1 << 10, "1KiB"},
		{"1025KiB", 1025 << 10, "1025KiB"},
		{"1024KiB", 1 << 20, "1MiB"},
		{"64MiB", 64 << 20, "64MiB"},
		{"2048MiB", 2 << 30, "2GiB"},
		{"0GiB", 0, "0"},
		{"007", 7, "7"},
		{"16384GiB", MaxSize, "16384GiB"},
		{"16385GiB", 0, ""},
		{"17592186044417", 0, ""},
		{"99999999999999999999999GiB", 0, ""},
		{"", 0, ""},
		{"MiB", 0, ""},
		{"1MB", 0, ""},
		{"1mib", 0, ""},
		{"1 MiB", 0, ""},
		{"-1", 0, ""},
		{"+1", 0, ""},
		{"1.5GiB", 0, ""},
		{"1e6", 0, ""},
		{"0x10", 0, ""},
		{"1MiBKiB", 0, ""},
	} {
		got, err := ParseSize(tc.text)
		if (err != nil) != (tc.form == "") || got != tc.want || err == nil && got.String() != tc.form {
			t.Errorf("%q: got %d, written %s, %v, want %d, %q", tc.text, got, got, err, tc.want, tc.form)
		}
	}
}

// TestShare: a floor is not above a ceiling, and both are within the bounds of sizes.
func TestShare(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		min, max Size
		want     string
	}{
		{0, 0, ""},
		{1 << 20, 0, ""}, // no ceiling
		{0, 1, ""},
		{1 << 20, 1 << 20, ""},
		{MaxSize, MaxSize, ""},
		{1<<20 + 1, 1 << 20, "cache_min"},
		{-1, 0, "cache_min"},
		{0, -1, "cache_max"},
		{MaxSize + 1, MaxSize + 1, "cache_min cache_max"},
	} {
		a := Alias{CacheMin: tc.min, CacheMax: tc.max}
		var fields []string
		for _, p := range a.shareProblems() {
			fields = append(fields, p.Field)
		}
		if got := strings.Join(fields, " "); got != tc.want {
			t.Errorf("%d to %d: problems with %q, want %q", tc.min, tc.max, got, tc.want)
		}
	}
}
