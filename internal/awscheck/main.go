// Command awscheck runs against an AWS account that nobody needs: it tries what ixmage
// assumes of AWS and what no test server can show, runs the built program there from the
// first user to the last, deletes everything that it made, and writes a report.
//
//	make test-aws            tell the account and the price, ask, and run
//	make test-aws CLEAN=1    delete what a killed run has left
//
// It makes users, roles and policies under two paths that have the id of the run, and one
// bucket. The name of each is written to a journal before it is made. The flags name other
// servers than AWS, as the tests of this package do; such a report says nothing of AWS.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// envAccount answers the question where there is no terminal.
const envAccount = "IXMAGE_AWS_ACCOUNT"

// options are the flags.
type options struct {
	clean                    bool
	iamURL, stsURL, s3URL    string // empty: AWS
	dir, program, serveFlags string
	region                   string
	regions                  []string // of STS
	only                     *regexp.Regexp
	account                  string // of envAccount

	wait, long, observe, poll, settle, backoff time.Duration
	parallel                                   int
}

// custom reports whether a server is tried that is not AWS.
func (o *options) custom() bool { return o.iamURL+o.stsURL+o.s3URL != "" }

func main() { os.Exit(start()) }

func start() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second Ctrl-C does not wait for the deletions
	return command(ctx, os.Args[1:], os.Stdin, os.Stdout)
}

// Exit statuses.
const (
	exitGood    = 0 // AWS is as ixmage assumes it
	exitDiffers = 1 // it is not, a check failed, or something is left
	exitRefused = 2 // nothing was made
)

// command is the program without its process.
func command(ctx context.Context, args []string, in io.Reader, out io.Writer) int {
	o, err := parse(args, out)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitGood
	case err == nil:
		var good bool
		if good, err = run(ctx, o, in, out); good && err == nil {
			return exitGood
		}
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		fmt.Fprintln(out, "Refused:", refused.text)
		return exitRefused
	}
	if err != nil {
		fmt.Fprintln(out, "Error:", err)
	}
	return exitDiffers
}

// refusal is why nothing was made.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{fmt.Sprintf(format, args...)} }

func parse(args []string, out io.Writer) (*options, error) {
	o := &options{account: os.Getenv(envAccount)}
	flags := flag.NewFlagSet("awscheck", flag.ContinueOnError)
	flags.SetOutput(out)
	flags.BoolVar(&o.clean, "clean", false, "delete what killed runs have left, and end")
	service := func(name string) string {
		return cmp.Or(os.Getenv("AWS_ENDPOINT_URL_"+name), os.Getenv("AWS_ENDPOINT_URL"))
	}
	flags.StringVar(&o.iamURL, "endpoint-iam", service("IAM"), "URL of an IAM server that is not AWS")
	flags.StringVar(&o.stsURL, "endpoint-sts", service("STS"), "URL of its STS; default: that of IAM")
	flags.StringVar(&o.s3URL, "endpoint-s3", service("S3"), "URL of its S3")
	flags.StringVar(&o.dir, "dir", "aws-test", "folder of journals and reports")
	flags.StringVar(&o.program, "program", "bin/ixmage", "the built ixmage")
	flags.StringVar(&o.serveFlags, "serve-flags", "", "more flags of ixmage serve, separated by spaces")
	flags.StringVar(&o.region, "region", "", "region of the bucket; default: that of the AWS configuration")
	regions := flags.String("regions", "us-east-1,eu-west-1,ap-southeast-2", "regions of STS for times of keys")
	only := flags.String("only", "", "regular expression of the checks to run")
	flags.DurationVar(&o.wait, "wait", 4*time.Minute, "longest time of a check")
	flags.DurationVar(&o.long, "long", 25*time.Minute, "longest time of a check that waits for the end of a session")
	flags.DurationVar(&o.observe, "observe", 2*time.Minute, "for how long a check watches that nothing changes")
	flags.DurationVar(&o.poll, "poll", time.Second, "pause between two tries")
	flags.DurationVar(&o.settle, "settle", 10*time.Second, "pause between the two looks that find nothing left")
	flags.DurationVar(&o.backoff, "backoff", 20*time.Second, "longest pause after a throttled call")
	flags.IntVar(&o.parallel, "parallel", 6, "checks that run at once")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, refuse("unknown argument %q", flags.Arg(0))
	}
	if o.iamURL != "" {
		o.stsURL = cmp.Or(o.stsURL, o.iamURL)
	}
	if o.custom() && (o.iamURL == "" || o.s3URL == "") {
		return nil, refuse("name both --endpoint-iam and --endpoint-s3, or neither: AWS and another server do not mix")
	}
	o.regions = strings.Split(*regions, ",")
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return nil, refuse("--only: %v", err)
	}
	return o, nil
}

// run is one run, or one clean-up; good is false if a check did not find what ixmage assumes.
func run(ctx context.Context, o *options, in io.Reader, out io.Writer) (good bool, err error) {
	r, err := connect(ctx, o, out)
	if err != nil {
		return false, err
	}
	if o.clean {
		return true, r.cleanAll(ctx)
	}
	if _, err := os.Stat(o.program); err != nil {
		return false, refuse("%v: build it with make build", err)
	}
	r.tell()
	if err := r.ask(in); err != nil {
		return false, err
	}
	if err := r.refuseUsed(ctx); err != nil {
		return false, err
	}
	if err := r.open(ctx); err != nil {
		return false, err
	}
	results, err := r.all(ctx, checks())
	// Ctrl-C ends the checks, and not the deletions.
	if cleaned := r.close(context.WithoutCancel(ctx)); cleaned != nil {
		err = errors.Join(err, cleaned)
	}
	report := r.report(results, err)
	if written := report.write(r); written != nil {
		return false, errors.Join(err, written)
	}
	return report.good(), err
}
