package s3_test

import (
	"fmt"
	"io"
	"net/http"

	"ixmage/internal/awstest/s3"
)

// A picture whose connection breaks the first time and not the second.
func Example() {
	s, err := s3.Start()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	s.Put("media", "cat.png", s3.Object{Body: []byte("a small cat"), ContentType: "image/png"})
	s.Next("media", "cat.png", s3.CloseAfter(7))

	for range 2 {
		resp, err := http.Get(s.URL + "/media/cat.png")
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Printf("%s, then %v\n", body, err)
	}
	http.DefaultClient.CloseIdleConnections()
	fmt.Println(s.Count("media", "cat.png"), "requests")

	// Output:
	// a small, then unexpected EOF
	// a small cat, then <nil>
	// 2 requests
}
