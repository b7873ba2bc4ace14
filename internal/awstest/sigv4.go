package awstest

import (
	"context"
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"ixmage/alias"
)

// grant lets a key pair read a part of a bucket.
type grant struct {
	keys           alias.KeyPair
	bucket, prefix string
}

// authorization is what an Authorization header says.
type authorization struct {
	keyID, region string
	signed        []string // names of the signed headers
}

// parseAuthorization reads the header of a signature version 4; the zero
// value stands for none, or none that we understand.
func parseAuthorization(header string) authorization {
	var out authorization
	fields, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return out
	}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			if scope := strings.Split(value, "/"); len(scope) == 5 {
				out.keyID, out.region = scope[0], scope[2]
			}
		case "SignedHeaders":
			out.signed = strings.Split(value, ";")
		}
	}
	return out
}

// authorize returns the code with which S3 refuses a request, or nothing.
func authorize(req *http.Request, grants []grant, at location) string {
	auth := parseAuthorization(req.Header.Get("Authorization"))
	code := "InvalidAccessKeyId"
	if auth.keyID == "" {
		code = "AccessDenied"
	}
	for _, g := range grants {
		if g.keys.AccessKeyID != auth.keyID {
			continue
		}
		if !signatureHolds(req, auth, g.keys) {
			return "SignatureDoesNotMatch"
		}
		if g.bucket == at.bucket && strings.HasPrefix(at.key, g.prefix) {
			return ""
		}
		code = "AccessDenied"
	}
	return code
}

// signatureHolds signs the request anew with the key that it claims and
// compares.
func signatureHolds(req *http.Request, auth authorization, keys alias.KeyPair) bool {
	if keys.SecretAccessKey.IsZero() {
		return true
	}
	at, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	if err != nil {
		return false
	}
	again := &http.Request{Method: req.Method, URL: req.URL, Host: req.Host, Header: http.Header{}}
	for _, name := range auth.signed {
		if values := req.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	creds := aws.Credentials{AccessKeyID: keys.AccessKeyID, SecretAccessKey: keys.SecretAccessKey.Reveal()}
	err = v4.NewSigner().SignHTTP(context.Background(), creds, again, req.Header.Get("X-Amz-Content-Sha256"),
		"s3", auth.region, at, func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	got, want := req.Header.Get("Authorization"), again.Header.Get("Authorization")
	return err == nil && subtle.ConstantTimeCompare([]byte(got), []byte(want)) == 1
}
