package scope

import (
	"slices"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// Names of the checks, in the order in which they are made.
const (
	checkIdentity     = "identity"
	checkReadInside   = "read-inside"
	checkReadOutside  = "read-outside"
	checkReadSibling  = "read-sibling"
	checkWrite        = "write"
	checkDelete       = "delete"
	checkList         = "list"
	checkListInside   = "list-inside"
	checkListBuckets  = "list-buckets"
	checkACL          = "acl"
	checkTagging      = "tagging"
	checkVersion      = "object-version"
	checkBucketPolicy = "bucket-policy"
	checkIAMSelf      = "iam-self"
	checkIAMKeys      = "iam-keys"
	checkIAMCreateKey = "iam-create-key"
	checkAssumeRole   = "sts-assume-role"
	checkFederation   = "sts-federation"
	checkPassword     = "console-password"
	checkOtherKeys    = "other-keys"
)

// rule is what a check means.
type rule struct {
	// does completes "this key can …".
	does string
	// reveals are the codes of errors that only who may do it is told: the
	// right was there, and what was asked for was not.
	reveals []string
	// wide marks what AmazonS3ReadOnlyAccess grants (s3:Get*, s3:List*).
	wide bool
}

var rules = map[string]rule{
	checkReadOutside: {
		does: "read objects outside the alias's prefix", wide: true,
		reveals: []string{"NoSuchKey", "InvalidRange", "InvalidObjectState"},
	},
	checkReadSibling: {
		does: "read a folder whose name only begins like the alias's prefix", wide: true,
		reveals: []string{"NoSuchKey", "InvalidRange", "InvalidObjectState"},
	},
	checkWrite: {
		does:    "write to the bucket",
		reveals: []string{"NoSuchUpload", "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"},
	},
	checkDelete:      {does: "delete objects", reveals: []string{"NoSuchKey", "NoSuchVersion"}},
	checkList:        {does: "list the whole bucket", wide: true},
	checkListInside:  {does: "list the alias's prefix", wide: true},
	checkListBuckets: {does: "list the account's buckets", wide: true},
	checkACL:         {does: "read access control lists", wide: true, reveals: []string{"NoSuchKey"}},
	checkTagging:     {does: "read the tags of objects", wide: true, reveals: []string{"NoSuchKey", "NoSuchTagSet"}},
	checkVersion: {
		does: "read objects by version, old ones too", wide: true,
		reveals: []string{"NoSuchVersion", "NoSuchKey", "InvalidRange", "InvalidObjectState"},
	},
	checkBucketPolicy: {does: "read the bucket's policy", wide: true, reveals: []string{"NoSuchBucketPolicy"}},
	checkIAMSelf:      {does: "read its own IAM user", reveals: []string{"NoSuchEntity"}},
	checkIAMKeys:      {does: "list the access keys of its IAM user", reveals: []string{"NoSuchEntity"}},
	checkIAMCreateKey: {does: "make access keys for IAM users", reveals: []string{"NoSuchEntity", "LimitExceeded"}},
	checkAssumeRole:   {does: "assume IAM roles", reveals: []string{"NoSuchEntity"}},
	checkFederation:   {does: "hand out temporary credentials", reveals: []string{"PackedPolicyTooLarge"}},
}

// denyVerdict is the verdict on something that a key must not be able to do: proven
// only by a refusal, violated by success and by an error that comes after the
// right was found to be there. All else proves nothing.
func denyVerdict(check, code string, status int) alias.Verdict {
	switch {
	case (awserr.Reply{Code: code, Status: status}).Denied():
		return alias.VerdictProven
	case code == awserr.OK, slices.Contains(rules[check].reveals, code):
		return alias.VerdictViolated
	}
	return alias.VerdictNotProven
}

// wideVerdict is denyVerdict for a user that AmazonS3ReadOnlyAccess is attached to. What
// that policy grants may be refused all the same, by a boundary.
func wideVerdict(check, code string, status int) alias.Verdict {
	v := denyVerdict(check, code, status)
	if v == alias.VerdictViolated && rules[check].wide {
		return alias.VerdictProven
	}
	return v
}

// readVerdict is the verdict on reading inside the location, and whether that
// failed: an answer that will not become another one by waiting for a server
// to recover. given says that the object is one that the operator gave, so that
// it should exist; else it is one that does not.
func readVerdict(given bool, r awserr.Reply) (v alias.Verdict, failed bool) {
	switch {
	case r.Passing():
		return alias.VerdictNotProven, false
	case given && (r.OK() || r.Code == "InvalidRange"): // an empty object has no first byte
		return alias.VerdictProven, false
	case r.OK(), r.Code == "InvalidRange", r.Code == "InvalidObjectState":
		// Archived: the right is there, the bytes are not to be had.
		return alias.VerdictWeak, false
	case !given && r.Code == "NoSuchKey":
		return alias.VerdictWeak, false
	case !given && r.Denied() && r.Action != "s3:GetObject" && r.Action != "kms:Decrypt":
		// S3 says so for an object that is not there to whoever may read and
		// not list.
		return alias.VerdictWeak, false
	}
	return alias.VerdictNotProven, true
}

// identityVerdict is the verdict on who STS says that the key belongs to. Only
// another user fails: one key is good for reading without STS.
func identityVerdict(r awserr.Reply, want, got string) (v alias.Verdict, failed bool) {
	switch {
	case !r.OK():
		return alias.VerdictNotProven, false
	case want != "" && want != got:
		return alias.VerdictViolated, true
	}
	return alias.VerdictProven, false
}

// passwordVerdict is the verdict on a console password of the key's user. A key
// that may not ask is as it should be; that nothing is known about the user
// then does not count against it, and the detail says so.
func passwordVerdict(code string, status int) alias.Verdict {
	switch {
	case code == awserr.OK:
		return alias.VerdictViolated
	case code == "NoSuchEntity", (awserr.Reply{Code: code, Status: status}).Denied():
		return alias.VerdictProven
	}
	return alias.VerdictNotProven
}

// otherKeysVerdict is the verdict on further keys of the key's user. They do not
// widen what this key may do, but this key is then not all there is to guard.
func otherKeysVerdict(code string, status, others int) alias.Verdict {
	switch {
	case code == awserr.OK && others > 0:
		return alias.VerdictWeak
	case code == awserr.OK, (awserr.Reply{Code: code, Status: status}).Denied():
		return alias.VerdictProven
	}
	return alias.VerdictNotProven
}

// Conclusive reports whether every check was answered by something that will
// stand: none by a key that is not known everywhere yet, or by a server that
// is slow, busy or failing.
func Conclusive(checks []alias.Check) bool {
	return !slices.ContainsFunc(checks, func(c alias.Check) bool {
		// Some servers say this for a call of STS that they do not have. Of
		// the key itself it would be true in the positive checks too.
		if c.Got == "SignatureDoesNotMatch" && !c.Positive {
			return false
		}
		return awserr.Passing(c.Got)
	})
}
