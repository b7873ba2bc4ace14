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

// Tags that mark a user and a policy as ours.
const (
	TagManagedBy = "managed-by"
	TagInstall   = "ixmage-install"
	TagOperation = "ixmage-operation"
	TagAlias     = "ixmage-alias"
	// TagGeneration says which change of the user by which registry was the last:
	// <n>-<8 random characters>.
	TagGeneration = "ixmage-generation"

	ManagedBy = "ixmage"
)

// InlineName is the name of the inline policy of a user of ours. RevokeName is the name
// of a second one that an emergency rotation puts, which denies the sessions of the user's
// keys.
const (
	InlineName = "ixmage-read"
	RevokeName = "ixmage-revoke"
)

// UserPath is the IAM path of the users and of the managed policies of an installation.
func UserPath(installID string) string { return "/ixmage/" + installID + "/" }

// UserName is the name of a user made for an alias. random distinguishes users of the
// same alias, or of two aliases whose truncated names are equal.
func UserName(a alias.Name, random string) string {
	const before, after = "ixmage-s3read-", "-"
	room := maxUserName - len(before) - len(after) - len(random)
	name := string(a)
	if len(name) > room {
		name = strings.TrimRight(name[:room], "-")
	}
	return before + name + after + random
}

// NewSuffix returns four random characters of a-z and 0-9.
func NewSuffix() string {
	const digits = "abcdefghijklmnopqrstuvwxyz0123456789"
	const even = 256 / len(digits) * len(digits) // a larger byte would make the first digits more frequent
	suffix := make([]byte, 0, 4)
	for len(suffix) < cap(suffix) {
		var b [1]byte
		rand.Read(b[:]) // never fails: a failure ends the program
		if int(b[0]) < even {
			suffix = append(suffix, digits[int(b[0])%len(digits)])
		}
	}
	return string(suffix)
}

// UserTags are the request's tags and the tags that mark a user as ours, which have
// priority. An empty operationID, as in a plan, omits its tag.
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

// plainPrefix matches prefixes that the policy's name can end with. Capital letters are
// excluded, because names in IAM are case-insensitive and keys in S3 are not.
var plainPrefix = regexp.MustCompile(`^[a-z0-9+=,.@_-]*$`)

// ManagedName is the name of the managed policy for a location:
//
//	bucket-specific-<bucket>             the whole bucket
//	bucket-specific-<bucket>-<prefix>    a folder, without its slash
//
// If that is too long or not a valid name for IAM, or if it may be the name of another
// folder (a nested folder, or one with a capital letter or another character), invalid
// characters become hyphens, and the first 16 digits of a SHA-256 of bucket and prefix
// follow. Two locations with such names never share one. Two locations with plain names
// can, such as the bucket a-b and the folder b of the bucket a; their documents differ.
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

// hashedName appends a hash of the location to a name. The hashed text is unambiguous,
// because a bucket name has no slash.
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

// ManagedDescription describes a managed policy to users of the console. IAM cannot
// change a description, so it contains nothing that changes.
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

// ReadOnlyARN is the AWS managed policy that allows reading every bucket.
func ReadOnlyARN(partition string) string {
	return "arn:" + partition + ":iam::aws:policy/AmazonS3ReadOnlyAccess"
}

// ManagedARN is the ARN of the managed policy of a location in the account of a user. path
// is that of the installation, or / for a policy that an operator made. The policy of the
// server allows tags under the path only: could it tag a policy that an operator made, it
// could delete it then.
func ManagedARN(userARN, path string, g alias.Grant) string {
	partition, account := ARNParts(userARN)
	return "arn:" + partition + ":iam::" + account + ":policy" + path + ManagedName(g.Bucket, g.Prefix)
}

// ARNParts returns the partition and account of a user's ARN,
// arn:PARTITION:iam::ACCOUNT:user/…, and aws and no account for other text.
func ARNParts(arn string) (partition, account string) {
	parts := strings.SplitN(arn, ":", 6)
	if len(parts) < 6 {
		return "aws", ""
	}
	return parts[1], parts[4]
}
