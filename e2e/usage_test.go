package e2e

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// outcome is what a run of the program came to.
type outcome struct {
	code           int
	stdout, stderr string
}

// runProgram runs the program to its end. It gets nothing of the surrounding
// settings; env is added.
func runProgram(t testing.TB, env []string, args ...string) outcome {
	t.Helper()
	return runCommand(t, env, exec.Command(program, args...))
}

func runCommand(t testing.TB, env []string, cmd *exec.Cmd) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, append(plainEnv(), env...)
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute) // a program that goes on is the failure looked for
	defer cancel()
	defer context.AfterFunc(ctx, func() { cmd.Process.Kill() })()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("it did not end:\n%s%s", &stdout, &stderr)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// plainEnv is the environment without what ixmage and the AWS SDK listen to.
func plainEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "IXMAGE_") || strings.HasPrefix(kv, "AWS_")
	})
}

// wantAll checks that text holds every one of parts.
func wantAll(t testing.TB, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q:\n%s", what, p, tail(text, 4<<10))
		}
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// TestMistakesTogether has what is wrong only beside something else, and rows
// that are right, which must not be complained of.
func TestMistakesTogether(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t, "127.0.0.1")
	other, _ := certificate(t, "127.0.0.1")
	token := func(text string) []string {
		path := filepath.Join(t.TempDir(), "token")
		writeFile(t, path, text, 0o600)
		return []string{"--admin-token-file", path}
	}
	const tokenFile = "--admin-token-file (IXMAGE_ADMIN_TOKEN_FILE): "
	const wrong = "--log-level=wrong" // so that a run of right ones ends, with this one line
	for _, tc := range []struct {
		name string
		env  []string
		args []string
		says []string // one line each, in any order; none: only log-level is wrong
	}{
		{"admin in the clear", nil, []string{"--admin-listen=0.0.0.0:8081"}, []string{"--admin-tls-cert and --admin-tls-key, or --admin-insecure"}},
		{"admin on all interfaces", nil, []string{"--admin-listen=:8081"}, []string{"not a loopback address"}},
		{"admin on a name", []string{"IXMAGE_ADMIN_LISTEN=admin.example:8081"}, nil, []string{"not a loopback address"}},
		{"admin on loopback", nil, []string{"--admin-listen=127.8.8.8:1"}, nil},
		{"admin on loopback by name", nil, []string{"--admin-listen=localhost:1"}, nil},
		{"admin on loopback, version 6", nil, []string{"--admin-listen=[::1]:1"}, nil},
		{"admin insecure", nil, []string{"--admin-listen=:8081", "--admin-insecure"}, nil},
		{"admin insecure by variable", []string{"IXMAGE_ADMIN_INSECURE=yes", "IXMAGE_ADMIN_LISTEN=:8081"}, nil, nil},
		{"admin not insecure", []string{"IXMAGE_ADMIN_INSECURE=off", "IXMAGE_ADMIN_LISTEN=:8081"}, nil, []string{"not a loopback address"}},
		{"admin with TLS", nil, []string{"--admin-listen=:8081", "--admin-tls-cert", cert, "--admin-tls-key", key}, nil},
		{"certificate alone", nil, []string{"--admin-tls-cert", cert}, []string{"--admin-tls-key (IXMAGE_ADMIN_TLS_KEY): is missing"}},
		{"key alone", []string{"IXMAGE_ADMIN_TLS_KEY=" + key}, nil, []string{"--admin-tls-cert (IXMAGE_ADMIN_TLS_CERT): is missing"}},
		{"certificate of another key", nil, []string{"--admin-tls-cert", other, "--admin-tls-key", key}, []string{"--admin-tls-cert (IXMAGE_ADMIN_TLS_CERT): cannot be used"}},
		{"certificate that is not there", nil, []string{"--admin-tls-cert=/none.pem", "--admin-tls-key", key}, []string{"/none.pem: no such file"}},
		{"token variable too short", []string{"IXMAGE_ADMIN_TOKEN=short"}, nil, []string{"the admin token in IXMAGE_ADMIN_TOKEN is shorter than 16 characters"}},
		{"token file missing", nil, []string{"--admin-token-file", "/none/token"}, []string{tokenFile + "open the admin token: open /none/token: no such file"}},
		{"token file a folder", nil, []string{"--admin-token-file", t.TempDir()}, []string{tokenFile + "read the admin token"}},
		{"token file empty", nil, token("\n"), []string{tokenFile + "the file "}},
		{"token too short", nil, token("fifteen-letters\n"), []string{tokenFile + "the admin token in the file "}},
		{"token of two lines", nil, token("sixteen-letters-\nand-one-more\n"), []string{tokenFile + "the admin token in the file "}},
		{"token file", nil, token("sixteen-letters-\n"), nil},
		{"two tokens", []string{"IXMAGE_ADMIN_TOKEN=" + strings.Repeat("a", 32)}, []string{"--admin-token-file=x"}, []string{"--admin-token-file (IXMAGE_ADMIN_TOKEN_FILE): IXMAGE_ADMIN_TOKEN is set too: use one of them"}},
		{"one alias has more than all", nil, []string{"--origin-concurrency=8"}, []string{"--origin-alias-concurrency (IXMAGE_ORIGIN_ALIAS_CONCURRENCY): 64 is more than --origin-concurrency 8"}},
		{"below zero, as a word of its own", nil, []string{"--shutdown-timeout", "-5s", "--cache-memory", "-1", "--origin-queue", "-0"}, []string{
			`--shutdown-timeout (IXMAGE_SHUTDOWN_TIMEOUT): "-5s" is not a duration`, `--cache-memory (IXMAGE_CACHE_MEMORY): "-1" is not a size`,
			`--origin-queue (IXMAGE_ORIGIN_QUEUE): "-0" is not a whole number`,
		}},
		{"below zero, of a switch", nil, []string{"--admin-insecure", "-1"}, []string{`--admin-insecure (IXMAGE_ADMIN_INSECURE): "-1" is neither true nor false`}},
		{"more memory than there is", nil, []string{"--cache-memory=9999999GiB", "--cache-object-max=99999999999999999999"}, []string{
			`--cache-memory (IXMAGE_CACHE_MEMORY): "9999999GiB" is too much: at most 16384GiB`,
			`--cache-object-max (IXMAGE_CACHE_OBJECT_MAX): "99999999999999999999" is too much: at most 16384GiB`,
		}},
		{"all memory there could be", nil, []string{"--cache-memory=16384GiB", "--cache-object-max=17592186044416"}, nil},
		{"one byte more", nil, []string{"--cache-memory=17592186044417"}, []string{"too much"}},
		{"flags before variables", []string{"IXMAGE_CACHE_MEMORY=wrong"}, []string{"--cache-memory=1GiB"}, nil},
		{"every form", []string{"IXMAGE_ALLOW_PRIVATE_ENDPOINTS=1", "IXMAGE_CACHE_OBJECT_MAX=4096"}, []string{
			"--listen=[::]:0", "--metrics-listen=:9090", "--cache-memory=0", "--cache-object-max=64KiB", "--origin-connect-timeout=500ms",
			"--shutdown-timeout=1m30s", "--origin-queue=1", "--breaker-failures=0", "--metrics-alias-cap=16777216", "--log-format=json",
			"--master-key=aws-kms://arn:aws:kms:eu-west-1:123456789012:alias/ixmage", "--allow-private-endpoints=false", "--data=x",
		}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := runProgram(t, tc.env, append([]string{"serve", wrong}, tc.args...)...)
			if n := strings.Count(got.stderr, "\n"); got.code != 2 || n != 1+len(tc.says) {
				t.Errorf("exit status %d and %d lines, want %d and %d:\n%s", got.code, n, 2, 1+len(tc.says), got.stderr)
			}
			wantAll(t, "stderr", got.stderr, append(tc.says, "--log-level")...)
		})
	}
}

// TestCommandLine has what is no configuration at all.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"version", []string{"version"}, 0, ""},
		{"unknown flag", []string{"serve", "--cache-memroy=1GiB"}, 2, "--cache-memroy"},
		{"unknown flag of the program", []string{"--verbose", "serve"}, 2, "--verbose"},
		{"unknown command", []string{"sevre"}, 2, "sevre"},
		{"an argument too many", []string{"serve", "now"}, 2, "now"},
		{"no value", []string{"serve", "--listen"}, 2, "--listen"},
		{"a flag for a value", []string{"serve", "--listen", "--log-level=info"}, 2, "--listen"},
		{"a dash and a letter for a value", []string{"serve", "--listen", "-x"}, 2, "--listen"},
		{"a number that no flag takes", []string{"serve", "--log-level=info", "-5"}, 2, "-5"},
		{"a number behind the end of flags", []string{"serve", "--", "-5"}, 2, "-5"},
		{"a secret on the command line", []string{"serve", "--admin-token=abc"}, 2, "--admin-token"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got := runProgram(t, nil, tc.args...)
			if got.code != tc.code {
				t.Errorf("exit status %d, want %d", got.code, tc.code)
			}
			if tc.code == 0 {
				if !strings.HasPrefix(got.stdout, "ixmage ") || !strings.Contains(got.stdout, " go1.") || got.stderr != "" {
					t.Errorf("got %q and %q, want the versions of ixmage and Go", got.stdout, got.stderr)
				}
				return
			}
			wantAll(t, "stderr", got.stderr, tc.says, "ixmage --help")
			if got.stdout != "" {
				t.Errorf("on stdout: %q", got.stdout)
			}
		})
	}
}

// TestUnknownVariable warns of variables that look like settings, and goes on.
func TestUnknownVariable(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(program, serveArgs(data)...)
	cmd.Env = append(plainEnv(), "IXMAGE_CACHE_MEMROY=1GiB", "IXMAGE_CERT=x", "IXMAGE_METRICS_ALIAS_CAP=7", "IXMAGE_ADMIN_TOKEN="+strings.Repeat("t", 16))
	s := startCommand(t, data, cmd)
	for _, name := range []string{"IXMAGE_CACHE_MEMROY", "IXMAGE_CERT"} {
		if line := lineWith(s.output(), name); !strings.Contains(line, "level=WARN") {
			t.Errorf("no warning of %s: %q", name, line)
		}
	}
	for _, name := range []string{"IXMAGE_METRICS_ALIAS_CAP", "IXMAGE_ADMIN_TOKEN"} {
		if line := lineWith(s.output(), name); line != "" {
			t.Errorf("%s is a setting, and is warned of: %s", name, line)
		}
	}
}
