package policy

import (
	"bytes"
	"encoding/json"
	"time"

	"ixmage/alias"
)

func ref(name string) object { return object{{"Ref", name}} }

// cloudFormation writes the templates for CloudFormation, in JSON. They have no Fn::Sub, so
// that ${ in a string is no reference.
func (b *planner) cloudFormation() ([]File, error) {
	identity, err := makeIdentity(b)
	if err != nil {
		return nil, err
	}
	var parameters, resources object
	if b.req.Kind == KindRole && b.req.Role.Principal == "" {
		parameters = principalParameter("ARN of the user or role of the ixmage server, which may assume the role")
	}
	if b.ownBoundary() {
		resources = append(resources, member{"Boundary", object{{"Type", "AWS::IAM::ManagedPolicy"}, {"Properties", object{
			{"ManagedPolicyName", b.boundaryName()}, {"Path", handPath}, {"PolicyDocument", b.boundaryDocument().tree()},
		}}}})
	}
	if b.plan.Policy == alias.PolicyManaged {
		resources = append(resources, member{"Policy", object{{"Type", "AWS::IAM::ManagedPolicy"}, {"Properties", object{
			{"ManagedPolicyName", b.plan.PolicyName}, {"Description", ManagedDescription(GrantOf(&b.req.Request))},
			{"PolicyDocument", identity.tree()},
		}}}})
	}
	kind := map[Kind]string{KindUser: "User", KindRole: "Role"}[b.req.Kind]
	resources = append(resources, member{kind, object{
		{"Type", "AWS::IAM::" + kind}, {"Properties", b.cloudFormationIdentity(kind, identity)},
	}})
	text, err := template(b.about()+" "+b.secretNote(), parameters, resources, object{
		{kind + "Arn", object{{"Value", object{{"Fn::GetAtt", list{kind, "Arn"}}}}}},
	})
	if err != nil {
		return nil, err
	}
	files := []File{{"template.json", text}}
	if b.foreignBucket() {
		if text, err = b.cloudFormationBucket(); err != nil {
			return nil, err
		}
		files = append(files, File{"bucket-account.json", text})
	}
	if b.foreignKey() { // a template can change a key only if it made the key
		files = append(files, b.keyScript())
	}
	return files, nil
}

// cloudFormationIdentity are the properties of the user or role.
func (b *planner) cloudFormationIdentity(kind string, identity policyDocument) object {
	properties := object{{kind + "Name", b.name()}, {"Path", handPath}}
	if b.req.Kind == KindRole {
		var principal any = ref("Principal")
		if given := b.req.Role.Principal; given != "" {
			principal = given
		}
		properties = append(properties,
			member{"MaxSessionDuration", int(b.req.Role.MaxSession / time.Second)},
			member{"AssumeRolePolicyDocument", trustDocument(b.req.Role.Trust, principal).tree()})
	}
	switch {
	case b.env.Boundary != "":
		properties = append(properties, member{"PermissionsBoundary", b.env.Boundary})
	case b.ownBoundary():
		properties = append(properties, member{"PermissionsBoundary", ref("Boundary")})
	}
	switch b.plan.Policy {
	case alias.PolicyReadOnly:
		properties = append(properties, member{"ManagedPolicyArns", list{b.plan.PolicyName}})
	case alias.PolicyManaged:
		properties = append(properties, member{"ManagedPolicyArns", list{ref("Policy")}})
	default:
		properties = append(properties, member{"Policies", list{object{
			{"PolicyName", b.plan.PolicyName}, {"PolicyDocument", identity.tree()},
		}}})
	}
	all := sorted(b.handTags())
	tags := make(list, 0, len(all))
	for _, tag := range all {
		tags = append(tags, object{{"Key", tag.name}, {"Value", tag.value}})
	}
	return append(properties, member{"Tags", tags})
}

// cloudFormationBucket is the template for a bucket of another account.
func (b *planner) cloudFormationBucket() (string, error) {
	var principal any = ref("Principal")
	var parameters object
	if arn := b.arn(); arn != "" {
		principal = arn
	} else {
		parameters = principalParameter("ARN of the " + string(b.req.Kind) + " " + b.name() + ", an output of template.json")
	}
	doc := policyDocument{policyVersion, []statement{b.bucketStatement(principal)}}
	return template("For the account "+b.req.BucketOwner+", after the "+string(b.req.Kind)+" exists."+
		b.unlessSame(b.req.BucketOwner)+" Only for a bucket without a policy: a stack replaces the policy, and removes it "+
		"when it is deleted. Where there is one, use format=aws-cli, which adds a statement.",
		parameters, object{{"BucketPolicy", object{{"Type", "AWS::S3::BucketPolicy"}, {"Properties", object{
			{"Bucket", b.req.Bucket}, {"PolicyDocument", doc.tree()},
		}}}}}, nil)
}

func principalParameter(description string) object {
	return object{{"Principal", object{
		{"Type", "String"}, {"Description", description}, {"AllowedPattern", principalForm.String()},
	}}}
}

// template is a template without empty sections.
func template(description string, parameters, resources, outputs object) (string, error) {
	o := object{{"AWSTemplateFormatVersion", "2010-09-09"}, {"Description", description}}
	for _, section := range (object{{"Parameters", parameters}, {"Resources", resources}, {"Outputs", outputs}}) {
		if len(section.value.(object)) > 0 {
			o = append(o, section)
		}
	}
	text, err := encode(o)
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	err = json.Indent(&buf, text, "", "  ")
	return buf.String() + "\n", err
}
