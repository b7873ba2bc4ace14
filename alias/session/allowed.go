package session

import (
	"fmt"
	"strings"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// Allowed returns an error of alias.ErrForbidden unless the configuration allows a credential to
// be p. A request cannot change what is allowed.
func (s *Sessions) Allowed(p alias.Provider) error {
	switch p := p.(type) {
	case alias.Role:
		switch {
		case !policy.RoleAllowed(s.cfg.AssumeRoles, p.ARN):
			return forbidden("the role %s is not among --assume-roles (%s)", p.ARN, listed(s.cfg.AssumeRoles))
		case p.SessionPolicy == alias.SessionPolicyNone && !s.cfg.AllowWideScope:
			return forbidden("sessions without a session policy can do all that the role can; they need --allow-wide-scope")
		}
	case alias.Default:
		if !s.cfg.AllowDefault {
			return forbidden("the server's own credentials may sign for no alias; that needs --allow-default-credential")
		}
	}
	return nil
}

func forbidden(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{alias.ErrForbidden}, args...)...)
}

func listed(patterns []string) string {
	if len(patterns) == 0 {
		return "none"
	}
	return strings.Join(patterns, ", ")
}
