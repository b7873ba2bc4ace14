package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/process"
)

// envCommand makes the test's binary the program: it can be killed so.
const envCommand = "AWSCHECK_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(envCommand) != "" {
		os.Exit(start())
	}
	flag.Parse()
	code := m.Run()
	if dir := builtIn; dir != "" {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

var builtIn string // the folder of ixmage, empty if it was not built

// ixmage builds the program once.
var ixmage = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "awscheck-")
	if err != nil {
		return "", err
	}
	builtIn = dir
	return process.Ixmage(dir)
})

// fake is a fake account with a caller who may do everything.
type fake struct {
	*iam.Server

	t      *testing.T
	caller alias.KeyPair
	dir    string

	mu      sync.Mutex
	secrets map[string]bool // of the keys that were made
}

const callerName = "operator"

func newAccount(t *testing.T, cfg iam.Config) *fake {
	t.Helper()
	f := &fake{Server: iam.New(t, cfg), t: t, dir: filepath.Join(t.TempDir(), "aws-test")}
	f.caller = f.AddUser("/", callerName, `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`)
	f.secrets = map[string]bool{}
	f.OnCall(f.note)
	return f
}

// note keeps the secrets of the keys that are made: at the end of a run they are gone.
func (f *fake) note(call iam.Call) *iam.Fault {
	if call.Action != "CreateAccessKey" {
		return nil
	}
	return &iam.Fault{After: func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, k := range f.Keys("") {
			f.secrets[k.Pair().SecretAccessKey.Reveal()] = true
		}
	}}
}

func (f *fake) made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.secrets))
}

// short makes every wait of a run short.
var short = []string{
	"-wait", "5m", "-long", "5m", "-observe", "100ms", "-poll", "10ms", "-settle", "10ms", "-backoff", "20ms", "-regions", "us-east-1",
	"-serve-flags", "--provision-verify-interval 20ms --provision-refused-interval 20ms --provision-confirm-interval 20ms " +
		"--rotation-soak 300ms --rotation-quiet 100ms --rotation-soak-inactive 300ms",
}

// ended is what a run printed and wrote.
type ended struct {
	code   int
	out    string
	report *report // nil without one
	md     string
}

func (f *fake) command(answer string, args ...string) *exec.Cmd {
	f.t.Helper()
	program, err := ixmage()
	if err != nil {
		f.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		f.t.Fatal(err)
	}
	args = slices.Concat([]string{"-endpoint-iam", f.URL, "-endpoint-s3", f.S3URL, "-dir", f.dir, "-program", program}, short, args)
	cmd := exec.Command(self, args...)
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "AWS_") || strings.HasPrefix(v, "IXMAGE_")
	}), envCommand+"=1", "AWS_ACCESS_KEY_ID="+f.caller.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+f.caller.SecretAccessKey.Reveal(),
		"AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null", "AWS_EC2_METADATA_DISABLED=true", envAccount+"="+answer)
	return cmd
}

const accountID = "123456789012"

// run runs the program to its end.
func (f *fake) run(answer string, args ...string) ended {
	f.t.Helper()
	return f.end(f.command(answer, args...))
}

func (f *fake) end(cmd *exec.Cmd) (got ended) {
	f.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	f.mu.Lock() // signal reads the process
	err := cmd.Start()
	f.mu.Unlock()
	if err == nil {
		err = cmd.Wait()
	}
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		f.t.Fatal(err)
	}
	got.code, got.out = cmd.ProcessState.ExitCode(), out.String()
	for _, end := range []string{".json", ".md"} {
		paths, _ := filepath.Glob(filepath.Join(f.dir, "report-*"+end))
		if len(paths) == 0 {
			return got
		}
		text, err := os.ReadFile(paths[len(paths)-1])
		if err != nil {
			f.t.Fatal(err)
		}
		if end == ".md" {
			got.md = string(text)
			return got
		}
		got.report = &report{}
		if err := json.Unmarshal(text, got.report); err != nil {
			f.t.Fatal(err)
		}
	}
	return got
}

// signal sends a signal to a command that has called the account.
func (f *fake) signal(cmd *exec.Cmd, sig os.Signal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	cmd.Process.Signal(sig)
}

// row is a row of the report.
func (got *ended) row(t *testing.T, name string) result {
	t.Helper()
	if got.report != nil {
		for _, x := range got.report.Results {
			if x.Name == name {
				return x
			}
		}
	}
	t.Fatalf("no row %s; printed:\n%s", name, got.out)
	return result{}
}

// nothingLeft expects the account as it was before the run, and no journal.
func (f *fake) nothingLeft() {
	f.t.Helper()
	for _, u := range f.Users() {
		if u.Name != callerName {
			f.t.Errorf("left: user %s", u.ARN)
		}
	}
	for _, r := range f.Roles() {
		f.t.Errorf("left: role %s", r.ARN)
	}
	for _, p := range f.Policies() {
		f.t.Errorf("left: policy %s", p.ARN)
	}
	for _, b := range f.Buckets() {
		f.t.Errorf("left: bucket %s", b)
	}
	entries, _ := os.ReadDir(f.dir)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "report-") {
			f.t.Errorf("left: file %s", e.Name())
		}
	}
}

// shortSessions makes the shortest sessions end after a second or two.
func shortSessions(asked time.Duration) time.Duration {
	if asked > 15*time.Minute {
		return asked
	}
	return 2 * time.Second
}
