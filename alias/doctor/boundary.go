package doctor

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"ixmage/alias/policy"
	"ixmage/alias/scope"
	"ixmage/internal/awserr"
)

// boundary examines the permissions boundaries of the users that the server may make.
func (e *examination) boundary(ctx context.Context) {
	if !e.cfg.Provision {
		return
	}
	for _, a := range e.cfg.Accounts.All() {
		if a.Boundary == "" {
			e.noBoundary("the account "+a.String(), a.NoBoundary, "boundary", "no_boundary: true")
		}
	}
	if e.cfg.Boundary == "" {
		e.noBoundary("--iam-boundary", e.cfg.NoBoundary, "--iam-boundary", "--iam-no-boundary")
		return
	}
	if !e.own.have || e.own.arn == "" {
		e.notTried(Boundary, e.cfg.Boundary, "the server has no credentials that work to read it with",
			"see the finding own-credentials")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.limits.call)
	defer cancel()
	document, err := e.readBoundary(ctx)
	if err != nil {
		e.boundaryNotRead(err)
		return
	}
	e.checkBoundary(document)
}

func (e *examination) noBoundary(subject string, meant bool, field, unless string) {
	remedy := "make a policy of docs/boundary-policy.json and name it with " + field
	switch {
	case e.cfg.IAM != "":
		e.add(Finding{Boundary, Warning, subject,
			"users are made without a permissions boundary, if this IAM server knows them", remedy})
	case meant:
		e.add(Finding{Boundary, Warning, subject,
			"there is none, so whoever has these credentials is administrator of the AWS account", remedy})
	default:
		e.add(Finding{Boundary, Bad, subject, "there is none: provisioning and rotation are refused",
			remedy + ", or say with " + unless + " that these credentials may be administrator of the account"})
	}
}

// readBoundary reads the default version of the document.
func (e *examination) readBoundary(ctx context.Context) ([]byte, error) {
	client := e.iamClient()
	boundary, err := client.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &e.cfg.Boundary})
	if err != nil || boundary.Policy == nil {
		return nil, err
	}
	version, err := client.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{
		PolicyArn: &e.cfg.Boundary, VersionId: boundary.Policy.DefaultVersionId,
	})
	if err != nil || version.PolicyVersion == nil {
		return nil, err
	}
	text, err := policy.DecodeDocument(aws.ToString(version.PolicyVersion.Document))
	return []byte(text), err
}

func (e *examination) boundaryNotRead(err error) {
	const allow = "allow iam:GetPolicy and iam:GetPolicyVersion on it (docs/operations.md, Doctor)"
	switch reply := awserr.ReplyOf(err); {
	case reply.Code == "NoSuchEntity":
		e.add(Finding{Boundary, Bad, e.cfg.Boundary, "there is no such policy, so that no user can be made",
			"make it of docs/boundary-policy.json, or correct --iam-boundary"})
	case reply.Denied():
		e.notTried(Boundary, e.cfg.Boundary, "the server's credentials may not read it", allow)
	case reply.Unimplemented():
		e.notTried(Boundary, e.cfg.Boundary, "this IAM server has no managed policies", "")
	default:
		e.notTried(Boundary, e.cfg.Boundary, "IAM did not show it ("+reply.Code+")", "")
	}
}

func (e *examination) checkBoundary(document []byte) {
	buckets := e.cfg.Buckets
	rights := scope.BeyondBoundary(scope.PolicyText{Name: "the boundary", Text: document}, buckets)
	const remedy = "narrow it to docs/boundary-policy.json for the buckets of --provision-buckets"
	state := Warning
	more := make([]string, 0, len(rights.Beyond))
	for _, r := range rights.Beyond {
		more = append(more, r.String())
		if r.Action != "s3:getobject" && r.Action != "s3:listbucket" && r.Action != "kms:decrypt" {
			state = Bad
		}
	}
	switch {
	case len(document) == 0 || len(rights.Unread) > 0:
		e.notTried(Boundary, e.cfg.Boundary, "its document could not be understood",
			"compare it with docs/boundary-policy.json")
	case len(more) > 0:
		e.add(Finding{Boundary, state, e.cfg.Boundary,
			"it allows more than docs/boundary-policy.json does for --provision-buckets: " + list(more), remedy})
	case scope.AllowsSessions(document):
		e.add(Finding{Boundary, Warning, e.cfg.Boundary,
			"it allows to read with sessions that a thief makes from a key, which outlive the key",
			"add the condition Null aws:TokenIssueTime true to s3:GetObject, as docs/boundary-policy.json has it"})
	default:
		e.good(Boundary, e.cfg.Boundary, "it exists, and allows no more than docs/boundary-policy.json does")
	}
}
