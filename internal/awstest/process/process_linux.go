package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the kernel kill the child when we end, however we end: a
// test that times out or is killed runs no cleanup. A process group of its own
// keeps a Ctrl-C in the terminal for us, who then end the children in order.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true
}
