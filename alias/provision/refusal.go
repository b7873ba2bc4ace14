package provision

import (
	"cmp"
	"fmt"
	"slices"

	"ixmage/alias"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// denial is a refusal of a call, with the kind of policy that AWS names as the reason.
type denial struct {
	action   string // s3:GetObject
	reason   awserr.Reason
	whose    string // whom the identity-based policies belong to: "of the new key's user"
	boundary string // its ARN, if it is known
}

// byIdentity reports whether the caller only lacks a permission, or may lack one: AWS does not
// always name a reason.
func (d denial) byIdentity() bool {
	return d.reason == awserr.ReasonNone || d.reason == awserr.ReasonIdentity
}

// String names the policy that denies, and what to do about it. No policy that ixmage or
// docs/iam.md puts on the caller can change it.
func (d denial) String() string {
	switch d.reason {
	case awserr.ReasonSCP:
		text := "a service control policy (SCP) of the AWS organization forbids it: ask the administrators of the " +
			"organization to allow " + d.action
		if d.action == "iam:CreateUser" {
			text += ", or read the alias with a role, which needs no user (docs/roles.md)"
		}
		return text
	case awserr.ReasonRCP:
		return "a resource control policy (RCP) of the AWS organization forbids it: ask the administrators of the " +
			"organization to allow " + d.action
	case awserr.ReasonBoundary:
		return "the permissions boundary " + cmp.Or(d.boundary, d.whose) + " forbids it: allow " + d.action +
			" in that boundary"
	case awserr.ReasonSession:
		return "the session policy " + d.whose + " forbids it: allow " + d.action + " where the session is made"
	case awserr.ReasonVPCEndpoint:
		return "the policy of the VPC endpoint of this host's network forbids it: ask the administrators of the " +
			"network to allow " + d.action + " in it"
	case awserr.ReasonResource:
		return "the policy of " + d.resource() + " forbids it: ask its owner to allow " + d.action
	case awserr.ReasonIdentityDeny:
		return "an explicit deny in an identity-based policy " + d.whose +
			" forbids it: find the statement that denies " + d.action
	case awserr.ReasonNone, awserr.ReasonIdentity, awserr.ReasonOther:
	}
	return "a policy of a kind that ixmage does not know forbids it: CloudTrail has the whole message"
}

// resource is the resource whose policy denies.
func (d denial) resource() string {
	switch d.action {
	case actionDecrypt:
		return "the KMS key"
	case actionRead:
		return "the bucket"
	}
	return "the resource"
}

// Actions that reading an object needs.
const (
	actionRead    = "s3:GetObject"
	actionDecrypt = "kms:Decrypt"
)

// readError returns the error for an answer of S3 to a new key that must read inside, if
// waiting cannot cure it. It returns nil for the answers that the propagation of a key and of
// its policy produces, unless the time for them is over (late).
func readError(t scope.Target, r scope.Refusal, late bool) error {
	missing := r.Code == "NoSuchKey" || r.Code == "404" || r.Denied() && r.Action == "s3:ListBucket"
	decrypt := r.Denied() && r.Action == actionDecrypt || r.Fault == awserr.KMSDenied
	switch {
	case r.OK(), r.Passing():
		return nil
	case r.Given && missing:
		return failf(codeObjectMissing, "the object %s does not exist in the bucket %s: name one that exists in "+
			"probe.inside (after provisioning: as the alias's canary)", r.Object, t.Location.Bucket)
	case decrypt:
		return decryptDenied(t, r, late)
	case r.Denied() && faultRemedies[r.Fault] == "":
		return readDenied(t, r, late)
	}
	return faultError(t, r)
}

// faultError is the error for a fault that no policy of the key would cure, and nil for others.
func faultError(t scope.Target, r scope.Refusal) error {
	at := t.Location
	switch {
	case r.Code == "InvalidBucketName":
		return failf(codeBucketMissing, "%s takes no bucket with the name %s: correct bucket in the request",
			serverOf(at), at.Bucket)
	case r.Fault == awserr.Bucket:
		return bucketMissing(at)
	case r.Fault == awserr.Region && r.Region == at.Region: // S3 contradicts itself
		return wrongRegion(at, "")
	case r.Fault == awserr.Region:
		return wrongRegion(at, r.Region)
	case r.Fault == awserr.KMSKey:
		return failf(codeKMSKey, "the KMS key of %s cannot be used (%s): enable it, or store the object with another key",
			objectOf(t, r), r.Code)
	case faultRemedies[r.Fault] != "":
		return failf(codeReadDenied, "no key can read %s in this way: S3 answers %s; %s",
			objectOf(t, r), r.Code, faultRemedies[r.Fault])
	}
	return nil
}

// faultRemedies are the remedies for faults that no other key would cure.
var faultRemedies = map[awserr.Fault]string{
	awserr.CustomerKey: "the object is encrypted with a customer key (SSE-C), which ixmage does not have: " +
		"store it with another encryption",
	awserr.RequesterPays: "the bucket makes the requester pay, which ixmage does not do: switch that off",
	awserr.Account:       "the AWS account of the bucket or of the user is suspended, or not signed up for S3",
	awserr.Endpoint:      "correct endpoint in the request",
}

// readDenied is the error for a refused s3:GetObject.
func readDenied(t scope.Target, r scope.Refusal, late bool) error {
	d := denial{action: cmp.Or(r.Action, actionRead), reason: r.Reason, whose: whoseKey(t), boundary: t.User.Boundary}
	if !d.byIdentity() {
		return failf(codeReadDenied, "the new key may not %s on %s: %s", d.action, objectOf(t, r), d)
	}
	if !late {
		return nil // IAM has not distributed the policy yet
	}
	also := ""
	if t.User.Boundary != "" {
		also = ", that the permissions boundary " + t.User.Boundary + " allows " + actionRead + " on it"
	}
	if t.Location.BucketOwner != "" {
		also += ", that the bucket belongs to the account " + t.Location.BucketOwner + " (bucket_owner)"
	}
	return failf(codeReadDenied, "the new key could not read %s in time, and S3 names no other reason than %s: "+
		"check that the object exists%s, and that neither the bucket's policy nor one of the AWS organization denies it",
		objectOf(t, r), r.Code, also)
}

// decryptDenied is the error for a refused kms:Decrypt.
func decryptDenied(t scope.Target, r scope.Refusal, late bool) error {
	grants := slices.DeleteFunc(slices.Clone(t.Grants), func(g alias.Grant) bool {
		return g.Bucket != t.Location.Bucket || g.Prefix != t.Location.Prefix || g.KMSKeyARN == ""
	})
	granted := slices.ContainsFunc(grants, func(g alias.Grant) bool { return r.KMSKey == "" || g.KMSKeyARN == r.KMSKey })
	key := "a KMS key"
	if r.KMSKey != "" {
		key = "the KMS key " + r.KMSKey
	}
	d := denial{action: actionDecrypt, reason: r.Reason, whose: whoseKey(t), boundary: t.User.Boundary}
	encrypted := fmt.Sprintf("%s is encrypted with %s, and the new key may not use it", objectOf(t, r), key)
	also := ""
	if t.User.Boundary != "" {
		also = "; the permissions boundary " + t.User.Boundary + " must allow kms:Decrypt on that key too"
	}
	switch {
	case !d.byIdentity():
		return failf(codeKMSDenied, "%s: %s", encrypted, d)
	case t.Mode == alias.PolicyReadOnly:
		return failf(codeKMSDenied, "%s: the policy read-only-access allows no KMS key; "+
			"use the policy inline with kms_key_arn%s", encrypted, also)
	case !granted && len(grants) > 0:
		return failf(codeKMSDenied, "%s: kms_key_arn is %s; set it to that of the key%s",
			encrypted, grants[0].KMSKeyARN, also)
	case !granted:
		return failf(codeKMSDenied, "%s: set kms_key_arn in the request to %s%s",
			encrypted, cmp.Or(r.KMSKey, "the ARN of that key"), also)
	case late:
		return failf(codeKMSDenied, "%s, though its policy allows it: check the policy of the KMS key%s", encrypted, also)
	}
	return nil // IAM has not distributed the policy yet
}

func objectOf(t scope.Target, r scope.Refusal) string {
	if r.Given {
		return "the object " + r.Object + " in the bucket " + t.Location.Bucket
	}
	return "an object in the bucket " + t.Location.Bucket
}

func whoseKey(t scope.Target) string {
	if t.User.Name == "" {
		return "of the key's user"
	}
	return "of the user " + t.User.Name
}

// cannotRead reports whether the checks say that the key cannot read inside.
func cannotRead(checks []alias.Check) bool {
	return slices.ContainsFunc(checks, func(c alias.Check) bool {
		return c.Name == scope.NameReadInside && c.Positive && c.Failed
	})
}
