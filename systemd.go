package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// firstPassed is the number of the first descriptor that systemd passes, SD_LISTEN_FDS_START
// in sd_listen_fds(3).
const firstPassed = 3

// passedSocket is the name (FileDescriptorName=) of the socket of the public listener.
const passedSocket = "public"

// passedListener returns the listening socket that systemd passed for the public listener
// (socket activation), or nil if it passed none. Only the public listener takes a socket: the
// rules for the address of the admin listener are about --admin-listen.
func passedListener() (*net.TCPListener, error) {
	pid, count, names := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS"), os.Getenv("LISTEN_FDNAMES")
	// Children must not take the socket for theirs.
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) || count == "" || count == "0" {
		return nil, nil //nolint:nilnil // without socket activation there is neither
	}
	if count != "1" || names != "" && names != passedSocket {
		return nil, fmt.Errorf("systemd passed %s sockets with the names %q: ixmage takes one, so the .socket "+
			"unit must have one ListenStream= and FileDescriptorName=%s", count, names, passedSocket)
	}
	unix.CloseOnExec(firstPassed)
	f := os.NewFile(firstPassed, passedSocket)
	defer f.Close() // FileListener duplicates it
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("the socket that systemd passed does not listen: %w", err)
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		ln.Close()
		return nil, fmt.Errorf("the socket that systemd passed is of the network %s: ListenStream= must be a TCP port",
			ln.Addr().Network())
	}
	return tcp, nil
}

// notifySystemd tells systemd the state of the process ("READY=1", "STOPPING=1"), if it waits
// for that (Type=notify, sd_notify(3)). A failure only costs the message.
func notifySystemd(state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@") { // an abstract name begins with @
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	_, _ = c.Write([]byte(state))
}
