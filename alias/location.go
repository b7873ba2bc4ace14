package alias

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Location is the place of an alias's objects. The zero value of an optional
// field means: AWS (Endpoint), virtual-host addressing (PathStyle), no owner
// check (BucketOwner), the whole bucket (Prefix).
type Location struct {
	Bucket      string `json:"bucket"`
	BucketOwner string `json:"bucket_owner"` // 12-digit AWS account id, sent as ExpectedBucketOwner
	Prefix      string `json:"prefix"`       // empty, or ends in exactly one slash
	Region      string `json:"region"`
	Endpoint    string `json:"endpoint"` // empty for AWS, else the URL of an S3-compatible server
	PathStyle   bool   `json:"path_style"`
}

// maxPrefix leaves half of a key for the path after the alias.
const maxPrefix = MaxKey / 2

// policyMarks are characters with a meaning in the resource of an IAM policy, of which the
// prefix is a part: wildcards, and the begin of a variable.
const policyMarks = "*?$"

// defaultRegion is the region for signatures if an alias with a custom endpoint has
// none, and the endpoint does not name one; most S3-compatible servers accept it.
const defaultRegion = "us-east-1"

// normal returns the location in the canonical form of Alias.Normalize.
func (l Location) normal() Location {
	if l.Prefix != "" && !strings.HasSuffix(l.Prefix, "/") {
		l.Prefix += "/"
	}
	l.Endpoint = normalEndpoint(l.Endpoint)
	if l.Endpoint != "" && l.Region == "" {
		l.Region = cmp.Or(regionIn(l.Endpoint), defaultRegion)
	}
	return l
}

// moved reports whether a path may name another object at l than at old.
func (l Location) moved(old Location) bool {
	return l.Bucket != old.Bucket || l.Prefix != old.Prefix || l.Region != old.Region || l.Endpoint != old.Endpoint
}

func (l Location) problems(p Policy) []Problem {
	var problems []Problem
	add := func(field, detail string) {
		if detail != "" {
			problems = append(problems, Problem{field, detail})
		}
	}
	add("bucket", bucketProblem(l.Bucket))
	add("bucket_owner", ownerProblem(l.BucketOwner))
	add("prefix", prefixProblem(l.Prefix))
	add("region", l.regionProblem())
	add("endpoint", l.endpointProblem(p))
	return problems
}

// The names that the S3 SDK, or S3 itself, does not take for a general purpose bucket:
// access points, directory buckets and tables, which have other hosts and other
// signatures.
var (
	reservedBucketPrefixes = []string{"xn--", "sthree-", "amzn-s3-demo-"}
	reservedBucketSuffixes = []string{"-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"}
)

func bucketProblem(s string) string {
	const form = "must be 3 to 63 of a-z, 0-9, dot and hyphen, and begin and end with a letter or digit"
	switch {
	case s == "":
		return "is required: the name of the bucket"
	case strings.HasPrefix(s, "arn:"):
		return "must be the name of a bucket, not an ARN"
	case len(s) < 3 || len(s) > 63 || !isLowerAlnum(s[0]) || !isLowerAlnum(s[len(s)-1]) ||
		strings.ContainsFunc(s, isNotBucketRune):
		return form
	case strings.Contains(s, ".."):
		return "must not have two dots in a row"
	case looksLikeIPv4(s):
		return "must not look like an IP address"
	}
	return reservedProblem(s)
}

func isNotBucketRune(r rune) bool { return r >= 0x80 || !isLowerAlnum(byte(r)) && r != '.' && r != '-' }

func reservedProblem(s string) string {
	for _, x := range reservedBucketPrefixes {
		if strings.HasPrefix(s, x) {
			return fmt.Sprintf("must not begin with %s, which S3 reserves", x)
		}
	}
	for _, x := range reservedBucketSuffixes {
		if strings.HasSuffix(s, x) {
			return fmt.Sprintf("must not end with %s, which is no plain bucket", x)
		}
	}
	return ""
}

// looksLikeIPv4 also finds addresses with a number that is too large, as S3 does.
func looksLikeIPv4(s string) bool {
	if _, err := netip.ParseAddr(s); err == nil {
		return true
	}
	return strings.Count(s, ".") == 3 && isDigits(strings.ReplaceAll(s, ".", ""))
}

func ownerProblem(s string) string {
	if s == "" || len(s) == 12 && isDigits(s) {
		return ""
	}
	return "must be empty or the 12 digits of an AWS account id"
}

func isDigits(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// prefixProblem allows all that a key of S3 may begin with, except for what a policy, a
// server or a proxy may read in two ways. Nothing is normalised: two Unicode forms of one
// text are two keys in S3.
func prefixProblem(s string) string {
	switch {
	case s == "":
		return ""
	case len(s) > maxPrefix:
		return fmt.Sprintf("must have at most %d bytes, its slash included", maxPrefix)
	case !utf8.ValidString(s):
		return "must be valid UTF-8"
	case strings.ContainsAny(s, policyMarks):
		return "must not have *, ? or $, which are wildcards and variables in an IAM policy: " +
			"name a folder above it, or rename the folder"
	case strings.ContainsFunc(s, isAmbiguousRune):
		return "must not have a control character, a backslash or the replacement character U+FFFD"
	case strings.HasPrefix(s, "/"):
		return "must not begin with a slash"
	case !strings.HasSuffix(s, "/"):
		return "must end with a slash"
	case faultsOf([]byte(strings.TrimSuffix(s, "/")))&faultSegment != 0:
		return `must not have empty, "." or ".." segments`
	}
	return ""
}

// isAmbiguousRune reports whether a character is read differently on the way to S3: some
// servers take a backslash for a slash, and U+FFFD stands for any invalid byte.
func isAmbiguousRune(r rune) bool { return unicode.IsControl(r) || r == '\\' || r == utf8.RuneError }

// regionProblem checks the region, which becomes part of a host name.
func (l Location) regionProblem() string {
	switch {
	case l.Region == "":
		return "is required for AWS, such as eu-west-1"
	case !isLabel(l.Region):
		return "must be 1 to 63 of a-z, 0-9 and hyphen, such as eu-west-1"
	}
	if region := regionIn(l.Endpoint); region != "" && region != l.Region {
		return fmt.Sprintf("must be %s, the region in the endpoint, and not %s: S3 refuses the signature", region, l.Region)
	}
	return ""
}
