package cli

import "golang.org/x/sys/unix"

// stopEcho lets a terminal no longer show what is typed.
func stopEcho(fd int) error {
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	state.Lflag &^= unix.ECHO
	return unix.IoctlSetTermios(fd, unix.TCSETS, state)
}
