package e2e

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"ixmage/internal/awstest/process"
)

// activation is a server as systemd starts it.
type activation struct {
	socket *os.File // descriptor 3
	env    []string
}

// command starts the server by a shell, which has the process id of the server.
func (a activation) command(t *testing.T, data string, args ...string) *exec.Cmd {
	t.Helper()
	shell := `LISTEN_PID=${LISTEN_PID-$$} exec "$0" "$@"`
	cmd := exec.Command("sh", append([]string{"-c", "export LISTEN_PID; " + shell, program()}, serveArgs(data, args...)...)...)
	cmd.Env = append(plainEnv(), a.env...)
	cmd.ExtraFiles = []*os.File{a.socket}
	return cmd
}

// listeningSocket is a listening TCP socket and its address.
func listeningSocket(t *testing.T) (*os.File, string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, ln.Addr().String()
}

// TestSocketActivation: the public listener is the socket that systemd passes, and a client that
// connects while no server runs is answered by the next one. systemd is told when the server is
// ready and when it stops.
func TestSocketActivation(t *testing.T) {
	t.Parallel()
	socket, addr := listeningSocket(t)
	path := filepath.Join(t.TempDir(), "notify")
	states, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { states.Close() })
	state := func() string {
		text := make([]byte, 100)
		n, err := states.Read(text)
		if err != nil {
			t.Error(err)
		}
		return string(text[:n])
	}
	a := activation{socket, []string{"LISTEN_FDS=1", "LISTEN_FDNAMES=public", "NOTIFY_SOCKET=" + path}}
	data := filepath.Join(t.TempDir(), "data")
	for range 2 {
		c, err := net.Dial("tcp", addr) // waits in the queue of the kernel
		if err != nil {
			t.Fatal(err)
		}
		s := startCommand(t, data, a.command(t, data))
		if s.public != addr {
			t.Errorf("the public listener is on %s, want %s", s.public, addr)
		}
		if got := state(); got != "READY=1" {
			t.Errorf("at the start systemd is told %q", got)
		}
		if r := ask(c, "/-/readyz"); !strings.HasPrefix(r, "200") {
			t.Errorf("a client from before the start got %s", r)
		}
		if code := s.stop(); code != 0 {
			t.Errorf("exit status %d", code)
		}
		if got := state(); got != "STOPPING=1" {
			t.Errorf("at the end systemd is told %q", got)
		}
	}
}

// TestSocketOfOthers: descriptors for another process, as a shell inherits them, are ignored.
func TestSocketOfOthers(t *testing.T) {
	t.Parallel()
	socket, addr := listeningSocket(t)
	data := filepath.Join(t.TempDir(), "data")
	a := activation{socket, []string{"LISTEN_FDS=1", "LISTEN_PID=1", "NOTIFY_SOCKET=relative"}}
	if s := startCommand(t, data, a.command(t, data)); s.public == addr {
		t.Error("the server took a socket that was passed to another process")
	}
}

// TestSocketMistakes: a socket unit that cannot work ends the start with what to change.
func TestSocketMistakes(t *testing.T) {
	t.Parallel()
	tcp, _ := listeningSocket(t)
	stream, err := net.Listen("unix", filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stream.Close() })
	unix, err := stream.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close() })
	file, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	for _, tc := range []struct {
		name   string
		socket *os.File
		env    string
		says   string
	}{
		{"two sockets", tcp, "LISTEN_FDS=2 LISTEN_FDNAMES=public:public", "FileDescriptorName=public"},
		{"another name", tcp, "LISTEN_FDS=1 LISTEN_FDNAMES=ixmage.socket", "FileDescriptorName=public"},
		{"a number that is none", tcp, "LISTEN_FDS=one", "FileDescriptorName=public"},
		{"a Unix socket", unix, "LISTEN_FDS=1 LISTEN_FDNAMES=public", "ListenStream= must be a TCP port"},
		{"no socket", file, "LISTEN_FDS=1 LISTEN_FDNAMES=public", "does not listen"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			a := activation{tc.socket, strings.Fields(tc.env)}
			var stderr bytes.Buffer
			cmd := a.command(t, filepath.Join(t.TempDir(), "data"))
			cmd.Stderr = &stderr
			child, err := process.Start("ixmage", cmd)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(child.Kill)
			if code := child.State().ExitCode(); code != 1 || !strings.Contains(stderr.String(), tc.says) {
				t.Errorf("exit status %d, want 1 and %q in\n%s", code, tc.says, &stderr)
			}
		})
	}
}
