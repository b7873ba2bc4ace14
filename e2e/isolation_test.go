package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"ixmage/alias"
	"ixmage/internal/awstest/gateway"
	"ixmage/internal/awstest/s3"
)

// pairOf returns a key pair that depends on the name.
func pairOf(name string) alias.KeyPair {
	return alias.KeyPair{
		AccessKeyID:     "AKIA" + strings.ToUpper(name) + "EXAMPLE",
		SecretAccessKey: alias.NewSecret("secret-of-" + name + "-which-nobody-else-has"),
	}
}

func inJSON(kp alias.KeyPair) map[string]string {
	return map[string]string{"access_key_id": kp.AccessKeyID, "secret_access_key": kp.SecretAccessKey.Reveal()}
}

// TestCredentialsApart has two aliases on one bucket, each with a key pair for its own
// prefix, requested at the same paths at the same time. S3 checks each signature and
// sees no path signed with the other key.
func TestCredentialsApart(t *testing.T) {
	t.Parallel()
	const keys, rounds = 20, 3
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("media", "")
	s := start(t, "--cache-memory", "0")
	for _, name := range []string{"red", "blue"} {
		fakeS3.Allow(pairOf(name), "media", name+"/")
		for i := range keys {
			body := bytesOf(10_000, fmt.Sprint(name, i))
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
				if want := bytesOf(10_000, fmt.Sprint(name, i%keys)); r.StatusCode != http.StatusOK || !bytes.Equal(r.body, want) {
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
	// S3 itself refuses a key outside its prefix.
	if r := s.api(http.MethodPatch, "/api/v1/aliases/red", map[string]any{"prefix": "blue/"}); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	if r := s.get("/red/0.png"); r.StatusCode != http.StatusNotFound {
		t.Errorf("red reads from blue's prefix: %s", r.Status)
	}
}

// TestCredentialShared has two aliases on different buckets with one key pair, which is
// then replaced, and deleted as far as the API allows.
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
			fakeS3.Put(name+"-bucket", key, s3.Object{Body: bytesOf(5000, name+key), ContentType: "image/png"})
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
	want("/one/a.png", bytesOf(5000, "onea.png"), "ixmage; fwd=uri-miss")
	want("/two/a.png", bytesOf(5000, "twoa.png"), "ixmage; fwd=uri-miss")

	// The key is revoked: stored objects are served, all others fail.
	fakeS3.Revoke(old.AccessKeyID)
	want("/one/a.png", bytesOf(5000, "onea.png"), "ixmage; hit")
	if r := s.get("/one/b.png"); r.StatusCode != http.StatusBadGateway || !bytes.Contains(r.body, []byte("problems/origin-credential")) {
		t.Errorf("a revoked key gives %s: %s", r.Status, r.body)
	}
	// With a valid key they work again, without a restart, and the cache stays.
	for _, name := range []string{"one", "two"} {
		fakeS3.Allow(fresh, name+"-bucket", "")
	}
	if r := s.api(http.MethodPut, "/api/v1/credentials/common", map[string]any{
		"access_key_id": fresh.AccessKeyID, "secret_access_key": fresh.SecretAccessKey.Reveal(),
	}); r.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", r.Status, r.body)
	}
	want("/one/b.png", bytesOf(5000, "oneb.png"), "ixmage; fwd=uri-miss")
	want("/two/b.png", bytesOf(5000, "twob.png"), "ixmage; fwd=uri-miss")
	want("/two/a.png", bytesOf(5000, "twoa.png"), "ixmage; hit")
	if r := s.api(http.MethodDelete, "/api/v1/credentials/common", nil); r.StatusCode != http.StatusConflict ||
		!bytes.Contains(r.body, []byte("one")) || !bytes.Contains(r.body, []byte("two")) {
		t.Errorf("deleting a credential in use: %s: %s", r.Status, r.body)
	}
}

// TestCredentialReplacedMidStream replaces a key pair while a picture arrives that was
// requested with the old one: it arrives whole.
func TestCredentialReplacedMidStream(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("media", "")
	body := bytesOf(300_000, "mid-stream")
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

// TestCredentialsOnRealServer is TestCredentialsApart on the real S3 and IAM.
func TestCredentialsOnRealServer(t *testing.T) {
	t.Parallel()
	gw := realS3(t)
	bucket := unique("apart")
	if err := gw.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	s := start(t)
	for _, name := range []string{"red", "blue"} {
		object := s3.Object{Body: bytesOf(5000, name), ContentType: "image/png"}
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
		if r := s.get("/" + name + "/a.png"); !bytes.Equal(r.body, bytesOf(5000, name)) {
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

// TestAnonymous reads a public bucket without a signature, although the environment has
// keys.
func TestAnonymous(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAFROMENVIRONMENT")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "never-to-be-used")
	fakeS3 := s3.New(t)
	fakeS3.CreateBucket("public", "")
	fakeS3.Put("public", "a.png", s3.Object{Body: bytesOf(100, "public"), ContentType: "image/png"})
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

// place is an alias, its location and its credential.
type place struct{ alias, bucket, prefix, credential string }

// path is the path of object number key.
func (p place) path(key int) string { return fmt.Sprintf("/%s/%d.png", p.alias, key) }

// body is the body of object number key. Every other one is too large for the cache of
// TestCredentialsInACrowd.
func (p place) body(key int) []byte {
	return png(20_000+30_000*(key%2), fmt.Sprint(p.alias, key))
}

// TestCredentialsInACrowd has six aliases on three buckets, with four credentials,
// requested at the same keys at the same time in every way, while S3 breaks bodies off
// and gets further requests. Each request is signed with the key of its alias, also
// one that resumes a body.
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
		s.adminCall(http.MethodPost, "/api/v1/credentials", map[string]any{
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
	s.adminCall(http.MethodPost, "/api/v1/aliases", fields, http.StatusCreated)
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

// TestStreamsOutliveTheirKey replaces a key pair and revokes the old one while a body
// arrives. That body arrives whole, later requests use the new key, and stored objects
// stay.
func TestStreamsOutliveTheirKey(t *testing.T) {
	t.Parallel()
	fakeS3 := s3.New(t)
	s := start(t)
	old, fresh := pairOf("old"), pairOf("fresh")
	fakeS3.Allow(old, "media", "")
	for _, key := range []string{"hot.png", "long.png", "new.png"} {
		fakeS3.Put("media", key, s3.Object{Body: png(300_000, key), ContentType: "image/png"})
	}
	s.adminCall(http.MethodPost, "/api/v1/aliases", map[string]any{
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
	long := sendGet(t, s.public, "/shop/long.png")
	eventually(t, "a body is under way", func() bool { return fakeS3.OpenBodies() == 1 })

	fakeS3.Allow(fresh, "media", "")
	s.adminCall(http.MethodPut, "/api/v1/credentials/shop", map[string]any{
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

// unique returns a name that no other test has on the real server, not even in another
// run.
func unique(name string) string { return name + "-" + strings.ToLower(rand.Text()[:8]) }

// TestKeyGoneAtIAM makes a key inactive at the real IAM server, deletes it, and puts
// another one in its place. Stored pictures are served; the others fail with the
// credential as the cause, and work again without a restart.
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
	s.adminCall(http.MethodPost, "/api/v1/aliases", map[string]any{
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
	s.adminCall(http.MethodPut, "/api/v1/credentials/shop", map[string]any{
		"access_key_id": fresh.AccessKeyID, "secret_access_key": fresh.SecretAccessKey.Reveal(),
	}, http.StatusOK)
	eventually(t, "S3 knows the new key", func() bool { return fetch(4).StatusCode == http.StatusOK })
	served(3, "ixmage; fwd=uri-miss")
	served(5, "ixmage; fwd=uri-miss")
	served(0, "ixmage; hit")
}

// TestEnvironmentIsNotUsed starts the program on a machine that offers credentials,
// endpoints and proxies in every way that the AWS tools know. Requests are signed with
// the key of their alias or not at all, and go to the alias's endpoint.
func TestEnvironmentIsNotUsed(t *testing.T) {
	t.Parallel()
	fakeS3, stranger := s3.New(t), s3.New(t)
	s := startWith(t, temptations(t, t.TempDir(), stranger.URL))
	body := png(faultSize, "own")
	key := pairOf("own").AccessKeyID
	fakeS3.Put("own", "a.png", s3.Object{Body: body, ContentType: "image/png"})
	fakeS3.Put("own", "b.png", s3.Object{Body: body, ContentType: "binary/octet-stream"})
	for name, credential := range map[string]any{"signed": inJSON(pairOf("own")), "open": nil} {
		s.adminCall(http.MethodPost, "/api/v1/aliases", map[string]any{
			"name": name, "bucket": "own", "endpoint": fakeS3.URL, "path_style": true, "credential": credential,
		}, http.StatusCreated)
	}
	// After a refusal the program might look for another key.
	fakeS3.Next("own", "a.png", s3.Fail("ExpiredToken"))
	(&given{method: "get", want: fails(502, "origin-credential", 1, ""), got: single(s.public, http.MethodGet, "/open/a.png")}).check(t)
	for _, name := range []string{"signed", "open"} {
		for _, method := range []string{"head", "part", "get"} {
			for _, file := range []string{"a.png", "b.png"} {
				g := &given{method: method, want: whole(0), body: body}
				g.got = g.ask(s.public, "/"+name+"/"+file)
				g.check(t)
			}
		}
	}
	byKey := map[string]int{}
	for _, r := range fakeS3.Requests() {
		byKey[r.AccessKeyID]++
		if (r.Header.Get("Authorization") == "") != (r.AccessKeyID == "") || r.Header.Get("X-Amz-Security-Token") != "" {
			t.Errorf("%s %s comes with %v", r.Method, r.Target, r.Header)
		}
	}
	if len(byKey) != 2 || byKey[""] < 4 || byKey[key] < 4 {
		t.Errorf("requests by access key id: %v, want %s and none", byKey, key)
	}
	if n := stranger.Accepted(); n != 0 {
		t.Errorf("%d connections went where the environment points", n)
	}
}

// temptations are settings of the AWS tools, and of net/http, that lead to another
// server and other keys.
func temptations(t *testing.T, dir, url string) []string {
	t.Helper()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const keys = "aws_access_key_id = AKIAFROMAFILEXAMPLE\naws_secret_access_key = never-to-be-used\naws_session_token = never\n"
	return []string{
		"AWS_ACCESS_KEY_ID=AKIAFROMENVIRONMENT", "AWS_SECRET_ACCESS_KEY=never-to-be-used", "AWS_SESSION_TOKEN=never",
		"AWS_PROFILE=tempting", "AWS_REGION=xx-tempting-1", "AWS_DEFAULT_REGION=xx-tempting-1", "AWS_SDK_LOAD_CONFIG=1",
		"AWS_SHARED_CREDENTIALS_FILE=" + write("credentials", "[default]\n"+keys+"[tempting]\n"+keys),
		"AWS_CONFIG_FILE=" + write("config", "[profile tempting]\nendpoint_url = "+url+"\ncredential_process = /bin/false\n"+keys),
		"AWS_ENDPOINT_URL=" + url, "AWS_ENDPOINT_URL_S3=" + url, "AWS_USE_FIPS_ENDPOINT=true", "AWS_USE_DUALSTACK_ENDPOINT=true",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + url, "AWS_CONTAINER_CREDENTIALS_FULL_URI=" + url + "/credentials",
		"AWS_WEB_IDENTITY_TOKEN_FILE=" + write("token", "never"), "AWS_ROLE_ARN=arn:aws:iam::123456789012:role/tempting",
		"AWS_MAX_ATTEMPTS=9", "AWS_RETRY_MODE=adaptive", "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT=regional", "AWS_S3_USE_ARN_REGION=true",
		"HTTP_PROXY=" + url, "HTTPS_PROXY=" + url, "ALL_PROXY=" + url, "http_proxy=" + url, "https_proxy=" + url, "NO_PROXY=",
	}
}

// TestBucketOwner: each request names the account that must own the bucket, so that a
// bucket of that name in another account is not read.
func TestBucketOwner(t *testing.T) {
	t.Parallel()
	const owner = "123456789012"
	fakeS3 := s3.New(t)
	s := start(t)
	fakeS3.CreateBucket("owned", owner)
	body := png(faultSize, "owned")
	for _, key := range []string{"a.png", "b.png"} {
		fakeS3.Put("owned", key, s3.Object{Body: body, ContentType: "image/png"})
	}
	for name, expected := range map[string]string{"ours": owner, "theirs": "210987654321"} {
		s.adminCall(http.MethodPost, "/api/v1/aliases", map[string]any{
			"name": name, "bucket": "owned", "bucket_owner": expected, "endpoint": fakeS3.URL, "path_style": true, "credential": inJSON(pairOf("own")),
		}, http.StatusCreated)
	}
	fakeS3.Hook(func(r *s3.Request) *s3.Fault {
		if r.Method == http.MethodGet && r.Header.Get("If-Match") == "" {
			return s3.CloseAfter(100)
		}
		return nil
	})
	for i, method := range []string{"head", "part", "get"} {
		path := "/" + []string{"a.png", "a.png", "b.png"}[i]
		for name, want := range map[string]*expectation{"ours": whole(0), "theirs": fails(404, "not-found", 0, "")} {
			g := &given{method: method, want: want, body: body}
			g.got = g.ask(s.public, "/"+name+path)
			g.check(t)
		}
	}
	said := map[string]int{}
	for _, r := range fakeS3.Requests() {
		said[r.Header.Get("X-Amz-Expected-Bucket-Owner")]++
	}
	// A HEAD, another one before the range, and two bodies with their rests; a HEAD with
	// its GET, and a GET of the other: the refusal of the first is remembered.
	if len(said) != 2 || said[owner] != 6 || said["210987654321"] != 3 {
		t.Errorf("expected owners are %v", said)
	}
}
