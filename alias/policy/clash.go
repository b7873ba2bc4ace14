package policy

import (
	"regexp"
	"slices"
	"strings"
)

// documentKey is a key of KMS in a document.
var documentKey = regexp.MustCompile(`arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+`)

// Difference says how a managed policy that exists differs from the one that is
// needed, and what to do. ours says that this installation made it. Of a document
// that may be anybody's it repeats keys only.
func Difference(found, needed []byte, ours bool) string {
	have, want := keysIn(found), keysIn(needed)
	if have == want {
		return "its document is another one than s3:GetObject on this location; it was left as it is: " +
			"delete or rename it, or ask for the policy inline"
	}
	text := "it is for " + have + ", and this alias needs " + want + "; it was left as it is: "
	if ours {
		return text + "one location has one managed policy, so give all aliases of it the same kms_key_arn, " +
			"or ask for the policy inline"
	}
	return text + "give the alias the kms_key_arn of the policy, delete or rename the policy, or ask for the policy inline"
}

// keysIn names the keys in a document.
func keysIn(document []byte) string {
	keys := documentKey.FindAllString(string(document), -1)
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) == 0 {
		return "objects without a key of KMS"
	}
	return "objects under the KMS key " + strings.Join(keys, ", ")
}
