package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alecthomas/kong"

	"ixmage/alias"
	"ixmage/alias/usage"
	"ixmage/cache"
)

// asProgram is the variable that makes the test binary behave as ixmage. The
// tests here need the fields of serveCmd, so they are in this package, and a
// program that reads its own environment and ends with an exit status.
const asProgram = "TEST_AS_IXMAGE"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	m.Run()
}

// program is a run of ixmage with env and no other setting. It is killed when
// the test ends, or after two minutes.
func program(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "IXMAGE_") || strings.HasPrefix(kv, "AWS_")
	})
	cmd.Env = append(append(cmd.Env, asProgram+"=1"), env...)
	return cmd
}

// outcome is the result of a run of the program.
type outcome struct {
	code           int
	stdout, stderr string
}

// runProgram runs the program until it ends by itself.
func runProgram(t *testing.T, env []string, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := program(t, env, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("the program was killed, because it did not end:\n%s%s", &stdout, &stderr)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// wantAll checks that text contains each of parts.
func wantAll(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s does not say %q:\n%s", what, p, text)
		}
	}
}

// mistakes are values that a flag refuses, and what is said of each. flag is
// its name; all of them can be made at once.
var mistakes = []struct{ flag, value, says string }{
	{"listen", "8080", "use host:port, or :port for all interfaces"},
	{"public-url", "images.example.com", "use a form like https://images.example.com"},
	{"admin-listen", "127.0.0.1", "use host:port, or :port for all interfaces"},
	{"metrics-listen", "localhost:http", "use host:port, or :port for all interfaces"},
	{"admin-host", "ixmage.example,https://b", `"https://b" must be a host name or an IP address, without a scheme and a port`},
	{"client-connections", "-1", "not a whole number from 0 to 16777216"},
	{"trusted-proxies", "10.0.0.0/8,proxy.example.com", `"proxy.example.com" is neither an address nor a CIDR`},
	{"admin-insecure", "perhaps", `"perhaps" is neither true nor false`},
	{"data", "", "is empty: name a folder"},
	{"store", "mysql://db/ixmage", "must be a URL like postgres://ixmage@db.example.com/ixmage?sslmode=verify-full"},
	{"node", "eu/1", `"eu/1" must be 1 to 64 of letters, digits, dot, hyphen and underscore`},
	{"node-grace", "1d", "use forms like 500ms, 30s or 1m30s"},
	{"max-registry-age", "-1h", "use forms like 500ms, 30s or 1m30s"},
	{"node-beat", "0s", "use forms like 500ms, 30s or 1m30s"},
	{"node-lease", "15", "use forms like 500ms, 30s or 1m30s"},
	{"master-key", "vault:key", "must be file:PATH or aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID"},
	{"cache-memory", "256MB", "a number of bytes, or one with KiB, MiB or GiB, as in 256MiB; or a percentage, as in 25%"},
	{"cache-disk", "101%", "use a whole number from 0% to 100%, as in 25%"},
	{"cache-disk-object-max", "1GB", "a number of bytes, or one with KiB, MiB or GiB, as in 256MiB"},
	{"cache-object-max", "-1", "a number of bytes, or one with KiB, MiB or GiB, as in 256MiB"},
	{"allow-private-endpoints", "2", `"2" is neither true nor false`},
	{"origin-connect-timeout", "2", "use forms like 500ms, 30s or 1m30s"},
	{"origin-first-byte-timeout", "0s", "not a duration above zero"},
	{"origin-call-timeout", "-8s", "not a duration above zero"},
	{"origin-idle-timeout", "ten", "use forms like 500ms, 30s or 1m30s"},
	{"transform-workers", "257", "must be from 0 to 256"},
	{"transform-timeout", "11s", "must be from 100ms to 10s"},
	{"transform-memory", "1MiB", "must be from 256MiB to 1GiB"},
	{"transform-alias-share", "101", "must be from 1 to 100"},
	{"transform-client-share", "-1", "not a whole number from 1 to 16777216"},
	{"origin-queue-timeout", "1 m", "use forms like 500ms, 30s or 1m30s"},
	{"origin-concurrency", "many", "not a whole number from 1 to 16777216"},
	{"origin-alias-concurrency", "1.5", "not a whole number from 1 to 16777216"},
	{"origin-queue", "0", "not a whole number from 1 to 16777216"},
	{"breaker-failures", "few", "not a whole number from 0 to 16777216"},
	{"breaker-open", "0", "use forms like 500ms, 30s or 1m30s"},
	{"usage-flush", "0", "use forms like 500ms, 30s or 1m30s"},
	{"shutdown-timeout", "never", "use forms like 500ms, 30s or 1m30s"},
	{"metrics-alias-cap", "16777217", "not a whole number from 1 to 16777216"},
	{"log-format", "xml", "neither text nor json"},
	{"log-level", "INFO", "none of debug, info, warn, error"},
	{"otlp-endpoint", "collector:4318", "it is not a URL like http://127.0.0.1:4318"},
	{"trace-sample", "-1", `"-1" is not a number from 0 to 1`},
	{"provision", "maybe", `"maybe" is neither true nor false`},
	{"iam-endpoint", "iam.example.com", "use a form like https://iam.example.com"},
	{"sts-endpoint", "ftp://sts.example.com", "use a form like https://sts.example.com"},
	{"iam-boundary", "boundary", "use a form like arn:aws:iam::123456789012:policy/name"},
	{"iam-no-boundary", "no way", `"no way" is neither true nor false`},
	{"provision-buckets", "acme-*,Acme", `"Acme" `},
	{"provision-tags", "team,ixmage-alias", `"ixmage-alias" must not begin with ixmage`},
	{"adopt-users", "ixmage-*,a/b", `"a/b" must be the name of an IAM user`},
	{"accounts", "no/such/file", "open no/such/file: no such file or directory; name a YAML file with a list of accounts"},
	{"assume-roles", "arn:aws:iam::123456789012:user/x", `"arn:aws:iam::123456789012:user/x" must be the ARN of a role`},
	{"allow-default-credential", "3", `"3" is neither true nor false`},
	{"allow-wide-scope", "3", `"3" is neither true nor false`},
	{"install-id", "Main", "use 1 to 32 of a-z, 0-9 and hyphen"},
	{"canary-interval", "0", "use forms like 500ms, 30s or 1m30s"},
	{"canary-fresh", "now", "use forms like 500ms, 30s or 1m30s"},
	{"provision-visible-timeout", "90", "use forms like 500ms, 30s or 1m30s"},
	{"provision-verify-timeout", "-2m", "use forms like 500ms, 30s or 1m30s"},
	{"provision-verify-interval", "0s", "use forms like 500ms, 30s or 1m30s"},
	{"provision-refused-timeout", "2 m", "use forms like 500ms, 30s or 1m30s"},
	{"provision-refused-interval", "often", "use forms like 500ms, 30s or 1m30s"},
	{"provision-confirm-interval", "0", "use forms like 500ms, 30s or 1m30s"},
	{"rotation-fallback", "none", "use forms like 500ms, 30s or 1m30s"},
	{"rotation-soak", "0", "use forms like 500ms, 30s or 1m30s"},
	{"rotation-quiet", "5", "use forms like 500ms, 30s or 1m30s"},
	{"rotation-soak-inactive", "-1", "use forms like 500ms, 30s or 1m30s"},
	{"rotation-interval", "0", "use forms like 500ms, 30s or 1m30s"},
	{"reconcile-interval", "never", "use forms like 500ms, 30s or 1m30s"},
	{"reconcile-age", "1d", "use forms like 500ms, 30s or 1m30s"},
}

// TestMistakesAtOnce makes every mistake in one run, once by flags and once by
// the environment, and wants a line for each with the flag, its variable, and
// what would be right.
func TestMistakesAtOnce(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"flags", "environment"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			var env []string
			args := []string{"serve"}
			lines := 0
			for _, m := range mistakes {
				switch {
				case by == "flags":
					args = append(args, "--"+m.flag+"="+m.value)
				case m.value == "":
					continue // an empty variable is as good as none
				default:
					env = append(env, envName(m.flag)+"="+m.value)
				}
				lines++
			}
			got := runProgram(t, env, args...)
			if got.code != 2 || got.stdout != "" {
				t.Errorf("exit status %d and %q on stdout, want %d and nothing", got.code, got.stdout, 2)
			}
			for _, m := range mistakes {
				if by == "environment" && m.value == "" {
					continue
				}
				wantAll(t, "the line of "+m.flag, lineWith(got.stderr, "--"+m.flag+" ("+envName(m.flag)+"): "), m.says)
			}
			if n := strings.Count(got.stderr, "\n"); n != lines {
				t.Errorf("%d lines for %d mistakes:\n%s", n, lines, got.stderr)
			}
		})
	}
}

// TestLastValueCounts: a flag that is given twice has its second value, also where a
// variable has a third one; an empty value is a value.
func TestLastValueCounts(t *testing.T) {
	t.Parallel()
	got := runProgram(t, []string{"IXMAGE_CACHE_MEMORY=wrong", "IXMAGE_ORIGIN_QUEUE=8"}, "serve",
		"--cache-memory=wrong", "--cache-memory=1GiB", "--origin-queue=1", "--origin-queue=0", "--usage-flush=")
	wantAll(t, "stderr", got.stderr, `--origin-queue (IXMAGE_ORIGIN_QUEUE): "0" is not`, `--usage-flush (IXMAGE_USAGE_FLUSH): "" is not`)
	if n := strings.Count(got.stderr, "\n"); got.code != exitUsage || n != 2 {
		t.Errorf("exit status %d and %d lines, want %d and 2:\n%s", got.code, n, exitUsage, got.stderr)
	}
}

// TestDiskPathIsData: the tier removes files that are not its own.
func TestDiskPathIsData(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"/tmp/x", "/tmp/x/", "/tmp/y/../x"} {
		got := runProgram(t, nil, "serve", "--data=/tmp/x", "--cache-disk=1GiB", "--cache-disk-path="+path, "--log-level=x")
		wantAll(t, "stderr", got.stderr, "--cache-disk-path (IXMAGE_CACHE_DISK_PATH): "+path+" is the data folder")
		if n := strings.Count(got.stderr, "\n"); got.code != exitUsage || n != 2 {
			t.Errorf("exit status %d and %d lines, want %d and 2:\n%s", got.code, n, exitUsage, got.stderr)
		}
	}
}

// TestMaxRegistryAge: every age from a second on is taken, and the node beats often enough for it.
func TestMaxRegistryAge(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		age, beat time.Duration
		refused   bool
	}{
		{0, 5 * time.Second, false}, {time.Hour, 5 * time.Second, false}, {10 * time.Second, 2500 * time.Millisecond, false},
		{time.Second, 250 * time.Millisecond, false}, {999 * time.Millisecond, 0, true},
	} {
		s := serveCmd{NodeBeat: 5 * time.Second, NodeLease: 15 * time.Second, MaxRegistryAge: row.age}
		var errs configErrors
		s.checkFleet(&errs)
		if refused := strings.Contains(fmt.Sprint(errs), "max-registry-age"); refused != row.refused {
			t.Errorf("%s: refused %t: %v", row.age, refused, errs)
		}
		if got := s.beat(); !row.refused && got != row.beat {
			t.Errorf("%s: a beat every %s, want %s", row.age, got, row.beat)
		}
	}
}

// TestBoundaryContradiction: a boundary and leave to do without one are not both meant.
func TestBoundaryContradiction(t *testing.T) {
	t.Parallel()
	got := runProgram(t, nil, "serve", "--iam-boundary=arn:aws:iam::123456789012:policy/b", "--iam-no-boundary")
	wantAll(t, "stderr", got.stderr, "--iam-no-boundary (IXMAGE_IAM_NO_BOUNDARY): ", "--iam-boundary arn:aws:iam::123456789012:policy/b")
	if n := strings.Count(got.stderr, "\n"); got.code != exitUsage || n != 1 {
		t.Errorf("exit status %d and %d lines, want %d and 1:\n%s", got.code, n, exitUsage, got.stderr)
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

// TestEveryFlagCanBeWrong keeps the tables above whole: a flag is there, or is
// said here to be a file.
func TestEveryFlagCanBeWrong(t *testing.T) {
	t.Parallel()
	files := []string{"admin-tls-cert", "admin-tls-key", "admin-token-file", "origin-ca", "cache-disk-path", "transform-worker"}
	for _, flag := range serveFlags(t) {
		if !slices.Contains(files, flag.Name) && !slices.ContainsFunc(mistakes, func(m struct{ flag, value, says string }) bool { return m.flag == flag.Name }) {
			t.Errorf("--%s has no row in mistakes", flag.Name)
		}
	}
}

// serveFlags are the flags of the configuration, as kong sees them.
func serveFlags(t *testing.T) []*kong.Flag {
	t.Helper()
	ctx, err := kong.Trace(newParser(), []string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(ctx.Flags(), func(f *kong.Flag) bool { return f.Name == "help" })
}

// TestDefaults: the defaults are a valid configuration, and leave room for two
// attempts at S3 within eight seconds.
func TestDefaults(t *testing.T) {
	t.Parallel()
	ctx, err := newParser().Parse([]string{"serve"})
	if err != nil {
		t.Fatal(err)
	}
	s := ctx.Selected().Target.Addr().Interface().(*serveCmd)
	if errs := s.validate(); len(errs) > 0 {
		t.Error(errs)
	}
	c := s.origin(slog.New(slog.DiscardHandler), nil, originDeps{})
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if c.CallTimeout > 8*time.Second || 2*(c.FirstByteTimeout+150*time.Millisecond) > c.CallTimeout {
		t.Errorf("no room for two attempts within eight seconds: %+v", c)
	}
}

// TestHelp wants every flag explained, with its variable: those of the
// configuration that are not hidden and those that users were promised.
func TestHelp(t *testing.T) {
	t.Parallel()
	promised := []string{
		"listen", "public-url", "client-connections", "trusted-proxies",
		"admin-listen", "metrics-listen", "admin-host", "admin-tls-cert", "admin-tls-key", "admin-insecure", "data",
		"admin-token-file", "master-key", "cache-memory", "cache-object-max", "cache-disk", "cache-disk-path", "cache-disk-object-max", "allow-private-endpoints", "origin-ca",
		"shutdown-timeout", "metrics-alias-cap", "log-format", "log-level",
		"provision", "iam-endpoint", "sts-endpoint", "iam-boundary", "iam-no-boundary", "provision-buckets",
		"provision-tags", "adopt-users", "accounts", "allow-wide-scope", "assume-roles", "allow-default-credential", "install-id",
	}
	var hidden []string
	for _, flag := range serveFlags(t) {
		if flag.Hidden {
			hidden = append(hidden, flag.Name)
		} else {
			promised = append(promised, flag.Name)
		}
	}
	if len(hidden) == 0 {
		t.Error("no flag is hidden")
	}
	for _, args := range [][]string{{"--help"}, {"-h"}, {}, {"serve", "--help"}} {
		got := runProgram(t, nil, args...)
		if got.code != 0 || got.stderr != "" {
			t.Errorf("%q: exit status %d, stderr %q", args, got.code, got.stderr)
		}
		words := strings.Join(strings.Fields(got.stdout), " ") // help is wrapped
		for _, flag := range promised {
			if i := strings.Index(words, " --"+flag); i < 0 || !strings.Contains(words[i:], "($"+envName(flag)+")") {
				t.Errorf("%q does not explain --%s with $%s", args, flag, envName(flag))
			}
		}
		for _, flag := range hidden {
			if strings.Contains(words, " --"+flag+"=") {
				t.Errorf("%q shows --%s, which is hidden", args, flag)
			}
		}
		wantAll(t, "help", words, "IXMAGE_ADMIN_TOKEN.", "<data>/admin-token", "<data>/master.keyset", "file:PATH or aws-kms://ARN")
	}
	got := runProgram(t, nil, "--help")
	wantAll(t, "help", got.stdout, "serve", "healthcheck", "version")
	for _, same := range [][2]string{{"help", "--help"}, {"help alias ls", "alias ls --help"}, {"--version", "version"}} {
		one, other := runProgram(t, nil, strings.Fields(same[0])...), runProgram(t, nil, strings.Fields(same[1])...)
		if one != other || one.code != 0 {
			t.Errorf("%s: got %+v, want that of %s", same[0], one, same[1])
		}
	}
	got = runProgram(t, nil, "healthcheck", "--help")
	wantAll(t, "help of healthcheck", got.stdout, "--url", "IXMAGE_LISTEN")
}

// TestEmptyVariables: each setting with an empty variable has its default, and a
// variable of no setting is not warned of when it is empty.
func TestEmptyVariables(t *testing.T) {
	t.Parallel()
	var env []string
	for _, flag := range serveFlags(t) {
		env = append(env, envName(flag.Name)+"=")
	}
	env = append(env, "IXMAGE_ADMIN_TOKEN=", "IXMAGE_STORE=", "IXMAGE_PORT=")
	got := runProgram(t, env, "serve", "--cache-memory=wrong")
	if n := strings.Count(got.stderr, "\n"); got.code != 2 || n != 1 || !strings.Contains(got.stderr, "--cache-memory") {
		t.Errorf("exit status %d, want %d and a line on --cache-memory alone:\n%s", got.code, 2, got.stderr)
	}
	args := []string{"serve", "--data", filepath.Join(t.TempDir(), "data"), "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"}
	output, metrics := metricsOf(t, program(t, env, args...))
	if strings.Contains(output, "IXMAGE_") {
		t.Errorf("a variable is warned of:\n%s", output)
	}
	if want := "\nixmage_cache_capacity_bytes{tier=\"memory\"} 2.68435456e+08\n"; !strings.Contains(metrics, want) {
		t.Errorf("the cache does not have its default size: no %q in\n%s", want, metrics)
	}
}

// metricsOf starts a server and returns its log until it listens, and its
// metrics.
func metricsOf(t *testing.T, cmd *exec.Cmd) (output, metrics string) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	public, admin := regexp.MustCompile(`listener=public addr=`), regexp.MustCompile(`listener=admin addr=(\S+)`)
	scan := bufio.NewScanner(stderr)
	for !public.MatchString(output) || !admin.MatchString(output) {
		if !scan.Scan() {
			t.Fatalf("the program ended before it listened:\n%s", output)
		}
		output += scan.Text() + "\n"
	}
	resp, err := http.Get("http://" + admin.FindStringSubmatch(output)[1] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return output, string(text)
}

// TestFlagTable keeps the tables of flags in docs/operations.md true to the
// program: the same flags in the same order, with their variables, defaults and
// words. The second table has the hidden flags.
// TestLimitsPage checks docs/limits.md: each default beside a flag is that of the program,
// each flag of a size, duration or count has a row, and the metrics are documented.
func TestLimitsPage(t *testing.T) {
	t.Parallel()
	page := string(readFile(t, filepath.Join("docs", "limits.md")))
	metrics := string(readFile(t, filepath.Join("docs", "metrics.md")))
	flags := map[string]*kong.Flag{}
	for _, f := range serveFlags(t) {
		flags[f.Name] = f
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`--([a-z-]+)`, ([0-9][0-9,.]*( (KiB|MiB|GiB|s|h|minutes)\\b)?|none)").FindAllStringSubmatch(page, -1) {
		f, ok := flags[m[1]]
		if !ok || plainDefault(m[2]) != plainDefault(f.Default) {
			t.Errorf("the page says that --%s is %s, which is not the default", m[1], m[2])
		}
		named[m[1]] = true
	}
	for name, f := range flags {
		switch f.Target.Interface().(type) {
		case alias.Size, amount, time.Duration, int:
			if !f.Hidden && !named[name] {
				t.Errorf("the page has no row with the default of --%s", name)
			}
		}
	}
	for _, name := range regexp.MustCompile(`ixmage_\w+`).FindAllString(page, -1) {
		if !strings.Contains(metrics, "| `"+name+"` |") {
			t.Errorf("there is no metric %s", name)
		}
	}
}

// plainDefault gives the default of a flag and its form in prose, "2 minutes", one form.
func plainDefault(text string) string {
	text = strings.NewReplacer(",", "", " minutes", "m", " ", "", "none", "").Replace(text)
	if d, err := time.ParseDuration(text); err == nil {
		return d.String()
	}
	return text
}

func TestFlagTable(t *testing.T) {
	t.Parallel()
	doc := string(readFile(t, filepath.Join("docs", "operations.md")))
	const head = "| flag | variable | default | |\n|---|---|---|---|\n"
	tables := strings.Split(doc, head)
	if len(tables) != 3 {
		t.Fatalf("there are %d tables of flags, want 2", len(tables)-1)
	}
	for i, hidden := range []bool{false, true} {
		got, _, _ := strings.Cut(tables[i+1], "\n\n")
		if want := strings.TrimSuffix(flagTable(t, hidden), "\n"); got != want {
			t.Errorf("the table is\n%s\nwant\n%s", got, want)
		}
	}
}

func flagTable(t *testing.T, hidden bool) string {
	t.Helper()
	var b strings.Builder
	for _, f := range serveFlags(t) {
		if f.Hidden != hidden {
			continue
		}
		standard := ""
		if f.HasDefault {
			standard = "`" + f.Default + "`"
		} else if f.IsBool() {
			standard = "off"
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, envName(f.Name), standard, strings.ReplaceAll(f.Help, "<", `\<`))
	}
	return b.String()
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// usageStore notes what is added.
type usageStore struct{ added []alias.UsageBatch }

func (s *usageStore) AddUsage(_ context.Context, b alias.UsageBatch) error {
	s.added = append(s.added, b)
	return nil
}

func (*usageStore) Usage(context.Context, alias.UsageQuery) (map[int64]alias.UsageHistory, error) {
	return map[int64]alias.UsageHistory{}, nil
}

// TestAccountsOutliveSignal: what is counted while the listeners drain is stored,
// on time and at the end.
func TestAccountsOutliveSignal(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var logs bytes.Buffer
		store := &usageStore{}
		all := usage.New(usage.Config{Store: store, Every: time.Minute, Log: slog.New(slog.NewTextHandler(&logs, nil))})
		ctx, signal := context.WithCancel(t.Context())
		stop := runAccounts(ctx, all)
		signal()
		all.Of(1).Spent(1, 1)
		<-time.After(time.Minute)
		synctest.Wait()
		if len(store.added) != 1 {
			t.Errorf("while draining: got %v", store.added)
		}
		all.Of(1).Spent(2, 2)
		stop()
		if len(store.added) != 2 || store.added[1].Deltas[0].Spent.Requests != 2 || logs.Len() > 0 {
			t.Errorf("at the end: got %v; log %s", store.added, logs.String())
		}
	})
}

// TestAccountOfDeletedAlias: an account that is asked for while its alias is
// deleted does not stay in memory.
func TestAccountOfDeletedAlias(t *testing.T) {
	t.Parallel()
	for _, after := range []struct {
		name string
		now  func() (alias.Route, bool)
	}{
		{"deleted", func() (alias.Route, bool) { return alias.Route{}, false }},
		{"made again", func() (alias.Route, bool) { return alias.Route{Alias: &alias.Alias{ID: 2}}, true }},
	} {
		t.Run(after.name, func(t *testing.T) {
			t.Parallel()
			all := usage.New(usage.Config{Store: &usageStore{}})
			deleted := false
			account := aliasAccounts{all, func(string) (alias.Route, bool) {
				if deleted {
					return after.now()
				}
				deleted = true
				all.Forget(1) // as the registry has it done, before the account is asked for
				return alias.Route{Alias: &alias.Alias{ID: 1}}, true
			}}.of("shop")
			if account == nil || all.Of(1) == account {
				t.Error("the account of the deleted alias is still there")
			}
		})
	}
}

// keepLimits restores the limits of the process when t is over.
func keepLimits(t *testing.T) {
	t.Helper()
	limit, percent := debug.SetMemoryLimit(-1), debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	t.Cleanup(func() {
		debug.SetMemoryLimit(limit)
		debug.SetGCPercent(percent)
	})
}

// evictions ignores evictions.
type evictions struct{}

func (evictions) Evicted(_, _ string, _ int) {}

func (evictions) Rejected(string, int)     {}
func (evictions) Pushed(int64, int64, int) {}

// TestGCLimit: the limit has room for bodies only where they lie on the heap.
func TestGCLimit(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "")
	const budget = 64 << 20
	c := cache.New(cache.Config{Memory: budget, ObjectMax: 8 << 20}, evictions{})
	defer c.Close()
	if bodies := c.HeapBytes(); bodies != 0 && bodies != budget {
		t.Errorf("%d bytes of bodies on the heap, want none or %d", bodies, budget)
	}
	for _, bodies := range []int64{0, budget} {
		for _, room := range []int64{gcRoom, gcRoom / 2} {
			newGCLimit(bodies, room)
			if got, want := debug.SetMemoryLimit(-1), room+bodies; got != want {
				t.Errorf("memory limit %d with %d bytes of bodies on the heap and room of %d, want %d", got, bodies, room, want)
			}
		}
	}
}

// TestGCLimitOfOperator: the operator's limit stays, at the start and later.
func TestGCLimitOfOperator(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "1GiB")
	const limit = 1 << 30
	debug.SetMemoryLimit(limit)
	synctest.Test(t, func(t *testing.T) {
		runFor(t, newGCLimit(0, gcRoom), 10*gcInterval)
		if got := debug.SetMemoryLimit(-1); got != limit {
			t.Errorf("memory limit %d, want the operator's %d", got, limit)
		}
	})
}

// TestGCLimitFollowsHeap: with a limit below the live heap the collector would run all
// the time.
func TestGCLimitFollowsHeap(t *testing.T) {
	keepLimits(t)
	t.Setenv("GOMEMLIMIT", "")
	synctest.Test(t, func(t *testing.T) {
		l := newGCLimit(0, gcRoom)
		l.floor = 1 << 20 // far below the heap of any Go program
		runFor(t, l, gcInterval)
		live := inUse()
		if got := debug.SetMemoryLimit(-1); got < live/2+gcSlack || got > 2*live+gcSlack {
			t.Errorf("memory limit %d with a live heap of %d", got, live)
		}
		l.floor = math.MaxInt64 / 2
		runFor(t, l, gcInterval)
		if got := debug.SetMemoryLimit(-1); got != l.floor {
			t.Errorf("memory limit %d, want the floor of %d", got, l.floor)
		}
	})
}

// runFor runs l for a while and ends it.
func runFor(t *testing.T, l *gcLimit, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- l.run(ctx) }()
	<-time.After(d)
	synctest.Wait()
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestParseCIDRs: networks and addresses are read, IPv4 inside IPv6 is IPv4, and anything
// else is refused.
func TestParseCIDRs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ text, want string }{
		{"", "[]"},
		{" , ", "[]"},
		{"10.0.0.0/8, 192.0.2.7,2001:db8::/32", "[10.0.0.0/8 192.0.2.7/32 2001:db8::/32]"},
		{"10.1.2.3/8", "[10.0.0.0/8]"},
		{"::1", "[::1/128]"},
		{"::ffff:10.0.0.0/104", "[10.0.0.0/8]"},
		{"::ffff:10.0.0.1", "[10.0.0.1/32]"},
		{"0.0.0.0/0", "[0.0.0.0/0]"},
		{"::ffff:10.0.0.0/90", "error"},
		{"10.0.0.0/33", "error"},
		{"10.0.0", "error"},
		{"10.0.0.1-10.0.0.9", "error"},
		{"10.0.0.1:80", "error"},
		{"fe80::1%eth0/64", "error"},
		{"localhost", "error"},
	} {
		got := "error"
		if list, err := parseCIDRs(tc.text, nil); err == nil {
			got = fmt.Sprint([]netip.Prefix(list))
		}
		if got != tc.want {
			t.Errorf("%q: got %s, want %s", tc.text, got, tc.want)
		}
	}
}

// TestDescriptors: whatever the limit, there is room for clients, for S3 and for the rest.
func TestDescriptors(t *testing.T) {
	t.Parallel()
	for limit, want := range map[int][2]descriptors{ // without and with a disk tier
		64:     {{public: 16, idleS3: 8}, {public: 12, idleS3: 8, files: 2}},
		1024:   {{public: 512, idleS3: 128}, {public: 342, idleS3: 128, files: 85}},
		20_000: {{public: 19_104, idleS3: 512}, {public: 12_736, idleS3: 512, files: 3184}},
		99_999: {{public: 99_103, idleS3: 512}, {public: 82_719, idleS3: 512, files: 8192}},
	} {
		for i, disk := range []bool{false, true} {
			if got := divideDescriptors(limit, 256, disk); got != want[i] {
				t.Errorf("limit %d, disk %t: %+v, want %+v", limit, disk, got, want[i])
			}
		}
	}
}

// TestLimitedMessages: each message that is limited is one that the program logs.
func TestLimitedMessages(t *testing.T) {
	t.Parallel()
	var source strings.Builder
	for _, pattern := range []string{"*.go", "cache/*.go", "cache/disk/*.go", "proxy/*.go", "proxy/origin/*.go", "alias/admin/*.go"} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if name != "wire.go" && !strings.HasSuffix(name, "_test.go") {
				source.Write(readFile(t, name))
			}
		}
	}
	for message := range limitedMessages {
		if !strings.Contains(source.String(), `"`+message+`"`) {
			t.Errorf("nothing logs %q", message)
		}
	}
}

// TestFirstCommand: the commands that a terminal shows exist.
func TestFirstCommand(t *testing.T) {
	t.Parallel()
	for _, provision := range []bool{false, true} {
		command := (&serveCmd{Provision: provision}).firstCommand()
		args := strings.Fields(strings.ToLower(command)) // an alias has no capitals
		if _, err := newParser().Parse(args[1:]); err != nil {
			t.Errorf("%s: %v", command, err)
		}
	}
}
