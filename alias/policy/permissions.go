package policy

import (
	"encoding/json"
	"slices"
)

// Signer is the key that a call is signed with.
type Signer string

// Signers.
const (
	ByServer Signer = "server" // the credentials of the server, from the AWS default chain
	ByKey    Signer = "key"    // the key pair of an alias
	Unsigned Signer = "nobody"
)

// Permission is a row of the table of all calls of IAM, STS and S3 that ixmage makes.
// docs/provisioner-policy.json, docs/boundary-policy.json and the table in docs/permissions.md
// are generated from it.
type Permission struct {
	Signer  Signer
	Actions []string
	// Statement is the Sid of the statement that allows the actions, in the document of the
	// signer. It is empty for calls that need no permission, for probes, which must be
	// refused, and for a call that may be.
	Statement string
	For       string
	// Implied marks actions that are not called by themselves: other calls need them.
	Implied bool
}

// Statements of the provisioner's policy and of the boundary.
const (
	sidCreate       = "CreateOnlyBoundedAndTagged"
	sidTag          = "TagOnlyOurKeys"
	sidBoundary     = "SetOnlyOurBoundary"
	sidUsers        = "UsersUnderOurPath"
	sidScan         = "Scan"
	sidCreatePolicy = "OnlyForTheManagedMode"
	sidReadPolicy   = "OnlyToReadManagedPolicies"
	sidDeletePolicy = "OnlyToDeleteOurManagedPolicies"
	sidAttach       = "OnlyForAttachedPolicies"
	sidAdopt        = "OnlyToAdopt"
	sidAdoptTag     = "OnlyToTagAdopted"
	sidAdoptBound   = "OnlyToBoundAdopted"
	sidAdoptAttach  = "OnlyToAttachToAdopted"
	sidLeaked       = "OnlyToRemoveLeakedUsers"
	sidGiven        = "OnlyForGivenKeys"

	sidRead    = "ReadPictures"
	sidDecrypt = "DecryptThroughS3"
	sidList    = "OnlyForReadOnlyAccess"
)

// looks are the calls that show what a user has.
var looks = []string{
	"iam:GetUser", "iam:ListUserPolicies", "iam:GetUserPolicy", "iam:ListAttachedUserPolicies", "iam:GetLoginProfile",
	"iam:ListGroupsForUser", "iam:ListMFADevices", "iam:ListSSHPublicKeys", "iam:ListSigningCertificates",
	"iam:ListServiceSpecificCredentials", "iam:ListAccessKeys", "iam:GetAccessKeyLastUsed",
}

// Permissions is the table. The caller owns the result.
func Permissions() []Permission {
	row := func(signer Signer, statement, what string, actions ...string) Permission {
		return Permission{Signer: signer, Actions: actions, Statement: statement, For: what}
	}
	implied := func(signer Signer, statement, what string, actions ...string) Permission {
		return Permission{Signer: signer, Actions: actions, Statement: statement, For: what, Implied: true}
	}
	adopt := append(slices.Clone(looks), "iam:PutUserPolicy", "iam:DeleteUserPolicy", "iam:CreateAccessKey",
		"iam:UpdateAccessKey", "iam:DeleteAccessKey")
	given := append(slices.Clone(looks), "iam:GetPolicy", "iam:GetPolicyVersion", "iam:ListGroupPolicies",
		"iam:GetGroupPolicy", "iam:ListAttachedGroupPolicies")
	return []Permission{
		row(ByServer, sidCreate, "make the user of an alias, with its tags and its boundary in one call", "iam:CreateUser"),
		implied(ByServer, sidTag, "CreateUser with tags needs it; write the generation of the registry", "iam:TagUser"),
		implied(ByServer, sidBoundary, "CreateUser with a boundary may need it", "iam:PutUserPermissionsBoundary"),
		row(ByServer, sidUsers, "read a user back; see whether somebody else changed it", looks...),
		row(ByServer, sidUsers, "write the policy of a user; deny the sessions of a leaked key", "iam:PutUserPolicy"),
		row(ByServer, sidUsers, "make a key, at first and for each rotation", "iam:CreateAccessKey"),
		row(ByServer, sidUsers, "retire a key", "iam:UpdateAccessKey", "iam:DeleteAccessKey"),
		row(ByServer, sidUsers, "remove a user", "iam:DeleteUserPolicy", "iam:DeleteUser"),
		row(ByServer, sidScan, "find users under our path that belong to no credential", "iam:ListUsers"),
		row(ByServer, sidCreatePolicy, "make the policy of a location", "iam:CreatePolicy"),
		implied(ByServer, sidCreatePolicy, "CreatePolicy with tags needs it", "iam:TagPolicy"),
		row(ByServer, sidReadPolicy, "read it back; compare one that you made", "iam:GetPolicy", "iam:GetPolicyVersion"),
		row(ByServer, sidDeletePolicy, "remove it with its last user", "iam:DeletePolicy"),
		row(ByServer, sidAttach, "give it to a user, and take it away", "iam:AttachUserPolicy", "iam:DetachUserPolicy"),
		row(ByServer, sidAdopt, "the same for an adopted user, which is never deleted", adopt...),
		implied(ByServer, sidAdoptTag, "mark an adopted user", "iam:TagUser"),
		row(ByServer, sidAdoptTag, "take the marks off when it is given back", "iam:UntagUser"),
		implied(ByServer, sidAdoptBound, "give an adopted user the boundary", "iam:PutUserPermissionsBoundary"),
		row(ByServer, "", "tried when such a user is given back, and refused: a server that may put policies on a user and "+
			"take its boundary off is administrator", "iam:DeleteUserPermissionsBoundary"),
		row(ByServer, sidAdoptAttach, "give an adopted user an attached policy",
			"iam:AttachUserPolicy", "iam:DetachUserPolicy"),
		row(ByServer, sidLeaked, "remove a user to which AWS attached its quarantine policy", "iam:DetachUserPolicy"),
		row(ByServer, "", "act in an account of `--accounts`: on its role only, see [accounts](iam.md#several-accounts)",
			"sts:AssumeRole"),
		row(ByServer, sidGiven, "prove what a key that you pasted may do", given...),
		row(ByServer, sidGiven, "prove what a role may do whose sessions sign, and who may assume it",
			"iam:GetRole", "iam:ListRolePolicies", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"),
		row(ByServer, "", "`ixmage doctor`: whose credentials the server has, what they may do, what the boundary allows; "+
			"what is refused is not tried",
			"sts:GetCallerIdentity", "iam:SimulatePrincipalPolicy", "iam:GetRole", "iam:GetPolicy", "iam:GetPolicyVersion"),

		row(ByKey, sidRead, "read pictures, canaries and probes", "s3:GetObject"),
		implied(ByKey, sidDecrypt, "read pictures that are encrypted with a `kms_key_arn`: S3 calls KMS", "kms:Decrypt"),
		implied(ByKey, sidList, "be told by 404 that a picture is missing", "s3:ListBucket"),
		row(ByKey, "", "ask whose key it is, and whether it still works", "sts:GetCallerIdentity"),
		row(ByKey, "", "probes of `verify`: each must be refused",
			"s3:ListBuckets", "s3:ListObjectsV2", "s3:GetBucketPolicy", "s3:GetObjectAcl", "s3:GetObjectTagging",
			"s3:PutObject", "s3:UploadPart", "s3:DeleteObject", "iam:GetUser", "iam:ListAccessKeys", "iam:CreateAccessKey",
			"iam:UpdateAccessKey", "iam:GetLoginProfile", "iam:AttachUserPolicy", "iam:DeleteUserPolicy",
			"iam:AddUserToGroup", "iam:PutUserPermissionsBoundary", "iam:AttachRolePolicy", "iam:DeleteRolePolicy",
			"iam:PutRolePermissionsBoundary", "sts:AssumeRole", "sts:GetFederationToken"),
		row(Unsigned, "", "see whether a bucket exists and in which region, before a user is made; `ixmage doctor`",
			"s3:HeadBucket", "s3:ListObjectsV2"),
	}
}

// copied is a statement of a document that operators copy. Its fields have IAM's names, in
// the order of its documentation.
type copied struct {
	Sid       string
	Effect    string
	Action    any
	Resource  any
	Condition map[string]map[string]any `json:",omitempty"` //nolint:tagliatelle // the name is IAM's

	signer Signer
	only   string // the feature that it is for; empty: always
}

const (
	ourUsers   = "arn:PARTITION:iam::ACCOUNT:user/ixmage/INSTALL/*"
	adopted    = "arn:PARTITION:iam::ACCOUNT:user/ADOPT"
	ourPolicy  = "arn:PARTITION:iam::ACCOUNT:policy/ixmage/INSTALL/bucket-specific-*"
	handPolicy = "arn:PARTITION:iam::ACCOUNT:policy/bucket-specific-*"
)

// copies are the statements of both documents, without the actions that come from the table.
func copies() []copied {
	type condition = map[string]map[string]any
	tagged := func(kind string) map[string]any {
		key := "aws:" + kind + "Tag/"
		return map[string]any{key + TagManagedBy: ManagedBy, key + TagInstall: "INSTALL"}
	}
	keys := map[string]any{
		"aws:TagKeys": []string{TagManagedBy, TagInstall, TagOperation, TagAlias, TagGeneration, "TAGS"},
	}
	boundary := map[string]any{"iam:PermissionsBoundary": "BOUNDARY"}
	toOurs := condition{"StringEquals": boundary}
	ofOurs := condition{"ArnLike": {"iam:PolicyARN": []string{ourPolicy, handPolicy, ReadOnlyARN("PARTITION")}}}
	const managed, attached, adopt = "`managed`", "`managed`, `read-only-access`", "`adopt`"
	return []copied{
		// The keys of the tags are limited by the next statement: CreateUser with tags needs it too.
		{signer: ByServer, Sid: sidCreate, Effect: "Allow", Resource: ourUsers,
			Condition: condition{"StringEquals": tagged("Request")}},
		{signer: ByServer, Sid: sidTag, Effect: "Allow", Resource: ourUsers,
			Condition: condition{"StringEqualsIfExists": tagged("Request"), "ForAllValues:StringEquals": keys}},
		{signer: ByServer, Sid: sidBoundary, Effect: "Allow", Resource: ourUsers, Condition: toOurs},
		{signer: ByServer, Sid: "NeverWithoutBoundary", Effect: "Deny",
			Action:   []string{"iam:CreateUser", "iam:PutUserPolicy", "iam:AttachUserPolicy", "iam:PutUserPermissionsBoundary"},
			Resource: "*", Condition: condition{"StringNotEquals": boundary}},
		{signer: ByServer, Sid: sidUsers, Effect: "Allow", Resource: ourUsers},
		{signer: ByServer, Sid: sidScan, Effect: "Allow", Resource: "*"},
		{signer: ByServer, Sid: sidCreatePolicy, only: managed, Effect: "Allow", Resource: ourPolicy,
			Condition: condition{"StringEquals": tagged("Request")}},
		{signer: ByServer, Sid: sidReadPolicy, only: managed, Effect: "Allow", Resource: []string{ourPolicy, handPolicy}},
		{signer: ByServer, Sid: sidDeletePolicy, only: managed, Effect: "Allow", Resource: []string{ourPolicy, handPolicy},
			Condition: condition{"StringEquals": tagged("Resource")}},
		{signer: ByServer, Sid: sidAttach, only: attached, Effect: "Allow", Resource: ourUsers, Condition: ofOurs},
		{signer: ByServer, Sid: sidAdopt, only: adopt, Effect: "Allow", Resource: adopted},
		{signer: ByServer, Sid: sidAdoptTag, only: adopt, Effect: "Allow", Resource: adopted,
			Condition: condition{"StringEqualsIfExists": tagged("Request"), "ForAllValues:StringEquals": keys}},
		{signer: ByServer, Sid: sidAdoptBound, only: adopt, Effect: "Allow", Resource: adopted, Condition: toOurs},
		{signer: ByServer, Sid: sidAdoptAttach, only: adopt + " with " + attached, Effect: "Allow",
			Resource: adopted, Condition: ofOurs},
		{signer: ByServer, Sid: sidLeaked, only: "leaked keys", Effect: "Allow", Resource: ourUsers,
			Condition: condition{"ArnLike": {"iam:PolicyARN": "arn:PARTITION:iam::aws:policy/AWSCompromisedKeyQuarantine*"}}},
		{signer: ByServer, Sid: sidGiven, only: "pasted keys, roles", Effect: "Allow", Resource: []string{
			"arn:PARTITION:iam::ACCOUNT:user/GIVEN", "arn:PARTITION:iam::ACCOUNT:role/ROLES",
			"arn:PARTITION:iam::ACCOUNT:group/*", "arn:PARTITION:iam::*:policy/*",
		}},
		{signer: ByServer, Sid: "NeverLoosen", Effect: "Deny", Resource: "*", Action: []string{
			"iam:DeleteUserPermissionsBoundary", "iam:AddUserToGroup", "iam:CreateLoginProfile", "iam:UpdateLoginProfile",
			"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:PassRole",
		}},

		// A session that somebody made with the key has a time of issue and outlives the key:
		// https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_temp_control-access_getsessiontoken.html
		// The condition cannot stand on kms:Decrypt, because S3 calls KMS with a session.
		{signer: ByKey, Sid: sidRead, Effect: "Allow", Resource: "arn:PARTITION:s3:::BUCKETS/*", Condition: condition{
			"Null": {"aws:TokenIssueTime": "true"}, "StringEquals": {"aws:ResourceAccount": "ACCOUNT"},
		}},
		{signer: ByKey, Sid: sidDecrypt, only: "`kms_key_arn`", Effect: "Allow",
			Resource: "arn:PARTITION:kms:*:ACCOUNT:key/*", Condition: condition{"StringLike": {"kms:ViaService": "s3.*"}}},
		{signer: ByKey, Sid: sidList, only: "`read-only-access`", Effect: "Allow", Resource: "arn:PARTITION:s3:::BUCKETS",
			Condition: condition{"StringEquals": {"aws:ResourceAccount": "ACCOUNT"}}},
	}
}

// statementsOf are the statements of a signer with their actions.
func statementsOf(signer Signer) []copied {
	var list []copied
	for _, st := range copies() {
		if st.signer != signer {
			continue
		}
		var actions []string
		for _, p := range Permissions() {
			if p.Signer == signer && p.Statement == st.Sid {
				actions = append(actions, p.Actions...)
			}
		}
		if st.Effect == "Allow" {
			st.Action = oneOrMany(actions)
		}
		list = append(list, st)
	}
	return list
}

// CopiedPolicy is docs/provisioner-policy.json for the server, and docs/boundary-policy.json
// for keys. docs/permissions.md explains its placeholders.
func CopiedPolicy(signer Signer) ([]byte, error) {
	return indented(struct {
		Version   string
		Statement []copied
	}{policyVersion, statementsOf(signer)})
}

func indented(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}
