//go:build !linux

package proxy

import "net"

// conn exists on Linux only. On other systems connections are those of package net.
type conn struct{ *net.TCPConn }

func newConn(tc *net.TCPConn, _ *lingerers) net.Conn { return tc }

func (*conn) bufferHeader() {}
func (*conn) drop([]byte)   {}
func (*conn) linger()       {}

func (*conn) send([]byte) (int, error)              { panic("proxy: not on this system") }
func (*conn) vector([]byte) (int64, error)          { panic("proxy: not on this system") }
func (*conn) sendMemory(*memoryBody) (int64, error) { panic("proxy: not on this system") }
