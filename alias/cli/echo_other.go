//go:build !linux

package cli

import "golang.org/x/term"

// stopEcho leaves it to readSecret to stop the echo, after the prompt.
func stopEcho(int) error { return nil }

// readSecret reads a line without showing it.
func (t terminal) readSecret() (string, error) {
	text, err := term.ReadPassword(int(t.in.Fd()))
	return string(text), err
}
