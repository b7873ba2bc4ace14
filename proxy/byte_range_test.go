package proxy

import (
	"math"
	"strings"
	"testing"
)

func TestParseRange(t *testing.T) {
	t.Parallel()
	whole := byteRange{}
	for _, tc := range []struct {
		header string
		size   int64
		want   byteRange
		kind   rangeKind
	}{
		{"bytes=0-0", 10, byteRange{0, 0}, rangeSatisfiable},
		{"bytes=0-9", 10, byteRange{0, 9}, rangeSatisfiable},
		{"bytes=0-", 10, byteRange{0, 9}, rangeSatisfiable},
		{"bytes=3-5", 10, byteRange{3, 5}, rangeSatisfiable},
		{"bytes=9-", 10, byteRange{9, 9}, rangeSatisfiable},
		{"bytes=9-9", 10, byteRange{9, 9}, rangeSatisfiable},
		{"bytes=5-100", 10, byteRange{5, 9}, rangeSatisfiable},
		{"bytes=0-99999999999999999999999", 10, byteRange{0, 9}, rangeSatisfiable},
		{"bytes=-1", 10, byteRange{9, 9}, rangeSatisfiable},
		{"bytes=-10", 10, byteRange{0, 9}, rangeSatisfiable},
		{"bytes=-11", 10, byteRange{0, 9}, rangeSatisfiable},
		{"bytes=-99999999999999999999999", 10, byteRange{0, 9}, rangeSatisfiable},
		{"bytes=007-0008", 10, byteRange{7, 8}, rangeSatisfiable},
		{"Bytes=0-1", 10, byteRange{0, 1}, rangeSatisfiable},
		{"BYTES=0-1", 10, byteRange{0, 1}, rangeSatisfiable},
		{"bytes= 0-1\t", 10, byteRange{0, 1}, rangeSatisfiable},
		{"bytes=0-0", math.MaxInt64, byteRange{0, 0}, rangeSatisfiable},

		{"bytes=10-", 10, whole, rangeUnsatisfiable},
		{"bytes=10-20", 10, whole, rangeUnsatisfiable},
		{"bytes=99999999999999999999999-", 10, whole, rangeUnsatisfiable},
		{"bytes=-0", 10, whole, rangeUnsatisfiable},
		{"bytes=0-", 0, whole, rangeUnsatisfiable},
		{"bytes=0-0", 0, whole, rangeUnsatisfiable},
		{"bytes=-5", 0, whole, rangeUnsatisfiable},

		{"", 10, whole, rangeNone},
		{"bytes", 10, whole, rangeNone},
		{"bytes=", 10, whole, rangeNone},
		{"bytes=-", 10, whole, rangeNone},
		{"bytes=5", 10, whole, rangeNone},
		{"bytes=5-4", 10, whole, rangeNone},
		{"bytes=20-15", 10, whole, rangeNone},
		{"bytes=a-b", 10, whole, rangeNone},
		{"bytes=0-x", 10, whole, rangeNone},
		{"bytes=+0-1", 10, whole, rangeNone},
		{"bytes=--1", 10, whole, rangeNone},
		{"bytes=1--1", 10, whole, rangeNone},
		{"bytes=0-1-2", 10, whole, rangeNone},
		{"bytes=0 -1", 10, whole, rangeNone},
		{"bytes=0- 1", 10, whole, rangeNone},
		{"bytes =0-1", 10, whole, rangeNone},
		{"bytes=0x1-2", 10, whole, rangeNone},
		{"bytes=٣-5", 10, whole, rangeNone},
		{"bytes=0-1,3-4", 10, whole, rangeNone},
		{"bytes=0-1,", 10, whole, rangeNone},
		{"bytes=,0-1", 10, whole, rangeNone},
		{"bytes=" + strings.Repeat("0-1,", 5000), 10, whole, rangeNone},
		{"lines=0-1", 10, whole, rangeNone},
		{"0-1", 10, whole, rangeNone},
		{"bytes:0-1", 10, whole, rangeNone},
	} {
		t.Run(tc.header[:min(len(tc.header), 40)], func(t *testing.T) {
			t.Parallel()
			got, kind := parseRange(tc.header, tc.size)
			if got != tc.want || kind != tc.kind {
				t.Errorf("of %d bytes: got %v, %d; want %v, %d", tc.size, got, kind, tc.want, tc.kind)
			}
		})
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-0", "bytes=-5", "bytes=5-", "bytes=99999999999999999999-", "bytes=0-1,2-3", "x"} {
		f.Add(s, int64(10))
		f.Add(s, int64(0))
		f.Add(s, int64(math.MaxInt64))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			t.Skip("an object of unknown length has no ranges")
		}
		switch r, kind := parseRange(header, size); kind {
		case rangeSatisfiable:
			if r.first < 0 || r.last < r.first || r.last >= size || r.length() < 1 || r.length() > size {
				t.Fatalf("%q of %d bytes gives %v", header, size, r)
			}
		case rangeNone, rangeUnsatisfiable:
			if r != (byteRange{}) {
				t.Fatalf("%q of %d bytes gives no part and %v", header, size, r)
			}
		default:
			t.Fatalf("%q gives kind %d", header, kind)
		}
	})
}
