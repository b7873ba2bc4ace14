package scope

import (
	"strings"
	"testing"

	"ixmage/alias"
)

func TestBucketState(t *testing.T) {
	t.Parallel()
	aws := alias.Location{Bucket: "media", Region: "eu-west-1"}
	custom := alias.Location{Bucket: "media", Region: "eu-west-1", Endpoint: "https://s3.example.com"}
	for _, tt := range []struct {
		at     alias.Location
		status int
		region string
		want   BucketState
	}{
		{aws, 200, "eu-west-1", BucketUntold},
		{aws, 403, "eu-west-1", BucketUntold},
		{aws, 301, "us-east-1", BucketElsewhere},
		{aws, 301, "", BucketUntold},
		{aws, 403, "us-gov-east-1", BucketElsewhere},
		{aws, 400, "ap-southeast-7", BucketElsewhere},
		{aws, 404, "", BucketMissing},
		{aws, 404, "us-east-1", BucketMissing},
		{aws, 500, "us-east-1", BucketUntold},
		{aws, 0, "us-east-1", BucketUntold},
		{aws, 301, "somewhere", BucketElsewhere},
		{custom, 301, "somewhere", BucketUntold},
		{custom, 403, "default", BucketUntold},
		{custom, 403, "us-iso-west-1", BucketElsewhere},
		{custom, 404, "", BucketMissing},
		{custom, 405, "", BucketUntold},
	} {
		if got := bucketState(tt.at, tt.status, tt.region); got != tt.want {
			t.Errorf("%q, %d, %q: %d, want %d", tt.at.Endpoint, tt.status, tt.region, got, tt.want)
		}
	}
}

// FuzzPlainRegion: a region is one, whatever a server sends.
func FuzzPlainRegion(f *testing.F) {
	f.Add("eu-west-1")
	f.Add("EU")
	f.Add("eu-west-1\n")
	f.Fuzz(func(t *testing.T, sent string) {
		got := plainRegion(sent)
		if got != "" && got != sent || len(got) > 32 || strings.ContainsFunc(got, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		}) {
			t.Fatalf("%q is no region", got)
		}
	})
}
