package scope

import (
	"slices"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// skip notes that something was not tried. It is no check, so it does not count.
func (r *round) skip(name string, why alias.WhyUntried) {
	r.notTried = append(r.notTried, alias.NotTried{Name: name, Why: why})
}

// unconfigured skips a check whose service has no endpoint.
func (r *round) unconfigured(name string) bool {
	if s := serviceOf(name); s == serviceIAM && r.IAM == nil || s == serviceSTS && r.STS == nil {
		r.skip(name, alias.WhyNotConfigured)
		return true
	}
	return false
}

// unimplemented reports whether the server does not support the call of a check.
func (r *round) unimplemented(name string, rep awserr.Reply) bool {
	switch {
	case name == NameBucketPolicy && rep.Code == "MethodNotAllowed" && r.atAWS(name):
		return false // see rules
	case serviceOf(name) == serviceSTS && rep.Code == "InvalidParameterValue" && r.CustomIAM:
		return true // MinIO answers so to an action that it does not know
	case serviceOf(name) == serviceSTS && rep.Code == "SignatureDoesNotMatch" && r.CustomIAM && r.known:
		// versitygw answers so to every call of STS but GetCallerIdentity, whose signature
		// it has accepted.
		return true
	}
	return rep.Unimplemented()
}

// management are the checks whose calls CloudTrail records as management events. A
// security team is alarmed by those that are denied.
var management = []string{
	NameListBuckets, NameBucketPolicy, NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NameIAMOwnRights,
	NameAssumeRole, NameFederation, NamePassword, NameOtherKeys,
}

// fromControlPlane takes a check from the control plane, if that has it. If the whole user
// was read, AWS is sent no call of which a security team would be alarmed.
func (r *round) fromControlPlane(name string) bool {
	if r.ControlPlane == nil {
		return false
	}
	for _, c := range r.ControlPlane.Checks {
		if c.Name == name {
			r.checks = append(r.checks, seen(c))
			return true
		}
	}
	if slices.Contains(r.ControlPlane.Absent, name) {
		r.skip(name, alias.WhyNotImplemented)
		return true
	}
	if r.ControlPlane.Whole && r.atAWS(name) && slices.Contains(management, name) {
		r.skip(name, alias.WhyNoProbe)
		return true
	}
	return false
}

func seen(c alias.Check) alias.Check {
	c.Evidence = alias.EvidenceControlPlane
	return c
}

// finish adds the checks of the control plane that have no probe, and what neither has.
func (r *round) finish() {
	whole := r.ControlPlane != nil && r.ControlPlane.Whole
	if r.ControlPlane != nil {
		for _, c := range r.ControlPlane.Checks {
			if !slices.ContainsFunc(r.checks, func(have alias.Check) bool { return have.Name == c.Name }) {
				r.checks = append(r.checks, seen(c))
			}
		}
	}
	if r.IAM != nil && !whole && !r.ofRole() {
		r.skip(UntriedOwnUser, alias.WhyWouldChange)
	}
	if !whole {
		r.skip(UntriedActions, alias.WhyNoProbe)
		r.skip(UntriedBuckets, alias.WhyNoProbe)
		r.skip(UntriedServices, alias.WhyNoProbe)
	}
	r.skip(UntriedResources, alias.WhyNoProbe)
}
