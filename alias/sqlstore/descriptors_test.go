//go:build unix

package sqlstore

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// TestNoDescriptors runs itself as a process of its own, as the limit of open
// files holds for all tests of a process.
func TestNoDescriptors(t *testing.T) {
	t.Parallel()
	const child = "IXMAGE_TEST_NO_DESCRIPTORS"
	if os.Getenv(child) != "" {
		s := openTest(t, makeDatabase(t, 1))
		wantUnavailableToRead(t, s, func() (mend func()) { return exhaust(t) })
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), child+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// exhaust opens files until none can be opened.
func exhaust(t *testing.T) (release func()) {
	t.Helper()
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	limit.Cur = min(limit.Cur, 64)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for range 64 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	return func() {
		for _, f := range files {
			f.Close()
		}
	}
}
