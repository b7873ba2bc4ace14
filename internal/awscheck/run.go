package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"golang.org/x/sync/errgroup"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/picture"
)

// testRun is a run in an account. Its methods are safe for concurrent use.
type testRun struct {
	o       *options
	aws     aws.Config
	account account
	id      string // also the --install-id of the programs
	began   time.Time
	journal *journal
	http    *http.Client // of the programs' listeners

	assumer func() (*principal, error) // may assume the roles of the run, and read the bucket
	reader  func() (*role, error)      // a role that reads the bucket, and that assumer assumes

	mu      sync.Mutex // guards what follows
	out     io.Writer
	secrets map[string]bool
	names   map[string]int // how often a name was given
}

func newRun(o *options, cfg aws.Config, out io.Writer) *testRun {
	now := time.Now().UTC()
	r := &testRun{
		o: o, aws: cfg, out: out, began: now, http: &http.Client{Transport: &http.Transport{}},
		id: "t" + strconv.FormatInt(now.Unix(), 36) + policy.NewSuffix(), secrets: map[string]bool{}, names: map[string]int{},
	}
	return r
}

// path is the IAM path of what the run makes itself, programPath of what its programs make.
func (r *testRun) path() string        { return "/" + marker + "/" + r.id + "/" }
func (r *testRun) programPath() string { return policy.UserPath(r.id) }

func (r *testRun) bucketName() string { return marker + "-" + r.account.ID + "-" + r.id }

// Keys of the objects of the bucket, all the same picture.
const (
	prefix  = "in/"
	inside  = prefix + "a.png"
	outside = "out/a.png"
)

// open begins the journal. What checks share is made with ctx, since it outlives the check that
// asks first.
func (r *testRun) open(ctx context.Context) (err error) {
	r.journal, err = createJournal(r.o.dir, journalHeader{r.id, r.account.ID, r.o.region, r.began})
	r.assumer = sync.OnceValues(func() (*principal, error) {
		ctx, cancel := context.WithTimeout(ctx, r.o.wait)
		defer cancel()
		return r.newAssumer(ctx)
	})
	r.reader = sync.OnceValues(func() (*role, error) {
		ctx, cancel := context.WithTimeout(ctx, r.o.wait)
		defer cancel()
		return r.newReader(ctx)
	})
	return err
}

// close deletes everything.
func (r *testRun) close(ctx context.Context) error {
	r.http.CloseIdleConnections()
	r.sayf("Deleting everything that was made …\n")
	return r.sweep(ctx)
}

// fill makes the bucket with its objects.
func (r *testRun) fill(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.o.wait)
	defer cancel()
	if err := r.makeBucket(ctx); err != nil {
		return fmt.Errorf("make the bucket %s: %s", r.bucketName(), describe(err))
	}
	for _, key := range []string{inside, outside} {
		if err := r.put(ctx, key, sample()); err != nil {
			return fmt.Errorf("put %s: %s", key, describe(err))
		}
	}
	return nil
}

// sample is the picture. Drawing it takes long.
var sample = sync.OnceValue(func() picture.Sample { return picture.Samples()[0] })

// check tries one thing.
type check struct {
	name string
	says string // what ixmage assumes, or asks
	// want are the answers that agree with it; without one the answer is a measurement.
	want []string
	long bool // bounded by the option long
	run  func(context.Context, *env) (answer, error)
}

// answer is what the account answered, and more about it.
type answer struct{ got, detail string }

// Verdicts.
const (
	asAssumed = "as assumed"
	differs   = "differs"
	measured  = "measured"
	notTried  = "not tried"
	failed    = "failed"
)

// result is a row of the report.
type result struct {
	Name    string   `json:"name"`
	Verdict string   `json:"verdict"`
	Says    string   `json:"says"`
	Want    []string `json:"want,omitempty"`
	Got     string   `json:"got,omitempty"`
	Detail  string   `json:"detail,omitempty"`
	Seconds float64  `json:"seconds"`
}

// notTriedError is why a check tried nothing.
type notTriedError string

func (e notTriedError) Error() string { return string(e) }

// all runs checks, some at once. The results are in the order of the checks.
func (r *testRun) all(ctx context.Context, list []check) ([]result, error) {
	list = slices.DeleteFunc(list, func(c check) bool { return !r.o.only.MatchString(c.name) })
	results := make([]result, len(list))
	for i, c := range list {
		results[i] = result{Name: c.name, Says: c.says, Want: c.want, Verdict: notTried, Detail: "the run ended before"}
	}
	if err := r.fill(ctx); err != nil {
		return results, err
	}
	var group errgroup.Group
	group.SetLimit(r.o.parallel)
	for _, i := range longFirst(list) {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			results[i] = r.one(ctx, list[i])
			r.sayf("%-11s %s: %s\n", results[i].Verdict, list[i].name, results[i].Got)
			return nil
		})
	}
	err := group.Wait()
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return results, err
}

// longFirst are the indices of checks, with those that wait for long first.
func longFirst(list []check) []int {
	var first, then []int
	for i := range list {
		if list[i].long {
			first = append(first, i)
		} else {
			then = append(then, i)
		}
	}
	return append(first, then...)
}

// one runs a check and deletes what it made, whatever happens to it.
func (r *testRun) one(ctx context.Context, c check) (out result) {
	began, e := time.Now(), &env{testRun: r, check: c.name}
	limit := r.o.wait
	if c.long {
		limit = r.o.long
	}
	out = result{Name: c.name, Says: c.says, Want: c.want}
	defer func() {
		out.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
		out.Got, out.Detail = r.redact(out.Got), r.redact(out.Detail)
	}()
	defer func() {
		if err := e.undo(context.WithoutCancel(ctx)); err != nil && out.Detail == "" {
			out.Detail = "deleted at the end only: " + describe(err)
		}
	}()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	got, err := guarded(limited, c, e)
	if err != nil && ctx.Err() != nil {
		err = notTriedError("interrupted")
	}
	out.judge(got, err)
	return out
}

// judge compares the answer with what is assumed.
func (x *result) judge(got answer, err error) {
	x.Got, x.Detail = got.got, got.detail
	var reason notTriedError
	switch {
	case errors.As(err, &reason):
		x.Verdict, x.Detail = notTried, string(reason)
	case unimplemented(err):
		x.Verdict, x.Detail = notTried, "the server does not have this call: "+describe(err)
	case err != nil:
		x.Verdict, x.Detail = failed, strings.TrimPrefix(x.Detail+"; "+describe(err), "; ")
	case len(x.Want) == 0:
		x.Verdict = measured
	case slices.Contains(x.Want, got.got):
		x.Verdict = asAssumed
	default:
		x.Verdict = differs
	}
}

// guarded turns a panic of a check into an error.
func guarded(ctx context.Context, c check, e *env) (got answer, err error) {
	defer func() {
		if p := recover(); p != nil {
			got, err = answer{}, fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return c.run(ctx, e)
}

// keepSecret makes a text absent from all output.
func (r *testRun) keepSecret(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if text != "" {
		r.secrets[text] = true
	}
}

func (r *testRun) redact(text string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	for secret := range r.secrets {
		text = strings.ReplaceAll(text, secret, "[secret]")
	}
	return text
}

func (r *testRun) sayf(format string, args ...any) {
	text := r.redact(fmt.Sprintf(format, args...))
	r.mu.Lock()
	defer r.mu.Unlock()
	_, _ = io.WriteString(r.out, text) // the report has it too
}

// messageOf is the message of the server in an error.
func messageOf(err error) string {
	api, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return ""
	}
	text := api.ErrorMessage()
	return text[:min(len(text), 400)]
}

// pause returns an error if ctx ends before.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func static(kp alias.KeyPair) aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), "")
}

// iam, sts and s3 are clients that sign with keys; without keys with those of the caller.
func (r *testRun) iam(keys aws.CredentialsProvider) *iam.Client {
	return iam.NewFromConfig(r.aws, func(o *iam.Options) {
		if o.BaseEndpoint = optional(r.o.iamURL); keys != nil {
			o.Credentials = keys
		}
	})
}

func (r *testRun) sts(keys aws.CredentialsProvider, region string) *sts.Client {
	return sts.NewFromConfig(r.aws, func(o *sts.Options) {
		if o.BaseEndpoint = optional(r.o.stsURL); keys != nil {
			o.Credentials = keys
		}
		if region != "" {
			o.Region = region
		}
	})
}

func (r *testRun) s3(keys aws.CredentialsProvider) *s3.Client {
	return s3.NewFromConfig(r.aws, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = optional(r.o.s3URL), r.o.s3URL != ""
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired // no note about a missing one
		if keys != nil {
			o.Credentials = keys
		}
	})
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
