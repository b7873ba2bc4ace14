//go:build !linux

package gateway

import "path/filepath"

// privateSocket names the socket over which the two servers talk.
func privateSocket(dir, _ string) string { return filepath.Join(dir, "iam.sock") }
