package s3_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"go.uber.org/goleak"

	"ixmage/alias"
	fakes3 "ixmage/internal/awstest/s3"
	"ixmage/internal/awstest/sdk"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const pictureSize = 100_000

// picture is a body with no two equal stretches.
func picture() []byte {
	b := make([]byte, pictureSize)
	for i := range b {
		b[i] = byte(i*31 + i>>8)
	}
	return b
}

var testKeys = alias.KeyPair{AccessKeyID: "AKIATEST", SecretAccessKey: alias.NewSecret("test-secret-access-key")}

// outcome is what a client of S3 sees of one request.
type outcome struct {
	status int    // of an error
	code   string // of S3
	read   int    // bytes of the body
	err    error  // of the call without an answer, or of the body
}

// fetch is GetObject and a read to the end. What was read must be the
// beginning of want.
func fetch(t *testing.T, c *s3.Client, in *s3.GetObjectInput, want []byte) (outcome, *s3.GetObjectOutput) {
	t.Helper()
	out, err := c.GetObject(t.Context(), in)
	var resp *awshttp.ResponseError
	if errors.As(err, &resp) && resp.HTTPStatusCode() != 0 {
		return outcome{status: resp.HTTPStatusCode(), code: sdk.ErrorCode(t, err)}, nil
	}
	if err != nil {
		return outcome{err: err}, nil
	}
	defer out.Body.Close()
	body, err := io.ReadAll(out.Body)
	if !bytes.HasPrefix(want, body) {
		t.Errorf("the %d bytes read are not the beginning of the body", len(body))
	}
	return outcome{read: len(body), err: err}, out
}

func object(bucket, key string) *s3.GetObjectInput {
	return &s3.GetObjectInput{Bucket: &bucket, Key: &key, ChecksumMode: "ENABLED"}
}

func TestObjects(t *testing.T) {
	t.Parallel()
	body, when := picture(), time.Date(2026, 5, 4, 3, 2, 1, 9, time.UTC)
	s := fakes3.New(t)
	s.Put("media", "dir/ü +&=?%2F.png", fakes3.Object{
		Body: body, ContentType: "image/png", CacheControl: "max-age=5", LastModified: when, ETag: `"one"`,
		Metadata: map[string]string{"owner": "me"},
	})
	client := sdk.Client(t, s.URL, testKeys)
	for _, tt := range []struct {
		name string
		in   s3.GetObjectInput
		part []byte
		want outcome
		cr   string // Content-Range
	}{
		{name: "whole", part: body, want: outcome{read: pictureSize}},
		{name: "range", in: s3.GetObjectInput{Range: aws.String("bytes=10-19")}, part: body[10:20], want: outcome{read: 10}, cr: "bytes 10-19/100000"},
		{name: "open range", in: s3.GetObjectInput{Range: aws.String("bytes=99990-")}, part: body[99990:], want: outcome{read: 10}, cr: "bytes 99990-99999/100000"},
		{name: "suffix range", in: s3.GetObjectInput{Range: aws.String("bytes=-5")}, part: body[99995:], want: outcome{read: 5}, cr: "bytes 99995-99999/100000"},
		{name: "range past the end", in: s3.GetObjectInput{Range: aws.String("bytes=99999-200000")}, part: body[99999:], want: outcome{read: 1}, cr: "bytes 99999-99999/100000"},
		{name: "range not there", in: s3.GetObjectInput{Range: aws.String("bytes=100000-")}, want: outcome{status: 416, code: "InvalidRange"}},
		{name: "bad range", in: s3.GetObjectInput{Range: aws.String("bytes=2-1")}, part: body, want: outcome{read: pictureSize}},
		{name: "if-match", in: s3.GetObjectInput{IfMatch: aws.String(`"one"`)}, part: body, want: outcome{read: pictureSize}},
		{name: "if-match fails", in: s3.GetObjectInput{IfMatch: aws.String(`"two"`)}, want: outcome{status: 412, code: "PreconditionFailed"}},
		{name: "if-none-match fails", in: s3.GetObjectInput{IfNoneMatch: aws.String(`"two"`)}, part: body, want: outcome{read: pictureSize}},
		{name: "unmodified since", in: s3.GetObjectInput{IfModifiedSince: aws.Time(when.Add(-time.Second))}, part: body, want: outcome{read: pictureSize}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.in.Bucket, tt.in.Key = aws.String("media"), aws.String("dir/ü +&=?%2F.png")
			got, out := fetch(t, client, &tt.in, tt.part)
			sameOutcome(t, got, tt.want, "")
			if out == nil {
				return
			}
			if aws.ToString(out.ContentRange) != tt.cr || aws.ToString(out.ETag) != `"one"` || aws.ToString(out.CacheControl) != "max-age=5" ||
				!aws.ToTime(out.LastModified).Equal(when.Truncate(time.Second)) || out.Metadata["owner"] != "me" {
				t.Errorf("got headers %q %q %q %v %v", aws.ToString(out.ContentRange), aws.ToString(out.ETag),
					aws.ToString(out.CacheControl), out.LastModified, out.Metadata)
			}
		})
	}
	for _, in := range []s3.HeadObjectInput{{IfNoneMatch: aws.String(`"one"`)}, {IfModifiedSince: aws.Time(when)}} {
		in.Bucket, in.Key = aws.String("media"), aws.String("dir/ü +&=?%2F.png")
		_, err := client.HeadObject(t.Context(), &in)
		var resp *awshttp.ResponseError
		if !errors.As(err, &resp) || resp.HTTPStatusCode() != http.StatusNotModified {
			t.Errorf("%+v: got %v, want status 304", in, err)
		}
	}
}

func TestChecksums(t *testing.T) {
	t.Parallel()
	body := picture()
	s := fakes3.New(t)
	client := sdk.Client(t, s.URL, testKeys)
	for _, sum := range fakes3.Checksums() {
		s.Put("media", "a", fakes3.Object{Body: body, Checksum: sum})
		got, _ := fetch(t, client, object("media", "a"), body)
		sameOutcome(t, got, outcome{read: pictureSize}, "")
		s.Next("media", "a", fakes3.WrongChecksum())
		got, _ = fetch(t, client, object("media", "a"), body)
		sameOutcome(t, got, outcome{read: pictureSize}, "checksum did not match: algorithm "+string(sum))
	}
	s.Put("media", "a", fakes3.Object{Body: body, Checksum: fakes3.NoChecksum})
	s.Next("media", "a", fakes3.WrongChecksum()) // nothing to spoil
	got, _ := fetch(t, client, object("media", "a"), body)
	sameOutcome(t, got, outcome{read: pictureSize}, "")
}

func TestAuthorizes(t *testing.T) {
	t.Parallel()
	whole, unsigned := testKeys, alias.KeyPair{}
	shop := alias.KeyPair{AccessKeyID: "AKIASHOP", SecretAccessKey: alias.NewSecret("shop-secret-access-key")}
	byID := alias.KeyPair{AccessKeyID: "AKIABYID"}
	gone := alias.KeyPair{AccessKeyID: "AKIAGONE", SecretAccessKey: alias.NewSecret("gone-secret-access-key")}
	s := fakes3.New(t)
	for _, bucket := range []string{"media", "other", "public"} {
		for _, key := range []string{"shop/a b.txt", "private/b.txt"} {
			s.Put(bucket, key, fakes3.Object{Body: []byte("body")})
		}
	}
	s.CreateBucket("owned", "111122223333")
	s.Put("owned", "shop/a b.txt", fakes3.Object{Body: []byte("body")})
	for _, bucket := range []string{"media", "owned", "nowhere"} {
		s.Allow(whole, bucket, "")
	}
	s.Allow(shop, "media", "shop/")
	s.Allow(byID, "other", "")
	s.Allow(unsigned, "public", "")
	s.Allow(gone, "media", "")
	s.Revoke(gone.AccessKeyID)

	for _, tt := range []struct {
		name        string
		keys        alias.KeyPair
		bucket, key string
		owner       string
		code        string
	}{
		{"whole bucket", whole, "media", "private/b.txt", "", ""},
		{"another bucket", whole, "other", "private/b.txt", "", "AccessDenied"},
		{"inside the prefix", shop, "media", "shop/a b.txt", "", ""},
		{"outside the prefix", shop, "media", "private/b.txt", "", "AccessDenied"},
		{"id alone", alias.KeyPair{AccessKeyID: "AKIABYID", SecretAccessKey: alias.NewSecret("any")}, "other", "shop/a b.txt", "", ""},
		{"unknown", alias.KeyPair{AccessKeyID: "AKIANEW", SecretAccessKey: alias.NewSecret("any")}, "media", "shop/a b.txt", "", "InvalidAccessKeyId"},
		{"revoked", gone, "media", "shop/a b.txt", "", "InvalidAccessKeyId"},
		{"another's secret", alias.KeyPair{AccessKeyID: shop.AccessKeyID, SecretAccessKey: whole.SecretAccessKey}, "media", "shop/a b.txt", "", "SignatureDoesNotMatch"},
		{"unsigned where public", unsigned, "public", "shop/a b.txt", "", ""},
		{"unsigned where not", unsigned, "media", "shop/a b.txt", "", "AccessDenied"},
		{"no such object", whole, "media", "missing", "", "NoSuchKey"},
		{"no such bucket", whole, "nowhere", "missing", "", "NoSuchBucket"},
		{"right owner", whole, "owned", "shop/a b.txt", "111122223333", ""},
		{"wrong owner", whole, "owned", "shop/a b.txt", "999999999999", "AccessDenied"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := object(tt.bucket, tt.key)
			if tt.owner != "" {
				in.ExpectedBucketOwner = &tt.owner
			}
			got, _ := fetch(t, sdk.Client(t, s.URL, tt.keys), in, []byte("body"))
			if got.code != tt.code || got.err != nil || (tt.code == "" && got.read != 4) {
				t.Errorf("got %+v, want code %q", got, tt.code)
			}
			records := s.Requests()
			last := records[len(records)-1]
			if last.AccessKeyID != tt.keys.AccessKeyID || last.Bucket != tt.bucket || last.Key != tt.key || last.Method != http.MethodGet {
				t.Errorf("recorded %+v", last)
			}
		})
	}
	s.Revoke(whole.AccessKeyID)
	s.Revoke(shop.AccessKeyID)
	s.Revoke(byID.AccessKeyID)
	s.Revoke("")
	if got, _ := fetch(t, sdk.Client(t, s.URL, unsigned), object("media", "shop/a b.txt"), nil); got.code != "AccessDenied" {
		t.Errorf("after the last key is revoked: got %+v, want AccessDenied", got)
	}
}

func TestHideMissing(t *testing.T) {
	t.Parallel()
	s := fakes3.New(t)
	s.Put("media", "a", fakes3.Object{Body: []byte("A")})
	s.HideMissing()
	client := sdk.Client(t, s.URL, testKeys)
	got, _ := fetch(t, client, object("media", "missing"), nil)
	sameOutcome(t, got, outcome{status: 403, code: "AccessDenied"}, "")
	got, _ = fetch(t, client, object("media", "a"), []byte("A"))
	sameOutcome(t, got, outcome{read: 1}, "")
}

// TestReplacedBetweenRanges shows what a resumed read must notice.
func TestReplacedBetweenRanges(t *testing.T) {
	t.Parallel()
	s := fakes3.New(t)
	s.Put("media", "a", fakes3.Object{Body: []byte("old body"), ETag: `"old"`})
	s.Hook(func(r *fakes3.Request) *fakes3.Fault {
		if r.N == 2 {
			s.Put("media", "a", fakes3.Object{Body: []byte("new body"), ETag: `"new"`})
		}
		return nil
	})
	client := sdk.Client(t, s.URL, testKeys)
	in := object("media", "a")
	in.IfMatch = aws.String(`"old"`)
	got, _ := fetch(t, client, in, []byte("old body"))
	sameOutcome(t, got, outcome{read: 8}, "")
	got, _ = fetch(t, client, in, nil)
	sameOutcome(t, got, outcome{status: 412, code: "PreconditionFailed"}, "")
	s.Next("media", "a", fakes3.Replace(fakes3.Object{Body: []byte("third")}))
	got, _ = fetch(t, client, object("media", "a"), []byte("third"))
	sameOutcome(t, got, outcome{read: 5}, "")
}

// TestRaw speaks HTTP by hand: targets are recorded as they came, and raw
// header lines go out as they are.
func TestRaw(t *testing.T) {
	t.Parallel()
	s := fakes3.New(t)
	long := "X-Long: " + strings.Repeat("x", 64<<10)
	s.Put("media", "p/../q", fakes3.Object{Body: []byte("dots")})
	s.Hook(func(*fakes3.Request) *fakes3.Fault { return fakes3.RawHeader("X-Evil: a\x00\xff\rb", long) })
	nc, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	must(t, err)
	defer nc.Close()
	_, err = io.WriteString(nc, "GET /media/p/%2e./q?x=%zz HTTP/1.1\r\nHost: h\r\n\r\n")
	must(t, err)
	wire, err := io.ReadAll(nc)
	must(t, err)
	if !strings.HasPrefix(string(wire), "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(string(wire), "\r\nX-Evil: a\x00\xff\rb\r\n"+long+"\r\n\r\ndots") {
		t.Errorf("on the wire: %.500q", wire)
	}
	records := s.Requests()
	i := slices.IndexFunc(records, func(r fakes3.Request) bool { return r.Target == "/media/p/%2e./q?x=%zz" })
	if i < 0 || records[i].Key != "p/../q" || records[i].Host != "h" || records[i].Status != 200 || records[i].Sent != 4 || !records[i].Done {
		t.Errorf("recorded %+v", records)
	}
}
