package origin

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	"ixmage/internal/awstest/s3"
)

// Two aliases on one bucket, each with its own credential: whatever is asked,
// in whatever order and however often at once, a request for one is never
// signed with the key of the other. That holds for retries and resumed bodies.
func TestClientsNeverMixCredentials(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	a, b := k.route("a"), k.route("bb")
	b.Alias.Location = a.Alias.Location
	want := noise(50_000)
	keys := map[string]string{}
	for name, r := range map[string]alias.Route{"a": a, "bb": b} {
		k.s3.Put(r.Alias.Bucket, name+"/x.png", s3.Object{Body: want})
		// The server checks signatures: the id alone could be copied.
		k.s3.Allow(k.secrets.pair(r.Credential), r.Alias.Bucket, name+"/")
		keys[name+"/x.png"] = k.secrets.pair(r.Credential).AccessKeyID
	}
	k.s3.Hook(func(q *s3.Request) *s3.Fault {
		switch q.N % 7 {
		case 1:
			return s3.CloseAfter(int64(q.N * 100))
		case 3:
			return s3.Fail("InternalError")
		}
		return nil
	})
	var wg sync.WaitGroup
	for i := range 60 {
		r := Request{Route: a, Key: "a/x.png"}
		if i%2 == 1 {
			r = Request{Route: b, Key: "bb/x.png"}
		}
		wg.Go(func() {
			// Some fail twice in a row; those that succeed must be right.
			if got, err := k.read(t, r); err == nil && !bytes.Equal(got, want) {
				t.Errorf("%s: body differs", r.Key)
			}
			_, _ = k.Head(t.Context(), r)
		})
	}
	wg.Wait()
	for _, q := range k.s3.Requests() {
		if q.AccessKeyID != keys[q.Key] {
			t.Fatalf("%s %s was signed with %q, want %q", q.Method, q.Target, q.AccessKeyID, keys[q.Key])
		}
	}
	// Nor can one read what the other may.
	k.s3.Hook(nil)
	_, err := k.read(t, Request{Route: a, Key: "bb/x.png"})
	wantOutcome(t, err, OutcomeDenied)
}

func TestClientsSharedCredential(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	first, second := k.put("shop", "a.png", s3.Object{Body: noise(10)}), k.put("press", "b.png", s3.Object{Body: noise(20)})
	second.Route.Credential = first.Route.Credential
	for _, r := range []Request{first, second} {
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range k.s3.Requests() {
		if want := k.secrets.pair(first.Route.Credential).AccessKeyID; q.AccessKeyID != want {
			t.Errorf("%s was signed with %q, want %q", q.Target, q.AccessKeyID, want)
		}
	}
	if n := k.secrets.revealed(); n != 1 {
		t.Errorf("secret was opened %d times for two buckets, want once", n)
	}
}

// A new version signs from the next request on; a body that began under the
// old one ends well, and a late request with the old one does not bring its
// client back.
func TestClientsVersionChange(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(bodySize)
	old := k.put("shop", "a.png", s3.Object{Body: want})
	release := make(chan struct{})
	k.next(old, s3.StallAfter(100_000, release))
	obj, err := k.Get(t.Context(), old)
	if err != nil {
		t.Fatal(err)
	}
	fresh := old
	fresh.Route.Credential = k.credential(old.Route.Credential.ID, 2)
	if _, err := k.read(t, fresh); err != nil {
		t.Fatal(err)
	}
	close(release)
	if got, err := readAll(t, obj); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("stream of the old version: %d bytes, %v", len(got), err)
	}
	for range 2 {
		if _, err := k.read(t, old); err != nil {
			t.Fatal(err)
		}
	}
	var signed []string
	for _, q := range k.s3.Requests() {
		signed = append(signed, q.AccessKeyID)
	}
	v1, v2 := k.secrets.pair(old.Route.Credential).AccessKeyID, k.secrets.pair(fresh.Route.Credential).AccessKeyID
	if got, want := fmt.Sprint(signed), fmt.Sprint([]string{v1, v2, v1, v1}); got != want {
		t.Errorf("signed with %s, want %s", got, want)
	}
	if got := k.clients.versions(old.Route.Credential.ID); !slices.Equal(got, []int64{2}) || k.clients.lru.Len() != 1 {
		t.Errorf("kept clients of versions %d and %d clients, want 2 alone", got, k.clients.lru.Len())
	}
}

func TestClientsForget(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(bodySize)
	r := k.put("shop", "a.png", s3.Object{Body: want})
	obj, err := k.Get(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	k.Forget(r.Route.Credential.ID)
	k.Forget(12345)
	if k.clients.lru.Len() != 0 {
		t.Error("a client is left")
	}
	if got, err := readAll(t, obj); err != nil || !bytes.Equal(got, want) {
		t.Errorf("stream in flight: %d bytes, %v", len(got), err)
	}
	if _, err := k.read(t, r); err != nil {
		t.Error(err)
	}
	if n := k.secrets.revealed(); n != 2 {
		t.Errorf("secret was opened %d times, want 2", n)
	}
}

func TestClientsBounded(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	c := newClients(k.secrets, nil, k.sender, 3)
	for _, id := range []int64{1, 2, 3, 1, 4, 5} {
		if _, err := c.current(alias.Route{Alias: &alias.Alias{}, Credential: k.credential(id, 1)}); err != nil {
			t.Fatal(err)
		}
		if c.lru.Len() > 3 {
			t.Fatalf("%d clients, want at most 3", c.lru.Len())
		}
	}
	for id, kept := range map[int64]bool{1: true, 2: false, 3: false, 4: true, 5: true} {
		if got := len(c.versions(id)) > 0; got != kept {
			t.Errorf("credential %d kept: %t, want %t", id, got, kept)
		}
	}
}

func TestClientsVariants(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	cred := k.credential(1, 1)
	seen := map[any]bool{}
	for _, loc := range []alias.Location{
		{Region: "eu-west-1"}, {Region: "eu-west-2"}, {Region: "eu-west-1", PathStyle: true},
		{Region: "eu-west-1", Endpoint: "https://s3.example.com"},
		{Region: "eu-west-1", Bucket: "another", Prefix: "p/"}, // as the first
	} {
		made, err := k.clients.current(alias.Route{Alias: &alias.Alias{Location: loc}, Credential: cred})
		if err != nil {
			t.Fatal(err)
		}
		seen[made] = true
	}
	if len(seen) != 4 {
		t.Errorf("%d clients, want 4: by region, addressing and endpoint, not by bucket", len(seen))
	}
}

func TestClientsManyAtOnce(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	c := newClients(k.secrets, nil, k.sender, 10)
	var wg sync.WaitGroup
	for i := range 200 {
		cred := k.credential(int64(i%20), int64(1+i%3))
		wg.Go(func() {
			if _, err := c.current(alias.Route{Alias: &alias.Alias{}, Credential: cred}); err != nil {
				t.Error(err)
			}
			if i%17 == 0 {
				c.forget(cred.ID)
			}
		})
	}
	wg.Wait()
	if c.lru.Len() > 10 {
		t.Errorf("%d clients, want at most 10", c.lru.Len())
	}
	for id := range int64(20) {
		if got := c.versions(id); len(got) > 1 {
			t.Errorf("credential %d has clients of versions %d", id, got)
		}
	}
}

// versions are those of a credential that clients are kept of, one for each client.
func (c *clients) versions(credentialID int64) (all []int64) {
	for _, at := range c.lru.Keys() {
		if at.credential == credentialID {
			all = append(all, at.version)
		}
	}
	return all
}

func TestClientsAnonymous(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	r.Route.Credential = &alias.Credential{ID: 9, Version: 1, Provider: alias.Anonymous{}}
	if _, err := k.read(t, r); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Head(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, q := range k.s3.Requests() {
		if q.Header.Get("Authorization") != "" || strings.Contains(q.Target, "X-Amz-") {
			t.Errorf("%s is signed: %q", q.Target, q.Header.Get("Authorization"))
		}
	}
	if n := k.secrets.revealed(); n != 0 {
		t.Errorf("a secret was opened %d times", n)
	}
}

type unknownKind struct{}

func (unknownKind) Kind() alias.Kind { return "unknown" }

// A credential that cannot sign is an error, never a request by someone else.
func TestClientsBrokenCredential(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	for name, cred := range map[string]*alias.Credential{
		"sealed value does not open": {ID: 77, Version: 1, Provider: alias.Static{}},
		"unknown kind":               {ID: 78, Version: 1, Provider: unknownKind{}},
		"no provider":                {ID: 79, Version: 1},
	} {
		r.Route.Credential = cred
		for range 2 {
			_, err := k.Get(t.Context(), r)
			wantOutcome(t, err, OutcomeBadCredential)
			_, err = k.Head(t.Context(), r)
			if wantOutcome(t, err, OutcomeBadCredential).Error() == "" {
				t.Errorf("%s: no text", name)
			}
		}
	}
	if n := k.s3.Total(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
}

// Nothing in the environment signs, redirects or marks a request.
func TestClientsIgnoreEnvironment(t *testing.T) { //nolint:paralleltest // it sets the environment
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "AKIAENVIRONMENT", "AWS_SECRET_ACCESS_KEY": "environment", "AWS_SESSION_TOKEN": "session",
		"AWS_REGION": "ap-south-1", "AWS_PROFILE": "nobody", "AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:1",
		"HTTP_PROXY": "http://127.0.0.1:1", "HTTPS_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1",
		"AWS_EXECUTION_ENV": "leaked-execution", "AWS_LAMBDA_FUNCTION_NAME": "leaked-function", "_X_AMZN_TRACE_ID": "leaked-trace",
		"AWS_NEW_RETRIES_2026": "true", "AWS_SDK_UA_APP_ID": "leaked-app", "AWS_MAX_ATTEMPTS": "9",
	} {
		t.Setenv(name, value)
	}
	// By name: net/http never takes a proxy to a loopback address.
	names := newDNS(t)
	names.set("s3.example.com", "127.0.0.1")
	k := newEnvResolving(t, names.resolver(), nil)
	signed := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	signed.Route.Alias.Endpoint = strings.Replace(k.s3.URL, "127.0.0.1", "s3.example.com", 1)
	anonymous := signed
	anonymous.Route.Credential = &alias.Credential{ID: 9, Version: 1, Provider: alias.Anonymous{}}
	broken := signed
	broken.Route.Credential = &alias.Credential{ID: 77, Version: 1, Provider: alias.Static{}}
	for _, r := range []Request{signed, anonymous} {
		k.next(r, s3.Fail("InternalError"))
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
	}
	_, err := k.Get(t.Context(), broken)
	wantOutcome(t, err, OutcomeBadCredential)
	requests := k.s3.Requests()
	if len(requests) != 4 {
		t.Errorf("%d requests, want 4", len(requests))
	}
	for _, q := range requests {
		text := fmt.Sprint(q.Target, q.Header)
		for _, leak := range []string{"ENVIRONMENT", "session", "ap-south-1", "leaked"} {
			if strings.Contains(text, leak) {
				t.Errorf("the environment's %s reached S3: %s", leak, text)
			}
		}
	}
}

// Only what the alias and the request say goes out.
func TestRequestHeaders(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "p/ü +&=?%2F.png", s3.Object{Body: noise(100), ETag: `"e"`})
	r.Route.Alias.BucketOwner = "123456789012"
	ranged := r
	ranged.Range, ranged.IfMatch = &Range{5, 9}, `"e"`
	for _, r := range []Request{r, ranged} {
		if _, err := k.read(t, r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := k.Head(t.Context(), ranged); err != nil {
		t.Fatal(err)
	}
	allowed := map[string]bool{}
	for _, name := range []string{
		"Accept-Encoding", "Authorization", "User-Agent", "X-Amz-Content-Sha256",
		"X-Amz-Date", "X-Amz-Checksum-Mode", "X-Amz-Expected-Bucket-Owner", "Range", "If-Match",
	} {
		allowed[name] = true
	}
	want := []map[string]string{
		{"X-Amz-Checksum-Mode": "ENABLED", "Range": "", "If-Match": "", "Accept-Encoding": "identity"},
		{"X-Amz-Checksum-Mode": "", "Range": "bytes=5-9", "If-Match": `"e"`, "Accept-Encoding": "identity"},
		{"X-Amz-Checksum-Mode": "", "Range": "", "If-Match": `"e"`},
	}
	for i, q := range k.s3.Requests() {
		for name := range q.Header {
			if !allowed[name] {
				t.Errorf("%s carries %s: %q", q.Method, name, q.Header[name])
			}
		}
		for name, value := range want[i] {
			if got := q.Header.Get(name); got != value {
				t.Errorf("%s %d: %s is %q, want %q", q.Method, i, name, got, value)
			}
		}
		if got := q.Header.Get("X-Amz-Expected-Bucket-Owner"); got != "123456789012" {
			t.Errorf("expected bucket owner is %q", got)
		}
		if q.Key != r.Key || q.Header.Get("User-Agent") != "ixmage" {
			t.Errorf("key %q, user agent %q", q.Key, q.Header.Get("User-Agent"))
		}
	}
}

// With an owner given, a bucket that somebody else now has is refused.
func TestBucketOwner(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	want := noise(bodySize)
	r := k.put("shop", "a.png", s3.Object{Body: want})
	k.s3.CreateBucket(r.Route.Alias.Bucket, "111111111111")
	r.Route.Alias.BucketOwner = "222222222222"
	_, err := k.Get(t.Context(), r)
	wantOutcome(t, err, OutcomeDenied)
	_, err = k.Head(t.Context(), r)
	wantOutcome(t, err, OutcomeDenied)
	r.Route.Alias.BucketOwner = "111111111111"
	k.next(r, s3.CloseAfter(1000))
	if got, err := k.read(t, r); err != nil || !bytes.Equal(got, want) {
		t.Errorf("right owner, resumed: %d bytes, %v", len(got), err)
	}
	for _, q := range k.s3.Requests() {
		if q.Header.Get("X-Amz-Expected-Bucket-Owner") == "" {
			t.Errorf("%s %s expects no owner", q.Method, q.Header.Get("Range"))
		}
	}
}

func TestKeysNeverSent(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "folder/", s3.Object{Body: noise(1)})
	for _, key := range []string{"", "/", "folder/", "a//"} {
		r.Key = key
		_, err := k.Get(t.Context(), r)
		wantOutcome(t, err, OutcomeNotFound)
		_, err = k.Head(t.Context(), r)
		wantOutcome(t, err, OutcomeNotFound)
	}
	if n := k.s3.Total(); n != 0 {
		t.Errorf("%d requests were sent", n)
	}
	k.rec.wantCounts(t, map[string]int{})
}

// A client for probes signs with the key that it was given, is guarded as the
// serving ones are, and leaves nothing behind.
func TestClientForProbes(t *testing.T) {
	t.Parallel()
	kp := alias.KeyPair{AccessKeyID: "AKIANOTINUSEYET", SecretAccessKey: alias.NewSecret("not in use yet")}
	for _, tc := range []struct {
		name   string
		keys   alias.KeyPair
		signed string // key id; "-" for none
		sent   int
		failed bool
	}{
		{name: "key pair", keys: kp, signed: kp.AccessKeyID, sent: 1},
		{name: "none", signed: "", sent: 1, failed: true},
		{name: "another secret", keys: alias.KeyPair{AccessKeyID: kp.AccessKeyID, SecretAccessKey: alias.NewSecret("x")}, signed: kp.AccessKeyID, sent: 1, failed: true},
		{name: "no secret", keys: alias.KeyPair{AccessKeyID: kp.AccessKeyID}, failed: true},
		{name: "no id", keys: alias.KeyPair{SecretAccessKey: kp.SecretAccessKey}, failed: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, nil)
			r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
			k.s3.Allow(kp, r.Route.Alias.Bucket, "")
			out, err := k.Client(r.Route.Alias.Location, tc.keys).GetObject(t.Context(), &awss3.GetObjectInput{
				Bucket: &r.Route.Alias.Bucket, Key: &r.Key, Range: aws.String("bytes=0-0"),
			})
			if (err != nil) != tc.failed {
				t.Fatalf("got %v", err)
			}
			if err == nil {
				_, _ = io.Copy(io.Discard, out.Body)
				out.Body.Close()
			}
			if n := k.s3.Total(); n != tc.sent {
				t.Fatalf("%d requests, want %d", n, tc.sent)
			}
			for _, q := range k.s3.Requests() {
				if q.AccessKeyID != tc.signed || q.Header.Get("User-Agent") != "ixmage" {
					t.Errorf("signed with %q by %q", q.AccessKeyID, q.Header.Get("User-Agent"))
				}
			}
			if n := k.secrets.revealed(); n != 0 || k.clients.lru.Len() != 0 || len(k.rec.outcomes) != 0 {
				t.Errorf("%d secrets opened, %d clients kept, counted %v", n, k.clients.lru.Len(), k.rec.outcomes)
			}
		})
	}
}

// Probes go through the guard of addresses and refuse plain http where serving
// does.
func TestClientForProbesIsGuarded(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, endpoint string
		private        bool
	}{
		{"metadata service", "http://169.254.169.254", true},
		{"loopback", "https://127.0.0.1:1", false},
		{"plain http", "http://192.0.2.1", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			k := newEnv(t, func(c *Config) { c.AllowPrivateEndpoints = tc.private })
			loc := alias.Location{Endpoint: tc.endpoint, Region: "us-east-1", PathStyle: true}
			_, err := k.Client(loc, alias.KeyPair{}).HeadBucket(t.Context(), &awss3.HeadBucketInput{Bucket: aws.String("bucket")})
			if err == nil || !strings.Contains(err.Error(), "allow-private-endpoints") && !strings.Contains(err.Error(), "169.254") {
				t.Errorf("got %v, want a refusal before anything is sent", err)
			}
		})
	}
}

// The client of a route is the one that serves it.
func TestClientOf(t *testing.T) {
	t.Parallel()
	k := newEnv(t, nil)
	r := k.put("shop", "a.png", s3.Object{Body: noise(10)})
	if _, err := k.read(t, r); err != nil {
		t.Fatal(err)
	}
	first, err := k.ClientOf(r.Route)
	if err != nil {
		t.Fatal(err)
	}
	second, err := k.ClientOf(r.Route)
	if err != nil || first != second || k.secrets.revealed() != 1 {
		t.Errorf("%v, same client: %t, secret opened %d times", err, first == second, k.secrets.revealed())
	}
	r.Route.Credential = &alias.Credential{ID: 77, Version: 1, Provider: alias.Static{}}
	if client, err := k.ClientOf(r.Route); err == nil || client != nil {
		t.Errorf("a credential that does not open has a client: %v, %v", client, err)
	}
}
