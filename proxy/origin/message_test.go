package origin

import (
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestCleanMessage(t *testing.T) {
	t.Parallel()
	const signature = "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"
	for name, tc := range map[string]struct{ in, want string }{
		"plain":      {"The specified key does not exist.", "The specified key does not exist."},
		"lines":      {"a\r\n\tb\x00c\u2028d\u202ee", "a b c d e"},
		"not UTF-8":  {"a\xffb", "a b"},
		"AWS key id": {"key AKIAIOSFODNN7EXAMPLE is unknown", "key [removed] is unknown"},
		"STS key id": {"(ASIAABCDEFGHIJKLMNOP)", "([removed])"},
		"R2 key id":  {"key 0123456789abcdef0123456789abcdef", "key [removed]"},
		"Garage":     {"Forbidden: No such key: GK31c2f218a2e44f485b94239e", "Forbidden: No such key: [removed]"},
		"B2 key id":  {"Malformed Access Key Id 0055b4f2c3d1e0a0000000001", "Malformed Access Key Id [removed]"},
		"its own":    {"no user minioadmin here", "no user [removed] here"},
		"ARN": {
			"User: arn:aws:iam::123456789012:user/ixmage/a1b2/ixmage-s3read-shop is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::acme-media/web/a.jpg\" because no identity-based policy allows the s3:GetObject action",
			"User: arn:aws:iam::[removed]:user/ixmage/a1b2/ixmage-s3read-shop is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::acme-media/web/a.jpg\" because no identity-based policy allows the s3:GetObject action",
		},
		"KMS ARN":        {"arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-12345678ab is disabled.", "arn:aws:kms:eu-west-1:[removed]:key/1234abcd-12ab-34cd-56ef-12345678ab is disabled."},
		"signature":      {"expected " + signature + " got x", "expected [removed] got x"},
		"signature v2":   {"Signature=frJIUN8DYpKDtOLCwo//yllqDzg=", "[removed]"},
		"string to sign": {"AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n" + signature, "AWS4-HMAC-SHA256 [removed] 20130524/us-east-1/s3/aws4_request [removed]"},
		"credential":     {"Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request", "[removed]-east-1/s3/aws4_request"},
		"session token":  {"token " + strings.Repeat("IQoJb3JpZ2luX2VjE", 30), "token [removed]"},
		"JWT":            {"token " + strings.Repeat("eyJhbGciOi-_.", 30), "token [removed]"},
		"account, Z":     {"at 01305248000000Z", "at [removed]"},
		"a header":       {"Header 'x-amz-checksum-mode' with value 'ENABLED' not implemented", "Header 'x-amz-checksum-mode' with value 'ENABLED' not implemented"},
		"a region":       {"the region 'us-east-1' is wrong; expecting 'eu-west-1'", "the region 'us-east-1' is wrong; expecting 'eu-west-1'"},
		"a code":         {"AuthorizationHeaderMalformed: InvalidAccessKeyId", "AuthorizationHeaderMalformed: InvalidAccessKeyId"},
		"too long":       {strings.Repeat("word ", 100), strings.TrimSpace(strings.Repeat("word ", 60))},
	} {
		if got := cleanMessage(tc.in, "minioadmin"); got != tc.want {
			t.Errorf("%s: %q\nwant %q", name, got, tc.want)
		}
	}
}

var secretForm = regexp.MustCompile(`[0-9a-f]{16}|[A-Z0-9]{16}|[0-9]{12}`)

// FuzzCleanMessage: a message is one short line without secrets, whatever a server sends.
func FuzzCleanMessage(f *testing.F) {
	f.Add("User: arn:aws:iam::123456789012:user/x AKIAIOSFODNN7EXAMPLE", "AKIAIOSFODNN7EXAMPLE")
	f.Add("a\r\nb\x00\xff\u2028"+strings.Repeat("ü", 400), "minioadmin")
	f.Add("AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n98ad721746da40c64f1a55b78f14c238", "[removed]")
	f.Fuzz(func(t *testing.T, s, keyID string) {
		got := cleanMessage(s, keyID)
		if len(got) > maxMessage || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("%q is not one short line", got)
		}
		if found := secretForm.FindString(got); found != "" {
			t.Errorf("%q has %q", got, found)
		}
		if len(keyID) >= 16 && !strings.Contains(removed, keyID) && strings.Contains(got, keyID) && !strings.ContainsAny(keyID, " []") {
			t.Errorf("%q has the key id %q", got, keyID)
		}
	})
}
