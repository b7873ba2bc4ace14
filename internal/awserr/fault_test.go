package awserr

import (
	"strings"
	"testing"
)

func TestFaultOf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		code, message string
		want          Fault
	}{
		{"AccessDenied", "Access Denied", NoFault},
		{"AccessDenied", "Forbidden: Operation is not allowed for this key.", NoFault},
		{"AccessDenied", "Forbidden: No such key: GK31c2f218a2e44f485b94239e", UnknownKey},
		{"AccessDenied", "Forbidden: Invalid signature", Signature},
		{"AccessDenied", "Cannot download file, download bandwidth or transaction (Class B) cap exceeded.", Cap},
		{"AccessDenied", "User: arn:aws:iam::123456789012:user/x is not authorized to perform: kms:Decrypt on resource: y", KMSDenied},
		{"AccessDenied", "The bucket has Requester Pays enabled", RequesterPays},
		{"InvalidArgument", "Credential access key has length 20, should be 32", KeyForm},
		{"InvalidArgument", "Invalid Argument: Credential access key has length 64, should be 32", KeyForm},
		{"InvalidArgument", "Invalid value", NoFault},
		{"InvalidRequest", "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the object.", CustomerKey},
		{"InvalidRequest", "Bad request: something", NoFault},
		{"Unauthorized", "Unauthorized", RefusedKey},
		{"XAdminUserNotFound", "No user exists with the provided access key ID.", UnknownKey},
		{"InvalidRegionName", "The region name 'eu-west-1' is not valid. Must be one of: wnam, enam, weur, eeur, apac, oc, auto", Region},
		{"AuthorizationHeaderMalformed", "Authorization header malformed, unexpected scope: 20260519/us-east-1/s3/aws4_request", Region},
		{"KMS.DisabledException", "", KMSKey},
		{"KMS.SomethingNew", "", KMSKey},
		{"UserSuspended", "", SuspendedKey},
		{"XAmzContentSHA256Mismatch", "", Payload},
		{"Teapot", "", NoFault},
	} {
		if got := FaultOf(tc.code, tc.message); got != tc.want {
			t.Errorf("%s %q: %q, want %q", tc.code, tc.message, got, tc.want)
		}
	}
}

func TestRegionOf(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"the region 'us-east-1' is wrong; expecting 'eu-west-1'": "eu-west-1",
		"<Error><Region>garage</Region></Error>":                 "garage",
		"<Region>a b</Region>":                                   "",
		"expecting 'EU'":                                         "",
		"":                                                       "",
	} {
		if got := RegionOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestKMSKeyOf(t *testing.T) {
	t.Parallel()
	const arn = "arn:aws-us-gov:kms:us-gov-west-1:123456789012:key/mrk-1234abcd"
	for in, want := range map[string]string{
		"is not authorized to perform: kms:Decrypt on resource: " + arn + " because no identity-based policy allows": arn,
		"on resource: " + arn + ".":                         arn,
		"arn:aws:kms:eu-west-1:123456789012:alias/pictures": "",
		"arn:aws:kms:EU:123456789012:key/1":                 "",
		"arn:aws:kms:eu-west-1:1234:key/1":                  "",
		"":                                                  "",
	} {
		if got := KMSKeyOf(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// FuzzKMSKeyOf: a key is an ARN, whatever the message.
func FuzzKMSKeyOf(f *testing.F) {
	f.Add("on resource: arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab")
	f.Fuzz(func(t *testing.T, message string) {
		got := KMSKeyOf(message)
		if got != "" && !strings.HasPrefix(got, "arn:aws") || len(got) > 160 || strings.ContainsFunc(got, func(r rune) bool {
			return r <= ' ' || r >= 0x7f
		}) {
			t.Fatalf("%q is no key", got)
		}
	})
}

// FuzzRegionOf: a region is one, whatever the document.
func FuzzRegionOf(f *testing.F) {
	f.Add("<Region>eu-west-1</Region>", "InvalidRequest")
	f.Fuzz(func(t *testing.T, document, code string) {
		got := RegionOf(document)
		for _, r := range got {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' {
				t.Fatalf("%q is no region", got)
			}
		}
		if len(got) > 32 {
			t.Fatalf("%q is too long", got)
		}
		_ = FaultOf(code, document)
	})
}
