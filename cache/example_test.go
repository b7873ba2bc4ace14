package cache_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"ixmage/cache"
)

// silent is a Recorder that counts nothing.
type silent struct{}

func (silent) Evicted(_, _ string, _ int) {}

func (silent) Rejected(string, int)     {}
func (silent) Pushed(int64, int64, int) {}

// Two requests for one object: the first one fetches it and reads while it
// arrives, the second one finds it in memory.
func Example() {
	c := cache.New(cache.Config{Memory: 256 << 20, ObjectMax: 32 << 20}, silent{})
	defer c.Close()
	key := cache.Key{Space: 1, Epoch: 1, Object: "greeting.txt"}

	r, err := c.Get(context.Background(), key, func(context.Context, *cache.Entry) (*cache.Source, error) {
		const text = "hello, world"
		return &cache.Source{
			Meta: "text/plain", Size: int64(len(text)), Fresh: time.Minute,
			Body: io.NopCloser(strings.NewReader(text)),
		}, nil
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	var text []byte
	for int64(len(text)) < r.Size { // the last byte comes when all are checked
		p, err := r.Next(int64(len(text)))
		if err != nil {
			fmt.Println(err)
			return
		}
		text = append(text, p...)
	}
	fmt.Printf("%s: %s\n", r.Meta, text)

	if e, ok := c.Hit(key, time.Now()); ok {
		fmt.Printf("hit: %s, fresh for %s\n", e.Bytes(), e.Expires.Sub(e.Stored))
		e.Release()
	}
	// Output:
	// text/plain: hello, world
	// hit: hello, world, fresh for 1m0s
}
