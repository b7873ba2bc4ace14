package admin

import (
	"reflect"

	"ixmage/alias"
	"ixmage/alias/doctor"
	"ixmage/alias/policy"
)

// enums has the values of the types that are enumerations.
var enums = map[reflect.Type][]any{
	reflect.TypeFor[alias.State](): {alias.StateActive, alias.StateProvisioning, alias.StateFailed},
	reflect.TypeFor[alias.Transforms](): {
		alias.TransformsOff, alias.TransformsTemplates, alias.TransformsSigned, alias.TransformsOpen,
	},
	reflect.TypeFor[alias.Access](): {alias.AccessOpen, alias.AccessSigned},
	reflect.TypeFor[alias.Kind](): {
		alias.KindStatic, alias.KindProvisioned, alias.KindRole, alias.KindDefault, alias.KindAnonymous,
	},
	reflect.TypeFor[alias.SessionPolicy](): {alias.SessionPolicyAlias, alias.SessionPolicyNone},
	reflect.TypeFor[alias.CredentialState](): {
		alias.CredentialActive, alias.CredentialProvisioning, alias.CredentialRotating,
		alias.CredentialRemoving, alias.CredentialFailed,
	},
	reflect.TypeFor[alias.PolicyMode](): {alias.PolicyInline, alias.PolicyManaged, alias.PolicyReadOnly},
	reflect.TypeFor[policy.Format]():    {policy.FormatAWSCLI, policy.FormatCloudFormation, policy.FormatTerraform},
	reflect.TypeFor[alias.OperationKind](): {
		alias.OperationProvision, alias.OperationRotate, alias.OperationRemove,
	},
	reflect.TypeFor[alias.OperationState](): {
		alias.OperationRunning, alias.OperationDone, alias.OperationFailed, alias.OperationSuperseded,
	},
	reflect.TypeFor[alias.StepState](): {
		alias.StepPending, alias.StepRunning, alias.StepDone, alias.StepFailed,
	},
	reflect.TypeFor[alias.Verdict](): {
		alias.VerdictProven, alias.VerdictWeak, alias.VerdictNotProven, alias.VerdictViolated,
	},
	reflect.TypeFor[doctor.FindingState](): {doctor.Good, doctor.Warning, doctor.Bad, doctor.NotTried},
	reflect.TypeFor[doctor.FindingName]():  namesOfFindings(),
	reflect.TypeFor[alias.Evidence]():      {alias.EvidenceProbe, alias.EvidenceControlPlane},
	reflect.TypeFor[alias.WhyUntried](): {
		alias.WhyNotImplemented, alias.WhyNotConfigured, alias.WhyWouldChange, alias.WhyProvesNothing,
		alias.WhyNoUser, alias.WhyNoProbe,
	},
	reflect.TypeFor[nodeState](): {nodeLive, nodeSilent},
	reflect.TypeFor[alias.TokenRole](): {
		alias.RoleRead, alias.RolePurge, alias.RoleAlias, alias.RoleProvision, alias.RoleAdmin,
	},
}

func namesOfFindings() []any {
	all := doctor.Names()
	names := make([]any, 0, len(all))
	for _, n := range all {
		names = append(names, n)
	}
	return names
}

// enumOf returns the values of an enumeration; nil for any other type.
func enumOf(t reflect.Type) []any { return enums[t] }
