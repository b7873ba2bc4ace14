package s3

import (
	"net/http"
	"strings"

	"ixmage/alias"
	"ixmage/internal/awstest/sigv4"
)

// grant lets a key pair read a part of a bucket.
type grant struct {
	keys           alias.KeyPair
	bucket, prefix string
}

// authorize returns the code with which S3 refuses a request, or nothing.
func authorize(req *http.Request, grants []grant, at Location) string {
	auth := sigv4.Parse(req.Header.Get("Authorization"))
	code := "InvalidAccessKeyId"
	if auth.KeyID == "" {
		code = "AccessDenied"
	}
	for _, g := range grants {
		if g.keys.AccessKeyID != auth.KeyID {
			continue
		}
		if !g.signed(req) {
			return "SignatureDoesNotMatch"
		}
		if g.bucket == at.Bucket && strings.HasPrefix(at.Key, g.prefix) {
			return ""
		}
		code = "AccessDenied"
	}
	return code
}

// signed reports whether the key pair signed a request. A key without a secret
// is known by its id alone.
func (g grant) signed(req *http.Request) bool {
	secret := g.keys.SecretAccessKey
	return secret.IsZero() || sigv4.Verify(req, secret.Reveal(), "s3", req.Header.Get("X-Amz-Content-Sha256"))
}
