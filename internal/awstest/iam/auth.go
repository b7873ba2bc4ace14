package iam

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"strconv"
	"strings"

	"ixmage/alias"
	"ixmage/internal/awstest/sigv4"
)

// caller is the signer of a request: root, a user or a role as it is visible now, or
// none of them.
type caller struct {
	root    bool
	user    *User
	role    *Role // the caller is a session of it
	arn     string
	session *Session // nil for a long-term key
}

// entity is the user or role whose policies decide; ok is false for root and for a
// request without a signature.
func (c caller) entity() (e entity, ok bool) {
	switch {
	case c.user != nil:
		return c.user.entity(), true
	case c.role != nil:
		return c.role.entity(), true
	}
	return entity{}, false
}

// names are the ARNs by which a policy may name the caller: a session has that of its
// role too.
func (c caller) names() []string {
	if c.role != nil {
		return []string{c.arn, c.role.ARN}
	}
	return []string{c.arn}
}

// authenticateLocked finds who signed a request for a service.
func (s *Server) authenticateLocked(r *request, service, payload string) error {
	auth := sigv4.Parse(r.http.Header.Get("Authorization"))
	if auth.KeyID == "" {
		r.caller = caller{arn: "anonymous"}
		if service == "s3" {
			return nil // a bucket policy may allow everyone
		}
		return refusal("MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	unknown := refusal("InvalidClientTokenId", "The security token included in the request is invalid.")
	if service == "s3" {
		unknown = refusal("InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
	}
	var secret alias.Secret
	var known bool
	if r.caller, secret, known = s.signerLocked(auth.KeyID, r); !known {
		return unknown
	}
	if err := checkToken(r.caller.session, r, service, unknown); err != nil {
		return err
	}
	if !sigv4.Verify(r.http, secret.Reveal(), service, payload) {
		return refusal("SignatureDoesNotMatch", "The request signature we calculated does not match the signature you "+
			"provided. Check your AWS Secret Access Key and signing method.")
	}
	if err := checkLife(r.caller.session, r, service, unknown); err != nil {
		return err
	}
	r.call.Caller = r.caller.arn
	s.recordUseLocked(auth.KeyID, use{r.now, service, auth.Region})
	return nil
}

// signerLocked finds who has a key, and its secret.
func (s *Server) signerLocked(id string, r *request) (c caller, secret alias.Secret, ok bool) {
	if id == s.Root.AccessKeyID {
		return caller{root: true, arn: s.arn("root")}, s.Root.SecretAccessKey, true
	}
	if strings.HasPrefix(id, "ASIA") {
		return s.sessionCaller(id, r)
	}
	key, ok := s.keys.visibleAt(id, r.now)
	if !ok || !key.Active {
		return caller{}, secret, false
	}
	user, ok := s.users.visibleAt(key.User, r.now)
	if !ok || user.ID != key.userID {
		return caller{}, secret, false
	}
	return caller{user: user, arn: user.ARN}, key.secret, true
}

func hashOf(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// authorizeLocked decides about a call of IAM or STS.
func (s *Server) authorizeLocked(r *request, target target) error {
	switch r.call.Action {
	case "GetCallerIdentity", "GetSessionToken":
		return s.authorizeNetworkLocked(r, target)
	case "AssumeRole": // which decides by the trust policy of the role too
		return nil
	}
	tags, err := r.tags()
	if err != nil {
		return err
	}
	for _, right := range s.rightsOf(r, tags) {
		q := query{action: right, resource: target.arn, context: s.context(r, target, tags)}
		if why := s.denialReasonLocked(r, q, ""); why != "" {
			return s.denied(r, q, why)
		}
	}
	return nil
}

// authorizeNetworkLocked decides about a call that needs no right, so that only the
// policy of a VPC endpoint can be in its way.
func (s *Server) authorizeNetworkLocked(r *request, target target) error {
	q := query{
		action: r.call.Service + ":" + r.call.Action, resource: target.arn, context: s.baseContext(r),
		unknown: s.problemLocked,
	}
	if network := s.endpointRuling(q, r.caller); network.is != allowed {
		return s.denied(r, q, network.reason(q.action, s.cfg.PolicyARNs))
	}
	return nil
}

// rightsOf are the rights that a call needs.
func (s *Server) rightsOf(r *request, tags map[string]string) []string {
	rights := []string{r.call.Service + ":" + r.call.Action}
	if s.cfg.BoundaryNeedsPut && r.call.Action == "CreateUser" && r.params.Get("PermissionsBoundary") != "" {
		rights = append(rights, "iam:PutUserPermissionsBoundary")
	}
	switch {
	case len(tags) == 0:
	case r.call.Action == "CreateUser":
		rights = append(rights, "iam:TagUser")
	case r.call.Action == "CreateRole":
		rights = append(rights, "iam:TagRole")
	case r.call.Action == "CreatePolicy":
		rights = append(rights, "iam:TagPolicy")
	}
	return rights
}

// denied refuses a call of IAM or STS for a reason.
func (s *Server) denied(r *request, q query, why string) error {
	text := denial(r.caller.arn, q.action, q.resource)
	if !s.cfg.NoReasons {
		text += " " + why
	}
	return refusal("AccessDenied", "%s", text)
}

// context has the condition keys of a call of IAM.
func (s *Server) context(r *request, target target, tags map[string]string) conditionKeys {
	c := s.baseContext(r)
	boundary := target.boundary
	switch r.call.Action {
	case "CreateUser", "PutUserPermissionsBoundary", "CreateRole", "PutRolePermissionsBoundary":
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

// baseContext has the condition keys of every request.
func (s *Server) baseContext(r *request) conditionKeys {
	secure := "true"
	if s.cfg.Insecure {
		secure = "false"
	}
	c := conditionKeys{}
	c.set("aws:SecureTransport", secure)
	c.set("aws:SourceIp", "127.0.0.1")
	c.set("aws:ResourceAccount", s.cfg.Account)
	c.set("aws:UserAgent", r.http.UserAgent())
	c.set("aws:RequestedRegion", s.cfg.Region)
	c.set("aws:ViaAWSService", "false")
	c.set("aws:PrincipalIsAWSService", "false")
	c.set("aws:CurrentTime", date(r.now))
	c.set("aws:EpochTime", strconv.FormatInt(r.now.Unix(), 10))
	if x := r.caller.session; x != nil { // in no request that a long-term key signs
		c.set("aws:TokenIssueTime", date(x.Issued))
	}
	if s.guards.endpoint[r.call.Service] != "" {
		c.set("aws:SourceVpce", "vpce-0123456789abcdef0")
	}
	maps.Copy(c, s.principalContext(r.caller))
	return c
}

// principalContext has the condition keys that tell who asks.
func (s *Server) principalContext(who caller) conditionKeys {
	c := conditionKeys{}
	var tags map[string]string
	switch {
	case who.user != nil:
		c.set("aws:PrincipalArn", who.user.ARN)
		c.set("aws:PrincipalType", "User")
		c.set("aws:username", who.user.Name)
		c.set("aws:userid", who.user.ID)
		tags = who.user.Tags
	case who.role != nil:
		c.set("aws:PrincipalArn", who.role.ARN)
		c.set("aws:PrincipalType", "AssumedRole")
		c.set("aws:userid", who.id())
		tags = who.role.Tags
	default:
		return c
	}
	c.set("aws:PrincipalAccount", s.cfg.Account)
	if x := who.session; x != nil && x.SourceIdentity != "" {
		c.set("aws:SourceIdentity", x.SourceIdentity)
	}
	for key, value := range tags {
		c.set("aws:PrincipalTag/"+key, value)
	}
	return c
}

// arn is an ARN of the account's IAM.
func (s *Server) arn(resource string) string {
	return "arn:" + s.cfg.Partition + ":iam::" + s.cfg.Account + ":" + resource
}

// uniqueID is a random id in the form that IAM uses.
func uniqueID(prefix string, n int) string { return prefix + rand.Text()[:n] }

// newSecret is a random secret access key: 40 characters of base64.
func newSecret() string {
	b := make([]byte, 30)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}
