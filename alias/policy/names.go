package policy

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"regexp"
	"strings"

	"ixmage/alias"
)

const (
	maxUserName    = 64
	maxPolicyName  = 128
	maxDescription = 1000
)

// Tags by which a user and a policy are known to be ours.
const (
	TagManagedBy = "managed-by"
	TagInstall   = "ixmage-install"
	TagOperation = "ixmage-operation"
	TagAlias     = "ixmage-alias"

	ManagedBy = "ixmage"
)

// InlineName is the name of the one inline policy on a user of ours.
const InlineName = "ixmage-read"

// UserPath is where the users of an installation are, and nobody else's.
func UserPath(installID string) string { return "/ixmage/" + installID + "/" }

// UserName is the name of a user made for an alias. random tells apart users
// made for the same alias, or for two whose names are the same where they are
// cut.
func UserName(a alias.Name, random string) string {
	const before, after = "ixmage-s3read-", "-"
	room := maxUserName - len(before) - len(after) - len(random)
	name := string(a)
	if len(name) > room {
		name = strings.TrimRight(name[:room], "-")
	}
	return before + name + after + random
}

// NewSuffix is four random characters of a-z and 0-9.
func NewSuffix() string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	const even = 256 / len(digits) * len(digits) // beyond it the first digits would be more frequent
	suffix := make([]byte, 0, 4)
	for len(suffix) < cap(suffix) {
		var b [1]byte
		rand.Read(b[:]) // it never fails: the program ends first
		if int(b[0]) < even {
			suffix = append(suffix, digits[int(b[0])%len(digits)])
		}
	}
	return string(suffix)
}

// UserTags are the request's own tags and those that prove a user to be ours,
// which win. An empty operationID, in a plan, leaves its tag out.
func UserTags(installID, operationID string, req Request) map[string]string {
	tags := map[string]string{}
	maps.Copy(tags, req.Tags)
	tags[TagManagedBy], tags[TagInstall], tags[TagAlias] = ManagedBy, installID, string(req.Alias)
	delete(tags, TagOperation)
	if operationID != "" {
		tags[TagOperation] = operationID
	}
	return tags
}

// plainPrefix is what a prefix may hold so that the policy's name can end with
// it. Capital letters are not among it: IAM does not tell names apart by case,
// and S3 does.
var plainPrefix = regexp.MustCompile(`^[a-z0-9+=,.@_-]*$`)

// ManagedName is the name of the managed policy for a location:
//
//	bucket-specific-<bucket>             the whole bucket
//	bucket-specific-<bucket>-<prefix>    a folder, its slash left out
//
// Where that is not a name for IAM, or too long, or may be that of another
// folder (one within a folder, or with a capital letter or an odd character),
// the characters that do not fit are hyphens and the first 16 digits of a
// SHA-256 of bucket and prefix follow: two locations with such names never share
// one. Two of the plain form can, such as the bucket a-b and the folder b of the
// bucket a; their documents tell them apart.
func ManagedName(bucket, prefix string) string {
	folder := strings.TrimRight(prefix, "/")
	name := "bucket-specific-" + bucket
	if folder != "" {
		name += "-" + folder
	}
	if len(name) <= maxPolicyName && plainPrefix.MatchString(bucket) && plainPrefix.MatchString(folder) {
		return name
	}
	return hashedName(name, bucket, folder)
}

// hashedName ends with a hash of the location. A bucket has no slash, so the
// first one ends it.
func hashedName(name, bucket, folder string) string {
	const digits = 16
	sum := sha256.Sum256([]byte(bucket + "/" + folder))
	name = strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '-' || plainPrefix.MatchString(string(r))) || 'A' <= r && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	name = name[:min(len(name), maxPolicyName-1-digits)]
	return strings.TrimRight(name, "-") + "-" + hex.EncodeToString(sum[:])[:digits]
}

// ManagedDescription says what a managed policy allows, for who finds it in the
// console. IAM keeps it as it was first written, so it holds nothing that
// changes.
func ManagedDescription(g alias.Grant) string {
	text := "Allows ixmage s3:GetObject on every object of the bucket " + g.Bucket
	if g.Prefix != "" {
		text = "Allows ixmage s3:GetObject on the objects under " + g.Prefix + " in the bucket " + g.Bucket
	}
	if g.KMSKeyARN != "" {
		text += ", kms:Decrypt through S3 with the key " + g.KMSKeyARN
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '-'
		}
		return r
	}, text+", and nothing else.")
	return text[:min(len(text), maxDescription)]
}

// ReadOnlyARN is AWS's own policy that reads every bucket.
func ReadOnlyARN(partition string) string {
	return "arn:" + partition + ":iam::aws:policy/AmazonS3ReadOnlyAccess"
}

// ManagedARN is the managed policy of a location in an account.
func ManagedARN(partition, account string, g alias.Grant) string {
	return "arn:" + partition + ":iam::" + account + ":policy/" + ManagedName(g.Bucket, g.Prefix)
}

// ARNParts are what a user's ARN says: arn:PARTITION:iam::ACCOUNT:user/….
func ARNParts(arn string) (partition, account string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return "aws", ""
	}
	return parts[1], parts[4]
}
