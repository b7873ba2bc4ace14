package deploy

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// asConfined is the variable with system calls that makes the test binary restrict itself to them
// and then run the program of its arguments.
const asConfined = "TEST_SYSTEM_CALLS"

// systemCalls are those that the lines of SystemCallFilter= allow, on this processor.
func systemCalls(t *testing.T, lines []string) []string {
	t.Helper()
	allowed := map[string]bool{}
	for _, line := range lines {
		rest, deny := strings.CutPrefix(line, "~")
		for name := range strings.FieldsSeq(rest) {
			for _, call := range expand(t, name) {
				allowed[call] = !deny
			}
		}
	}
	info, err := arch.GetInfo("")
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	var list []string
	for call, ok := range allowed {
		if _, known := info.SyscallNames[call]; ok && known {
			list = append(list, call)
		}
	}
	slices.Sort(list)
	if len(list) < 100 || slices.Contains(list, "mount") || slices.Contains(list, "ptrace") || !slices.Contains(list, "read") {
		t.Fatalf("the filter allows %v", list)
	}
	return list
}

// expand returns the system calls of a set.
func expand(t *testing.T, set string) []string {
	t.Helper()
	if !strings.HasPrefix(set, "@") {
		return []string{set}
	}
	var calls []string
	for line := range strings.Lines(analyze(t, "syscall-filter", set)) {
		name := strings.TrimSpace(line)
		if name == set || name == "" || strings.HasPrefix(name, "#") {
			continue
		}
		calls = append(calls, expand(t, name)...)
	}
	return calls
}

// confine restricts this process as the unit does, and becomes the program of the arguments.
func confine() {
	policy := seccomp.Policy{
		DefaultAction: seccomp.ActionErrno, // EPERM
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionAllow, Names: slices.DeleteFunc(strings.Fields(os.Getenv(asConfined)), func(name string) bool {
				return name == "socket"
			})},
			{Action: seccomp.ActionAllow, NamesWithCondtions: families()},
		},
	}
	os.Unsetenv(asConfined)
	fail := func(what string, err error) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", what, err)
		os.Exit(1) //nolint:forbidigo // the process becomes the program or ends
	}
	// MemoryDenyWriteExecute=, by the kernel instead of a filter; older kernels do not have it.
	if err := unix.Prctl(unix.PR_SET_MDWE, unix.PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0); err != nil {
		fmt.Fprintf(os.Stderr, "NOT TESTED: MemoryDenyWriteExecute: %v\n", err)
	}
	if err := seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Flag: seccomp.FilterFlagTSync, Policy: policy}); err != nil {
		fail("load the filter", err)
	}
	fail("run the program", syscall.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

// families are those of RestrictAddressFamilies=.
func families() []seccomp.NameWithConditions {
	var list []seccomp.NameWithConditions
	for _, family := range []uint64{unix.AF_INET, unix.AF_INET6, unix.AF_UNIX} {
		list = append(list, seccomp.NameWithConditions{
			Name: "socket", Conditions: []seccomp.Condition{{Argument: 0, Operation: seccomp.Equal, Value: family}},
		})
	}
	return list
}
