package plancheck

import (
	"bytes"
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"ixmage/alias/policy"
)

// template is a template of CloudFormation, without what plans do not use.
// https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/template-anatomy.html
type template struct {
	AWSTemplateFormatVersion, Description string
	Parameters                            map[string]struct{ Type, Description, AllowedPattern string }
	Resources                             map[string]struct {
		Type       string
		Properties json.RawMessage
	}
	Outputs map[string]struct{ Value json.RawMessage }
}

type inlinePolicy struct {
	PolicyName     string
	PolicyDocument json.RawMessage
}

// properties are those of all types of resources that plans use. propertiesOf names those of
// each type; https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference
type properties struct {
	UserName, RoleName, ManagedPolicyName, Path, Description, Bucket string
	MaxSessionDuration                                               int
	AssumeRolePolicyDocument, PermissionsBoundary, PolicyDocument    json.RawMessage
	Policies                                                         []inlinePolicy
	ManagedPolicyArns                                                []json.RawMessage
	Tags                                                             []struct{ Key, Value string }
}

var propertiesOf = map[string]string{
	"AWS::IAM::ManagedPolicy": "Description ManagedPolicyName Path PolicyDocument",
	"AWS::IAM::User":          "ManagedPolicyArns Path PermissionsBoundary Policies Tags UserName",
	"AWS::IAM::Role": "AssumeRolePolicyDocument ManagedPolicyArns MaxSessionDuration Path PermissionsBoundary " +
		"Policies RoleName Tags",
	"AWS::S3::BucketPolicy": "Bucket PolicyDocument",
}

func decodeStrictly(t *testing.T, text []byte, into any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
}

// readTemplate decodes a template, refuses what CloudFormation does, and puts the value of the
// parameter Principal in the place of its references.
func readTemplate(t *testing.T, text string) map[string]properties {
	t.Helper()
	var tpl template
	decodeStrictly(t, []byte(text), &tpl)
	if tpl.AWSTemplateFormatVersion != "2010-09-09" || len(tpl.Description) > 1024 || len(tpl.Resources) == 0 {
		t.Errorf("%s %s", tpl.AWSTemplateFormatVersion, tpl.Description)
	}
	for _, ref := range strings.Split(text, `"Ref": "`)[1:] {
		name, _, _ := strings.Cut(ref, `"`)
		if _, parameter := tpl.Parameters[name]; !parameter && tpl.Resources[name].Type == "" {
			t.Errorf("Ref %s names nothing", name)
		}
	}
	found := map[string]properties{}
	for name, r := range tpl.Resources {
		var members map[string]json.RawMessage
		decodeStrictly(t, r.Properties, &members)
		for member := range members {
			if !strings.Contains(" "+propertiesOf[r.Type]+" ", " "+member+" ") {
				t.Errorf("%s has no property %s", r.Type, member)
			}
		}
		var p properties
		decodeStrictly(t, r.Properties, &p)
		found[name] = p
	}
	return found
}

// resolved is a document with the principal in the place of a reference.
func resolved(t *testing.T, doc json.RawMessage) string {
	t.Helper()
	var buf bytes.Buffer
	if err := json.Compact(&buf, doc); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(buf.String(), `{"Ref":"Principal"}`, `"`+principal+`"`)
}

func TestCloudFormation(t *testing.T) {
	t.Parallel()
	for name, p := range plans(t, policy.FormatCloudFormation) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			checkTemplate(t, p)
			if !strings.HasPrefix(name, "cross") {
				return
			}
			bucket := readTemplate(t, p.file(t, "bucket-account.json"))["BucketPolicy"]
			doc := resolved(t, bucket.PolicyDocument)
			if bucket.Bucket != "acme-media" || strings.Count(doc, "Sid") != 1 ||
				!strings.Contains(doc, `"Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-media/website-images/*"`) {
				t.Errorf("bucket policy of %s: %s", bucket.Bucket, doc)
			}
			p.file(t, "key-account.sh") // CloudFormation cannot change a key
		})
	}
}

func checkTemplate(t *testing.T, p planned) {
	t.Helper()
	main := readTemplate(t, p.file(t, "template.json"))
	holder, name := main["User"], p.User.Name
	if p.Role != nil {
		holder, name = main["Role"], p.Role.Name
		trust := p.Role.Trust
		if trust.Principal == "" {
			trust.Principal = principal
		}
		doc, err := policy.TrustDocument(trust)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "trust", resolved(t, holder.AssumeRolePolicyDocument), doc)
	}
	if got := holder.UserName + holder.RoleName; got != name {
		t.Errorf("name: %s, want %s", got, name)
	}
	switch p.Policy {
	case "read-only-access":
		if len(holder.ManagedPolicyArns) != 1 || string(holder.ManagedPolicyArns[0]) != `"`+p.PolicyName+`"` {
			t.Errorf("attached: %s", holder.ManagedPolicyArns)
		}
	case "managed":
		same(t, "policy", string(main["Policy"].PolicyDocument), p.Document)
	default:
		same(t, "policy", string(holder.Policies[0].PolicyDocument), p.Document)
	}
	tags := map[string]string{}
	for _, tag := range holder.Tags {
		tags[tag.Key] = tag.Value
	}
	want := map[string]string{"ixmage-alias": string(p.req.Alias)}
	maps.Copy(want, p.req.Tags)
	if diff := cmp.Diff(want, tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// TestCfnLint has the linter of AWS read the templates.
func TestCfnLint(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("cfn-lint")
	if err != nil || exec.Command(program, "--version").Run() != nil {
		t.Skip("SKIPPED: cfn-lint IS ABSENT; the same templates were decoded strictly")
	}
	dir := t.TempDir()
	args := []string{"--"}
	for name, p := range plans(t, policy.FormatCloudFormation) {
		for _, f := range p.Files {
			if strings.HasSuffix(f.Name, ".json") && f.Name != "session-policy.json" {
				path := filepath.Join(dir, name+"-"+f.Name)
				writeFile(t, path, f.Content)
				args = append(args, path)
			}
		}
	}
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
