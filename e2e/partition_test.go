package e2e

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
)

// TestPlanOfRegions: the documents and commands of a plan are of the partition of the region,
// and a contradiction is 400 with both sides.
func TestPlanOfRegions(t *testing.T) {
	t.Parallel()
	const boundary = "arn:aws:iam::123456789012:policy/ixmage-boundary"
	s := start(t)
	bounded := start(t, "--iam-boundary", boundary)
	plan := func(s *server, region, more string) *response {
		return s.api(http.MethodPost, "/api/v1/provision/plan",
			`{"alias":"shop","bucket":"acme-media","prefix":"web/","region":"`+region+`"`+more+`}`)
	}
	for region, partition := range map[string]string{
		"eu-west-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "eusc-de-east-1": "aws-eusc",
		"us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b", "eu-isoe-west-1": "aws-iso-e", "us-isof-south-1": "aws-iso-f",
		"mars-north-1": "aws",
	} {
		key := fmt.Sprintf(`,"kms_key_arn":"arn:%s:kms:%s:123456789012:key/1234abcd"`, partition, region)
		r := plan(s, region, key)
		if r.StatusCode != http.StatusOK || bytes.Contains(r.body, []byte("arn:")) && !bytes.Contains(r.body, []byte("arn:"+partition+":s3:::acme-media/web/*")) {
			t.Errorf("%s: %s: %s", region, r.Status, r.body)
		}
		other := "aws"
		if partition == "aws" {
			other = "aws-cn"
		}
		r = plan(s, region, fmt.Sprintf(`,"kms_key_arn":"arn:%s:kms:%s:123456789012:key/1234abcd"`, other, region))
		if r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s with a key of %s: %s: %s", region, other, r.Status, r.body)
		}
		wantAll(t, "the problem", string(r.body), "kms_key_arn", region, "which is "+partition+", and not in "+other)
		r = plan(s, region, fmt.Sprintf(`,"kms_key_arn":"arn:%s:kms:ca-central-1:123456789012:key/1234abcd"`, partition))
		if r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s with a key of ca-central-1: %s: %s", region, r.Status, r.body)
		}
		wantAll(t, "the problem", string(r.body), "kms_key_arn", "which is "+region+", and not in ca-central-1")
		r = plan(bounded, region, "")
		if partition == "aws" {
			if r.StatusCode != http.StatusOK {
				t.Errorf("%s with a boundary: %s: %s", region, r.Status, r.body)
			}
			continue
		}
		if r.StatusCode != http.StatusBadRequest {
			t.Errorf("%s with a boundary of aws: %s: %s", region, r.Status, r.body)
		}
		wantAll(t, "the problem", string(r.body), "--iam-boundary", boundary, region+" is in the partition "+partition)
	}
}
