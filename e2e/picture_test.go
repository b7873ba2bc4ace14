package e2e

import (
	"crypto/sha256"
	"strconv"
)

// picture is a body of n bytes that no other seed has, and that is not its own
// repetition anywhere.
func pic(n int, seed string) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256([]byte(seed + strconv.Itoa(i)))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// png begins as a PNG file does; the rest is a picture.
func png(n int, seed string) []byte {
	return append([]byte("\x89PNG\r\n\x1a\n"), pic(n-8, seed)...)
}

// fakePNG is n bytes of which no two stretches of eight are alike, and which
// begin as a PNG does.
func fakePNG(n int) []byte {
	b := []byte("\x89PNG\r\n\x1a\n")
	for i := 0; len(b) < n; i++ {
		b = append(b, byte(i>>24), byte(i>>16), byte(i>>8), byte(i), 0xfe, 'i', 'x', '.')
	}
	return b[:n]
}
