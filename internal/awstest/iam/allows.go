package iam

// Allows reports whether the policies of a user allow an action on a resource, as they are now,
// visible or not. Bucket policies do not count.
func (s *Server) Allows(user, action, resource string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	u, ok := s.users.latest(user)
	if !ok {
		s.problemLocked("no user " + user)
		return false
	}
	q := query{action: action, resource: resource, context: conditionKeys{}, unknown: s.problemLocked}
	q.context.set("aws:username", u.Name)
	r := &request{now: s.cfg.Now()}
	return s.identityRuling(u.entity(), q, r).is == allowed && s.boundaryRuling(u.entity(), q, r).is == allowed
}
