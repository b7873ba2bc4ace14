package e2e

import (
	"crypto/sha256"
	"strconv"
)

// png is n bytes that begin as a PNG file does. Those after the signature depend
// on the seed, and no stretch of eight among them comes twice, so that a test
// sees bytes of another object or in another place.
func png(n int, seed string) []byte {
	return append([]byte("\x89PNG\r\n\x1a\n"), bytesOf(n, seed)...)[:n]
}

// bytesOf is n bytes that depend on the seed.
func bytesOf(n int, seed string) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256([]byte(seed + strconv.Itoa(i)))
		b = append(b, sum[:]...)
	}
	return b[:n]
}
