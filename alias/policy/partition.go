package policy

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias"
)

// awsRegion is what the SDK knows of a region: its partition, and the end of the host names
// of its services.
type awsRegion struct{ partition, suffix string }

// lookUpRegion reads the SDK's table of partitions. As in the SDK, a region of no known
// form is in the partition aws: the SDK could not reach another one either.
func lookUpRegion(region string) awsRegion {
	unknown := awsRegion{"aws", "amazonaws.com"}
	at, err := sts.NewDefaultEndpointResolver().ResolveEndpoint(region, sts.EndpointResolverOptions{})
	if err != nil {
		return unknown
	}
	u, err := url.Parse(at.URL)
	if err != nil || !IsPartition(at.PartitionID) {
		return unknown
	}
	return awsRegion{at.PartitionID, strings.TrimPrefix(strings.TrimPrefix(u.Host, "sts."), region+".")}
}

// OwnerOf is the account that must own the bucket of a location: the one that the request
// names, or at AWS that of the user that reads it. It is empty for no check: S3 servers that
// are not AWS have other accounts, or none.
func OwnerOf(at alias.Location, userARN string) string {
	if _, account := ARNParts(userARN); at.BucketOwner == "" && at.AtAWS() {
		return account
	}
	return at.BucketOwner
}

// CheckPartition returns a *alias.ValidationError if the location of a request is at AWS
// in another partition than the IAM user that reads it: the user that the request reuses,
// or else one with the boundary. No IAM user can read in another partition. Empty ARNs are
// not compared.
func CheckPartition(at alias.Location, userARN, boundary string) error {
	if !at.AtAWS() {
		return nil
	}
	needed := lookUpRegion(at.Region).partition
	for _, have := range []struct{ what, arn string }{
		{"the user of the credential, ", userARN}, {"--iam-boundary, ", boundary},
	} {
		if parts := strings.SplitN(have.arn, ":", 3); len(parts) == 3 && parts[1] != needed {
			return Invalid("region", fmt.Sprintf("must be in the partition of %s%s; %s is in the partition %s",
				have.what, have.arn, at.Region, needed))
		}
	}
	return nil
}

// PartitionOf is the partition of a region; aws for one that the SDK does not know.
func PartitionOf(region string) string { return lookUpRegion(region).partition }

// homeRegions are the regions of STS in a partition that every account has enabled.
var homeRegions = map[string]string{
	"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1", "aws-iso": "us-iso-east-1",
	"aws-iso-b": "us-isob-east-1", "aws-iso-e": "eu-isoe-west-1", "aws-iso-f": "us-isof-south-1",
	"aws-eusc": "eusc-de-east-1",
}

// STSRegion is the region of STS for a role in a partition: the wanted one, else that of the
// server if it is in the partition, else the home region of the partition.
func STSRegion(wanted, own, partition string) string {
	home := homeRegions[partition]
	switch {
	case wanted != "":
		return wanted
	case home == "" || own != "" && lookUpRegion(own).partition == partition:
		return own
	}
	return home
}
