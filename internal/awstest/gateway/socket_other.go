//go:build !linux

package gateway

import "path/filepath"

// privateSocket names the socket between the two servers.
func privateSocket(dir, _ string) string { return filepath.Join(dir, "iam.sock") }
