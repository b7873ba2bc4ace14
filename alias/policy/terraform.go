package policy

import (
	"time"

	"ixmage/alias"
)

// jsonDocument is a document for Terraform.
func jsonDocument(d policyDocument) call { return call{"jsonencode", d.tree()} }

var terraformHead = block{"terraform", []any{
	object{{"required_version", ">= 1.3"}},
	block{"required_providers", []any{
		object{{"aws", object{{"source", "hashicorp/aws"}, {"version", ">= 5.0"}}}},
	}},
}}

// terraform writes the files for Terraform.
func (b *planner) terraform() ([]File, error) {
	identity, err := makeIdentity(b)
	if err != nil {
		return nil, err
	}
	main := []any{comment(b.about() + "\n" + b.secretNote()), terraformHead}
	if b.req.Kind == KindRole && b.req.Role.Principal == "" {
		main = append(main, principalVariable("ARN of the user or role of the ixmage server, which may assume the role"))
	}
	if b.ownBoundary() {
		main = append(main, b.terraformPolicy("boundary", b.boundaryName(), b.boundaryDocument()))
	}
	main = append(main, b.terraformIdentity())
	main = append(main, b.terraformGrant(identity)...)
	main = append(main, block{`output "` + string(b.req.Kind) + `_arn"`, []any{
		object{{"value", expression(b.resource() + ".arn")}},
	}})
	files := []File{{"main.tf", renderHCL(main, 0)}}
	if b.foreignBucket() {
		files = append(files, File{"bucket-account/main.tf", renderHCL(b.terraformBucket(), 0)})
	}
	if b.foreignKey() {
		files = append(files, File{"key-account/main.tf", renderHCL(b.terraformKey(), 0)})
	}
	return files, nil
}

// resource is the address of the user or role.
func (b *planner) resource() string { return "aws_iam_" + string(b.req.Kind) + ".ixmage" }

func (b *planner) terraformPolicy(label, name string, doc policyDocument) block {
	return block{`resource "aws_iam_policy" "` + label + `"`, []any{
		object{{"name", name}, {"path", handPath}, {"policy", jsonDocument(doc)}},
	}}
}

func (b *planner) terraformIdentity() block {
	attributes := object{{"name", b.name()}, {"path", handPath}}
	var body []any
	if b.req.Kind == KindRole {
		var principal any = expression("var.principal")
		if given := b.req.Role.Principal; given != "" {
			principal = given
		}
		attributes = append(attributes,
			member{"max_session_duration", int(b.req.Role.MaxSession / time.Second)},
			member{"assume_role_policy", jsonDocument(trustDocument(b.req.Role.Trust, principal))})
	} else {
		body = append(body, attributes, comment("The access key is no resource: destroy removes it with the user."))
		attributes = object{{"force_destroy", true}}
	}
	switch {
	case b.env.Boundary != "":
		attributes = append(attributes, member{"permissions_boundary", b.env.Boundary})
	case b.ownBoundary():
		attributes = append(attributes, member{"permissions_boundary", expression("aws_iam_policy.boundary.arn")})
	}
	attributes = append(attributes, member{"tags", sorted(b.handTags())})
	return block{`resource "aws_iam_` + string(b.req.Kind) + `" "ixmage"`, append(body, attributes)}
}

// terraformGrant gives the user or role its policy.
func (b *planner) terraformGrant(identity policyDocument) []any {
	kind := string(b.req.Kind)
	holder := member{kind, expression(b.resource() + ".name")}
	attach := func(arn any) block {
		return block{`resource "aws_iam_` + kind + `_policy_attachment" "read"`, []any{object{holder, {"policy_arn", arn}}}}
	}
	switch b.plan.Policy {
	case alias.PolicyReadOnly:
		return []any{attach(b.plan.PolicyName)}
	case alias.PolicyManaged:
		policy := block{`resource "aws_iam_policy" "read"`, []any{object{
			{"name", b.plan.PolicyName}, {"description", ManagedDescription(GrantOf(&b.req.Request))},
			{"policy", jsonDocument(identity)},
		}}}
		return []any{policy, attach(expression("aws_iam_policy.read.arn"))}
	default:
		return []any{block{`resource "aws_iam_` + kind + `_policy" "read"`, []any{object{
			holder, {"name", b.plan.PolicyName}, {"policy", jsonDocument(identity)},
		}}}}
	}
}

func principalVariable(description string) block {
	return block{`variable "principal"`, []any{
		object{{"type", expression("string")}, {"description", description}},
		block{"validation", []any{object{
			{"condition", expression(`can(regex(` + hclString(principalForm.String()) + `, var.principal))`)},
			{"error_message", "The principal must be the ARN of a user or role, or of the root of an account."},
		}}},
	}}
}

func (b *planner) terraformBucket() []any {
	return b.terraformForeign(foreignPolicy{
		account: b.req.BucketOwner, what: "bucket", statement: b.bucketStatement,
		show: "aws s3api get-bucket-policy --bucket " + b.req.Bucket + " --query Policy --output text" +
			`; if it has none: {"Statement":[]}`,
		resource: "aws_s3_bucket_policy", target: member{"bucket", b.req.Bucket},
	})
}

func (b *planner) terraformKey() []any {
	return b.terraformForeign(foreignPolicy{
		account: keyAccount(b.req.KMSKeyARN), what: "key", statement: b.keyStatement,
		show: "aws kms get-key-policy --key-id " + b.req.KMSKeyARN +
			" --policy-name default --query Policy --output text",
		resource: "aws_kms_key_policy", target: member{"key_id", b.req.KMSKeyARN},
	})
}

// foreignPolicy is a policy of another account to which a statement is added.
type foreignPolicy struct {
	account, what, show, resource string
	statement                     func(principal any) statement
	target                        member
}

// terraformForeign adds a statement to a policy. The resource replaces the whole policy, so
// that the policy of now is a variable without a default: nobody loses it unasked.
func (b *planner) terraformForeign(p foreignPolicy) []any {
	body := []any{comment("Apply this in the account " + p.account + ", after the " + string(b.req.Kind) +
		" exists." + b.unlessSame(p.account) + "\nIt adds one statement to the policy of the " + p.what +
		", and keeps the others."), terraformHead}
	var principal any = expression("var.principal")
	if arn := b.arn(); arn != "" {
		principal = arn
	} else {
		body = append(body, principalVariable("ARN of the "+string(b.req.Kind)+" "+b.name()+", an output of main.tf"))
	}
	others := `[for s in flatten([jsondecode(var.policy).Statement]) : s if try(s.Sid, "") != ` + hclString(b.sid()) + "]"
	merged := expression("merge({ Version = " + hclString(policyVersion) + " }, jsondecode(var.policy), {\n" +
		"    Statement = concat(\n      " + others + ",\n" +
		"      [" + hclValue(p.statement(principal).tree(), 3) + "],\n    )\n  })")
	return append(body,
		block{`variable "policy"`, []any{object{
			{"type", expression("string")}, {"description", "The policy that the " + p.what + ` has now: ` + p.show},
		}}},
		block{`resource "` + p.resource + `" "ixmage"`, []any{
			object{p.target, {"policy", call{"jsonencode", merged}}},
			block{"lifecycle", []any{
				comment("To destroy it would remove all statements."), object{{"prevent_destroy", true}},
			}},
		}})
}
