package e2e

import "ixmage/internal/awstest/picture"

// png is short for a fake picture, the body of most objects.
func png(n int, seed string) []byte { return picture.Fake(n, seed) }

// bytesOf is n bytes that depend on the seed.
func bytesOf(n int, seed string) []byte { return picture.Bytes(n, seed) }
