package provision

import (
	"fmt"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// boundaryAsked returns alias.ErrNoBoundary if users of an AWS account would get no
// permissions boundary and the operator has not said that this is meant. Whoever may make
// a user without a boundary, write its policy and make its key is administrator of the
// account.
func (p *Provisioner) boundaryAsked() error {
	if p.cfg.IAMEndpoint != "" || p.cfg.Boundary != "" || p.cfg.NoBoundary {
		return nil
	}
	return fmt.Errorf("%w: without one the credentials of this server are administrator of the AWS account: "+
		"start it with --iam-boundary (docs/boundary-policy.json), or with --iam-no-boundary if that is meant",
		alias.ErrNoBoundary)
}

// allowed returns alias.ErrForbidden if the configuration does not allow the request.
func (p *Provisioner) allowed(req *policy.Request) error {
	switch {
	case !policy.Allowed(p.cfg.Buckets, req.Bucket):
		return fmt.Errorf("%w: the bucket %s is not among --provision-buckets", alias.ErrForbidden, req.Bucket)
	case req.Policy == alias.PolicyReadOnly && !p.cfg.AllowWideScope:
		return policy.ErrWideScope
	case req.Adopt != "" && !policy.Allowed(p.cfg.Adopt, req.Adopt):
		return fmt.Errorf("%w: the IAM user %s is not among --adopt-users", alias.ErrForbidden, req.Adopt)
	}
	return policy.CheckTagKeys(req, p.cfg.TagKeys)
}
