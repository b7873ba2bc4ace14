package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ixmage/internal/awstest/iam"
)

// most are the checks that make things of every kind, without the long ones.
const most = "^(create-|boundary-|session-|external-|new-|revoked|packed|deleted|last-used-new)"

// onCall ends a process with a signal at the nth call of an action, before or after its effect.
func (f *fake) onCall(action string, n int64, after bool, do func()) {
	var count atomic.Int64
	f.OnCall(func(call iam.Call) *iam.Fault {
		if call.Action != action || count.Add(1) != n {
			return nil
		}
		if after {
			return &iam.Fault{After: do}
		}
		return &iam.Fault{Before: do}
	})
}

// TestKilled: what a run leaves that is killed at any moment, the next one refuses to ignore
// and CLEAN deletes.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		action string
		n      int64
		after  bool
		only   string
	}{
		{"CreateBucket", 1, false, most},
		{"CreateBucket", 1, true, most},
		{"PutObject", 2, true, most},
		{"CreateUser", 1, true, most},
		{"CreateAccessKey", 3, true, most},
		{"CreatePolicy", 1, true, most},
		{"CreateRole", 2, true, most},
		{"PutRolePolicy", 1, false, most},
		{"DeleteUser", 1, false, most},
		{"CreateAccessKey", 2, true, "^program-user$"}, // that of the program
		{"DeleteBucket", 1, false, most},
	} {
		t.Run(fmt.Sprint(c.action, c.n, c.after), func(t *testing.T) {
			t.Parallel()
			f := newAccount(t, iam.Config{})
			cmd := f.command(accountID, "-only", c.only)
			f.onCall(c.action, c.n, c.after, func() { f.signal(cmd, syscall.SIGKILL) })
			if got := f.end(cmd); got.code != -1 {
				t.Fatalf("exit status %d:\n%s", got.code, got.out)
			}
			f.OnCall(nil)
			if got := f.run(accountID); got.code != exitRefused || !strings.Contains(got.out, "CLEAN=1") {
				t.Errorf("the next run: exit status %d:\n%s", got.code, got.out)
			}
			got := f.run("", "-clean")
			if got.code != exitGood || !strings.Contains(got.out, "Deleted everything of run t") {
				t.Errorf("clean: exit status %d:\n%s", got.code, got.out)
			}
			f.nothingLeft()
			if got := f.run("", "-clean"); got.code != exitGood || !strings.Contains(got.out, "Nothing to delete") {
				t.Errorf("clean again: exit status %d:\n%s", got.code, got.out)
			}
		})
	}
}

// TestInterrupted: Ctrl-C ends the checks, and not the deletions and the report.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	cmd := f.command(accountID)
	f.onCall("CreateRole", 2, true, func() { f.signal(cmd, syscall.SIGINT) })
	got := f.end(cmd)
	if got.code != exitDiffers || got.report == nil || !strings.Contains(got.report.Error, "interrupted") {
		t.Errorf("exit status %d:\n%s", got.code, got.out)
	}
	if x := got.row(t, "program-role"); x.Verdict != notTried {
		t.Errorf("%+v", x)
	}
	f.nothingLeft()
}

// TestThrottled: a run goes through, though AWS throttles a third of all calls. Checks run side by
// side, so which calls these are is chance; none is throttled at all its attempts.
func TestThrottled(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	var mu sync.Mutex
	n, inARow := 0, map[string]int{}
	f.OnCall(func(call iam.Call) *iam.Fault {
		mu.Lock()
		defer mu.Unlock()
		n++
		of := fmt.Sprint(call.Service, call.Action, call.AccessKeyID, call.Params.Encode())
		if inARow[of]++; n%3 != 0 || inARow[of] == attempts {
			delete(inARow, of)
			return nil
		}
		if call.Service == "s3" {
			return iam.Fail("SlowDown")
		}
		return iam.Fail("Throttling")
	})
	got := f.run(accountID, "-only", most)
	if got.code != exitGood || got.report.count(failed) > 0 {
		t.Errorf("exit status %d:\n%s\n%s", got.code, got.out, got.md)
	}
	f.OnCall(nil)
	f.nothingLeft()
}

// TestLag: a list of IAM that is old hides nothing from the deletion.
func TestLag(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{Lag: 300 * time.Millisecond})
	got := f.run(accountID, "-only", most, "-settle", "400ms")
	if got.code != exitGood {
		t.Errorf("exit status %d:\n%s\n%s", got.code, got.out, got.md)
	}
	f.nothingLeft()
}

// TestDeletionRefused: what cannot be deleted is named, and the journal stays for CLEAN.
func TestDeletionRefused(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	cmd := f.command(accountID, "-only", "^create-user-tags$")
	f.SetFault(iam.Fail("AccessDenied"), "DeleteUser")
	f.onCall("DeleteUser", 12, false, func() { f.signal(cmd, syscall.SIGKILL) })
	if got := f.end(cmd); got.code != -1 {
		t.Fatalf("exit status %d:\n%s", got.code, got.out)
	}
	if paths, _ := filepath.Glob(filepath.Join(f.dir, "*"+journalEnd)); len(paths) != 1 {
		t.Errorf("journals: %v", paths)
	}
	f.SetFault(nil, "DeleteUser")
	f.OnCall(nil)
	if got := f.run("", "-clean"); got.code != exitGood {
		t.Errorf("clean: exit status %d:\n%s", got.code, got.out)
	}
	f.nothingLeft()
}

// TestForeign: a journal that names what is not of its run, or of another account, deletes nothing.
func TestForeign(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	f.AddUser("/", "somebody", "")
	f.AddRole(iam.Role{Name: "worker", Trust: iam.Trust("", "*")})
	arn := f.AddPolicy("/", "precious", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`)
	f.CreateBucket("media")
	for _, one := range []thing{{kindUser, "somebody"}, {kindRole, "worker"}, {kindPolicy, arn}, {kindBucket, "media"}} {
		r := f.testRun(t)
		r.id = "t12345678"
		if _, err := r.remove(t.Context(), one); err == nil || !strings.Contains(err.Error(), "left alone") {
			t.Errorf("%v: %v", one, err)
		}
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(f.dir, "t12345678"+journalEnd)
	text := `{"run":"t12345678","account":"210987654321","region":"us-east-1"}` + "\n" + `{"kind":"user","name":"somebody"}` + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := f.run("", "-clean"); got.code != exitGood || !strings.Contains(got.out, "Nothing to delete") {
		t.Errorf("exit status %d:\n%s", got.code, got.out)
	}
	if len(f.Users()) != 2 || len(f.Roles()) != 1 || len(f.Policies()) != 1 || len(f.Buckets()) != 1 {
		t.Error("something was deleted")
	}
}
