package scope

import (
	"slices"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// Names of the checks, in the order of their execution.
const (
	NameIdentity     = "identity"
	NameReadInside   = "read-inside"
	NameReadOutside  = "read-outside"
	NameReadSibling  = "read-sibling"
	NameWrite        = "write"
	NameDelete       = "delete"
	NameList         = "list"
	NameListInside   = "list-inside"
	NameListBuckets  = "list-buckets"
	NameACL          = "acl"
	NameTagging      = "tagging"
	NameVersion      = "object-version"
	NameBucketPolicy = "bucket-policy"
	NameIAMSelf      = "iam-self"
	NameIAMKeys      = "iam-keys"
	NameIAMCreateKey = "iam-create-key"
	NameIAMOwnRights = "iam-own-rights"
	NameAssumeRole   = "sts-assume-role"
	NameFederation   = "sts-federation"
	NamePassword     = "console-password"
	NameOtherKeys    = "other-keys"
)

// Names of what no check covers, in the list of what was not tried.
const (
	UntriedServices  = "other-services"    // rights in other services than S3, IAM and STS
	UntriedBuckets   = "other-buckets"     // rights on other buckets
	UntriedActions   = "other-actions"     // actions of S3 that no check has
	UntriedOwnUser   = "own-user"          // CreateAccessKey, PutUserPolicy and CreateLoginProfile on its own user
	UntriedResources = "resource-policies" // what policies of other resources grant to the user
)

// rule describes a check of what a key must not be able to do.
type rule struct {
	// does completes "this key can …".
	does string
	// reveals lists error codes that S3 returns only to a caller with the right: the
	// right exists, the object does not.
	reveals []string
	// note is added to the sentence that the key cannot.
	note string
	// wide marks actions that AmazonS3ReadOnlyAccess grants (s3:Get*, s3:List*).
	wide bool
}

var rules = map[string]rule{
	NameReadOutside: {
		does: "read objects outside the alias's prefix", wide: true,
		reveals: []string{"NoSuchKey", "InvalidRange", "InvalidObjectState"},
	},
	NameReadSibling: {
		does: "read a folder whose name only begins like the alias's prefix", wide: true,
		reveals: []string{"NoSuchKey", "InvalidRange", "InvalidObjectState"},
	},
	NameWrite: {
		does:    "write to the bucket",
		reveals: []string{"NoSuchUpload", "PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"},
	},
	NameDelete: {
		does:    "delete objects",
		reveals: []string{"NoSuchKey", "NoSuchVersion", "PreconditionFailed", "ConditionalRequestConflict"},
	},
	NameList:        {does: "list the whole bucket", wide: true},
	NameListInside:  {does: "list the alias's prefix", wide: true},
	NameListBuckets: {does: "list the account's buckets", wide: true},
	NameACL:         {does: "read access control lists", wide: true, reveals: []string{"NoSuchKey"}},
	NameTagging:     {does: "read the tags of objects", wide: true, reveals: []string{"NoSuchKey", "NoSuchTagSet"}},
	NameVersion: {
		does: "read objects by version, old ones too", wide: true,
		reveals: []string{"NoSuchVersion", "NoSuchKey", "InvalidRange", "InvalidObjectState"},
	},
	// S3 answers MethodNotAllowed to a caller with the right that belongs to another account
	// than the bucket (API reference, GetBucketPolicy).
	NameBucketPolicy: {
		does: "read the bucket's policy", wide: true, reveals: []string{"NoSuchBucketPolicy", "MethodNotAllowed"},
	},
	NameIAMSelf: {does: "read its own IAM user", reveals: []string{"NoSuchEntity"}},
	NameIAMKeys: {does: "list the access keys of its IAM user", reveals: []string{"NoSuchEntity"}},
	NameIAMCreateKey: {
		does: "make or change access keys of IAM users", reveals: []string{"NoSuchEntity", "LimitExceeded"},
	},
	NameIAMOwnRights: {does: "change the rights of its own IAM user", reveals: []string{"NoSuchEntity"}},
	NameAssumeRole:   {does: "assume IAM roles", reveals: []string{"NoSuchEntity"}},
	NameFederation: {
		does: "federate", note: "; every user key can make sessions of itself", reveals: []string{"PackedPolicyTooLarge"},
	},
}

// denyVerdict is the verdict on something that a key must not be able to do, before the
// reason of a refusal is looked at. A success violates it, and so does an error that only a
// caller with the permission gets. Every other answer but a refusal proves nothing.
func denyVerdict(check string, rep awserr.Reply) alias.Verdict {
	switch {
	case rep.OK(), slices.Contains(rules[check].reveals, rep.Code):
		return alias.VerdictViolated
	case check == NameDelete && rep.Denied() && rep.Action == "s3:ListBucket" && rep.Reason != awserr.ReasonNone:
		// The key may delete: of the rights that the answer needs it lacks only the one to
		// learn that the object does not exist.
		return alias.VerdictViolated
	case rep.Denied():
		return alias.VerdictProven
	}
	return alias.VerdictNotProven
}

// readVerdict is the verdict on reading inside the location. failed means that the answer
// is negative and that waiting does not change it. given means that the operator gave
// the object, so that it should exist; otherwise the object is missing.
func readVerdict(given bool, r awserr.Reply) (v alias.Verdict, failed bool) {
	switch {
	case r.Passing():
		return alias.VerdictNotProven, false
	case given && (r.OK() || r.Code == "InvalidRange"): // an empty object has no first byte
		return alias.VerdictProven, false
	case r.OK(), r.Code == "InvalidRange", r.Code == "InvalidObjectState":
		// InvalidObjectState: the key may read the object, but it is archived.
		return alias.VerdictWeak, false
	case !given && r.Code == "NoSuchKey":
		return alias.VerdictWeak, false
	case !given && r.Denied() && r.Action != "s3:GetObject" && r.Action != "kms:Decrypt":
		// S3 gives this answer for a missing object to a key that may read but not
		// list.
		return alias.VerdictWeak, false
	}
	return alias.VerdictNotProven, true
}

// identityVerdict is the verdict on the owner of the key, from STS. It fails only for
// another user, because a key can read without STS.
func identityVerdict(r awserr.Reply, want, got string) (v alias.Verdict, failed bool) {
	switch {
	case !r.OK():
		return alias.VerdictNotProven, false
	case want != "" && want != got:
		return alias.VerdictViolated, true
	}
	return alias.VerdictProven, false
}

// passwordVerdict is the verdict on a console password of the key's user.
func passwordVerdict(code string) alias.Verdict {
	switch code {
	case awserr.OK:
		return alias.VerdictViolated
	case "NoSuchEntity":
		return alias.VerdictProven
	}
	return alias.VerdictNotProven
}

// otherKeysVerdict is the verdict on other keys of the key's user. They do not violate
// the scope of this key, but they give the same access and must be protected too.
func otherKeysVerdict(code string, others int) alias.Verdict {
	switch {
	case code == awserr.OK && others > 0:
		return alias.VerdictWeak
	case code == awserr.OK:
		return alias.VerdictProven
	}
	return alias.VerdictNotProven
}

// Conclusive reports whether no check got a temporary answer: from a server that does
// not know the key yet, or that is slow, busy or failing.
func Conclusive(checks []alias.Check) bool {
	return !slices.ContainsFunc(checks, func(c alias.Check) bool {
		return awserr.Passing(c.Got)
	})
}
