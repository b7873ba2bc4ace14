package plancheck

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"

	"ixmage/alias/policy"
)

// moduleSchema are the blocks of a module, and bodySchemas their attributes, by the type of a
// resource or the block. Those of the provider are at
// https://registry.terraform.io/providers/hashicorp/aws/latest/docs.
var (
	moduleSchema = &hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{
		{Type: "terraform"}, {Type: "variable", LabelNames: []string{"name"}}, {Type: "output", LabelNames: []string{"name"}},
		{Type: "resource", LabelNames: []string{"type", "name"}},
	}}
	bodySchemas = map[string]*hcl.BodySchema{
		"terraform": {Attributes: required("required_version"), Blocks: []hcl.BlockHeaderSchema{{Type: "required_providers"}}},
		"variable":  {Attributes: required("type", "description"), Blocks: []hcl.BlockHeaderSchema{{Type: "validation"}}},
		"output":    {Attributes: required("value")},

		"aws_iam_policy":                 {Attributes: append(required("name", "policy"), optional("path", "description")...)},
		"aws_iam_user":                   {Attributes: append(required("name", "path", "force_destroy", "tags"), optional("permissions_boundary")...)},
		"aws_iam_role":                   {Attributes: append(required("name", "path", "assume_role_policy", "max_session_duration", "tags"), optional("permissions_boundary")...)},
		"aws_iam_user_policy":            {Attributes: required("user", "name", "policy")},
		"aws_iam_role_policy":            {Attributes: required("role", "name", "policy")},
		"aws_iam_user_policy_attachment": {Attributes: required("user", "policy_arn")},
		"aws_iam_role_policy_attachment": {Attributes: required("role", "policy_arn")},
		"aws_s3_bucket_policy":           {Attributes: required("bucket", "policy"), Blocks: []hcl.BlockHeaderSchema{{Type: "lifecycle"}}},
		"aws_kms_key_policy":             {Attributes: required("key_id", "policy"), Blocks: []hcl.BlockHeaderSchema{{Type: "lifecycle"}}},
	}
)

func required(names ...string) []hcl.AttributeSchema { return attributes(true, names) }
func optional(names ...string) []hcl.AttributeSchema { return attributes(false, names) }

func attributes(required bool, names []string) []hcl.AttributeSchema {
	var list []hcl.AttributeSchema
	for _, name := range names {
		list = append(list, hcl.AttributeSchema{Name: name, Required: required})
	}
	return list
}

// resources are the evaluated attributes by the address of the resource.
type resources map[string]map[string]cty.Value

func (r resources) text(t *testing.T, address, attribute string) string {
	t.Helper()
	v, ok := r[address][attribute]
	if !ok || v.Type() != cty.String {
		t.Fatalf("there is no text %s.%s", address, attribute)
	}
	return v.AsString()
}

// evaluate parses a module, refuses what no Terraform takes, and evaluates its expressions.
func evaluate(t *testing.T, text string, variables map[string]string) resources {
	t.Helper()
	if formatted := hclwrite.Format([]byte(text)); string(formatted) != text {
		t.Errorf("terraform fmt changes it (-want +got):\n%s", cmp.Diff(string(formatted), text))
	}
	file, diags := hclparse.NewParser().ParseHCL([]byte(text), "main.tf")
	if diags.HasErrors() {
		t.Fatalf("%v\n%s", diags, text)
	}
	content, diags := file.Body.Content(moduleSchema)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	declared := map[string]cty.Value{}
	found := resources{}
	known := map[string]map[string]cty.Value{}
	for _, b := range content.Blocks {
		switch b.Type {
		case "variable":
			declared[b.Labels[0]] = cty.StringVal(variables[b.Labels[0]])
		case "resource":
			address := strings.Join(b.Labels, ".")
			if found[address] = map[string]cty.Value{}; known[b.Labels[0]] == nil {
				known[b.Labels[0]] = map[string]cty.Value{}
			}
			known[b.Labels[0]][b.Labels[1]] = cty.ObjectVal(map[string]cty.Value{
				"arn": cty.StringVal("arn of " + address), "name": cty.StringVal("name of " + address),
			})
		}
	}
	ctx := &hcl.EvalContext{Variables: map[string]cty.Value{"var": cty.ObjectVal(declared)}, Functions: map[string]function.Function{
		"jsonencode": stdlib.JSONEncodeFunc, "jsondecode": stdlib.JSONDecodeFunc, "merge": stdlib.MergeFunc,
		"concat": stdlib.ConcatFunc, "flatten": stdlib.FlattenFunc, "regex": stdlib.RegexFunc,
		"try": tryfunc.TryFunc, "can": tryfunc.CanFunc,
	}}
	for typ, named := range known {
		ctx.Variables[typ] = cty.ObjectVal(named)
	}
	for _, b := range content.Blocks {
		schema, into := bodySchemas[b.Type], map[string]cty.Value{}
		if b.Type == "resource" {
			schema, into = bodySchemas[b.Labels[0]], found[strings.Join(b.Labels, ".")]
		}
		if schema == nil {
			t.Fatalf("%s %v is not expected", b.Type, b.Labels)
		}
		evaluateBody(t, b, schema, into, ctx)
	}
	return found
}

func evaluateBody(t *testing.T, b *hcl.Block, schema *hcl.BodySchema, into map[string]cty.Value, ctx *hcl.EvalContext) {
	t.Helper()
	body, diags := b.Body.Content(schema)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	for name, attribute := range body.Attributes {
		if name == "type" { // a type and no value
			continue
		}
		if into[name], diags = attribute.Expr.Value(ctx); diags.HasErrors() {
			t.Fatal(diags)
		}
	}
	for _, inner := range body.Blocks {
		attributes, diags := inner.Body.JustAttributes()
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		for name, attribute := range attributes {
			v, diags := attribute.Expr.Value(ctx)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			if name == "condition" && v.False() {
				t.Errorf("%s %v refuses its value", b.Type, b.Labels)
			}
		}
	}
}

func TestTerraform(t *testing.T) {
	t.Parallel()
	for name, p := range plans(t, policy.FormatTerraform) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			main := evaluate(t, p.file(t, "main.tf"), map[string]string{"principal": principal})
			checkHolder(t, p, main)
			kind := string(p.req.Kind)
			switch p.Policy {
			case "read-only-access":
				if got := main.text(t, "aws_iam_"+kind+"_policy_attachment.read", "policy_arn"); got != p.PolicyName {
					t.Errorf("attached: %s", got)
				}
			case "managed":
				same(t, "policy", main.text(t, "aws_iam_policy.read", "policy"), p.Document)
				if got := main.text(t, "aws_iam_"+kind+"_policy_attachment.read", "policy_arn"); got != "arn of aws_iam_policy.read" {
					t.Errorf("attached: %s", got)
				}
			default:
				same(t, "policy", main.text(t, "aws_iam_"+kind+"_policy.read", "policy"), p.Document)
			}
			for address := range main {
				if strings.Contains(address, "access_key") {
					t.Errorf("%s would write a secret into the state", address)
				}
			}
		})
	}
}

// checkHolder compares the user or role with the plan.
func checkHolder(t *testing.T, p planned, main resources) {
	t.Helper()
	address := "aws_iam_" + string(p.req.Kind) + ".ixmage"
	want := p.User.Name
	if p.Role != nil {
		want = p.Role.Name
		trust := p.Role.Trust
		if trust.Principal == "" {
			trust.Principal = principal // the variable
		}
		doc, err := policy.TrustDocument(trust)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "trust", main.text(t, address, "assume_role_policy"), doc)
		if got := main[address]["max_session_duration"]; got.Equals(cty.NumberIntVal(3600)).False() {
			t.Errorf("max_session_duration: %#v", got)
		}
	}
	if got := main.text(t, address, "name"); got != want {
		t.Errorf("name: %s, want %s", got, want)
	}
	tags := map[string]string{}
	for name, v := range main[address]["tags"].AsValueMap() {
		tags[name] = v.AsString()
	}
	wantTags := maps.Clone(p.req.Tags)
	wantTags["ixmage-alias"] = "shop"
	if diff := cmp.Diff(wantTags, tags); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
}

// TestTerraformForeign merges the statement into the policies that a bucket may have.
func TestTerraformForeign(t *testing.T) {
	t.Parallel()
	all := plans(t, policy.FormatTerraform)
	const other = `{"Sid":"other","Effect":"Deny","Principal":"*","Action":"s3:*","Resource":["a","b"]}`
	for _, name := range []string{"cross-user", "cross-role", "cross-unknown-user", "cross-unknown-role"} {
		p := all[name]
		holder := "arn:aws:iam::123456789012:" + string(p.req.Kind) + "/ixmage/" + p.User.Name
		if p.Role != nil {
			holder += p.Role.Name
		}
		for _, file := range []struct{ name, address, statement string }{
			{"bucket-account/main.tf", "aws_s3_bucket_policy.ixmage",
				`"Effect":"Allow","Principal":{"AWS":"` + holder + `"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-media/website-images/*"`},
			{"key-account/main.tf", "aws_kms_key_policy.ixmage",
				`"Effect":"Allow","Principal":{"AWS":"` + holder + `"},"Action":"kms:Decrypt","Resource":"*",` +
					`"Condition":{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}`},
		} {
			text := p.file(t, file.name)
			sid := text[strings.Index(text, `Sid    = "`)+10:][:len("ixmage")+16]
			ours := `{"Sid":"` + sid + `",` + file.statement + `}`
			for _, tt := range []struct{ name, now, want string }{
				{"none", `{"Statement":[]}`, `{"Version":"2012-10-17","Statement":[` + ours + `]}`},
				{"a list", `{"Version":"2008-10-17","Id":"x","Statement":[` + other + `,{"Effect":"Allow"}]}`,
					`{"Version":"2008-10-17","Id":"x","Statement":[` + other + `,{"Effect":"Allow"},` + ours + `]}`},
				{"one", `{"Statement":` + other + `}`, `{"Version":"2012-10-17","Statement":[` + other + `,` + ours + `]}`},
				{"again", `{"Statement":[` + strings.Replace(ours, "Allow", "Deny", 1) + `,` + other + `]}`,
					`{"Version":"2012-10-17","Statement":[` + other + `,` + ours + `]}`},
			} {
				t.Run(name+"/"+file.address+"/"+tt.name, func(t *testing.T) {
					t.Parallel()
					got := evaluate(t, text, map[string]string{"policy": tt.now, "principal": holder})
					same(t, "policy", got.text(t, file.address, "policy"), []byte(tt.want))
				})
			}
		}
	}
	if files := all["plain-user"].Files; slices.ContainsFunc(files, func(f policy.File) bool { return strings.Contains(f.Name, "account") }) {
		t.Error("a plan for one account has files for another")
	}
}

// TestTerraformFmt has Terraform itself read the modules.
func TestTerraformFmt(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("terraform")
	if err != nil {
		t.Skip("SKIPPED: terraform IS ABSENT; the same modules were read with its library")
	}
	dir := t.TempDir()
	for name, p := range plans(t, policy.FormatTerraform) {
		for _, f := range p.Files {
			writeFile(t, filepath.Join(dir, name, f.Name), f.Content)
		}
	}
	out, err := exec.Command(program, "fmt", "-check", "-recursive", "-diff", dir).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func writeFile(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
