//go:build !linux

package transform

import (
	"errors"
	"os/exec"
	"syscall"
)

var supported = errors.New("transform workers need Linux: nothing confines them on this system")

func processAttr() *syscall.SysProcAttr        { return nil }
func startProcess(_ *exec.Cmd) error           { return supported }
func limit(_ int, _ int64) error               { return supported }
func waitUnreaped(_ int)                       {}
func killGroup(_ int)                          {}
func (w *worker) unread() int                  { return 0 }
func (w *worker) resident() int64              { return 0 }
func (w *worker) scheduled() (t processorTime) { return t }
