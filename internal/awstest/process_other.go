//go:build !linux

package awstest

import (
	"os/exec"
	"path/filepath"
	"syscall"
)

// dieWithParent keeps a Ctrl-C in the terminal for us. Nothing but Linux has a
// signal for the parent's death: a killed test may leave its servers behind.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
}

// privateSocket names the socket over which the two servers talk.
func privateSocket(dir, _ string) string { return filepath.Join(dir, "iam.sock") }
