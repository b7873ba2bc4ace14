package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"golang.org/x/sync/errgroup"
)

func missKey(size, i int) string {
	return strconv.Itoa(size) + "-" + strconv.Itoa(i%missObjects) + ".png"
}

// missSpec has the location of the objects for a client process. With an access key it
// reads them from S3 with the SDK, without a key over plain HTTP. With a proxy it reads
// them from S3 through that, with URLs that it has signed.
type missSpec struct {
	Addr                 string
	AccessKey, SecretKey string
	Proxy                string
}

// missJob requests Count objects through an alias, beginning with First, Workers at a time.
type missJob struct {
	Alias                       string
	Size, First, Count, Workers int
}

// missResult is the result of a job.
type missResult struct {
	FirstByte []time.Duration // of every request
	Elapsed   time.Duration
	Error     string
}

// runMissClient runs the jobs that it reads as gob from in, until in ends. It is a
// separate process so that it can be pinned and its processor time can be read.
func runMissClient(in io.Reader, out io.Writer) error {
	dec, enc := gob.NewDecoder(in), gob.NewEncoder(out)
	var spec missSpec
	if err := dec.Decode(&spec); err != nil {
		return fmt.Errorf("read the spec: %w", err)
	}
	c := newMissClient(spec)
	for {
		var job missJob
		if err := dec.Decode(&job); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a job: %w", err)
		}
		result, err := c.do(context.Background(), job)
		if err != nil {
			result.Error = err.Error()
		}
		if err := enc.Encode(result); err != nil {
			return err
		}
	}
}

// getter reads a whole object of an alias and returns the time of its first byte.
type getter interface {
	get(ctx context.Context, o missObject, buf []byte) (first time.Duration, n int, err error)
}

type missObject struct{ alias, key string }

type missClient struct {
	newGetter func() getter
	workers   []getter // kept from job to job, with their connections
}

func newMissClient(spec missSpec) *missClient {
	if spec.AccessKey == "" {
		return &missClient{newGetter: func() getter { return &httpGetter{addr: spec.Addr} }}
	}
	client := s3.New(s3.Options{
		BaseEndpoint: &spec.Addr, Region: "us-east-1", UsePathStyle: true,
		Credentials: credentials.NewStaticCredentialsProvider(spec.AccessKey, spec.SecretKey, ""),
		HTTPClient: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: missWorkers, DisableCompression: true,
		}},
		ResponseChecksumValidation:                aws.ResponseChecksumValidationWhenSupported,
		DisableLogOutputChecksumValidationSkipped: true,
	})
	if spec.Proxy == "" {
		return &missClient{newGetter: func() getter { return &sdkGetter{client} }}
	}
	signer := &signer{client: s3.NewPresignClient(client), targets: make(map[string]string)}
	return &missClient{newGetter: func() getter { return &httpGetter{addr: spec.Proxy, signer: signer} }}
}

func (c *missClient) do(ctx context.Context, job missJob) (missResult, error) {
	for len(c.workers) < job.Workers {
		c.workers = append(c.workers, c.newGetter())
	}
	result := missResult{FirstByte: make([]time.Duration, job.Count)}
	group, ctx := errgroup.WithContext(ctx)
	start := time.Now()
	for w, g := range c.workers[:job.Workers] {
		group.Go(func() error {
			buf := make([]byte, job.Size+1)
			for i := w; i < job.Count; i += job.Workers {
				o := missObject{job.Alias, missKey(job.Size, job.First+i)}
				first, n, err := g.get(ctx, o, buf)
				if err != nil {
					return fmt.Errorf("get %+v: %w", o, err)
				}
				if n != job.Size {
					return fmt.Errorf("get %+v: %d bytes came, want %d", o, n, job.Size)
				}
				result.FirstByte[i] = first
			}
			return nil
		})
	}
	err := group.Wait()
	result.Elapsed = time.Since(start)
	return result, err
}

// sdkGetter calls GetObject only.
type sdkGetter struct{ client *s3.Client }

func (g *sdkGetter) get(ctx context.Context, o missObject, buf []byte) (time.Duration, int, error) {
	start := time.Now()
	out, err := g.client.GetObject(ctx, &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &o.key})
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = out.Body.Close() }()
	return readBody(out.Body, buf, start)
}

// httpGetter uses one connection and does as little work as possible, because its work
// would be counted as the server's.
type httpGetter struct {
	addr   string
	signer *signer // nil: the server signs
	conn   net.Conn
	buf    *bufio.Reader
}

func (g *httpGetter) get(ctx context.Context, o missObject, buf []byte) (time.Duration, int, error) {
	if g.conn == nil {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp4", g.addr)
		if err != nil {
			return 0, 0, err
		}
		g.conn, g.buf = conn, bufio.NewReaderSize(conn, 16<<10)
	}
	target := "/" + o.alias + "/" + o.key
	if g.signer != nil {
		var err error
		if target, err = g.signer.target(ctx, o.key); err != nil {
			return 0, 0, err
		}
	}
	start := time.Now()
	if _, err := io.WriteString(g.conn, "GET "+target+" HTTP/1.1\r\nHost: bench\r\n\r\n"); err != nil {
		return 0, 0, err
	}
	resp, err := http.ReadResponse(g.buf, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	if state := resp.Header.Get("Cache-Status"); resp.StatusCode != http.StatusOK || g.signer == nil && !isMiss(state) {
		return 0, 0, fmt.Errorf("the answer is %s with Cache-Status %q, want a miss", resp.Status, state)
	}
	return readBody(resp.Body, buf, start)
}

// signer signs the URL of an object once. The first round, which is not measured, requests
// every object.
type signer struct {
	client  *s3.PresignClient
	mu      sync.Mutex
	targets map[string]string // by key
}

// target is the path and the query of an object.
func (s *signer) target(ctx context.Context, key string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if target, ok := s.targets[key]; ok {
		return target, nil
	}
	in := &s3.GetObjectInput{Bucket: aws.String(bucket), Key: &key}
	signed, err := s.client.PresignGetObject(ctx, in, s3.WithPresignExpires(24*time.Hour))
	if err != nil {
		return "", err
	}
	u, err := url.Parse(signed.URL)
	if err != nil {
		return "", err
	}
	s.targets[key] = u.RequestURI()
	return s.targets[key], nil
}

// readBody reads to the end, and tries to read one byte more than expected.
func readBody(body io.Reader, buf []byte, start time.Time) (first time.Duration, n int, err error) {
	for err == nil && n < len(buf) {
		var k int
		k, err = body.Read(buf[n:])
		if n == 0 && k > 0 {
			first = time.Since(start)
		}
		n += k
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return first, n, err
}
