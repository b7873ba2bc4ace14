// Package sigv4 verifies signatures of AWS requests, version 4.
package sigv4

import (
	"crypto/subtle"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

// Authorization is the content of an Authorization header.
type Authorization struct {
	KeyID, Region string
	signed        []string // names of the signed headers
}

// Parse reads an Authorization header of signature version 4. The result is zero
// for any other header.
func Parse(header string) Authorization {
	var out Authorization
	fields, ok := strings.CutPrefix(header, "AWS4-HMAC-SHA256 ")
	if !ok {
		return out
	}
	for field := range strings.SplitSeq(fields, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		switch name {
		case "Credential":
			if scope := strings.Split(value, "/"); len(scope) == 5 {
				out.KeyID, out.Region = scope[0], scope[2]
			}
		case "SignedHeaders":
			out.signed = strings.Split(value, ";")
		}
	}
	return out
}

// Verify reports whether a request for a service is signed with a secret access
// key: it signs the request again and compares. payload is the SHA-256 of the
// body, in hex, or what x-amz-content-sha256 may say instead.
func Verify(req *http.Request, secret, service, payload string) bool {
	header := req.Header.Get("Authorization")
	auth := Parse(header)
	at, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	if err != nil || !strings.Contains(header, "/"+service+"/aws4_request") {
		return false
	}
	again := &http.Request{Method: req.Method, URL: req.URL, Host: req.Host, Header: http.Header{}}
	for _, name := range auth.signed {
		if name == "content-length" { // the SDK of Go signs it, that of Python does not
			again.ContentLength = req.ContentLength
		}
		if values := req.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	creds := aws.Credentials{AccessKeyID: auth.KeyID, SecretAccessKey: secret}
	err = v4.NewSigner().SignHTTP(req.Context(), creds, again, payload, service, auth.Region, at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
	return err == nil && subtle.ConstantTimeCompare([]byte(header), []byte(again.Header.Get("Authorization"))) == 1
}
