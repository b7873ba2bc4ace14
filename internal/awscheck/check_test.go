package main

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"ixmage/internal/awstest/iam"
)

// testRun is a run in this process.
func (f *fake) testRun(t *testing.T) *testRun {
	t.Helper()
	var out bytes.Buffer
	o, err := parse([]string{"-endpoint-iam", f.URL, "-endpoint-s3", f.S3URL, "-dir", f.dir, "-wait", "5m", "-poll", "10ms", "-settle", "1ms"}, &out)
	if err != nil {
		t.Fatal(err)
	}
	o.region = "us-east-1"
	r := newRun(o, aws.Config{Region: o.region, Credentials: static(f.caller)}, &out)
	r.account = account{ID: accountID, Partition: "aws"}
	return r
}

// TestVerdicts: a check that fails, panics or exceeds its time deletes what it made; others go on.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	r := f.testRun(t)
	if err := r.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	makes := func(then func(context.Context) (answer, error)) func(context.Context, *env) (answer, error) {
		return func(ctx context.Context, e *env) (answer, error) {
			if _, err := e.newPrincipal(ctx, userSpec{}); err != nil {
				return answer{}, err
			}
			if _, err := e.managed(ctx, document(allow("*", "s3:GetObject"))); err != nil {
				return answer{}, err
			}
			return then(ctx)
		}
	}
	says := func(got string, err error) func(context.Context) (answer, error) {
		return func(context.Context) (answer, error) { return answer{got: got}, err }
	}
	list := []check{
		{name: "good", want: []string{"a", "b"}, run: makes(says("b", nil))},
		{name: "other", want: []string{"a", "b"}, run: makes(says("c", nil))},
		{name: "measure", run: makes(says("1s", nil))},
		{name: "error", run: makes(says("", errors.New("broken")))},
		{name: "panics", run: makes(func(context.Context) (answer, error) { panic("oops") })},
		{name: "untried", run: untried("no server")},
	}
	got, err := r.all(t.Context(), list)
	if err != nil {
		t.Error(err)
	}
	want := []struct{ verdict, detail string }{
		{asAssumed, ""}, {differs, ""}, {measured, ""}, {failed, "broken"}, {failed, "panic: oops"}, {notTried, "no server"},
	}
	for i, w := range want {
		if got[i].Name != list[i].name || got[i].Verdict != w.verdict || !strings.Contains(got[i].Detail, w.detail) {
			t.Errorf("%+v, want %+v", got[i], w)
		}
	}
	r.o.wait = time.Millisecond
	slow := r.one(t.Context(), check{name: "slow", run: func(ctx context.Context, e *env) (answer, error) {
		if _, err := e.user(context.WithoutCancel(ctx), userSpec{}); err != nil {
			return answer{}, err
		}
		<-ctx.Done()
		return answer{}, ctx.Err()
	}})
	if slow.Verdict != failed || slow.Detail != "timeout" {
		t.Errorf("%+v", slow)
	}
	if len(f.Users()) != 1 || len(f.Policies()) != 0 {
		t.Errorf("before the end: %d users, %d policies", len(f.Users()), len(f.Policies()))
	}
	if rep := r.report(got, nil); rep.good() || rep.count(failed) != 2 {
		t.Error("the report is good")
	}
	if err := r.close(t.Context()); err != nil {
		t.Error(err)
	}
	f.nothingLeft()
}

// TestRedact: a secret of the run is in no answer and in no output.
func TestRedact(t *testing.T) {
	t.Parallel()
	f := newAccount(t, iam.Config{})
	r := f.testRun(t)
	r.keepSecret("s3cr3t")
	x := r.one(t.Context(), check{name: "leaks", run: func(context.Context, *env) (answer, error) {
		return answer{"got s3cr3t", "more s3cr3t"}, errors.New("error s3cr3t")
	}})
	r.sayf("said %s", "s3cr3t")
	out := r.out.(*bytes.Buffer).String()
	for _, text := range []string{x.Got, x.Detail, out, r.report(nil, errors.New("the s3cr3t")).Error} {
		if strings.Contains(text, "s3cr3t") || !strings.Contains(text, "[secret]") {
			t.Errorf("%q", text)
		}
	}
}

// TestGuardDuty reads the findings of a scripted server.
func TestGuardDuty(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answers map[string]string // by path; absent: 403
		got     string
		why     string
	}{
		"findings": {answers: map[string]string{
			"/detector": `{"detectorIds":["d1"]}`, "/detector/d1/findings": `{"findingIds":["f1"]}`,
			"/detector/d1/findings/get": `{"findings":[{"type":"Persistence:IAMUser/AnomalousBehavior","severity":5}]}`,
		}, got: "Persistence:IAMUser/AnomalousBehavior (5)"},
		"none":        {answers: map[string]string{"/detector": `{"detectorIds":["d1"]}`, "/detector/d1/findings": `{"findingIds":[]}`}, got: "no findings yet"},
		"off":         {answers: map[string]string{"/detector": `{"detectorIds":[]}`}, why: "is off"},
		"not allowed": {why: "may not ask"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
				text, ok := c.answers[req.URL.Path]
				if !ok || !strings.Contains(req.Header.Get("Authorization"), "/guardduty/aws4_request") {
					w.WriteHeader(http.StatusForbidden)
				}
				w.Write([]byte(text))
			}))
			defer server.Close()
			f := newAccount(t, iam.Config{})
			e := &env{testRun: f.testRun(t), check: "guardduty"}
			got, err := e.findings(t.Context(), server.URL)
			var why notTriedError
			if got.got != c.got || errors.As(err, &why) != (c.why != "") || !strings.Contains(string(why), c.why) {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
