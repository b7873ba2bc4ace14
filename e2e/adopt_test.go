package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"ixmage/internal/awstest/iam"
	"ixmage/internal/awstest/s3"
)

// TestAdopt: a user that an operator made serves an alias with its key. It is adopted while
// requests run, none of which fails. After the removal it is there with its policy and key.
func TestAdopt(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	f.CreateBucket("prov-media")
	for _, key := range []string{"web/a.png", "private/p.png"} {
		f.PutObject("prov-media", key, s3.Object{Body: bytesOf(20_000, key), ContentType: "image/png"})
	}
	pair := f.AddUser("/", "ixmage-s3read", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::prov-media/web/*"}]}`)
	before, _ := f.User("ixmage-s3read")
	s := startProvisioningIn(t, filepath.Join(t.TempDir(), "data"), slices.Concat([]string{
		"--provision", "--iam-endpoint", f.URL, "--provision-buckets", "prov-*", "--adopt-users", "ixmage-*", "--cache-memory", "0",
	}, quickWaits, []string{"--", f.Root.AccessKeyID, f.Root.SecretAccessKey.Reveal()})...)
	place := map[string]any{"bucket": "prov-media", "prefix": "web/", "region": "us-east-1", "endpoint": f.S3URL, "path_style": true}
	with := func(more map[string]any) map[string]any {
		body := maps.Clone(place)
		maps.Copy(body, more)
		return body
	}
	s.adminCall(http.MethodPost, "/api/v1/aliases", with(map[string]any{
		"name": "shop", "canary": "a.png",
		"credential": map[string]any{"access_key_id": pair.AccessKeyID, "secret_access_key": pair.SecretAccessKey.Reveal()},
	}), http.StatusCreated)

	request := with(map[string]any{
		"alias": "shop", "adopt": "ixmage-s3read", "probe": map[string]any{"inside": "web/a.png", "outside": "private/p.png"},
	})
	load := s.load("/shop/a.png")
	op := s.operateWell(http.MethodPost, "/api/v1/provision", request)
	if n, bad := load(); bad != "" {
		t.Errorf("%d requests while the user was adopted, failed: %s", n, bad)
	}
	if op.Credential != "shop-adopted" || op.Steps[0].Name != "adopt-user" {
		t.Errorf("operation %+v", op)
	}
	if again := s.operateWell(http.MethodPost, "/api/v1/provision", request); again.ID != op.ID {
		t.Errorf("the same request again is %s, want %s", again.ID, op.ID)
	}
	wantAll(t, "the alias", string(s.api(http.MethodGet, "/api/v1/aliases/shop", nil).body), `"credential":"shop-adopted"`, `"state":"active"`)
	wantProblem(t, s.api(http.MethodGet, "/api/v1/credentials/shop", nil), http.StatusNotFound, "not-found")
	wantAll(t, "the credential", string(s.api(http.MethodGet, "/api/v1/credentials/shop-adopted", nil).body),
		`"kind":"provisioned"`, `"name":"ixmage-s3read"`, `"adopted":true`)
	rotated := s.operate(http.MethodPost, "/api/v1/credentials/shop-adopted/rotate", nil)
	if rotated.State != "failed" || rotated.Error.Code != "unknown-keys" || !strings.Contains(rotated.Error.Detail, pair.AccessKeyID) {
		t.Errorf("rotation beside the key of before: %+v %+v", rotated, rotated.Error)
	}
	if r := s.get("/shop/a.png"); r.StatusCode != http.StatusOK {
		t.Errorf("picture: %s", r.Status)
	}

	if r := s.api(http.MethodDelete, "/api/v1/aliases/shop", nil); r.StatusCode != http.StatusNoContent {
		t.Fatal(r.Status, string(r.body))
	}
	s.operateWell(http.MethodDelete, "/api/v1/credentials/shop-adopted", nil)
	after, ok := f.User("ixmage-s3read")
	keys := f.Keys("ixmage-s3read")
	if !ok || len(after.Tags) > 0 || after.Inline["test"] != before.Inline["test"] || len(after.Inline) != 1 || after.ID != before.ID {
		t.Errorf("the user is %+v, was %+v", after, before)
	}
	if len(keys) != 1 || keys[0].ID != pair.AccessKeyID || !keys[0].Active {
		t.Errorf("keys %+v, want %s", keys, pair.AccessKeyID)
	}
}

// load requests a path without a pause until stop is called, which tells how many requests
// there were and what the first that failed got. It returns when the first one has ended.
func (s *server) load(path string) (stop func() (int, string)) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var wait sync.WaitGroup
	n, bad, begun := 0, "", make(chan struct{})
	wait.Go(func() {
		first := sync.OnceFunc(func() { close(begun) })
		defer first()
		for ctx.Err() == nil {
			r, err := http.Get("http://" + s.public + path)
			if err != nil {
				bad = err.Error()
				return
			}
			size, err := io.Copy(io.Discard, r.Body)
			_ = r.Body.Close()
			if n++; (r.StatusCode != http.StatusOK || err != nil || size != 20_000) && bad == "" {
				bad = fmt.Sprintf("%s, %d bytes, %v", r.Status, size, err)
			}
			first()
		}
	})
	<-begun
	return func() (int, string) {
		cancel()
		wait.Wait()
		return n, bad
	}
}
