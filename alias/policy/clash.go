package policy

import (
	"regexp"
	"slices"
	"strings"
)

// documentKey matches the ARN of a KMS key in a document.
var documentKey = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+`)

// Difference describes how an existing managed policy differs from the needed one, and
// what to do. ours means that this installation made it. The text contains nothing of
// the found document except the ARNs of keys, because another client may have written
// it.
func Difference(found, needed []byte, ours bool) string {
	have, want := keysIn(found), keysIn(needed)
	if have == want {
		return "its document allows something else than s3:GetObject on this location; it was not changed: " +
			"delete or rename it, or ask for the policy inline"
	}
	text := "it is for " + have + ", and this alias needs " + want + "; it was not changed: "
	if ours {
		return text + "one location has one managed policy, so give all aliases of it the same kms_key_arn, " +
			"or ask for the policy inline"
	}
	return text + "give the alias the kms_key_arn of the policy, delete or rename the policy, or ask for the policy inline"
}

// keysIn describes the KMS keys in a document.
func keysIn(document []byte) string {
	keys := documentKey.FindAllString(string(document), -1)
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) == 0 {
		return "objects without a KMS key"
	}
	return "objects under the KMS key " + strings.Join(keys, ", ")
}
