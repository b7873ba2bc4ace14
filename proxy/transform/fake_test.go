package transform

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test binary is also a worker that misbehaves: fake-worker MODE. What it does with a job
// stands in the source, as a word and an argument.
func TestMain(m *testing.M) {
	switch {
	case len(os.Args) > 2 && os.Args[1] == "fake-worker":
		fakeWorker(os.Args[2])
	case len(os.Args) > 1 && os.Args[1] == "grandchild":
		pause()
	case len(os.Args) > 1 && os.Args[1] == "parent":
		fakeParent()
	default:
		exit(m.Run())
	}
}

func exit(status int) {
	os.Exit(status) //nolint:forbidigo // it is a process of its own
}

// pause waits for a signal that kills.
func pause() {
	for {
		_ = unix.Pause()
	}
}

// fakeWorker starts as mode says, and then does jobs until its input ends.
func fakeWorker(mode string) {
	word, argument, _ := strings.Cut(mode, ":")
	version := "8.18.7"
	abi := uint32(frameABI)
	switch word {
	case "exit":
		fmt.Fprintln(os.Stderr, "ixmage-worker: the sandbox cannot be set up: Landlock is absent or switched off")
		fmt.Fprintln(os.Stderr, "a second line")
		exit(3)
	case "mute":
		exit(0)
	case "hang":
		pause()
	case "closed": // and lives on
		os.Stdout.Close()
		pause()
	case "garbage":
		os.Stdout.Write(bytes.Repeat([]byte("<html>"), 10))
		pause()
	case "abi":
		abi = frameABI - 1
	case "nameless":
		version = ""
	case "unless": // a file exists
		if _, err := os.Stat(argument); err == nil {
			fmt.Fprintln(os.Stderr, "the file is there")
			exit(1)
		}
	case "from": // the file has the version
		b, _ := os.ReadFile(argument)
		version = string(b)
	}
	le := binary.LittleEndian
	frame := le.AppendUint32(nil, readyMagic)
	frame = le.AppendUint32(frame, abi)
	frame = append(le.AppendUint32(frame, 7), 0, 0, 0, 0)
	frame = append(frame, version...)
	os.Stdout.Write(append(frame, make([]byte, readyLen-len(frame))...))
	if word == "dies" {
		exit(1)
	}
	f := fake{seen: map[string]bool{}}
	for f.job() {
	}
}

// fake is a worker at work.
type fake struct {
	seen   map[string]bool // owners
	output Format
	number uint32 // of the job
	w, h   uint32
	rest   int64 // of the source
	kept   []byte
}

// answerFrame returns the numbers of an answer.
func answerFrame(status, bodyLen, w, h uint32) [responseLen / 4]uint32 {
	return [...]uint32{
		responseMagic, status, bodyLen, w, h, 1, fakeSide, fakeSide, 1, 1, 0, 1000, 2000, 0, 0, 0,
	}
}

// fakeSide is the width and height of every source.
const fakeSide = 1000

func (f *fake) send(numbers [responseLen / 4]uint32, body []byte) {
	numbers[13] += f.number
	var b []byte
	for _, n := range numbers {
		b = binary.LittleEndian.AppendUint32(b, n)
	}
	os.Stdout.Write(append(b, body...))
}

// read reads the rest of the source.
func (f *fake) read() { io.CopyN(io.Discard, os.Stdin, f.rest) }

// job does a job. Its source begins with 32 bytes of a command, padded with spaces.
func (f *fake) job() bool {
	var frame [requestLen]byte
	if _, err := io.ReadFull(os.Stdin, frame[:]); err != nil {
		return false
	}
	le := binary.LittleEndian
	f.output, f.w, f.h, f.number = Format(frame[14]), le.Uint32(frame[20:]), le.Uint32(frame[24:]), le.Uint32(frame[96:])
	var command [commandLen]byte
	n := min(int64(le.Uint32(frame[4:])), commandLen)
	io.ReadFull(os.Stdin, command[:n])
	f.rest = int64(le.Uint32(frame[4:])) + int64(le.Uint32(frame[8:])) - n
	words := strings.Fields(string(command[:n]))
	word, argument := words[0], words[1]
	number, _ := strconv.Atoi(argument)
	switch word {
	case "early", "hang", "deaf": // do not read first
	default:
		f.read()
	}
	body := make([]byte, 3*f.w*f.h)
	good := answerFrame(0, uint32(len(body)), f.w, f.h)
	switch word {
	case "ok":
	case "owner":
		f.seen[argument] = true
		for i := range body {
			body[i] = byte(len(f.seen))
		}
	case "pid":
		copy(body, strconv.Itoa(os.Getpid()))
	case "confined":
		copy(body, confinement())
	case "frame":
		copy(body, frame[:])
	case "early":
		f.send(good, body)
		f.read()
		return true
	case "status":
		good = answerFrame(uint32(number), 0, 1<<20, 1<<20)
		body = nil
	case "number": // of the answer, and its value
		at, value, _ := strings.Cut(argument, "=")
		i, _ := strconv.Atoi(at)
		v, _ := strconv.ParseUint(value, 10, 32)
		good[i] = uint32(v)
	case "picture": // of another type, or as asked
		body = fakePicture(Format(number))
		good[2] = uint32(len(body))
	case "resident": // MiB
		f.kept = bytes.Repeat([]byte{1}, number<<20)
	case "hang":
		f.read()
		pause()
	case "deaf":
		pause()
	case "exit":
		fmt.Fprintln(os.Stderr, "killed by", argument)
		exit(number)
	case "killed": // as by an operator
		_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	case "half":
		f.send(good, body[:len(body)/2])
		exit(1)
	case "short": // and lives on
		f.send(good, body[:len(body)/2])
		pause()
	case "shut":
		os.Stdout.Close()
		pause()
	case "flood":
		for {
			os.Stdout.Write(bytes.Repeat([]byte{0xff}, 1<<16))
		}
	case "noise":
		for range 1 << 10 {
			os.Stderr.Write(bytes.Repeat([]byte{'x'}, 1<<10))
		}
	case "more": // than one answer
		f.send(good, body)
	case "last":
		f.send(good, body)
		exit(0)
	case "fork", "escape":
		cmd := exec.Command("/proc/self/exe", "grandchild")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: word == "escape"}
		cmd.Start()
		copy(body, strconv.Itoa(cmd.Process.Pid))
	}
	f.send(good, body)
	return true
}

// commandLen is how many bytes of a source are its command.
const commandLen = 32

// confinement describes what the process has.
func confinement() []byte {
	var out struct {
		Env     []string
		Dir     string
		FDs     []string
		Group   bool // it leads one
		AS      uint64
		Core    uint64
		Nice    int
		Arg0    string
		Signals string
	}
	out.Env = os.Environ()
	out.Dir, _ = os.Getwd()
	var space, core unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_AS, &space)
	unix.Getrlimit(unix.RLIMIT_CORE, &core)
	out.AS, out.Core = space.Max, core.Max
	// The priority is that of the first thread: those that started before it was set keep theirs.
	raw, _ := unix.Getpriority(unix.PRIO_PROCESS, os.Getpid())
	out.Nice = 20 - raw  // as the kernel returns it
	for fd := range 64 { // without opening one
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
			link, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
			kind, _, _ := strings.Cut(link, ":")
			out.FDs = append(out.FDs, fmt.Sprint(fd, " ", kind))
		}
	}
	out.Group = unix.Getpgrp() == os.Getpid()
	out.Arg0 = os.Args[0]
	b, _ := json.Marshal(out)
	return b
}

// fakePicture returns the beginning of a picture of 10 x 10 pixels.
func fakePicture(f Format) []byte {
	return map[Format][]byte{
		JPEG: []byte("\xff\xd8\xff\xc0\x00\x0b\x08\x00\x0a\x00\x0a\x01\x01\x11\x00"),
		PNG:  []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x0a\x00\x00\x00\x0a\x08\x02\x00\x00\x00"),
		GIF:  []byte("GIF89a\x0a\x00\x0a\x00\x00\x00\x00"),
		Raw:  []byte("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
	}[f]
}
