package origin

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias/scope"
	"ixmage/internal/awstest/s3"
)

func TestUncheckedEndpoints(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := newUncheckedEndpoints()
		a, b := variant{endpoint: "a"}, variant{endpoint: "b"}
		u.add(a)
		if !u.has(a) || u.has(b) {
			t.Errorf("a is remembered: %t, b: %t; want a alone", u.has(a), u.has(b))
		}
		<-time.After(uncheckedFor)
		if u.has(a) {
			t.Errorf("a is remembered after %s", uncheckedFor)
		}
		for i := range 2 * maxUnchecked {
			u.add(variant{endpoint: time.Duration(i).String()})
		}
		if n := u.lru.Len(); n > maxUnchecked {
			t.Errorf("%d endpoints are remembered, want at most %d", n, maxUnchecked)
		}
	})
}

// TestProbeVersions: the client of the probes reads the version of an object, by which a
// probe deletes what it made, and sends the mark of a probe.
func TestProbeVersions(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	k.s3.Hook(func(*s3.Request) *s3.Fault {
		return &s3.Fault{Header: func(h http.Header) { h.Set("X-Amz-Version-Id", "v1") }}
	})
	out, err := k.Client(r.Route.Alias.Location, k.secrets.pair(r.Route.Credential)).GetObject(
		scope.WithMark(t.Context(), "op-1"), &awss3.GetObjectInput{Bucket: &r.Route.Alias.Bucket, Key: &r.Key},
		func(o *awss3.Options) { o.APIOptions = append(o.APIOptions, scope.Mark) })
	if err != nil {
		t.Fatal(err)
	}
	out.Body.Close()
	if aws.ToString(out.VersionId) != "v1" {
		t.Errorf("version %q, want v1", aws.ToString(out.VersionId))
	}
	if got := k.s3.Requests()[0].Header.Get("User-Agent"); got != "ixmage ixmage-probe/op-1" {
		t.Errorf("user agent %q", got)
	}
}

// TestCheckedAgain: an endpoint is asked for no checksums only after it has shown that it
// answers without. A client that leaves, or an S3 that fails in between, shows nothing.
func TestCheckedAgain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		second    *s3.Fault // of the request without a checksum
		unchecked bool
	}{
		"served":   {nil, true},
		"missing":  {s3.Fail("NoSuchKey"), true},
		"reset":    {s3.ResetAfter(s3.BeforeHeaders), false},
		"failing":  {s3.Fail("InternalError"), false},
		"stalled":  {s3.StallAfter(s3.BeforeHeaders, nil), false},
		"the same": {s3.FailStatus(http.StatusNotImplemented, "NotImplemented"), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(100)})
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			k.s3.Hook(func(q *s3.Request) *s3.Fault {
				if q.Header.Get("X-Amz-Checksum-Mode") != "" {
					return s3.FailStatus(http.StatusNotImplemented, "NotImplemented")
				}
				if name == "stalled" {
					leave()
				}
				return tc.second
			})
			if obj, err := k.Get(ctx, r); err == nil {
				_, _ = readAll(t, obj)
			}
			if got := k.unchecked.has(variantOf(r.Route.Alias.Location)); got != tc.unchecked {
				t.Errorf("the endpoint is remembered: %t, want %t", got, tc.unchecked)
			}
		})
	}
}

// FuzzLastModified: no value makes an invalid date, or one that the SDK cannot read.
func FuzzLastModified(f *testing.F) {
	for _, s := range []string{
		"Wed, 15 Nov 2023 12:45:26 GMT", "Wednesday, 15-Nov-23 12:45:26 GMT", "Wed Nov 15 12:45:26 2023",
		"2023-11-15T12:45:26Z", "", "Fri, 31 Dec 9999 23:59:59 GMT", "Sat, 01 Jan 0000 00:00:00 GMT",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		now := time.Now()
		resp := &http.Response{Header: http.Header{"Last-Modified": {s}}, ContentLength: -1}
		cleanHeader(resp, now)
		line := resp.Header.Get("Last-Modified")
		if line == "" {
			return
		}
		got, err := http.ParseTime(line)
		if err != nil || got.After(now.Add(maxClockSkew)) {
			t.Errorf("%q became %q: %v, %v", s, line, got, err)
		}
	})
}
