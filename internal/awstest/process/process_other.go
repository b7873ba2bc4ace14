//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent keeps a Ctrl-C in the terminal for us. Nothing but Linux has a
// signal for the parent's death: a killed test may leave its servers behind.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}
