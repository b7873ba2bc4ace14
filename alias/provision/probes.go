package provision

import (
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias"
	"ixmage/alias/scope"
)

// probesAt sets the clients of a key for IAM and STS. At AWS they are those of the region of
// the bucket: a key of another partition than ixmage's own is known nowhere else. STS of
// the partition's default region knows the keys of accounts that have not enabled the region.
func (a *AWS) probesAt(key *scope.Key, at alias.Location, keys aws.CredentialsProvider) {
	if a.endpoints.IAM != "" || at.Region == "" {
		key.IAM, key.STS = a.with(keys)
		return
	}
	there := a.inRegion(at.Region)
	key.IAM, key.STS = there.with(keys)
	if home := globalRegion(at.Region); home != at.Region && a.endpoints.sts() == "" {
		_, key.STSDefault = a.inRegion(home).with(keys)
	}
}

func (a *AWS) inRegion(region string) *AWS {
	b := *a
	b.base.Region = region
	return &b
}

// globalRegion is the region of IAM in the partition of a region, which every account has
// enabled.
func globalRegion(region string) string {
	at, err := iam.NewDefaultEndpointResolver().ResolveEndpoint(region, iam.EndpointResolverOptions{})
	if err != nil || at.SigningRegion == "" {
		return region
	}
	return at.SigningRegion
}
