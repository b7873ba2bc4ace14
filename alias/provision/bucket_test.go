package provision

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// frontS3 is the fake's S3 behind a server that answers some requests itself: those for which
// answer returns true.
func (w *env) frontS3(answer func(http.ResponseWriter, *http.Request) bool) string {
	w.t.Helper()
	behind, err := url.Parse(w.iam.S3URL)
	if err != nil {
		w.t.Fatal(err)
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(behind)
		r.Out.Host = r.In.Host // it is signed
	}}
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if !answer(rw, r) {
			pass.ServeHTTP(rw, r)
		}
	}))
	w.t.Cleanup(server.Close)
	return server.URL
}

// made are the calls so far that make or change something in IAM.
func (w *env) made() []string {
	var made []string
	for _, c := range w.iam.Calls() {
		if c.Service == "iam" && !strings.HasPrefix(c.Action, "Get") && !strings.HasPrefix(c.Action, "List") {
			made = append(made, c.Action)
		}
	}
	return made
}

// wantSoon wants an operation to have failed before any budget for the propagation of a key.
func wantSoon(t *testing.T, op *alias.Operation) {
	t.Helper()
	if took := op.FinishedAt.Sub(op.CreatedAt); took > 10*time.Second {
		t.Errorf("%s failed after %s by the clock of the provisioner, want seconds", op.Kind, took)
	}
}

// wantStory wants an operation to have failed soon with a code and a detail with all the words.
func wantStory(t *testing.T, op *alias.Operation, code string, words ...string) {
	t.Helper()
	if op.State != alias.OperationFailed {
		t.Fatalf("%s: %s, want failed with %s", op.Kind, op.State, code)
	}
	wantSoon(t, op)
	wantCode(t, op.Error, code)
	for _, word := range words {
		if !strings.Contains(op.Error.Detail, word) {
			t.Errorf("the detail does not say %q: %s", word, op.Error.Detail)
		}
	}
}

// TestBucketOfRequest provisions at servers that answer an unsigned HeadBucket in many ways.
func TestBucketOfRequest(t *testing.T) {
	t.Parallel()
	const header = "x-amz-bucket-region"
	for _, row := range []struct {
		name   string
		status int    // of the answer to HeadBucket; 0 hangs up
		region string // in its header
		list   string // code of the answer to an unsigned list
		code   string // of the operation; empty: it must succeed
		words  string
	}{
		{"private, as AWS", 403, "us-east-1", "", "", ""},
		{"public, as AWS", 200, "us-east-1", "", "", ""},
		{"another region, moved", 301, "eu-west-1", "", codeWrongRegion, "eu-west-1 us-east-1 region"},
		{"another region, for a time", 307, "eu-west-1", "", codeWrongRegion, "eu-west-1"},
		{"another region, bad request", 400, "us-gov-west-1", "", codeWrongRegion, "us-gov-west-1"},
		{"another region, refused", 403, "ap-southeast-2", "", codeWrongRegion, "ap-southeast-2"},
		{"another region, public", 200, "eusc-de-east-1", "", codeWrongRegion, "eusc-de-east-1"},
		{"missing, with a region", 404, "us-east-1", "", codeBucketMissing, testBucket + " bucket"},
		{"missing, and a list says so", 404, "", "NoSuchBucket", codeBucketMissing, testBucket},
		{"404 for what it does not know", 404, "", "NoSuchKey", "", ""},
		{"404 without a code", 404, "", "404", "", ""},
		{"refused, no region", 403, "", "", "", ""},
		{"moved, no region", 301, "", "", "", ""},
		{"method not allowed", 405, "", "", "", ""},
		{"not implemented", 501, "", "", "", ""},
		{"bad request", 400, "", "", "", ""},
		{"failing", 500, "eu-west-1", "", "", ""},
		{"busy", 503, "", "", "", ""},
		{"a region as Ceph names it", 403, "default", "", "", ""},
		{"a region that is none", 403, "EU <b>", "", "", ""},
		{"no answer", 0, "", "", codeS3Unreachable, testBucket + " endpoint network"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			w := newEnv(t, iam.Config{})
			url := w.frontS3(func(rw http.ResponseWriter, r *http.Request) bool {
				unsigned := r.Header.Get("Authorization") == ""
				switch {
				case r.Method == http.MethodHead && unsigned && row.status == 0:
					panic(http.ErrAbortHandler)
				case r.Method == http.MethodHead && unsigned:
					rw.Header()[header] = []string{row.region}
					rw.WriteHeader(row.status)
				case unsigned && row.list == "404":
					rw.WriteHeader(http.StatusNotFound)
				case unsigned && row.list != "":
					rw.WriteHeader(http.StatusNotFound)
					fmt.Fprintf(rw, "<Error><Code>%s</Code></Error>", row.list)
				default:
					return false
				}
				return true
			})
			p := w.start()
			op := p.do(p.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.Endpoint = url })))
			if row.code == "" {
				if op.State != alias.OperationDone {
					t.Errorf("%+v", op.Error)
				}
				return
			}
			wantStory(t, op, row.code, strings.Fields(row.words)...)
			if made := w.made(); len(made) > 0 {
				t.Errorf("IAM was asked for %v, want nothing", made)
			}
			if op.Error.Step != "create-user" {
				t.Errorf("failed at %s", op.Error.Step)
			}
		})
	}
}

// TestBucketMark: the look at the bucket is not signed, and names the operation.
func TestBucketMark(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	p := w.start()
	op := p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop")))
	calls := w.iam.Calls()
	if c := calls[0]; c.Action != "HeadBucket" || c.AccessKeyID != "" || !strings.Contains(c.UserAgent, "ixmage-probe/"+op.ID) {
		t.Errorf("the first call is %s, signed by %q, of %q", c.Action, c.AccessKeyID, c.UserAgent)
	}
	if slices.ContainsFunc(calls[1:], func(c iam.Call) bool { return c.Action == "HeadBucket" }) {
		t.Error("the bucket is looked at more than once")
	}
}

// TestBucketAnswersLater: a connection that breaks is no reason to give up.
func TestBucketAnswersLater(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	var heads atomic.Int64
	url := w.frontS3(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodHead && heads.Add(1) < bucketTries {
			panic(http.ErrAbortHandler)
		}
		return false
	})
	p := w.start()
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("shop", func(r *policy.Request) { r.Endpoint = url })))
	if heads.Load() != bucketTries {
		t.Errorf("asked %d times", heads.Load())
	}
}

// TestBucketOfReuse: a reuse looks at its bucket before it changes the policy, and once more
// after the mistake was corrected.
func TestBucketOfReuse(t *testing.T) {
	t.Parallel()
	w := newEnv(t, iam.Config{})
	w.edit = func(cfg *Config) { cfg.Buckets = []string{"*"} }
	p := w.start()
	hasShop(alias.PolicyInline)(p)
	before := len(w.made())
	typo := func(r *policy.Request) { r.Bucket = "medai" }
	op := p.do(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"), typo)))
	wantStory(t, op, codeBucketMissing, "medai")
	if made := w.made()[before:]; len(made) > 0 {
		t.Errorf("IAM was asked for %v, want nothing", made)
	}
	p.mustSucceed(p.Provision(t.Context(), actor, w.request("blog", reusing("shop"))))
	w.wantSound(p, "shop")
}
