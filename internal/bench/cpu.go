package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// pin puts taskset before a command: it and its children run on one core. A
// Go program started so sees one processor, as it would in a one-core
// container.
func pin(cpu int, command ...string) []string {
	return append([]string{"taskset", "-c", strconv.Itoa(cpu)}, command...)
}

// cpuTime is the processor time that a process and its descendants have used
// since they started, by the scheduler's own account (nanoseconds, where
// /proc/<pid>/stat counts in ticks of 10 ms). Threads that have ended are
// missing, so it is for servers that keep theirs.
func cpuTime(pid int) (time.Duration, error) {
	children, err := childrenByParent()
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	todo := []int{pid}
	for len(todo) > 0 {
		p := todo[0]
		todo = append(todo[1:], children[p]...)
		d, err := processTime(p)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// processTime sums the threads of one process.
func processTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("process %d has ended, or the kernel keeps no schedstat", pid)
	}
	var sum time.Duration
	for _, f := range files {
		text, err := os.ReadFile(f)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the thread ended after it was listed
		}
		if err != nil {
			return 0, err
		}
		d, err := parseSchedstat(string(text))
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", f, err)
		}
		sum += d
	}
	return sum, nil
}

// parseSchedstat reads the first of the three numbers: time on a processor in
// nanoseconds.
func parseSchedstat(text string) (time.Duration, error) {
	fields := strings.Fields(text)
	if len(fields) != 3 {
		return 0, fmt.Errorf("schedstat has %d fields, want 3: %q", len(fields), text)
	}
	ns, err := strconv.ParseInt(fields[0], 10, 64)
	if err != nil || ns < 0 {
		return 0, fmt.Errorf("schedstat starts with %q, want nanoseconds", fields[0])
	}
	return time.Duration(ns), nil
}

// childrenByParent lists the children of every process.
func childrenByParent() (map[int][]int, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := make(map[int][]int)
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // the process ended after it was listed
		}
		if pid, parent, err := parseStat(string(text)); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	return children, nil
}

// parseStat reads pid and parent from /proc/<pid>/stat. The name between them
// may hold spaces and brackets, so that the last bracket ends it.
func parseStat(text string) (pid, parent int, err error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return 0, 0, fmt.Errorf("stat has no name in brackets: %q", text)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return 0, 0, fmt.Errorf("stat starts with no pid: %w", err)
	}
	rest := strings.Fields(text[end+1:])
	if len(rest) < 2 {
		return 0, 0, fmt.Errorf("stat ends after the name: %q", text)
	}
	if parent, err = strconv.Atoi(rest[1]); err != nil {
		return 0, 0, fmt.Errorf("stat names no parent: %w", err)
	}
	return pid, parent, nil
}
