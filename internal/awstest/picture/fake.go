package picture

import (
	"crypto/sha256"
	"strconv"
)

// signature is the beginning of every PNG file.
const signature = "\x89PNG\r\n\x1a\n"

// Fake returns n bytes that begin as a PNG file does, for tests that need a size
// and not a picture. The bytes behind the signature depend on the seed and are
// those of Bytes.
func Fake(n int, seed string) []byte {
	return append([]byte(signature), Bytes(n, seed)...)[:n]
}

// Bytes returns n bytes that depend on the seed. No stretch of eight among them
// comes twice, so that a test notices bytes of another object or place.
func Bytes(n int, seed string) []byte {
	b := make([]byte, 0, n+sha256.Size)
	for i := 0; len(b) < n; i++ {
		sum := sha256.Sum256([]byte(seed + strconv.Itoa(i)))
		b = append(b, sum[:]...)
	}
	return b[:n]
}
