package iam

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"
)

// WebIdentity is what a token of an identity provider says, such as that of a service
// account of Kubernetes.
type WebIdentity struct {
	Issuer   string // the URL of the provider
	Audience string // empty: sts.amazonaws.com
	Subject  string // such as system:serviceaccount:default:ixmage
	Life     time.Duration
}

type webToken struct {
	WebIdentity

	expires time.Time
}

// AddIdentityProvider makes the account know a provider of tokens with these audiences
// (sts.amazonaws.com without one), and returns its ARN.
func (s *Server) AddIdentityProvider(issuer string, audiences ...string) string {
	if len(audiences) == 0 {
		audiences = []string{"sts.amazonaws.com"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.providers[issuer] = audiences
	return s.providerARN(issuer)
}

func (s *Server) providerARN(issuer string) string {
	return s.arn("oidc-provider/" + strings.TrimPrefix(issuer, "https://"))
}

// WebToken makes a token, a JWT without a real signature, that the account accepts until
// its life is over. Only tokens of this method are accepted.
func (s *Server) WebToken(id WebIdentity) string {
	if id.Audience == "" {
		id.Audience = "sts.amazonaws.com"
	}
	now := s.cfg.Now()
	token := webToken{id, now.Add(id.Life)}
	part := func(v any) string {
		text, _ := json.Marshal(v) //nolint:errchkjson // texts and numbers only: it cannot fail
		return base64.RawURLEncoding.EncodeToString(text)
	}
	text := part(map[string]any{"alg": "RS256", "typ": "JWT"}) + "." + part(map[string]any{
		"iss": id.Issuer, "aud": []string{id.Audience}, "sub": id.Subject, "iat": now.Unix(), "exp": token.expires.Unix(),
	}) + "." + base64.RawURLEncoding.EncodeToString([]byte(rand.Text()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.webTokens[text] = token
	return text
}

// WebTrust is a trust policy for a subject of an identity provider.
func WebTrust(providerARN, subject string) string {
	_, issuer, _ := strings.Cut(providerARN, ":oidc-provider/")
	return policyText(map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"Federated": providerARN},
		"Action": "sts:AssumeRoleWithWebIdentity",
		"Condition": map[string]any{"StringEquals": map[string]string{
			issuer + ":sub": subject, issuer + ":aud": "sts.amazonaws.com",
		}},
	})
}

// assumeRoleWithWebIdentity makes a session of a role for the bearer of a token:
// https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html
func assumeRoleWithWebIdentity(s *Server, r *request) (any, error) {
	if err := r.checkAssumption(); err != nil {
		return nil, err
	}
	token, err := s.checkWebToken(r)
	if err != nil {
		return nil, err
	}
	role := s.roleByARN(r.params.Get("RoleArn"), r.now)
	if role == nil || !s.trustsToken(role, token, r) {
		return nil, refusal("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity")
	}
	asked := assumption{role: role, name: r.params.Get("RoleSessionName")}
	x, err := s.roleSession(r, &asked)
	if err != nil {
		return nil, err
	}
	return struct {
		xmlAssumed

		Provider, Audience, SubjectFromWebIdentityToken string
	}{assumed(x, asked.packed), s.providerARN(token.Issuer), token.Audience, token.Subject}, nil
}

// checkWebToken refuses a token that the account does not accept.
func (s *Server) checkWebToken(r *request) (webToken, error) {
	text := r.params.Get("WebIdentityToken")
	token, ok := s.webTokens[text]
	audiences, known := s.providers[token.Issuer]
	switch {
	case strings.Count(text, ".") != 2:
		return token, refusal("InvalidIdentityToken",
			"The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)")
	case !ok:
		return token, refusal("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider,  "+
			"please reference AssumeRoleWithWebIdentity documentation for requirements")
	case !known:
		return token, refusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account for %s", token.Issuer)
	case !slices.Contains(audiences, token.Audience):
		return token, refusal("InvalidIdentityToken", "Incorrect token audience")
	case !r.now.Before(token.expires):
		return token, refusal("ExpiredTokenException", "Token expired: current date/time %d must be before the expiration "+
			"date/time %d", r.now.Unix(), token.expires.Unix())
	}
	return token, nil
}

func (s *Server) trustsToken(role *Role, token webToken, r *request) bool {
	q := query{
		action: "sts:AssumeRoleWithWebIdentity", resource: role.ARN, context: s.baseContext(r), unknown: s.problemLocked,
	}
	issuer := strings.TrimPrefix(token.Issuer, "https://")
	q.context.set("aws:FederatedProvider", s.providerARN(token.Issuer))
	q.context.set(issuer+":aud", token.Audience)
	q.context.set(issuer+":sub", token.Subject)
	q.context.set("sts:RoleSessionName", r.params.Get("RoleSessionName"))
	return s.parsedLocked(role.Trust, trustPolicy).decide(q, func(st *statement) bool {
		return slices.Contains(st.providers, s.providerARN(token.Issuer)) || slices.Contains(st.principals, "*")
	}) == allowed
}
