package awserr

import "regexp"

// Reason is the kind of policy that AWS names as the reason of a refusal. The message is
// not kept.
type Reason string

// Reasons of a refusal. If policies of several kinds refuse a request, AWS names one of
// them.
const (
	ReasonNone Reason = "" // none stated

	ReasonIdentity     Reason = "identity"      // no identity-based policy allows the action
	ReasonIdentityDeny Reason = "identity-deny" // an identity-based policy denies it
	ReasonBoundary     Reason = "boundary"      // permissions boundary
	ReasonSession      Reason = "session"       // session policy
	ReasonSCP          Reason = "scp"           // service control policy
	ReasonRCP          Reason = "rcp"           // resource control policy
	ReasonVPCEndpoint  Reason = "vpc-endpoint"  // VPC endpoint policy
	ReasonResource     Reason = "resource"      // resource-based policy, such as one of the bucket
	ReasonOther        Reason = "other"         // one is stated, of a kind that is not known here
)

// The parts of a message that name the kind of the policy, and the policy itself or nothing.
const (
	kind = `([A-Za-z-]+(?: [a-z]+){1,2})`
	end  = `(?:: arn:\S+)?\.?\s*$`
)

// kinds are the types of policy as AWS writes them.
var kinds = map[string]Reason{
	"identity-based policy":   ReasonIdentity,
	"permissions boundary":    ReasonBoundary,
	"session policy":          ReasonSession,
	"service control policy":  ReasonSCP,
	"resource control policy": ReasonRCP,
	"VPC endpoint policy":     ReasonVPCEndpoint,
	"resource-based policy":   ReasonResource,
}

// The end of a message has the reason: "… because no session policy allows the s3:GetObject
// action", "… with an explicit deny in a service control policy: arn:…". Only the end counts:
// before it the message quotes the resource, whose name a client may have chosen. The words
// are those of the IAM User Guide, "Troubleshoot access denied error messages", and of the
// S3 User Guide, "Troubleshoot access denied (403 Forbidden) errors". Services that name no
// kind write "with an explicit deny" alone.
var (
	implicitDeny = regexp.MustCompile(`\bbecause no ` + kind + ` allows the [a-z0-9-]+:[A-Za-z*]+ action` + end)
	explicitDeny = regexp.MustCompile(`\bwith an explicit deny(?: in (?:an?|the) ` + kind + `)?` + end)
	anyReason    = regexp.MustCompile(`\bis not authorized to perform\b.*\b(?:because|with an explicit deny)\b`)
)

// ReasonOf returns the reason that the message of a refusal states.
func ReasonOf(message string) Reason {
	if m := implicitDeny.FindStringSubmatch(message); m != nil {
		if r, ok := kinds[m[1]]; ok {
			return r
		}
		return ReasonOther
	}
	if m := explicitDeny.FindStringSubmatch(message); m != nil {
		switch r, ok := kinds[m[1]]; {
		case r == ReasonIdentity:
			return ReasonIdentityDeny
		case ok:
			return r
		}
		return ReasonOther
	}
	if anyReason.MatchString(message) {
		return ReasonOther
	}
	return ReasonNone
}
