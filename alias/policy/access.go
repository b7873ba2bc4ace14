package policy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"ixmage/alias"
)

// The documents of a plan besides the policy itself. A principal may be an expression of the
// language of a template.

// boundaryDocument is a permissions boundary for this user or role alone: the most that its policies
// can allow, also after a change. Sessions of the key of the user are refused, because they outlive
// the key.
func (b *planner) boundaryDocument() policyDocument {
	read := statement{
		Sid: sidRead, Effect: "Allow", Action: "s3:GetObject",
		Resource: "arn:" + b.env.Partition + ":s3:::" + b.req.Bucket + "/*", Condition: map[string]map[string]string{},
	}
	if b.req.Kind != KindRole { // the session of a role has a time of issue
		read.Condition["Null"] = map[string]string{"aws:TokenIssueTime": "true"}
	}
	if owner := cmp.Or(b.req.BucketOwner, b.account()); owner != "" {
		read.Condition["StringEquals"] = map[string]string{"aws:ResourceAccount": owner}
	}
	if len(read.Condition) == 0 {
		read.Condition = nil
	}
	doc := policyDocument{policyVersion, []statement{read}}
	for _, st := range keyStatements([]alias.Grant{GrantOf(&b.req.Request)}) {
		st.Sid = sidDecrypt
		doc.Statement = append(doc.Statement, st)
	}
	return doc
}

// bucketStatement is the statement that the bucket policy of another account needs.
func (b *planner) bucketStatement(principal any) statement {
	return statement{
		Sid: b.sid(), Effect: "Allow", Principal: map[string]any{"AWS": principal}, Action: "s3:GetObject",
		Resource: objectARNs(b.env.Partition, []alias.Grant{GrantOf(&b.req.Request)})[0],
	}
}

// keyStatement is the statement that the policy of a KMS key of another account needs. The
// resource of a key policy is the key.
func (b *planner) keyStatement(principal any) statement {
	st := keyStatements([]alias.Grant{GrantOf(&b.req.Request)})[0]
	st.Sid, st.Principal, st.Resource = b.sid(), map[string]any{"AWS": principal}, "*"
	return st
}

// sid is the id of both statements. It tells whether a policy has the statement already.
func (b *planner) sid() string {
	sum := sha256.Sum256([]byte(b.name() + "/" + b.req.Bucket + "/" + b.req.Prefix))
	const digits = 16
	return "ixmage" + hex.EncodeToString(sum[:])[:digits]
}

// name is that of the user or role.
func (b *planner) name() string {
	if b.plan.Role != nil {
		return b.plan.Role.Name
	}
	return b.plan.User.Name
}

// arn is that of the user or role; empty if the account is unknown.
func (b *planner) arn() string {
	if b.plan.User.ARN != "" || b.account() == "" {
		return b.plan.User.ARN
	}
	return "arn:" + b.env.Partition + ":iam::" + b.account() + ":" + string(b.req.Kind) + handPath + b.name()
}

// account is the account of the user or role, as far as the request and the configuration
// tell it.
func (b *planner) account() string {
	if b.env.Account != "" {
		return b.env.Account
	}
	for _, arn := range []string{b.env.User.ARN, b.env.Boundary} {
		if _, account := ARNParts(arn); account != "" {
			return account
		}
	}
	return ""
}

// foreign reports whether an account is, or may be, another one than that of the user or
// role. An unknown account is taken for that of the bucket only if none is named for it.
func (b *planner) foreign(account string) bool {
	own := b.account()
	return account != "" && account != own && (own != "" || b.req.BucketOwner != "")
}

func (b *planner) foreignBucket() bool { return b.foreign(b.req.BucketOwner) }

func (b *planner) foreignKey() bool { return b.foreign(keyAccount(b.req.KMSKeyARN)) }

// keyAccount is the account of a KMS key; empty without a key.
func keyAccount(arn string) string {
	if arn == "" {
		return ""
	}
	return strings.Split(arn, ":")[4]
}

// ownBoundary reports whether the files make a boundary: the configuration has none, and the policy
// is for one bucket.
func (b *planner) ownBoundary() bool {
	return b.req.Format != "" && b.env.Boundary == "" && b.plan.Policy != alias.PolicyReadOnly
}

// boundaryName is the name of a boundary that the files make.
func (b *planner) boundaryName() string { return "ixmage-boundary-" + b.name() }

// makeIdentity is the policy of the user or role for a template; empty for the mode that
// attaches one of AWS.
func makeIdentity(b *planner) (policyDocument, error) {
	if b.plan.Policy == alias.PolicyReadOnly {
		return policyDocument{}, nil
	}
	return makeDocument(b.env.Partition, []alias.Grant{GrantOf(&b.req.Request)})
}
