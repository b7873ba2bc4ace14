package provision

import (
	"fmt"

	"ixmage/alias"
	"ixmage/alias/accounts"
	"ixmage/alias/policy"
)

// boundaryAsked returns alias.ErrNoBoundary if users of an AWS account would get no
// permissions boundary and the operator has not said that this is meant. Whoever may make
// a user without a boundary, write its policy and make its key is administrator of the
// account.
func (p *Provisioner) boundaryAsked(a *accounts.Account) error {
	boundary, _ := p.boundaryOf(a)
	switch {
	case p.cfg.IAMEndpoint != "" || boundary != "" || a == nil && p.cfg.NoBoundary || a != nil && a.NoBoundary:
		return nil
	case a != nil:
		return fmt.Errorf("%w: without one the role %s is administrator of the account %s: set boundary for it in %s "+
			"(docs/boundary-policy.json), or no_boundary: true if that is meant",
			alias.ErrNoBoundary, a.Role, a, p.cfg.Accounts.File())
	}
	return fmt.Errorf("%w: without one the credentials of this server are administrator of the AWS account: "+
		"start it with --iam-boundary (docs/boundary-policy.json), or with --iam-no-boundary if that is meant",
		alias.ErrNoBoundary)
}

// allowed returns alias.ErrForbidden if the configuration does not allow the request.
func (p *Provisioner) allowed(req *policy.Request, a *accounts.Account) error {
	buckets, bucketsFrom, adopt, adoptFrom := p.cfg.Buckets, "--provision-buckets", p.cfg.Adopt, "--adopt-users"
	if a != nil {
		of := " of the account " + a.String() + " in " + p.cfg.Accounts.File()
		buckets, bucketsFrom, adopt, adoptFrom = a.Buckets, "buckets"+of, a.AdoptUsers, "adopt_users"+of
	}
	switch {
	case !policy.Allowed(buckets, req.Bucket):
		return fmt.Errorf("%w: the bucket %s is not among %s", alias.ErrForbidden, req.Bucket, bucketsFrom)
	case req.Policy == alias.PolicyReadOnly && !p.cfg.AllowWideScope:
		return policy.ErrWideScope
	case req.Adopt != "" && !policy.Allowed(adopt, req.Adopt):
		return fmt.Errorf("%w: the IAM user %s is not among %s", alias.ErrForbidden, req.Adopt, adoptFrom)
	}
	return policy.CheckTagKeys(req, p.cfg.TagKeys)
}

// checkPartition returns a *alias.ValidationError if a location at AWS is in another partition
// than the account or its boundary.
func (p *Provisioner) checkPartition(at alias.Location, a *accounts.Account) error {
	if a == nil {
		return policy.CheckPartition(at, "", p.cfg.Boundary)
	}
	if have := policy.PartitionOf(at.Region); at.AtAWS() && have != a.Partition {
		return policy.Invalid("region", fmt.Sprintf("must be in %s, the partition of the account %s; %s is in the "+
			"partition %s", a.Partition, a, at.Region, have))
	}
	return nil
}
