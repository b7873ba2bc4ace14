package policy

import (
	"fmt"
	"regexp"

	"ixmage/alias"
)

// maxSession is the quota of STS for a session policy, in characters. STS packs the policy
// besides, and has a second quota for the result
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
const maxSession = 2048

// DenyAll is the session policy of sessions that may do nothing: those that show only whether STS
// gives a session, and those of probes.
const DenyAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`

// SessionDocument is the session policy for one location: it allows s3:GetObject on the
// objects of the location, kms:Decrypt through S3 if the grant has a key, and nothing else.
// It is as short as possible, because STS packs it. It contains ASCII only. The error is a
// *alias.ValidationError if the grant is not valid or the policy exceeds the quota of STS.
func SessionDocument(partition string, g alias.Grant) (string, error) {
	named, err := makeDocument(partition, []alias.Grant{g})
	if err != nil {
		return "", err
	}
	for i := range named.Statement {
		named.Statement[i].Sid = ""
	}
	doc, err := encodeEscaped(named)
	if err != nil {
		return "", err
	}
	if len(doc) > maxSession {
		return "", Invalid("prefix", fmt.Sprintf("is too long for a session policy, which would have %d characters; "+
			"STS allows %d, in which a character that is not ASCII counts six or twelve times", len(doc), maxSession))
	}
	return string(doc), nil
}

// Trust says who may assume a role.
type Trust struct {
	// Principal is the ARN of a user or role, or arn:…:iam::ACCOUNT:root for every identity
	// of the account that its own policies allow to.
	Principal  string
	ExternalID string // empty: none is asked for
	// SourceIdentity allows the sessions to carry a source identity.
	SourceIdentity bool
}

var principalForm = regexp.MustCompile(`^arn:aws(-[a-z]+)*:iam::[0-9]{12}:` +
	`(root|(user|role)/([A-Za-z0-9+=,.@_-]+/)*[A-Za-z0-9+=,.@_-]{1,64})$`)

// TrustDocument is the trust policy of a role. The error is a *alias.ValidationError if the
// principal or the external id is not valid.
func TrustDocument(t Trust) ([]byte, error) {
	if !principalForm.MatchString(t.Principal) {
		return nil, Invalid("role.principal", principalProblem)
	}
	if t.ExternalID != "" && !alias.IsExternalID(t.ExternalID) {
		return nil, Invalid("role.external_id", alias.ExternalIDProblem)
	}
	return encode(trustDocument(t, t.Principal))
}

const principalProblem = "must be the ARN of a user or role, or arn:aws:iam::ACCOUNT:root for the identities of " +
	"an account"

// trustDocument is the document of a valid Trust. In a template the principal may be an
// expression.
func trustDocument(t Trust, principal any) policyDocument {
	st := statement{Effect: "Allow", Principal: map[string]any{"AWS": principal}, Action: "sts:AssumeRole"}
	if t.SourceIdentity {
		st.Action = []string{"sts:AssumeRole", "sts:SetSourceIdentity"}
	}
	if t.ExternalID != "" {
		st.Condition = map[string]map[string]string{"StringEquals": {"sts:ExternalId": t.ExternalID}}
	}
	return policyDocument{policyVersion, []statement{st}}
}
