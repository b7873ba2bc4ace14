package iam

import "slices"

// groupPolicyName is the name of the only inline policy that a group has here.
const groupPolicyName = "group"

// AttachGroupPolicy attaches a policy that exists to a group.
func (s *Server) AttachGroupPolicy(group, arn string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.policies.latest(arn); !ok {
		s.problemLocked("no policy " + arn)
		return
	}
	s.groupPolicies[group] = append(slices.Clone(s.groupPolicies[group]), arn)
}

func listGroupPolicies(s *Server, r *request) (any, error) {
	var names []string
	if s.groups[r.params.Get("GroupName")] != "" {
		names = []string{groupPolicyName}
	}
	return pageOfNames(s, r, names)
}

func getGroupPolicy(s *Server, r *request) (any, error) {
	group, name := r.params.Get("GroupName"), r.params.Get("PolicyName")
	text := s.groups[group]
	if text == "" || name != groupPolicyName {
		return nil, refusal("NoSuchEntity", "The group policy with name %s cannot be found.", name)
	}
	return struct{ GroupName, PolicyName, PolicyDocument string }{group, name, s.encoded(text)}, nil
}

func listAttachedGroupPolicies(s *Server, r *request) (any, error) {
	return s.pageOfAttached(r, s.groupPolicies[r.params.Get("GroupName")])
}
