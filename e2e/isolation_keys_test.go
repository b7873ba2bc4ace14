package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// place is an alias, where it reads and with what.
type place struct{ alias, bucket, prefix, credential string }

// path is where the object of a key is asked for.
func (p place) path(key int) string { return fmt.Sprintf("/%s/%d.png", p.alias, key) }

// body is what the object of a key has. Every other one is too large for the
// cache of TestCredentialsInACrowd.
func (p place) body(key int) []byte {
	return png(20_000+30_000*(key%2), fmt.Sprint(p.alias, key))
}

// TestCredentialsInACrowd has six aliases on three buckets, with four
// credentials among them, asked for the same keys at once in every way, while S3
// breaks off and has to be asked again. Each request bears the key of its alias,
// a resumed one too.
func TestCredentialsInACrowd(t *testing.T) {
	t.Parallel()
	const keys = 8
	places := []place{
		{"red", "first", "red/", "red"}, {"blue", "first", "blue/", "blue"}, // one bucket, two credentials
		{"one", "second", "one/", "both"}, {"two", "third", "two/", "both"}, // two buckets, one credential
		{"deep", "first", "red/deep/", "deep"}, // a prefix within another's
		{"open", "third", "open/", ""},
	}
	fakeS3 := s3.New(t)
	s := start(t, "--cache-object-max", "32KiB")
	for _, name := range []string{"red", "blue", "both", "deep"} {
		kp := pairOf(name)
		s.admit(http.MethodPost, "/api/v1/credentials", map[string]any{
			"name": name, "access_key_id": kp.AccessKeyID, "secret_access_key": kp.SecretAccessKey.Reveal(),
		}, http.StatusCreated)
	}
	for _, p := range places {
		s.open(fakeS3, p)
		for key := range keys {
			fakeS3.Put(p.bucket, p.prefix+fmt.Sprintf("%d.png", key), s3.Object{Body: p.body(key), ContentType: "image/png"})
		}
	}
	var broken sync.Map // objects whose first body was cut
	fakeS3.Hook(func(r *s3.Request) *s3.Fault {
		if _, again := broken.LoadOrStore(r.Bucket+"/"+r.Key, true); again || r.Method != http.MethodGet {
			return nil
		}
		return s3.CloseAfter(9000)
	})
	var wg sync.WaitGroup
	for _, p := range places {
		for i := range 3 * keys {
			wg.Go(func() {
				g := &given{method: []string{"get", "head", "part"}[i/keys], want: whole(0), body: p.body(i % keys)}
				g.got = g.ask(s.public, p.path(i%keys))
				g.check(t)
			})
		}
	}
	wg.Wait()
	checkSigned(t, fakeS3, places)
}

// open registers a place and lets its key, and no other, read there.
func (s *server) open(fakeS3 *s3.Server, p place) {
	s.t.Helper()
	fields := map[string]any{
		"name": p.alias, "bucket": p.bucket, "prefix": p.prefix, "endpoint": fakeS3.URL, "path_style": true, "credential": nil,
	}
	var kp alias.KeyPair // nobody's
	if p.credential != "" {
		fields["credential"], kp = p.credential, pairOf(p.credential)
	}
	fakeS3.Allow(kp, p.bucket, p.prefix)
	s.admit(http.MethodPost, "/api/v1/aliases", fields, http.StatusCreated)
}

// checkSigned checks with which key each request was signed.
func checkSigned(t *testing.T, fakeS3 *s3.Server, places []place) {
	t.Helper()
	owner := map[string]string{}
	for _, p := range places {
		if p.credential != "" {
			owner[p.bucket+"/"+p.prefix] = pairOf(p.credential).AccessKeyID
		}
	}
	resumed := 0
	for _, r := range fakeS3.Requests() {
		at := r.Bucket + "/" + r.Key[:strings.LastIndexByte(r.Key, '/')+1]
		if want := owner[at]; r.AccessKeyID != want || (r.Header.Get("Authorization") == "") != (want == "") {
			t.Errorf("%s %s was signed with %q, want %q", r.Method, r.Target, r.AccessKeyID, want)
		}
		if r.Status >= http.StatusBadRequest {
			t.Errorf("S3 refused %s %s: %d", r.Method, r.Target, r.Status)
		}
		if r.Header.Get("If-Match") != "" {
			resumed++
		}
	}
	if resumed == 0 {
		t.Error("nothing was resumed")
	}
}

// TestStreamsOutliveTheirKey replaces a key pair, and revokes the old one, while
// a body arrives: that body comes whole, who asks then is served with the new
// key, and what was in the cache stays there.
func TestStreamsOutliveTheirKey(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	s := start(t)
	old, fresh := pairOf("old"), pairOf("fresh")
	fakeS3.Allow(old, "media", "")
	for _, key := range []string{"hot.png", "long.png", "new.png"} {
		fakeS3.Put("media", key, s3.Object{Body: png(300_000, key), ContentType: "image/png"})
	}
	s.admit(http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": "shop", "bucket": "media", "endpoint": fakeS3.URL, "path_style": true, "credential": inJSON(old),
	}, http.StatusCreated)
	fetch := func(key, status string) {
		t.Helper()
		g := &given{method: "get", want: whole(0), body: png(300_000, key), got: single(s.public, http.MethodGet, "/shop/"+key)}
		g.check(t)
		if got := g.got.Header.Get("Cache-Status"); !strings.HasPrefix(got, status) {
			t.Errorf("%s: Cache-Status is %q, want %s…", key, got, status)
		}
	}
	fetch("hot.png", "ixmage; fwd=uri-miss")
	release := make(chan struct{})
	fakeS3.Next("media", "long.png", s3.StallAfter(100_000, release))
	long := ask(t, s.public, "/shop/long.png")
	eventually(t, "a body is under way", func() bool { return fakeS3.OpenBodies() == 1 })

	fakeS3.Allow(fresh, "media", "")
	s.admit(http.MethodPut, "/api/v1/credentials/shop", map[string]any{
		"access_key_id": fresh.AccessKeyID, "secret_access_key": fresh.SecretAccessKey.Reveal(),
	}, http.StatusOK)
	fakeS3.Revoke(old.AccessKeyID)
	fetch("hot.png", "ixmage; hit")
	fetch("new.png", "ixmage; fwd=uri-miss")
	close(release)
	(&given{method: "get", want: whole(0), body: png(300_000, "long.png"), got: readAnswer(long, http.MethodGet)}).check(t)

	signed := map[string]string{"hot.png": old.AccessKeyID, "long.png": old.AccessKeyID, "new.png": fresh.AccessKeyID}
	for _, r := range fakeS3.Requests() {
		if r.AccessKeyID != signed[r.Key] {
			t.Errorf("%s was signed with %s, want %s", r.Key, r.AccessKeyID, signed[r.Key])
		}
	}
	if n := fakeS3.Total(); n != len(signed) {
		t.Errorf("S3 was asked %d times, want once for each of %d", n, len(signed))
	}
}

// unique makes a name that no other test, nor a second run of this one, has on
// the real server, which they share.
func unique(name string) string { return name + "-" + strings.ToLower(rand.Text()[:8]) }

// TestKeyGoneAtIAM switches a key off at the real IAM server, deletes it, and
// puts another one in. Pictures in the cache keep coming; the others fail with
// our credential named as the cause, and come again without a restart.
func TestKeyGoneAtIAM(t *testing.T) {
	t.Parallel()
	gw := realS3(t)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	name := unique("key-gone")
	must(gw.CreateBucket(ctx, name))
	const keys = 6
	for i := range keys {
		key := fmt.Sprintf("web/%d.png", i)
		must(gw.PutObject(ctx, name, key, s3.Object{Body: png(5000, key), ContentType: "image/png"}))
	}
	pair, err := gw.ReadOnlyUser(ctx, name, name, "web/")
	must(err)
	s := start(t)
	s.admit(http.MethodPost, "/api/v1/aliases", map[string]any{
		"name": "shop", "bucket": name, "prefix": "web/", "endpoint": gw.S3URL, "path_style": true, "credential": inJSON(pair),
	}, http.StatusCreated)
	fetch := func(i int) *response { return single(s.public, http.MethodGet, fmt.Sprintf("/shop/%d.png", i)) }
	served := func(i int, status string) {
		t.Helper()
		r := fetch(i)
		if r.err != nil || !bytes.Equal(r.body, png(5000, fmt.Sprintf("web/%d.png", i))) || !strings.HasPrefix(r.Header.Get("Cache-Status"), status) {
			t.Errorf("%d: %v, error %v; want the picture, %s…", i, r.Response, r.err, status)
		}
	}
	gone := func(i int) {
		t.Helper()
		eventually(t, "S3 knows that the key is gone", func() bool { return fetch(i).StatusCode == http.StatusBadGateway })
		for _, method := range []string{"get", "head", "part"} {
			g := &given{method: method, want: fails(502, "origin-credential", 0, "")}
			g.got = g.ask(s.public, fmt.Sprintf("/shop/%d.png", i))
			g.check(t)
		}
		served(0, "ixmage; hit")
	}
	served(0, "ixmage; fwd=uri-miss")
	must(gw.SetKeyStatus(ctx, name, pair.AccessKeyID, gateway.KeyInactive))
	gone(1)
	must(gw.SetKeyStatus(ctx, name, pair.AccessKeyID, gateway.KeyActive))
	eventually(t, "S3 knows that the key is back", func() bool { return fetch(2).StatusCode == http.StatusOK })
	must(gw.DeleteKey(ctx, name, pair.AccessKeyID))
	gone(3)
	fresh, err := gw.AddKey(ctx, name)
	must(err)
	s.admit(http.MethodPut, "/api/v1/credentials/shop", map[string]any{
		"access_key_id": fresh.AccessKeyID, "secret_access_key": fresh.SecretAccessKey.Reveal(),
	}, http.StatusOK)
	eventually(t, "S3 knows the new key", func() bool { return fetch(4).StatusCode == http.StatusOK })
	served(3, "ixmage; fwd=uri-miss")
	served(5, "ixmage; fwd=uri-miss")
	served(0, "ixmage; hit")
}
