package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes the kernel kill the child when this process ends, in
// whatever way: a test that times out or is killed runs no cleanup. Because the
// child has its own process group, Ctrl-C in the terminal signals only this
// process, which then stops its children in order.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true
}
