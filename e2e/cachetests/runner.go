package cachetests

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"ixmage/internal/awstest/s3"
)

// Outcome is how a test ended.
type Outcome string

// Unclear is a test that could not run, because a check of its setup failed.
const (
	Passed  Outcome = "passed"
	Failed  Outcome = "failed"
	Unclear Outcome = "unclear"
)

// Result is an outcome with its reason.
type Result struct {
	Outcome Outcome
	Reason  string // empty when passed
}

// Config configures a Runner.
type Config struct {
	// URL returns the URL at which the cache serves the bucket to a test, without a
	// slash at its end. It is called once per test, sequentially.
	URL func(*Test) string
	// Bucket is the served bucket of S3. The runner occupies the hook of S3.
	Bucket string
	S3     *s3.Server
	// Pause is the pause after the requests that ask for one, 3 s in the suite.
	Pause time.Duration
}

const (
	// atOnce bounds the concurrent requests, so that a small machine answers each request
	// within the few seconds that the tests allow.
	atOnce = 16
	// attempts bounds the runs of a test whose setup fails: on a busy machine an
	// answer with a lifetime of two seconds may be stale before the next request.
	attempts = 4
)

// Runner runs tests. It is safe for concurrent use.
type Runner struct {
	cfg  Config
	slot chan struct{}
	http *http.Client

	mu   sync.Mutex // guards runs
	runs map[string]*run
}

// New makes a Runner and sets the hook of cfg.S3.
func New(cfg Config) *Runner {
	r := &Runner{
		cfg: cfg, slot: make(chan struct{}, atOnce), runs: map[string]*run{},
		http: &http.Client{Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: atOnce}},
	}
	cfg.S3.CreateBucket(cfg.Bucket, "")
	cfg.S3.Hook(r.answer)
	return r
}

// answer is the answer of the origin.
func (r *Runner) answer(asked *s3.Request) *s3.Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	if run, ok := r.runs[asked.Key]; ok && asked.Bucket == r.cfg.Bucket {
		return run.answer(asked)
	}
	return nil
}

// Run runs tests in parallel, because they mostly wait, and returns their results
// in order.
func (r *Runner) Run(ctx context.Context, tests []*Test) []Result {
	defer r.http.CloseIdleConnections()
	results := make([]Result, len(tests))
	var all sync.WaitGroup
	for i, t := range tests {
		c := &client{http: r.http, url: r.cfg.URL(t)}
		all.Go(func() { results[i] = r.runUntilStable(ctx, c, t) })
	}
	all.Wait()
	return results
}

// runUntilStable runs a test until its outcome is clear, or attempts are used up.
func (r *Runner) runUntilStable(ctx context.Context, c *client, t *Test) Result {
	var result Result
	for n := range attempts {
		err := r.once(ctx, &run{client: c, test: t.clone(), key: fmt.Sprintf("test/%s-%d", t.ID, n)})
		f, ok := errors.AsType[*failure](err)
		switch {
		case err == nil:
			return Result{Outcome: Passed}
		case !ok || !f.setup:
			return Result{Outcome: Failed, Reason: err.Error()}
		}
		result = Result{Outcome: Unclear, Reason: err.Error()}
	}
	return result
}

func (r *Runner) once(ctx context.Context, run *run) error {
	r.mu.Lock()
	r.runs[run.key] = run
	r.mu.Unlock()
	var replies []*reply
	var last *reply
	for i, q := range run.test.Requests {
		got, err := r.ask(ctx, run, i+1, last)
		if err != nil {
			return err
		}
		replies, last = append(replies, got), got
		if err := checkReply(run, i+1, got); err != nil {
			return err
		}
		if err := r.pause(ctx, q); err != nil {
			return err
		}
	}
	return checkOrigin(run, replies)
}

func (r *Runner) ask(ctx context.Context, run *run, n int, before *reply) (*reply, error) {
	r.slot <- struct{}{}
	defer func() { <-r.slot }()
	return run.client.ask(ctx, run, n, before)
}

func (r *Runner) pause(ctx context.Context, q *Request) error {
	if !q.PauseAfter {
		return nil
	}
	over := time.NewTimer(r.cfg.Pause)
	defer over.Stop()
	select {
	case <-over.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// clone is a copy of a test, whose dates are not computed yet.
func (t *Test) clone() *Test {
	out := *t
	out.Requests = nil
	for _, q := range t.Requests {
		c := *q
		c.Headers = append([]Field(nil), q.Headers...)
		c.Response = append([]Field(nil), q.Response...)
		c.Expected = append([]Expect(nil), q.Expected...)
		out.Requests = append(out.Requests, &c)
	}
	return &out
}

// Faulty reports whether the origin fails in a test.
func (t *Test) Faulty() bool {
	for _, q := range t.Requests {
		if q.Disconnect || q.ResponseStatus != nil && *q.ResponseStatus >= http.StatusInternalServerError {
			return true
		}
	}
	return false
}
