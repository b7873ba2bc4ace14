//go:build !linux

package cli

// stopEcho leaves it to the reading of a secret to stop the echo, after the prompt.
func stopEcho(int) error { return nil }
