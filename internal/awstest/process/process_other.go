//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

// dieWithParent makes Ctrl-C in the terminal signal only this process. Only Linux
// has a signal for the death of the parent: elsewhere a killed test may leave its
// servers behind.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
}

func childrenOf(int) []int { return nil }

func stopped(int) bool { return true }

func ended(pid int) bool { return syscall.Kill(pid, 0) == syscall.ESRCH }
