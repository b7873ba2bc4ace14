// Command ixmage gives pictures in private S3 buckets a public URL, /{alias}/{key},
// with a key pair that can read what its aliases cover and nothing else.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"ixmage/alias"
	"ixmage/alias/admin"
	"ixmage/alias/provision"
	"ixmage/alias/seal"
	"ixmage/alias/sqlstore"
	"ixmage/alias/usage"
	"ixmage/cache"
	"ixmage/metrics"
	"ixmage/proxy"
	"ixmage/proxy/origin"
)

// version is set by the linker.
var version = "dev"

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

type cli struct {
	Serve       serveCmd       `cmd:"" help:"Run the server."`
	Healthcheck healthcheckCmd `cmd:"" help:"Exit 0 when the server is ready and 1 when not, for a container's HEALTHCHECK."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	dropEmptyEnv()
	var c cli
	done := -1
	parser := kong.Must(&c, kong.Name("ixmage"), kong.DefaultEnvars("IXMAGE"),
		kong.Description("Gives pictures in private S3 buckets a public URL. "+
			"Every flag can be set by the environment variable behind it."),
		kong.Writers(stdout, stderr), kong.Exit(func(code int) { done = code }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}), kong.Help(help))
	if len(args) == 0 {
		args = []string{"--help"}
	}
	ctx, err := parser.Parse(joinSigned(args))
	if done >= 0 { // --help was printed
		return done
	}
	if err != nil {
		fmt.Fprintf(stderr, "ixmage: %v\nTry: ixmage --help\n", err)
		return exitUsage
	}
	return ctx.Selected().Target.Addr().Interface().(command).run(stdout, stderr)
}

// help prints a command's help. That of the program itself explains the flags of
// serve as well: they are what people look for.
func help(opts kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(opts, ctx); err != nil || ctx.Selected() != nil {
		return err
	}
	serve, err := kong.Trace(ctx.Kong, []string{"serve"})
	if err != nil {
		return err
	}
	fmt.Fprintln(ctx.Stdout)
	return kong.DefaultHelpPrinter(opts, serve)
}

// command is what each subcommand is.
type command interface {
	run(stdout, stderr io.Writer) int
}

type versionCmd struct{}

func (*versionCmd) run(stdout, _ io.Writer) int {
	fmt.Fprintf(stdout, "ixmage %s %s\n", version, runtime.Version())
	return exitOK
}

type healthcheckCmd struct {
	URL string `name:"url" env:"-" help:"What to ask; without a path, /-/readyz there. Default: the address of IXMAGE_LISTEN." placeholder:"URL"`
}

func (h *healthcheckCmd) run(_, stderr io.Writer) int {
	target := h.target()
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, target, http.NoBody)
	if err != nil {
		fmt.Fprintf(stderr, "ixmage: --url: %v\n", err)
		return exitUsage
	}
	resp, err := client.Do(req)
	if err != nil {
		fmt.Fprintf(stderr, "ixmage: not ready: %v\n", err)
		return exitFailed
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		fmt.Fprintf(stderr, "ixmage: not ready: %s answered %s\n", target, resp.Status)
		return exitFailed
	}
	return exitOK
}

// target is the URL to ask.
func (h *healthcheckCmd) target() string {
	const ready = "/-/readyz"
	if h.URL == "" {
		return "http://" + localAddr(os.Getenv("IXMAGE_LISTEN")) + ready
	}
	u, err := url.Parse(h.URL)
	if err != nil || u.Host == "" || u.Path != "" {
		return h.URL // as it is; what is wrong with it is said when it is asked
	}
	u.Path = ready
	return u.String()
}

// localAddr is where a listener on addr can be reached from this machine.
func localAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port, _ = net.SplitHostPort(defaultListen)
	}
	switch host {
	case "", "0.0.0.0", "::": // all take IPv4, and a container may have nothing else
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

func (s *serveCmd) run(_, stderr io.Writer) int {
	if problems := s.problems(); len(problems) > 0 {
		for _, p := range problems {
			fmt.Fprintf(stderr, "ixmage: %s\n", p)
		}
		return exitUsage
	}
	log := s.logger(stderr)
	// net/http complains of servers that misbehave to the standard logger, and
	// quotes them: that may be bytes of a picture.
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	if err := s.serve(ctx, log); err != nil {
		log.Error("ixmage ends", "error", err)
		return exitFailed
	}
	return exitOK
}

// serve builds everything, bottom up, runs it until ctx ends, and takes it down
// in the opposite order.
func (s *serveCmd) serve(ctx context.Context, log *slog.Logger) error {
	for _, name := range s.unknownEnv() {
		log.Warn("environment variable is no setting of this version and is ignored", "name", name)
	}
	unlock, err := openData(s.Data, log)
	if err != nil {
		return err
	}
	defer unlock()
	store, err := sqlstore.OpenSQLite(ctx, filepath.Join(s.Data, "registry.db"))
	if err != nil {
		return err
	}
	defer store.Close()
	registry, err := s.openRegistry(ctx, log, store)
	if err != nil {
		return err
	}
	token, err := s.adminToken()
	if err != nil {
		return err
	}
	os.Unsetenv(envToken) // children and crash reports need not have it

	books := usage.New(usage.Config{Store: store, Every: s.UsageFlush.d, Log: log})
	defer keep(ctx, books)() // to when nothing counts any more, and while there is a database
	m := metrics.New(metrics.Config{Version: version, AliasCap: s.MetricsAliasCap.n})
	memory := cache.New(cache.Config{Memory: s.CacheMemory.n, ObjectMax: s.CacheObjectMax.n, Log: log}, m)
	defer memory.Close()
	if memory.OnHeap() {
		log.Warn("no memory file is to be had (memfd_create, address space): bodies lie on the heap and hits cost more")
	}
	fallbacks := &fallbacks{}
	s3, err := origin.New(s.origin(log, registry, fallbacks), registry, spending{m, registry, books})
	if err != nil {
		return err
	}
	defer s3.Close()
	iam, err := s.provisioning(ctx, log, registry, provisioningDeps{s3, m})
	if err != nil {
		return err
	}
	fallbacks.to.Store(iam.Provisioner)
	var serving atomic.Bool
	public := proxy.New(proxy.Config{
		Registry: registry, Cache: memory, Origin: s3, Recorder: recorder{m, registry, books},
		Canary: iam.canary, Ready: serving.Load, Log: log,
	})
	observe(registry, m, memory)
	iam.observe(registry, m)
	registry.Observe(followers{registry, public, s3, memory, m, iam.canary, books}.follow)
	servers, err := s.listen(ctx, public, admin.Config{
		Registry: registry, Token: token, Provisioner: iam, Bookkeeper: books, Metrics: m.Handler(), Ready: serving.Load,
		Log: log, Purger: purger{registry, memory}, Explainer: public,
	})
	if err != nil {
		return err
	}
	serving.Store(true)
	return servers.run(ctx, log, runOptions{
		timeout: s.ShutdownTimeout.d, background: []func(context.Context) error{cache.NewHeap(memory).Run, iam.Run},
		draining: func() { serving.Store(false) },
	})
}

// openRegistry opens the key set and what it seals.
func (s *serveCmd) openRegistry(ctx context.Context, log *slog.Logger, store *sqlstore.Store) (*alias.Registry, error) {
	sealed, err := store.CountSealed(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := seal.Open(ctx, seal.Spec{Master: s.MasterKey, Dir: s.Data, Fresh: sealed == 0, Sealed: sealed})
	if err != nil {
		return nil, err
	}
	if path, beside := keys.BesideData(); beside {
		log.Warn("the key set lies beside the database that it protects: whoever copies the folder has both; "+
			"see --master-key", "keyset", path)
	}
	return alias.Open(ctx, store, keys, alias.Policy{AllowPrivateEndpoints: s.AllowPrivateEndpoints.on})
}

// adminToken is the token that was given, or else the data folder's.
func (s *serveCmd) adminToken() (alias.Secret, error) {
	if s.token.IsZero() {
		return admin.OwnToken(s.Data)
	}
	return s.token, nil
}

// openData makes the data folder and takes it for this process alone.
func openData(dir string, log *slog.Logger) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data folder (--data): %w", err)
	}
	if err := closeData(dir); err != nil {
		log.Warn("others may enter the data folder: give it mode 0700", "folder", dir, "error", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("the data folder (--data) is not writable: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("the data folder %s is in use by another ixmage: "+
				"stop it, or name another folder with --data", dir)
		}
		return nil, fmt.Errorf("lock the data folder: %w", err)
	}
	return func() { f.Close() }, nil
}

// closeData keeps others out of the data folder. It leaves one that holds other
// things too: by a slip that may be /tmp, or somebody's home.
func closeData(dir string) error {
	info, err := os.Stat(dir)
	if err != nil || info.Mode().Perm()&0o077 == 0 {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !dataFiles.MatchString(e.Name()) {
			return fmt.Errorf("it holds %s, which is not ours, so its mode is left alone", e.Name())
		}
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a folder needs the x
}

// dataFiles are what a data folder holds. A crash at first start may leave one
// with tmp; a volume of its own has the last one.
var dataFiles = regexp.MustCompile(
	`^(lock|registry\.db(-\w+)?|(master\.keyset(\.kms)?|admin-token)(\.tmp-\d+)?|lost\+found)$`)

// observe lets Prometheus read what is not counted but known.
func observe(registry *alias.Registry, m *metrics.Metrics, memory *cache.Cache) {
	m.CacheStats(cache.Tier, func() (bytes, capacity, entries int64) {
		st := memory.Stats()
		return st.Bytes, st.Capacity, st.Entries
	})
	m.CacheStats(cache.TierMissing, func() (bytes, capacity, entries int64) {
		st := memory.MissingStats()
		return st.Bytes, st.Capacity, st.Entries
	})
	m.Aliases(func() map[string]int {
		byState := make(map[string]int)
		for state, n := range registry.Count() {
			byState[string(state)] = n
		}
		return byState
	})
}

// fallbacks tells provisioning of requests that fell back on an old key. The
// origin is made first, so the one who hears of it is put in later.
type fallbacks struct {
	to atomic.Pointer[provision.Provisioner]
}

func (f *fallbacks) tell(credentialID int64) {
	if p := f.to.Load(); p != nil {
		p.Fallback(credentialID)
	}
}
