package awserr

import (
	"slices"
	"testing"
)

func TestReasonOf(t *testing.T) {
	t.Parallel()
	const user = "User: arn:aws:iam::123456789012:user/u is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::b/k\" "
	for message, want := range map[string]Reason{
		user + "because no identity-based policy allows the s3:GetObject action":   ReasonIdentity,
		user + "because no identity-based policy allows the s3:GetObject action.":  ReasonIdentity,
		user + "with an explicit deny in an identity-based policy":                 ReasonIdentityDeny,
		user + "because no permissions boundary allows the s3:GetObject action":    ReasonBoundary,
		user + "with an explicit deny in a permissions boundary":                   ReasonBoundary,
		user + "because no session policy allows the s3:GetObject action":          ReasonSession,
		user + "with an explicit deny in a session policy":                         ReasonSession,
		user + "because no service control policy allows the s3:GetObject action":  ReasonSCP,
		user + "with an explicit deny in a service control policy":                 ReasonSCP,
		user + "because no resource control policy allows the s3:GetObject action": ReasonRCP,
		user + "with an explicit deny in a resource control policy":                ReasonRCP,
		user + "because no VPC endpoint policy allows the s3:GetObject action":     ReasonVPCEndpoint,
		user + "with an explicit deny in a VPC endpoint policy":                    ReasonVPCEndpoint,
		user + "because no resource-based policy allows the s3:GetObject action":   ReasonResource,
		user + "with an explicit deny in a resource-based policy":                  ReasonResource,

		// Since 2026 AWS names the policy.
		user + "with an explicit deny in an identity-based policy: arn:aws:iam::123456789012:policy/p":                                                        ReasonIdentityDeny,
		user + "with an explicit deny in a service control policy: arn:aws:organizations::987654321098:policy/o-qv5af4abcd/service_control_policy/p-2kgnabcd": ReasonSCP,
		user + "with an explicit deny in a permissions boundary: arn:aws:iam::123456789012:policy/b":                                                          ReasonBoundary,

		"User: u is not authorized to perform: sts:AssumeRole on resource: r because no role trust policy allows the sts:AssumeRole action": ReasonOther,
		"User: u is not authorized to perform: sts:AssumeRole on resource: r with an explicit deny in the role trust policy":                ReasonOther,
		user + "because public policies are prevented by the BlockPublicPolicy setting in S3 Block Public Access.":                          ReasonOther,
		user + "with an explicit deny":                               ReasonOther,
		user + "with an explicit deny in a weather policy of clouds": ReasonOther,

		// The name of an object is no reason.
		"User: u is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::b/because no identity-based policy allows the s3:GetObject action\" " +
			"with an explicit deny in a VPC endpoint policy": ReasonVPCEndpoint,
		"User: u is not authorized to perform: s3:GetObject on resource: \"arn:aws:s3:::b/with an explicit deny in an identity-based policy\"": ReasonOther,

		user:            ReasonNone,
		"Access Denied": ReasonNone,
		"":              ReasonNone,
	} {
		if got := ReasonOf(message); got != want {
			t.Errorf("%q: %q, want %q", message, got, want)
		}
	}
}

// FuzzReasonOf: whatever the message, the reason is one of the closed set.
func FuzzReasonOf(f *testing.F) {
	f.Add("is not authorized to perform: s3:GetObject on resource: x because no session policy allows the s3:GetObject action")
	f.Add("with an explicit deny in a service control policy: arn:aws:organizations::1:policy/p")
	all := []Reason{
		ReasonNone, ReasonIdentity, ReasonIdentityDeny, ReasonBoundary, ReasonSession, ReasonSCP, ReasonRCP,
		ReasonVPCEndpoint, ReasonResource, ReasonOther,
	}
	f.Fuzz(func(t *testing.T, message string) {
		if got := ReasonOf(message); !slices.Contains(all, got) {
			t.Fatalf("%q is no reason", got)
		}
	})
}
