package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"ixmage/internal/awstest/netfault"
	"ixmage/internal/awstest/s3"
)

// TestRotationUnderLoad rotates a key three times while pictures are asked for
// 200 times a second, none of them from memory. No request may fail.
func TestRotationUnderLoad(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	const keys, workers = 50, 16
	for i := range keys {
		body := append([]byte("\x89PNG\r\n\x1a\n"), pic(4992, fmt.Sprint("load ", i))...)
		obj := s3.Object{Body: body, ContentType: "image/png"}
		if err := g.PutObject(t.Context(), bucket, fmt.Sprintf("web/%d.png", i), obj); err != nil {
			t.Fatal(err)
		}
	}
	s := startProvisioning(t, g, append([]string{"--cache-memory", "0"}, quickWaits...)...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))

	c := client(t)
	var asked, failed atomic.Int64
	ask := func(n int64) {
		resp, err := c.Get(fmt.Sprintf("http://%s/shop/%d.png", s.public, n%keys))
		if err != nil {
			failed.Add(1)
			t.Errorf("request %d: %v", n, err)
			return
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK || body.Len() != 5000 {
			failed.Add(1)
			t.Errorf("request %d: %s, %d bytes, %v: %s", n, resp.Status, body.Len(), err, body.Bytes()[:min(body.Len(), 300)])
		}
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	// As many as 200 a second, and no more at a time than there are workers: a
	// slow machine asks less often.
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for range workers {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					ask(asked.Add(1))
				}
			}
		})
	}
	for round := range 3 {
		before := asked.Load()
		s.operateWell(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
		if asked.Load() == before {
			t.Errorf("nothing was asked for in round %d", round)
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%d requests, %d failed, %v fell back", asked.Load(), failed.Load(),
		s.metric(`ixmage_rotation_fallback_total{credential="shop"}`))
	for _, user := range s.iamUsers(g) {
		if ids, err := g.Keys(t.Context(), user); err != nil || len(ids) != 1 {
			t.Errorf("user %s has the keys %v, %v; want one", user, ids, err)
		}
	}
}

// TestServingWithoutIAM serves what was provisioned while nobody answers at the
// IAM endpoint.
func TestServingWithoutIAM(t *testing.T) {
	t.Parallel()
	g := realS3(t)
	bucket := media(t, g)
	s := startProvisioning(t, g, quickWaits...)
	s.operateWell(http.MethodPost, "/api/v1/provision", provisionBody(g, "shop", bucket))
	s.stop()

	nobody := netfault.New(t, strings.TrimPrefix(g.IAMURL, "http://"))
	if err := nobody.Set(netfault.Refuse()); err != nil {
		t.Fatal(err)
	}
	s = startProvisioningIn(t, program, s.data, provisionArgs(g, nobody.URL, append(quickWaits, "--provision-visible-timeout", "1s")...)...)
	for _, path := range []string{"/-/readyz", "/shop/a.png"} {
		if r := s.get(path); r.StatusCode != http.StatusOK {
			t.Errorf("%s while IAM is away: %s", path, r.Status)
		}
	}
	op := s.operate(http.MethodPost, "/api/v1/credentials/shop/rotate", nil)
	if op.State != "failed" || op.Error == nil || op.Error.Code != "iam-unreachable" {
		t.Errorf("a rotation while IAM is away: %+v", op)
	}
	if r := s.get("/shop/b.png"); r.StatusCode != http.StatusOK {
		t.Errorf("after a rotation that failed: %s", r.Status)
	}
}
