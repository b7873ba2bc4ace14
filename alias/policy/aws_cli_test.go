package policy

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// awsSocket names the variable that has this binary be the client of awsServer.
const awsSocket = "POLICY_TEST_AWS_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(awsSocket); socket != "" && filepath.Base(os.Args[0]) == "aws" {
		os.Exit(runAWS(socket)) //nolint:forbidigo // this process is the aws of a shell
	}
	m.Run()
}

// awsServer is the AWS CLI, loaded once: a plan has a dozen commands, and to load
// the CLI takes a second each time. Every command is a fork with the arguments,
// the environment and the files of its caller.
const awsServer = `
import json, os, select, signal, socket, sys, traceback
import awscli.clidriver, awscli.handlers

data_path = os.environ["AWS_DATA_PATH"] # set by the import
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(64)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("ready", flush=True)
while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]: # it ends with the test
    conn, _ = listener.accept()
    if os.fork():
        conn.close()
        continue
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    listener.close()
    data, fds, _, _ = socket.recv_fds(conn, 1 << 16, 3)
    while more := conn.recv(1 << 16):
        data += more
    call = json.loads(data)
    for i, fd in enumerate(fds):
        os.dup2(fd, i)
        os.close(fd)
    os.chdir(call["dir"])
    os.environ.clear()
    os.environ.update([v.split("=", 1) for v in call["env"]], AWS_DATA_PATH=data_path)
    sys.argv = ["aws"] + call["args"]
    try:
        code = awscli.clidriver.main()
    except SystemExit as e:
        code = e.code or 0
    except BaseException:
        traceback.print_exc()
        code = 255
    sys.stdout.flush()
    sys.stderr.flush()
    conn.sendall(str(code).encode())
    os._exit(0)
`

// awsCall is one command: what a process has besides its open files.
type awsCall struct {
	Args []string `json:"args"`
	Env  []string `json:"env"`
	Dir  string   `json:"dir"`
}

// serveAWS starts awsServer and returns what to add to the environment of a shell
// whose aws shall be served by it: nothing where the CLI is no Python package.
func serveAWS(t *testing.T, env []string) []string {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "socket")
	cmd := exec.Command("python3", "-c", awsServer, socket)
	cmd.Env = env
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		return nil
	}
	t.Cleanup(func() {
		stdin.Close()
		_ = cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Logf("the AWS CLI is started anew for each command: %q, %v", line, err)
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(dir, "aws")); err != nil {
		t.Fatal(err)
	}
	return []string{awsSocket + "=" + socket, "PATH=" + dir + string(os.PathListSeparator) + os.Getenv("PATH")}
}

// runAWS has the server run this process's command, and returns its exit code.
func runAWS(socket string) int {
	code, err := callAWS(socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, "aws:", err)
		return 255
	}
	return code
}

func callAWS(socket string) (code int, err error) {
	dir, err := os.Getwd()
	if err != nil {
		return 0, err
	}
	call, err := json.Marshal(awsCall{Args: os.Args[1:], Env: os.Environ(), Dir: dir})
	if err != nil {
		return 0, err
	}
	dialed, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return 0, err
	}
	defer dialed.Close()
	conn := dialed.(*net.UnixConn)
	n, _, err := conn.WriteMsgUnix(call, syscall.UnixRights(0, 1, 2), nil)
	if err == nil {
		_, err = conn.Write(call[n:])
	}
	if err := errors.Join(err, conn.CloseWrite()); err != nil {
		return 0, err
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(answer)))
}
