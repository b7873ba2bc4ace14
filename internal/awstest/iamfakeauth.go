package awstest

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"ixmage/alias"
)

// iamCaller is who signed a request: root, a user as it is seen now, or
// nobody.
type iamCaller struct {
	root bool
	user *IAMUser
	arn  string
}

// authenticateLocked finds who signed a request for a service.
func (f *IAM) authenticateLocked(r *iamRequest, service, payload string) error {
	auth := parseAuthorization(r.http.Header.Get("Authorization"))
	if auth.keyID == "" {
		r.caller = iamCaller{arn: "anonymous"}
		if service == "s3" {
			return nil // a bucket policy may allow everyone
		}
		return refusal("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	unknown := refusal("InvalidClientTokenId", "The security token included in the request is invalid.")
	if service == "s3" {
		unknown = refusal("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
	secret := f.Root.SecretAccessKey
	r.caller = iamCaller{root: true, arn: f.arn("root")}
	if auth.keyID != f.Root.AccessKeyID {
		key, ok := f.keys.at(auth.keyID, r.now)
		if !ok || !key.Active {
			return unknown
		}
		user, ok := f.users.at(key.User, r.now)
		if !ok || user.ID != key.userID {
			return unknown
		}
		secret, r.caller = key.secret, iamCaller{user: user, arn: user.ARN}
	}
	if !signedWith(r.http, secret, service, payload) {
		return refusal("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you "+
			"provided. Check your AWS Secret Access Key and signing method.")
	}
	f.noteUseLocked(auth, r, service)
	return nil
}

// noteUseLocked keeps when a key was used last, which has no lag here.
func (f *IAM) noteUseLocked(auth authorization, r *iamRequest, service string) {
	h, ok := f.keys[auth.keyID]
	if !ok {
		return // root's
	}
	for i, v := range *h {
		used := *v.value
		used.LastUsed, used.LastService, used.LastRegion = r.now, service, auth.region
		(*h)[i].value = &used
	}
}

// signedWith signs the request anew and compares.
func signedWith(req *http.Request, secret alias.Secret, service, payload string) bool {
	header := req.Header.Get("Authorization")
	auth := parseAuthorization(header)
	at, err := time.Parse("20060102T150405Z", req.Header.Get("X-Amz-Date"))
	if err != nil || !strings.Contains(header, "/"+service+"/aws4_request") {
		return false
	}
	again := &http.Request{Method: req.Method, URL: req.URL, Host: req.Host, Header: http.Header{}}
	for _, name := range auth.signed {
		if name == "content-length" { // signed by Go's SDK and not by Python's
			again.ContentLength = req.ContentLength
		}
		if values := req.Header.Values(name); len(values) > 0 {
			again.Header[http.CanonicalHeaderKey(name)] = values
		}
	}
	creds := aws.Credentials{AccessKeyID: auth.keyID, SecretAccessKey: secret.Reveal()}
	err = v4.NewSigner().SignHTTP(req.Context(), creds, again, payload, service, auth.region, at,
		func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
	return err == nil && subtle.ConstantTimeCompare([]byte(header), []byte(again.Header.Get("Authorization"))) == 1
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// authorizeLocked decides about a call of IAM or STS.
func (f *IAM) authorizeLocked(r *iamRequest, target iamTarget) error {
	if r.call.Action == "GetCallerIdentity" {
		return nil // needs no right
	}
	actions := []string{r.call.Service + ":" + r.call.Action}
	tags, err := r.tags()
	if err != nil {
		return err
	}
	switch {
	case len(tags) == 0:
	case r.call.Action == "CreateUser":
		actions = append(actions, "iam:TagUser")
	case r.call.Action == "CreatePolicy":
		actions = append(actions, "iam:TagPolicy")
	}
	for _, action := range actions {
		q := policyQuery{action: action, resource: target.arn, context: f.context(r, target, tags)}
		if why := f.whyDeniedLocked(r, q, ""); why != "" {
			return refusal("AccessDenied", "%s %s", denial(r.caller.arn, action, target.arn), why)
		}
	}
	return nil
}

// context is what conditions may ask about a call of IAM.
func (f *IAM) context(r *iamRequest, target iamTarget, tags map[string]string) policyContext {
	c := f.baseContext(r)
	boundary := target.boundary
	if r.call.Action == "CreateUser" || r.call.Action == "PutUserPermissionsBoundary" {
		boundary = r.params.Get("PermissionsBoundary")
	}
	if boundary != "" {
		c.set("iam:PermissionsBoundary", boundary)
	}
	if arn := r.params.Get("PolicyArn"); arn != "" {
		c.set("iam:PolicyARN", arn)
	}
	for key, value := range tags {
		c.set("aws:RequestTag/"+key, value)
		c.add("aws:TagKeys", key)
	}
	for _, key := range r.members("TagKeys") {
		c.add("aws:TagKeys", key)
	}
	for key, value := range target.tags {
		c.set("aws:ResourceTag/"+key, value)
		c.set("iam:ResourceTag/"+key, value)
	}
	return c
}

// baseContext is what conditions may ask about every request.
func (f *IAM) baseContext(r *iamRequest) policyContext {
	secure := "true"
	if f.cfg.Insecure {
		secure = "false"
	}
	c := policyContext{}
	c.set("aws:SecureTransport", secure)
	c.set("aws:SourceIp", "127.0.0.1")
	c.set("aws:ResourceAccount", f.cfg.Account)
	c.set("aws:UserAgent", r.http.UserAgent())
	c.set("aws:RequestedRegion", f.cfg.Region)
	if u := r.caller.user; u != nil {
		c.set("aws:PrincipalArn", u.ARN)
		c.set("aws:PrincipalAccount", f.cfg.Account)
		c.set("aws:PrincipalType", "User")
		c.set("aws:username", u.Name)
		c.set("aws:userid", u.ID)
		for key, value := range u.Tags {
			c.set("aws:PrincipalTag/"+key, value)
		}
	}
	return c
}

// arn is an ARN of the account's IAM.
func (f *IAM) arn(resource string) string {
	return "arn:" + f.cfg.Partition + ":iam::" + f.cfg.Account + ":" + resource
}

// uniqueID is a random id of IAM's form.
func uniqueID(prefix string, n int) string { return prefix + rand.Text()[:n] }

// newSecret is a random secret access key: 40 characters of base64.
func newSecret() string {
	b := make([]byte, 30)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}
