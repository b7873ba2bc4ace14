package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"ixmage/alias"
)

// planCases are requests for files, by the name of their golden file.
func planCases() map[string]struct {
	req PlanRequest
	env Env
} {
	type c = struct {
		req PlanRequest
		env Env
	}
	role := RoleRequest{
		Trust:      Trust{Principal: "arn:aws:iam::123456789012:role/ixmage-server", ExternalID: "acme/1"},
		MaxSession: 4 * time.Hour,
	}
	cross := request()
	cross.BucketOwner, cross.KMSKeyARN = "999988887777", strings.Replace(euKey, "123456789012", "999988887777", 1)
	bounded := Env{InstallID: "home", Suffix: "x7k2", Boundary: "arn:aws:iam::123456789012:policy/ixmage/ixmage-boundary"}
	plain := Env{InstallID: "home", Suffix: "x7k2", AllowWideScope: true}
	china := request()
	china.Region, china.KMSKeyARN = "cn-north-1", cnKey
	with := func(r Request, change func(*Request)) Request { change(&r); return r }
	return map[string]c{
		"user":               {PlanRequest{Request: request()}, plain},
		"user-managed":       {PlanRequest{Request: with(request(), func(r *Request) { r.Policy = alias.PolicyManaged })}, plain},
		"user-read-only":     {PlanRequest{Request: with(request(), func(r *Request) { r.Policy = alias.PolicyReadOnly })}, plain},
		"user-cross":         {PlanRequest{Request: cross}, bounded},
		"user-cross-unknown": {PlanRequest{Request: cross}, plain},
		"user-china":         {PlanRequest{Request: china}, plain},
		"user-quotes": {PlanRequest{Request: with(request(), func(r *Request) {
			r.Prefix, r.Inside, r.Outside = `it's "a" %{y} #{z} ü/`, `it's "a" %{y} #{z} ü/$(id).jpg`, ""
			r.Tags = map[string]string{"it": "a b", "Équipe": "été=1"}
		})}, plain},
		"role":               {PlanRequest{Request: request(), Kind: KindRole}, plain},
		"role-principal":     {PlanRequest{Request: request(), Kind: KindRole, Role: role}, plain},
		"role-cross":         {PlanRequest{Request: cross, Kind: KindRole, Role: role}, bounded},
		"role-cross-unknown": {PlanRequest{Request: cross, Kind: KindRole}, plain},
	}
}

func renderFiles(files []File) string {
	var b strings.Builder
	for _, f := range files {
		fmt.Fprintf(&b, "=== %s\n%s", f.Name, f.Content)
	}
	return b.String()
}

func TestFilesGolden(t *testing.T) {
	t.Parallel()
	for name, c := range planCases() {
		for _, format := range []Format{FormatAWSCLI, FormatCloudFormation, FormatTerraform} {
			t.Run(name+"/"+string(format), func(t *testing.T) {
				t.Parallel()
				req := c.req
				req.Format = format
				if err := PreparePlan(&req, alias.Policy{}); err != nil {
					t.Fatal(err)
				}
				plan, err := MakePlan(req, c.env)
				if err != nil {
					t.Fatal(err)
				}
				golden(t, "files-"+name+"-"+string(format), renderFiles(plan.Files))
				if !slices.ContainsFunc(plan.Files, func(f File) bool { return f.Name == "register.sh" }) {
					t.Error("there is no register.sh")
				}
			})
		}
	}
}
