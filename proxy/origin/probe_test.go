package origin

import (
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"ixmage/alias"
	fakes3 "ixmage/internal/awstest/s3"
)

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
			k := newKit(t, nil)
			r := k.put("shop", "a.png", fakes3.Object{Body: noise(10)})
			k.s3.Allow(kp, r.Route.Alias.Bucket, "")
			out, err := k.Client(r.Route.Alias.Location, tc.keys).GetObject(t.Context(), &s3.GetObjectInput{
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
			k := newKit(t, func(c *Config) { c.AllowPrivateEndpoints = tc.private })
			loc := alias.Location{Endpoint: tc.endpoint, Region: "us-east-1", PathStyle: true}
			_, err := k.Client(loc, alias.KeyPair{}).HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("bucket")})
			if err == nil || !strings.Contains(err.Error(), "allow-private-endpoints") && !strings.Contains(err.Error(), "169.254") {
				t.Errorf("got %v, want a refusal before anything is sent", err)
			}
		})
	}
}

// The client of a route is the one that serves it.
func TestClientOf(t *testing.T) {
	t.Parallel()
	k := newKit(t, nil)
	r := k.put("shop", "a.png", fakes3.Object{Body: noise(10)})
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
