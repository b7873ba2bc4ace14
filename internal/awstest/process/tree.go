package process

import (
	"syscall"
	"time"
)

// SignalTree sends a signal to the child and to its own children. Only Linux knows the latter:
// elsewhere the child alone gets it.
func (c *Child) SignalTree(sig syscall.Signal) {
	select {
	case <-c.done: // its id may be another process's by now
		return
	default:
	}
	pids := c.children()
	_ = c.Signal(sig) // it may end meanwhile, as may the others
	for _, pid := range pids {
		_ = syscall.Kill(pid, sig)
	}
}

// KillTree is Kill for a child whose own children have left its process group. It waits for their
// end too.
func (c *Child) KillTree() {
	select {
	case <-c.done:
		return
	default:
	}
	pids := c.children()
	c.Kill()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		for !ended(pid) {
			pause()
		}
	}
}

// children stops the child, so that it starts no other process meanwhile, and lists its children.
// The caller lets it go on, or ends it.
func (c *Child) children() []int {
	_ = c.Signal(syscall.SIGSTOP) // it may have ended
	for !stopped(c.Pid()) {
		pause()
	}
	return childrenOf(c.Pid())
}

// pause lets the kernel carry out a signal.
func pause() { <-time.After(time.Millisecond) }
