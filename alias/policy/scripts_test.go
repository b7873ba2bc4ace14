package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
	"ixmage/internal/awstest/iam"
)

// content is a file of a plan.
func content(t *testing.T, p *Plan, name string) string {
	t.Helper()
	i := slices.IndexFunc(p.Files, func(f File) bool { return f.Name == name })
	if i < 0 {
		t.Fatalf("there is no %s", name)
	}
	return p.Files[i].Content
}

// TestApplyScripts runs the scripts of a user and of a role with the real AWS CLI, and reads
// back what they made.
func TestApplyScripts(t *testing.T) {
	t.Parallel()
	f := iam.New(t, iam.Config{})
	c := newCloud(t, f.URL, f.S3URL, f.Root)
	f.CreateBucket("acme-media")
	server := "arn:aws:iam::123456789012:user/server"
	f.AddUser("/", "server", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`)
	for _, tt := range []struct {
		name string
		kind Kind
		env  []string
	}{
		{"user", KindUser, nil},
		{"role", KindRole, []string{principalOf + "=" + server}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			req := PlanRequest{Request: oddRequest(c.s3URL), Kind: tt.kind, Format: FormatAWSCLI}
			if tt.kind == KindRole {
				req.Role = RoleRequest{Trust: Trust{ExternalID: "acme/1"}, MaxSession: 2 * time.Hour}
			}
			if err := PreparePlan(&req, alias.Policy{AllowPrivateEndpoints: true}); err != nil {
				t.Fatal(err)
			}
			plan, err := MakePlan(req, Env{InstallID: "home", IAMEndpoint: c.iamURL, Suffix: "x7k2"})
			if err != nil {
				t.Fatal(err)
			}
			apply := content(t, plan, "apply.sh")
			if tt.env != nil { // without the parameter nothing is made
				if out, err := c.sh(t.Context(), "unset "+principalOf, apply); err == nil || !strings.Contains(out, principalOf) {
					t.Errorf("it ran without %s: %s", principalOf, out)
				}
			}
			lines := []string{apply}
			for _, v := range tt.env {
				lines = append([]string{"export " + v}, lines...)
			}
			out, err := c.sh(t.Context(), lines...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			made := readBack(t, f, plan)
			if !strings.HasSuffix(strings.TrimSpace(out), made.ARN) {
				t.Errorf("the script does not end with the ARN %s: %s", made.ARN, out)
			}
			if !Same([]byte(made.Inline[InlineName]), plan.Document) || len(made.Inline) != 1 || made.Path != handPath ||
				made.Tags["Équipe de nuit"] != "été=1" || !strings.HasSuffix(made.Boundary, "/ixmage-boundary-"+made.Name) {
				t.Errorf("got %+v", made)
			}
			if tt.kind == KindRole {
				want, _ := TrustDocument(Trust{Principal: server, ExternalID: "acme/1"})
				if !Same([]byte(made.Trust), want) || made.MaxSession != 2*time.Hour {
					t.Errorf("got %s and %v, want %s", made.Trust, made.MaxSession, want)
				}
			}
		})
	}
}

// readBack is the user or role of a plan, as IAM has it.
func readBack(t *testing.T, f *iam.Server, plan *Plan) iam.Role {
	t.Helper()
	if plan.Role == nil {
		u, _ := f.User(plan.User.Name)
		return iam.Role{Name: u.Name, Path: u.Path, ARN: u.ARN, Tags: u.Tags, Boundary: u.Boundary, Inline: u.Inline}
	}
	role, _ := f.Role(plan.Role.Name)
	return role
}

// TestMergeScripts runs the scripts for other accounts with an aws that has a policy already.
func TestMergeScripts(t *testing.T) {
	t.Parallel()
	needPrograms(t, "sh")
	req := PlanRequest{Request: request(), Format: FormatAWSCLI}
	req.BucketOwner, req.KMSKeyARN = "999988887777", strings.Replace(euKey, "123456789012", "999988887777", 1)
	plan, err := MakePlan(req, Env{InstallID: "home", Suffix: "x7k2", Boundary: "arn:aws:iam::123456789012:policy/b"})
	if err != nil {
		t.Fatal(err)
	}
	const who = `"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:user/ixmage/ixmage-s3read-shop-x7k2"},`
	b := planner{req: req, plan: plan}
	for _, script := range []struct{ name, ours string }{
		{"bucket-account.sh", `{"Sid":"` + b.sid() + `",` + who + `"Action":"s3:GetObject","Resource":"arn:aws:s3:::acme-media/website-images/*"}`},
		{"key-account.sh", `{"Sid":"` + b.sid() + `",` + who + `"Action":"kms:Decrypt","Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}}`},
	} {
		const other = `{"Sid":"it's [\"Statement\" : [","Effect":"Deny","Principal":"*","Action":["s3:*"],"Resource":"x"}`
		for _, tt := range []struct{ name, now, want string }{
			{"empty", `{"Statement":[ ]}`, `{"Statement":[` + script.ours + `]}`},
			{"a list", "{\n \"Version\" : \"2008-10-17\",\n \"Statement\" : [ " + other + " ]\n}", `{"Version":"2008-10-17","Statement":[` + other + `,` + script.ours + `]}`},
			{"has it", `{"Statement":[` + script.ours + `]}`, "has the statement"},
			{"no list", `{"Statement":{"Action":["a"]}}`, "by hand"},
			{"no policy", `Unable to locate credentials`, "by hand"},
			{"denied", "AccessDenied", "AccessDenied"},
			{"none", "NoSuchBucketPolicy", `{"Version":"2012-10-17","Statement":[` + script.ours + `]}`},
		} {
			if tt.name == "none" && script.name == "key-account.sh" { // every key has a policy
				continue
			}
			t.Run(script.name+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				answer := "printf '%s\\n' " + quote(tt.now)
				if tt.name == "none" || tt.name == "denied" {
					answer = "echo " + quote("An error occurred ("+tt.now+")") + " >&2; return 254"
				}
				stub := `aws() { case $2 in get-*) ` + answer + ` ;; put-*) for last; do :; done; printf 'PUT %s' "${last#--policy=}" ;; esac; }`
				out, err := cloud{env: []string{"PATH=/usr/bin:/bin"}}.sh(t.Context(), stub, content(t, plan, script.name))
				_, put, ok := strings.Cut(out, "PUT ")
				switch {
				case strings.HasPrefix(tt.want, "{"):
					if !ok || err != nil || !Same([]byte(put), []byte(tt.want)) {
						t.Errorf("got %s, %v\nwant %s", out, err, tt.want)
					}
				case ok || !strings.Contains(out, tt.want) || (err == nil) != (tt.want == "has the statement"):
					t.Errorf("got %s, %v; want no change and %q", out, err, tt.want)
				}
			})
		}
	}
}
