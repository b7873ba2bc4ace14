package iam

import "strings"

// guards are the policies that an organization or a network puts over the account.
// They grant nothing and limit everyone, root included; empty is none.
type guards struct {
	scp, rcp string
	endpoint map[string]string // by service
}

// The ARNs that AWS gives the policies of an organization.
const (
	scpARN = "arn:aws:organizations::987654321098:policy/o-qv5af4abcd/service_control_policy/p-2kgnabcd"
	rcpARN = "arn:aws:organizations::987654321098:policy/o-qv5af4abcd/resource_control_policy/p-3kgnabcd"
)

// SetServiceControlPolicy limits every caller of the account; an empty document
// removes the limit. A document that only denies needs a statement that allows
// everything, as FullAWSAccess does on AWS:
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_scps_evaluation.html
func (s *Server) SetServiceControlPolicy(document string) {
	s.setGuard(&s.guards.scp, document, identityPolicy)
}

// SetResourceControlPolicy denies access to S3, STS and KMS, whoever asks; its
// statements have the principal *, and it cannot allow anything. An empty document
// removes it:
// https://docs.aws.amazon.com/organizations/latest/userguide/orgs_manage_policies_rcps.html
func (s *Server) SetResourceControlPolicy(document string) {
	s.setGuard(&s.guards.rcp, document, bucketPolicy)
}

func (s *Server) setGuard(to *string, document string, kind policyKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkGuardLocked(document, kind)
	*to = document
}

func (s *Server) checkGuardLocked(document string, kind policyKind) {
	if document == "" {
		return
	}
	if _, err := parsePolicy(document, kind); err != nil {
		s.problemLocked("malformed policy: " + err.Error())
	}
}

// SetEndpointPolicy makes all requests to a service (iam, sts or s3) come through a
// VPC endpoint with this policy, whose statements have principals; an empty
// document lets them come from the internet again:
// https://docs.aws.amazon.com/vpc/latest/privatelink/vpc-endpoints-access.html
func (s *Server) SetEndpointPolicy(service, document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.checkGuardLocked(document, bucketPolicy)
	if s.guards.endpoint == nil {
		s.guards.endpoint = map[string]string{}
	}
	s.guards.endpoint[service] = document
}

func (s *Server) serviceControlRuling(q query) ruling {
	out := ruling{kind: "service control policy", is: allowed, arn: scpARN}
	if s.guards.scp != "" {
		out.is = s.parsedLocked(s.guards.scp, identityPolicy).decide(q, everyStatement)
	}
	return out
}

func (s *Server) resourceControlRuling(q query) ruling {
	out := ruling{kind: "resource control policy", is: allowed, arn: rcpARN}
	switch service, _, _ := strings.Cut(q.action, ":"); service {
	case "s3", "sts", "kms":
		if s.guards.rcp == "" {
			break
		}
		if s.parsedLocked(s.guards.rcp, bucketPolicy).decide(q, everyStatement) == explicitDeny {
			out.is = explicitDeny
		}
	}
	return out
}

func (s *Server) endpointRuling(q query, caller caller) ruling {
	out := ruling{kind: "VPC endpoint policy", is: allowed}
	service, _, _ := strings.Cut(q.action, ":")
	if text := s.guards.endpoint[service]; text != "" {
		out.is = s.parsedLocked(text, bucketPolicy).decide(q, func(st *statement) bool {
			return st.names(caller, s.arn("root"), s.cfg.Account)
		})
	}
	return out
}
