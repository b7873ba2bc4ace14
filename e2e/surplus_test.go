package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"ixmage/internal/awstest/s3"
)

// surplusAnswers is how many pictures TestSurplusAnswers asks for; make test-long asks for
// 100,000.
func surplusAnswers(t *testing.T) int64 {
	t.Helper()
	n, err := strconv.ParseInt(os.Getenv("IXMAGE_ANSWERS"), 10, 64)
	if err != nil {
		return 3000
	}
	return n
}

// TestSurplusAnswers has an S3 server send a complete second answer in the same write as
// each answer for one alias. Clients ask for objects of that alias, of another with
// the same credential and of one with a credential of its own, all on one host. Every
// picture is right, and the connections of the third alias are used again.
func TestSurplusAnswers(t *testing.T) {
	t.Parallel()
	const clients = 12
	s := start(t, "--cache-memory", "0")
	fakeS3 := s3.New(t)
	body := func(key string) []byte { return append(png(1500, key), key...) }
	object := func(key string) s3.Object { return s3.Object{Body: body(key), ContentType: "image/png"} }
	planted := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nETag: \"planted\"\r\nContent-Length: %d\r\n\r\n%s",
		len(body("planted")), body("planted"))
	var innocent sync.Map // connections of the innocent alias
	fakeS3.Hook(func(q *s3.Request) *s3.Fault {
		f := s3.Replace(object(q.Key))
		switch q.Bucket {
		case "hostile":
			f.After = planted
			f.Chunked = q.N%3 == 0
		case "innocent":
			innocent.Store(q.Conn, true)
		}
		return f
	})
	s.createOn("hostile", fakeS3.URL, "hostile")
	s.create(map[string]any{"name": "neighbour", "bucket": "neighbour", "endpoint": fakeS3.URL, "path_style": true, "credential": "hostile"})
	s.createOn("innocent", fakeS3.URL, "innocent")
	total := surplusAnswers(t)
	var n, wrong atomic.Int64
	var wg sync.WaitGroup
	for i := range clients {
		alias := []string{"hostile", "neighbour", "innocent"}[i%3]
		c := client(t)
		wg.Go(func() {
			for next := n.Add(1); next <= total; next = n.Add(1) {
				key := fmt.Sprintf("%d.png", next)
				if next%10 == 0 {
					_ = fetch(c, http.MethodHead, "http://"+s.public+"/"+alias+"/"+key)
				}
				if r := fetch(c, http.MethodGet, "http://"+s.public+"/"+alias+"/"+key); r == nil || r.StatusCode != http.StatusOK || !bytes.Equal(r.body, body(key)) {
					wrong.Add(1)
					t.Logf("%s of %s: %s", key, alias, summary(r))
				}
			}
		})
	}
	wg.Wait()
	if wrong.Load() > 0 {
		t.Errorf("%d of %d answers are wrong", wrong.Load(), total)
	}
	conns := 0
	innocent.Range(func(any, any) bool { conns++; return true })
	if conns > 3*clients {
		t.Errorf("the innocent alias used %d connections for %d answers", conns, total/3)
	}
	eventually(t, "the log says that S3 sends more than it declares", func() bool {
		return lineWith(s.output(), "more than the reply that it declared") != ""
	})
}

// fetch returns nil if there is no answer.
func fetch(c *http.Client, method, url string) *response {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return nil
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	r := &response{Response: resp}
	var b bytes.Buffer
	_, r.err = b.ReadFrom(resp.Body)
	r.body = b.Bytes()
	return r
}
