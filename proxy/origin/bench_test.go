package origin

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	fakes3 "ixmage/internal/awstest/s3"
)

// BenchmarkGet is an object read whole: by Origin, and by the SDK alone with
// its own check of the checksum. The server is net/http's, in this process; its
// allocations and its CPU time count with both.
func BenchmarkGet(b *testing.B) {
	for _, size := range []int{4 << 10, 1 << 20} {
		for _, sum := range []fakes3.Checksum{fakes3.CRC64NVME, fakes3.CRC32, fakes3.NoChecksum} {
			k := newEnv(b, nil)
			r := k.put("shop", "a.png", fakes3.Object{Body: noise(size), Checksum: sum, ContentType: "image/png"})
			r.Route.Alias.Endpoint = benchServer(b, k, r).URL
			name := fmt.Sprintf("%dKiB/%s/", size>>10, sum)
			b.Run(name+"origin", func(b *testing.B) { benchOrigin(b, k, r) })
			b.Run(name+"sdk", func(b *testing.B) { benchSDK(b, k, r) })
		}
	}
}

// benchServer answers each GET as the scripted S3 would, checksum and all, but
// without recording it.
func benchServer(b *testing.B, k *env, r Request) *httptest.Server {
	b.Helper()
	obj, err := k.Get(b.Context(), r)
	if err != nil {
		b.Fatal(err)
	}
	raw := awsmiddleware.GetRawResponse(obj.Body.(*body).reply.out.ResultMetadata).(*smithyhttp.Response).Header
	content, err := readAll(b, obj)
	if err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		maps.Copy(w.Header(), raw)
		_, _ = w.Write(content)
	}))
	b.Cleanup(server.Close)
	return server
}

func benchOrigin(b *testing.B, k *env, r Request) {
	b.Helper()
	buf := make([]byte, 64<<10)
	bench(b, func() error {
		obj, err := k.Get(b.Context(), r)
		if err != nil {
			return err
		}
		return drainAll(obj.Body, obj.Size, buf)
	})
}

func benchSDK(b *testing.B, k *env, r Request) {
	b.Helper()
	kp := k.secrets.pair(r.Route.Credential)
	client := s3.New(s3.Options{
		BaseEndpoint: &r.Route.Alias.Endpoint, Region: r.Route.Alias.Region, UsePathStyle: true, HTTPClient: &http.Client{},
		Credentials:                               credentials.NewStaticCredentialsProvider(kp.AccessKeyID, kp.SecretAccessKey.Reveal(), ""),
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenSupported,
		DisableLogOutputChecksumValidationSkipped: true,
	})
	buf := make([]byte, 64<<10)
	bench(b, func() error {
		out, err := client.GetObject(b.Context(), &s3.GetObjectInput{Bucket: &r.Route.Alias.Bucket, Key: &r.Key})
		if err != nil {
			return err
		}
		return drainAll(out.Body, *out.ContentLength, buf)
	})
}

// bench reports CPU time too: unlike wall time it stands when the machine has
// other work.
func bench(b *testing.B, once func() error) {
	b.Helper()
	b.ReportAllocs()
	before := cpu()
	for b.Loop() {
		if err := once(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpu()-before)/float64(b.N), "cpu-ns/op")
}

func cpu() int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

func drainAll(body io.ReadCloser, size int64, buf []byte) error {
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{body}, buf)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if closeErr := body.Close(); err == nil {
		err = closeErr
	}
	return err
}
