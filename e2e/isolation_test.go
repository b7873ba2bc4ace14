package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// pairOf is a key pair of its own for each name.
func pairOf(name string) alias.KeyPair {
	return alias.KeyPair{
		AccessKeyID:     "AKIA" + strings.ToUpper(name) + "EXAMPLE",
		SecretAccessKey: alias.NewSecret("secret-of-" + name + "-which-nobody-else-has"),
	}
}

func inJSON(kp alias.KeyPair) map[string]string {
	return map[string]string{"access_key_id": kp.AccessKeyID, "secret_access_key": kp.SecretAccessKey.Reveal()}
}

// TestCredentialsApart has two aliases on one bucket, each with its own key pair
// that covers its own prefix, ask for the same paths at once. S3 checks each
// signature; it must see no path signed by the other's key.
func TestCredentialsApart(t *testing.T) {
	t.Parallel()
	const keys, rounds = 20, 3
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("media", "")
	s := start(t, "--cache-memory", "0")
	for _, name := range []string{"red", "blue"} {
		fakeS3.Allow(pairOf(name), "media", name+"/")
		for i := range keys {
			body := pic(10_000, fmt.Sprint(name, i))
			fakeS3.Put("media", fmt.Sprintf("%s/%d.png", name, i), s3.Object{Body: body, ContentType: "image/png"})
		}
		s.create(map[string]any{
			"name": name, "bucket": "media", "prefix": name, "endpoint": fakeS3.URL, "path_style": true,
			"credential": inJSON(pairOf(name)),
		})
	}
	var wg sync.WaitGroup
	for i := range keys * rounds {
		for _, name := range []string{"red", "blue"} {
			wg.Go(func() {
				r := s.get(fmt.Sprintf("/%s/%d.png", name, i%keys))
				if want := pic(10_000, fmt.Sprint(name, i%keys)); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, want) {
					t.Errorf("%s/%d: %s, %d bytes", name, i%keys, r.Status, len(r.body))
				}
			})
		}
	}
	wg.Wait()
	for _, r := range fakeS3.Requests() {
		name, _, _ := strings.Cut(r.Key, "/")
		if want := pairOf(name).AccessKeyID; r.AccessKeyID != want {
			t.Errorf("%s was signed with %s, want %s", r.Key, r.AccessKeyID, want)
		}
	}
	// The wall behind the wall: a key that does not cover a prefix gets nothing.
	if r := s.api(http.MethodPatch, "/api/v1/aliases/red", map[string]any{"prefix": "blue/"}); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	if r := s.get("/red/0.png"); r.StatusCode != http.StatusNotFound {
		t.Errorf("red reads from blue's prefix: %s", r.Status)
	}
}

// TestCredentialShared has two aliases on different buckets read with one key
// pair, which is then replaced and deleted as far as the API lets it.
func TestCredentialShared(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	s := start(t)
	old, fresh := pairOf("old"), pairOf("fresh")
	if r := s.api(http.MethodPost, "/api/v1/credentials", map[string]any{
		"name": "common", "access_key_id": old.AccessKeyID, "secret_access_key": old.SecretAccessKey.Reveal(),
	}); r.StatusCode != http.StatusCreated {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	for _, name := range []string{"one", "two"} {
		fakeS3.CreateBucket(name+"-bucket", "")
		fakeS3.Allow(old, name+"-bucket", "")
		for _, key := range []string{"a.png", "b.png"} {
			fakeS3.Put(name+"-bucket", key, s3.Object{Body: pic(5000, name+key), ContentType: "image/png"})
		}
		s.create(map[string]any{
			"name": name, "bucket": name + "-bucket", "endpoint": fakeS3.URL, "path_style": true, "credential": "common",
		})
	}
	want := func(path string, body []byte, status string) {
		t.Helper()
		r := s.get(path)
		if r.StatusCode != http.StatusOK || !bytes.Equal(r.body, body) || !strings.HasPrefix(r.Header.Get("Cache-Status"), status) {
			t.Errorf("%s: %s, %d bytes, %s; want 200, the picture, %s…", path, r.Status, len(r.body), r.Header.Get("Cache-Status"), status)
		}
	}
	want("/one/a.png", pic(5000, "onea.png"), "ixmage; fwd=uri-miss")
	want("/two/a.png", pic(5000, "twoa.png"), "ixmage; fwd=uri-miss")

	// The key is revoked: what is in memory keeps coming, nothing else does.
	fakeS3.Revoke(old.AccessKeyID)
	want("/one/a.png", pic(5000, "onea.png"), "ixmage; hit")
	if r := s.get("/one/b.png"); r.StatusCode != http.StatusBadGateway || !bytes.Contains(r.body, []byte("problems/origin-credential")) {
		t.Errorf("a revoked key gives %s: %s", r.Status, r.body)
	}
	// A good one is put in: no restart, and the cache is not emptied.
	for _, name := range []string{"one", "two"} {
		fakeS3.Allow(fresh, name+"-bucket", "")
	}
	if r := s.api(http.MethodPut, "/api/v1/credentials/common", map[string]any{
		"access_key_id": fresh.AccessKeyID, "secret_access_key": fresh.SecretAccessKey.Reveal(),
	}); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	want("/one/b.png", pic(5000, "oneb.png"), "ixmage; fwd=uri-miss")
	want("/two/b.png", pic(5000, "twob.png"), "ixmage; fwd=uri-miss")
	want("/two/a.png", pic(5000, "twoa.png"), "ixmage; hit")
	if r := s.api(http.MethodDelete, "/api/v1/credentials/common", nil); r.StatusCode != http.StatusConflict ||
		!bytes.Contains(r.body, []byte("one")) || !bytes.Contains(r.body, []byte("two")) {
		t.Errorf("deleting a credential in use: %s: %s", r.Status, r.body)
	}
}

// TestCredentialReplacedMidStream replaces a key pair while a picture arrives
// that was asked for with the old one: the picture arrives whole.
func TestCredentialReplacedMidStream(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("media", "")
	body := pic(300_000, "mid-stream")
	fakeS3.Put("media", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	release := make(chan struct{})
	fakeS3.Next("media", "a.png", s3.StallAfter(100_000, release))
	s := start(t)
	s.createOn("shop", fakeS3.URL, "media")
	got := make(chan *response)
	go func() { got <- s.get("/shop/a.png") }()
	eventually(t, "the fetch is under way", func() bool { return fakeS3.OpenBodies() == 1 })
	fresh := pairOf("fresh")
	if r := s.api(http.MethodPut, "/api/v1/credentials/shop", map[string]any{
		"access_key_id": fresh.AccessKeyID, "secret_access_key": fresh.SecretAccessKey.Reveal(),
	}); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	close(release)
	if r := <-got; r.StatusCode != http.StatusOK || r.err != nil || !bytes.Equal(r.body, body) {
		t.Errorf("%s, %d bytes, %v", r.Status, len(r.body), r.err)
	}
}

// TestCredentialsOnRealServer is TestCredentialsApart where S3 and IAM decide.
func TestCredentialsOnRealServer(t *testing.T) {
	t.Parallel()
	gw := realS3(t)
	bucket := unique("apart")
	if err := gw.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	for _, name := range []string{"red", "blue"} {
		object := s3.Object{Body: pic(5000, name), ContentType: "image/png"}
		if err := gw.PutObject(t.Context(), bucket, name+"/a.png", object); err != nil {
			t.Fatal(err)
		}
		pair, err := gw.ReadOnlyUser(t.Context(), bucket+"-"+name, bucket, name+"/")
		if err != nil {
			t.Fatal(err)
		}
		s.create(map[string]any{
			"name": name, "bucket": bucket, "prefix": name + "/", "endpoint": gw.S3URL, "path_style": true,
			"credential": inJSON(pair),
		})
	}
	for _, name := range []string{"red", "blue"} {
		if r := s.get("/" + name + "/a.png"); !bytes.Equal(r.body, pic(5000, name)) {
			t.Errorf("%s: %s, %d bytes", name, r.Status, len(r.body))
		}
	}
	if r := s.api(http.MethodPatch, "/api/v1/aliases/red", map[string]any{"prefix": "blue/"}); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	if r := s.get("/red/a.png"); r.StatusCode != http.StatusNotFound {
		t.Errorf("red's key reads blue's prefix: %s", r.Status)
	}
}

// TestAnonymous reads a public bucket without a signature, though the
// environment has keys to sign with.
func TestAnonymous(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAFROMENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "never-to-be-used")
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("public", "")
	fakeS3.Put("public", "a.png", s3.Object{Body: pic(100, "public"), ContentType: "image/png"})
	s := start(t)
	s.create(map[string]any{
		"name": "open", "bucket": "public", "bucket_owner": "123456789012", "endpoint": fakeS3.URL, "path_style": true, "credential": nil,
	})
	s.get("/open/a.png")
	for _, r := range fakeS3.Requests() {
		if r.Header.Get("Authorization") != "" {
			t.Errorf("a request for a public bucket is signed: %s", r.Header.Get("Authorization"))
		}
		if got := r.Header.Get("X-Amz-Expected-Bucket-Owner"); got != "123456789012" {
			t.Errorf("expected owner is %q", got)
		}
	}
	if fakeS3.Total() == 0 {
		t.Error("S3 was not asked")
	}
}
