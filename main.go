// Command ixmage gives pictures in private S3 buckets a public URL, /{alias}/{key}. It
// reads them with a key pair that can read only the objects of its aliases.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/alecthomas/kong"

	"ixmage/alias/cli"
	"ixmage/proxy/transform"
)

// version is set with -ldflags -X.
var version = "dev"

// Exit statuses.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

type commandLine struct {
	Serve serveCmd `cmd:"" help:"Run the server."`
	cli.Commands
	Healthcheck healthcheckCmd `cmd:"" help:"Exit 0 when the server is ready and 1 when not, for a container's HEALTHCHECK."`
	Version     versionCmd     `cmd:"" help:"Print the version."`
}

// command is implemented by the subcommands that call no API. It returns the exit status.
type command interface {
	run(ctx *kong.Context) int
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

func run(args []string, stdout, stderr io.Writer) int {
	dropEmptyEnv()
	exited := -1
	parser := newParser(kong.Writers(stdout, stderr), kong.Exit(func(code int) { exited = code }))
	args = usual(args)
	ctx, err := parser.Parse(args)
	if exited >= 0 { // --help was printed
		return exited
	}
	if err != nil {
		fmt.Fprintf(stderr, "ixmage: %v\nTry: %s --help\n", err, nearest(err))
		return exitUsage
	}
	if c, ok := reflect.TypeAssert[command](ctx.Selected().Target.Addr()); ok {
		return c.run(ctx)
	}
	return cli.Run(ctx, transform.CheckOptions)
}

// usual replaces forms of the command line that other programs have.
func usual(args []string) []string {
	switch {
	case len(args) == 0:
		return []string{"--help"}
	case args[0] == "help":
		return append(args[1:len(args):len(args)], "--help")
	case args[0] == "--version":
		return []string{"version"}
	}
	return args
}

// nearest is the command whose help explains the error of a command line.
func nearest(err error) string {
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil {
		for _, step := range slices.Backward(p.Context.Path) {
			if step.Command != nil {
				return step.Command.FullPath()
			}
		}
	}
	return "ixmage"
}

func newParser(options ...kong.Option) *kong.Kong {
	var p commandLine
	options = append(options, kong.Name("ixmage"), kong.PostBuild(serveEnvs), kong.Vars{"listen": defaultListen},
		kong.Description("Gives pictures in private S3 buckets a public URL. "+
			"Every flag of serve can be set by the environment variable behind it."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true}), kong.Help(help))
	options = append(options, cli.Options()...)
	return kong.Must(&p, append(options, p.Serve.readers()...)...)
}

// serveEnvs gives the flags of serve their variables. kong.DefaultEnvars would give the
// client commands some too, and a variable for one flag would change many commands.
func serveEnvs(k *kong.Kong) error {
	for _, command := range k.Model.Children {
		for _, flag := range command.Flags {
			if command.Name == "serve" {
				flag.Envs = []string{envName(flag.Name)}
				flag.Tag.Envs = flag.Envs
			}
		}
	}
	return nil
}

// help prints the help of a command. The help of the program itself includes the flags
// of serve, because most readers look for them.
func help(opts kong.HelpOptions, ctx *kong.Context) error {
	if err := kong.DefaultHelpPrinter(opts, ctx); err != nil || ctx.Selected() != nil {
		cli.PrintExamples(ctx)
		return err
	}
	serve, err := kong.Trace(ctx.Kong, []string{"serve"})
	if err != nil {
		return err
	}
	fmt.Fprintln(ctx.Stdout)
	return kong.DefaultHelpPrinter(opts, serve)
}

type versionCmd struct{}

func (*versionCmd) run(ctx *kong.Context) int {
	fmt.Fprintf(ctx.Stdout, "ixmage %s %s\n", version, runtime.Version())
	return exitOK
}

type healthcheckCmd struct {
	URL string `name:"url" env:"-" help:"URL of the server, or of a page of it; without a path, /-/readyz is added. Default: the address of IXMAGE_LISTEN." placeholder:"URL"`
}

func (h *healthcheckCmd) run(ctx *kong.Context) int {
	target := h.target()
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{}}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, target, http.NoBody)
	if err != nil {
		fmt.Fprintf(ctx.Stderr, "ixmage: --url: %v\n", err)
		return exitUsage
	}
	resp, err := client.Do(req)
	if err != nil {
		var hint string
		if errors.Is(err, syscall.ECONNREFUSED) {
			hint = "; use --url or IXMAGE_LISTEN if the server listens elsewhere"
		}
		fmt.Fprintf(ctx.Stderr, "ixmage: not ready: %v%s\n", err, hint)
		return exitFailed
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		fmt.Fprintf(ctx.Stderr, "ixmage: not ready: %s answered %s\n", target, resp.Status)
		return exitFailed
	}
	return exitOK
}

// target returns the URL of the request.
func (h *healthcheckCmd) target() string {
	const ready = "/-/readyz"
	if h.URL == "" {
		return "http://" + localAddr(os.Getenv("IXMAGE_LISTEN")) + ready
	}
	u, err := url.Parse(h.URL)
	if err != nil || u.Host == "" || u.Path != "" {
		return h.URL // unchanged: the request reports an invalid URL
	}
	u.Path = ready
	return u.String()
}

// localAddr returns the address at which this machine reaches a listener on addr.
func localAddr(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		host, port, _ = net.SplitHostPort(defaultListen)
	}
	switch host {
	case "", "0.0.0.0", "::": // all accept IPv4, and a container may have no IPv6
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}
