package cli

import "golang.org/x/sys/unix"

// stopEcho lets a terminal no longer show what is typed.
func stopEcho(fd int) error {
	state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return err
	}
	state.Lflag = state.Lflag&^unix.ECHO | unix.ICANON | unix.ISIG
	state.Iflag |= unix.ICRNL
	return unix.IoctlSetTermios(fd, unix.TCSETS, state)
}

// readSecret reads a line after stopEcho. It leaves the terminal as it is: after Ctrl-C it goes on
// in the background, and would change what has been restored.
func (t terminal) readSecret() (string, error) { return t.readLine() }
