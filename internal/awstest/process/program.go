package process

import (
	"os"
	"syscall"
)

// WriteProgram is os.WriteFile for a file that is executed later. Without it, exec(2) may fail with ETXTBSY
// when another goroutine starts a process: the child, from its fork to its own exec, has a copy of the
// descriptor that the file is written with. WriteProgram holds syscall.ForkLock, so that no process is
// forked while the file is open.
func WriteProgram(path string, text []byte, mode os.FileMode) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return os.WriteFile(path, text, mode)
}
