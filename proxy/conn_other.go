//go:build !linux

package proxy

import (
	"net"
	"syscall"
)

// conn exists on Linux only. On other systems connections are those of package net.
type conn struct {
	*net.TCPConn
	pace pace
}

// plainConn is an accepted connection on other systems.
type plainConn struct {
	*net.TCPConn
	open *openConn
}

func newConn(o *openConn, _ *lingerers) net.Conn { return &plainConn{o.tcp, o} }

func (c *plainConn) Close() error {
	err := c.TCPConn.Close()
	c.open.remove()
	return err
}

func openOf(nc net.Conn) *openConn {
	if c, ours := nc.(*plainConn); ours {
		return c.open
	}
	return nil
}

func (*conn) bufferHeader() {}
func (*conn) drop([]byte)   {}
func (*conn) linger()       {}

func (*conn) begin(*exchange)                       { panic("proxy: not on this system") }
func (*conn) vector([]byte) (int64, error)          { panic("proxy: not on this system") }
func (*conn) sendMemory(*memoryBody) (int64, error) { panic("proxy: not on this system") }
func (*conn) sendDisk(*memoryBody) (int64, error)   { panic("proxy: not on this system") }

func unacknowledged(syscall.RawConn) int64 { return 0 }
