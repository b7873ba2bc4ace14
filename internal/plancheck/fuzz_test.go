package plancheck

import (
	"testing"

	"golang.org/x/text/unicode/norm"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// FuzzEscaping: every text that a request may have comes back from HCL and from JSON.
func FuzzEscaping(f *testing.F) {
	f.Add("website-images/", "team", "web", "ab")
	f.Add("%{if true}x%{endif}/", "a b", "${x}", "a/b:c")
	f.Add("\"\\' #{x} <&>/", "Équipe", "été=1", "x-")
	f.Add("a\u2028b/", "x", "\u00a0", "")
	f.Add("$${a}%%{b}/é\u0301/", "e\u0301", "\u1680", "==")
	f.Fuzz(func(t *testing.T, prefix, tag, value, external string) {
		for _, format := range []policy.Format{policy.FormatTerraform, policy.FormatCloudFormation} {
			req := policy.PlanRequest{Kind: policy.KindRole, Format: format, Request: policy.Request{
				Alias: "shop", Location: alias.Location{Bucket: "acme-media", Prefix: prefix, Region: "eu-west-1"},
				Tags: map[string]string{norm.NFC.String(tag): norm.NFC.String(value)}, // as HCL has it
			}}
			req.Role.ExternalID = external
			if policy.PreparePlan(&req, alias.Policy{}) != nil {
				return
			}
			made, err := policy.MakePlan(req, policy.Env{InstallID: "home"})
			if err != nil {
				return // a policy over its quota
			}
			p := planned{made, req}
			if format == policy.FormatCloudFormation {
				checkTemplate(t, p)
				continue
			}
			main := evaluate(t, p.file(t, "main.tf"), map[string]string{"principal": principal})
			checkHolder(t, p, main)
			same(t, "policy", main.text(t, "aws_iam_role_policy.read", "policy"), p.Document)
		}
	})
}
