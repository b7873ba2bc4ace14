package policy

import (
	"strings"
	"testing"

	"ixmage/alias"
)

func TestSessionDocument(t *testing.T) {
	t.Parallel()
	const read = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:`
	for _, tt := range []struct {
		name      string
		partition string
		grant     alias.Grant
		want      string
	}{
		{"folder", "aws", alias.Grant{Bucket: "acme-media", Prefix: "website-images/"}, read + `aws:s3:::acme-media/website-images/*"}]}`},
		{"bucket", "aws", alias.Grant{Bucket: "acme-media"}, read + `aws:s3:::acme-media/*"}]}`},
		{"China", "aws-cn", alias.Grant{Bucket: "acme-media", Region: "cn-north-1"}, read + `aws-cn:s3:::acme-media/*"}]}`},
		{"GovCloud", "aws-us-gov", alias.Grant{Bucket: "acme-media", Region: "us-gov-west-1"}, read + `aws-us-gov:s3:::acme-media/*"}]}`},
		{"quotes", "aws", alias.Grant{Bucket: "acme-media", Prefix: `a"b/`}, read + `aws:s3:::acme-media/a\"b/*"}]}`},
		{"not ASCII", "aws", alias.Grant{Bucket: "acme-media", Prefix: "é💥/"}, read + `aws:s3:::acme-media/\u00e9\ud83d\udca5/*"}]}`},
		{
			"key", "aws", alias.Grant{Bucket: "acme-media", Prefix: "p/", Region: "eu-west-1", KMSKeyARN: euKey},
			read + `aws:s3:::acme-media/p/*"},{"Effect":"Allow","Action":"kms:Decrypt","Resource":"` + euKey +
				`","Condition":{"StringEquals":{"kms:ViaService":"s3.eu-west-1.amazonaws.com"}}}]}`,
		},
		{
			"key in China", "aws-cn", alias.Grant{Bucket: "acme-media", Region: "cn-north-1", KMSKeyARN: cnKey},
			read + `aws-cn:s3:::acme-media/*"},{"Effect":"Allow","Action":"kms:Decrypt","Resource":"` + cnKey +
				`","Condition":{"StringEquals":{"kms:ViaService":"s3.cn-north-1.amazonaws.com.cn"}}}]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := SessionDocument(tt.partition, tt.grant); err != nil || got != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
}

func TestSessionDocumentRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name      string
		partition string
		grant     alias.Grant
		field     string
	}{
		{"wildcard", "aws", alias.Grant{Bucket: "acme-media", Prefix: "a*/"}, "prefix"},
		{"policy variable", "aws", alias.Grant{Bucket: "acme-media", Prefix: "${aws:userid}/"}, "prefix"},
		{"wildcard bucket", "aws", alias.Grant{Bucket: "acme-*"}, "bucket"},
		{"partition", "aws*", alias.Grant{Bucket: "acme-media"}, "policy"},
		{"region of another partition", "aws", alias.Grant{Bucket: "acme-media", Region: "cn-north-1"}, "region"},
		{"over the quota", "aws", alias.Grant{Bucket: "acme-media", Prefix: strings.Repeat("é", 350) + "/"}, "prefix"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			doc, err := SessionDocument(tt.partition, tt.grant)
			if doc != "" {
				t.Errorf("got %s", doc)
			}
			wantProblem(t, nil, err, tt.field)
		})
	}
}

func TestTrustDocument(t *testing.T) {
	t.Parallel()
	const start = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:role/ixmage"},"Action":`
	principal := "arn:aws:iam::123456789012:role/ixmage"
	for _, tt := range []struct {
		name  string
		trust Trust
		want  string
	}{
		{"plain", Trust{Principal: principal}, start + `"sts:AssumeRole"}]}`},
		{
			"external id", Trust{Principal: principal, ExternalID: "a:b/c"},
			start + `"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"a:b/c"}}}]}`,
		},
		{
			"source identity", Trust{Principal: principal, SourceIdentity: true},
			start + `["sts:AssumeRole","sts:SetSourceIdentity"]}]}`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := TrustDocument(tt.trust); err != nil || string(got) != tt.want {
				t.Errorf("got %s, %v\nwant %s", got, err, tt.want)
			}
		})
	}
	for _, ok := range []string{
		"arn:aws-cn:iam::123456789012:root", "arn:aws-us-gov:iam::123456789012:user/a/b/me@x", "arn:aws:iam::123456789012:role/aws-service-role/x",
	} {
		if _, err := TrustDocument(Trust{Principal: ok}); err != nil {
			t.Errorf("%s: %v", ok, err)
		}
	}
	for _, bad := range []string{
		"", "*", "123456789012", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::*:root", "arn:aws:iam::123456789012:group/x",
		"arn:aws:s3:::bucket", "arn:aws:iam::123456789012:role/a\n", "arn:aws:iam::123456789012:role/*/x", "arn:aws:iam::123456789012:role/?/x", "arn:aws:iam::123456789012:role/", "arn:aws:iam::12345678901:root",
	} {
		doc, err := TrustDocument(Trust{Principal: bad})
		wantProblem(t, doc, err, "role.principal")
	}
	for _, bad := range []string{"x", "a b", "*?", strings.Repeat("x", 1225), "é€", "ab\n"} {
		doc, err := TrustDocument(Trust{Principal: principal, ExternalID: bad})
		wantProblem(t, doc, err, "role.external_id")
	}
}

func TestRoleAllowed(t *testing.T) {
	t.Parallel()
	const own = "arn:aws:iam::123456789012:role/"
	for _, row := range []struct {
		pattern, arn string
		want         bool
	}{
		{own + "ixmage-*", own + "ixmage-media", true},
		{own + "ixmage-*", own + "ixmage-a/media", true}, // as in IAM
		{own + "ixmage-*", own + "Ixmage-media", false},
		{own + "ixmage-*", own + "x/ixmage-media", false},
		{own + "ixmage-*", "arn:aws-cn:iam::123456789012:role/ixmage-media", false},
		{own + "*:role/ixmage", own + "x", false},
		{own + "*", own + "a:b/c", true},
		{"*", "arn:aws-cn:iam::666666666666:role/x", true},
		{"**", own + "x", false},
		{own + "media", own + "media2", false},
		{"arn:*:iam::123456789012:role/ixmage-*", "arn:aws-cn:iam::123456789012:role/ixmage-media", true},
		{"arn:aws:iam::*:role/ixmage", "arn:aws:iam::666666666666:role/ixmage", true},
		{"arn:aws:iam::12*:role/ixmage", "arn:aws:iam::126666666666:role/ixmage", true},
		// A role of another account, whose path looks like the account that is allowed.
		{"arn:*:iam::123456789012:role/ixmage-*", "arn:aws:iam::666666666666:role/x:iam::123456789012:role/ixmage-media", false},
		{"arn:aws*:iam::123456789012:role/ixmage-*", "arn:aws:iam::666666666666:role/x:iam::123456789012:role/ixmage-media", false},
		{"arn:aws:iam::6*:role/ixmage", "arn:aws:iam::666666666666:role/x:role/ixmage", false},
		{"arn:aws:iam::*9012:role/ixmage", "arn:aws:iam::666666666666:role/9012:role/ixmage", false},
	} {
		if got := RoleAllowed([]string{"arn:aws:iam::000000000000:role/none", row.pattern}, row.arn); got != row.want {
			t.Errorf("%s, %s: %v", row.pattern, row.arn, got)
		}
	}
}
