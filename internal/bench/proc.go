package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pin prefixes a command with taskset: the process and its children run on one core. A
// Go program then sees one processor, as in a container with one core.
func pin(cpu int, command ...string) []string { return pinTo(strconv.Itoa(cpu), command...) }

// pinTo is pin for a list of cores: "0,1".
func pinTo(cores string, command ...string) []string {
	return append([]string{"taskset", "-c", cores}, command...)
}

// usage has the resources that a process and its descendants have used since their
// start.
type usage struct {
	// cpu is the count of the scheduler, in nanoseconds; /proc/<pid>/stat counts ticks
	// of 10 ms. cpu and switches do not include threads that have ended.
	cpu time.Duration
	// calls counts system calls that read or write: syscr and syscw of
	// /proc/<pid>/io. A sendfile counts as two.
	calls int64
	// faults counts page faults, minor and major.
	faults int64
	// switches counts voluntary context switches: how often a thread waited.
	switches int64
}

func (u usage) plus(v usage) usage {
	return usage{u.cpu + v.cpu, u.calls + v.calls, u.faults + v.faults, u.switches + v.switches}
}

func (u usage) minus(v usage) usage {
	return usage{u.cpu - v.cpu, u.calls - v.calls, u.faults - v.faults, u.switches - v.switches}
}

// cost is usage per request.
type cost struct{ cpu, calls, faults, switches float64 } // cpu in microseconds

func (u usage) per(requests int) cost {
	n := float64(requests)
	return cost{
		cpu:   float64(u.cpu) / float64(time.Microsecond) / n,
		calls: float64(u.calls) / n, faults: float64(u.faults) / n, switches: float64(u.switches) / n,
	}
}

// usageOf sums a process and its descendants.
func usageOf(pid int) (usage, error) {
	children, err := childrenByParent()
	if err != nil {
		return usage{}, err
	}
	var sum usage
	todo := []int{pid}
	for len(todo) > 0 {
		p := todo[0]
		todo = append(todo[1:], children[p]...)
		u, err := processUsage(p)
		if err != nil {
			return usage{}, err
		}
		sum = sum.plus(u)
	}
	return sum, nil
}

func processUsage(pid int) (usage, error) {
	sum, err := threadsUsage(pid)
	if err != nil {
		return usage{}, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	parsed, err := parseStat(string(stat))
	if err != nil {
		return usage{}, err
	}
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", pid))
	if err != nil {
		return usage{}, err
	}
	sum.faults = parsed.faults
	sum.calls, err = sumFields(string(io), "syscr", "syscw")
	return sum, err
}

// threadsUsage sums the values that the kernel counts per thread only.
func threadsUsage(pid int) (usage, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return usage{}, err
	}
	if len(files) == 0 {
		return usage{}, fmt.Errorf("process %d has ended, or the kernel keeps no schedstat", pid)
	}
	var sum usage
	for _, file := range files {
		dir := filepath.Dir(file)
		u, err := threadUsage(dir)
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH):
			// The thread ended after it was listed.
		case err != nil:
			return usage{}, fmt.Errorf("read %s: %w", dir, err)
		}
		sum = sum.plus(u)
	}
	return sum, nil
}

func threadUsage(dir string) (u usage, err error) {
	schedstat, err := os.ReadFile(filepath.Join(dir, "schedstat"))
	if err != nil {
		return usage{}, err
	}
	if u.cpu, err = parseSchedstat(string(schedstat)); err != nil {
		return usage{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return usage{}, err
	}
	u.switches, err = sumFields(string(status), "voluntary_ctxt_switches")
	return u, err
}

// sumFields adds up the named numbers of a text with a "name: number" on each
// line.
func sumFields(text string, names ...string) (sum int64, err error) {
	for _, name := range names {
		_, rest, ok := strings.Cut("\n"+text, "\n"+name+":")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.ParseInt(strings.TrimSpace(line), 10, 64)
		if !ok || err != nil {
			return 0, fmt.Errorf("no number for %s: %q", name, text)
		}
		sum += n
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
		if p, err := parseStat(string(text)); err == nil {
			children[p.parent] = append(children[p.parent], p.pid)
		}
	}
	return children, nil
}

// stat has the values read from /proc/<pid>/stat.
type stat struct {
	pid, parent int
	faults      int64
}

// parseStat reads /proc/<pid>/stat. The name after the pid may contain spaces
// and brackets; it ends at the last bracket. See proc_pid_stat(5).
func parseStat(text string) (s stat, err error) {
	open, end := strings.IndexByte(text, '('), strings.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return s, fmt.Errorf("stat has no name in brackets: %q", text)
	}
	if s.pid, err = strconv.Atoi(strings.TrimSpace(text[:open])); err != nil {
		return s, fmt.Errorf("stat starts with no pid: %w", err)
	}
	// state ppid pgrp session tty_nr tpgid flags minflt cminflt majflt …
	rest := strings.Fields(text[end+1:])
	if len(rest) < 10 {
		return s, fmt.Errorf("stat ends before its fault counts: %q", text)
	}
	if s.parent, err = strconv.Atoi(rest[1]); err != nil {
		return s, fmt.Errorf("stat names no parent: %w", err)
	}
	for _, field := range []string{rest[7], rest[9]} {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return s, fmt.Errorf("stat has no fault counts: %w", err)
		}
		s.faults += n
	}
	return s, nil
}
