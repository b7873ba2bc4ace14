package origin

import (
	"fmt"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"
)

// TestResolverAgrees compares what is remembered with what the SDK's rules say,
// bucket by bucket, asked for twice and with another key the second time.
func TestResolverAgrees(t *testing.T) {
	t.Parallel()
	params := func(bucket, key string) s3.EndpointParameters {
		p := s3.EndpointParameters{Region: aws.String("eu-west-1"), Bucket: &bucket, Key: &key}
		return p.WithDefaults()
	}
	r, rules := newResolver(), s3.NewDefaultEndpointResolverV2()
	for i := range 2 * maxResolved {
		bucket := fmt.Sprintf("bucket%d", i%(maxResolved+10))
		if i%3 == 0 {
			bucket += ".with.dots" // path style
		}
		want, err := rules.ResolveEndpoint(t.Context(), params(bucket, "a.png"))
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"a.png", "other/b.png"} {
			got, err := r.ResolveEndpoint(t.Context(), params(bucket, key))
			if err != nil {
				t.Fatal(err)
			}
			if got.URI.String() != want.URI.String() || !cmp.Equal(got.Headers, want.Headers) {
				t.Fatalf("%s: got %v %v, want %v %v", bucket, got.URI, got.Headers, want.URI, want.Headers)
			}
		}
	}
	if n := len(r.known); n != maxResolved {
		t.Errorf("%d buckets are remembered, want %d", n, maxResolved)
	}
}
