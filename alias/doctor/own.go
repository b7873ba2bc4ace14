package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"ixmage/alias/policy"
	"ixmage/internal/awserr"
)

// own is what is known of the server's own credentials. An empty ARN means that they do not work,
// or that STS did not answer.
type own struct {
	keys               aws.Credentials
	have               bool
	arn                string
	partition, account string
}

// root reports whether they are those of the account itself.
func (o own) root() bool { return strings.HasSuffix(o.arn, ":root") }

const ownSubject = "the server's own credentials"

// subject names them in findings.
func (o own) subject() string {
	if o.arn == "" {
		return ownSubject
	}
	return o.arn
}

// stsClient makes a client that signs with the server's own credentials, or does not sign.
func (e *examination) stsClient() *sts.Client {
	return sts.NewFromConfig(e.cfg.AWS, func(o *sts.Options) {
		o.RetryMaxAttempts = 2
		o.APIOptions = append(o.APIOptions, e.readClock(e.stsName()))
		if e.cfg.STS != "" {
			o.BaseEndpoint = aws.String(e.cfg.STS)
		}
		if !e.own.have {
			o.Credentials = aws.AnonymousCredentials{}
		}
	})
}

func (e *examination) iamClient() *iam.Client {
	return iam.NewFromConfig(e.cfg.AWS, func(o *iam.Options) {
		o.RetryMaxAttempts = 2
		o.APIOptions = append(o.APIOptions, e.readClock(e.iamName()))
		if e.cfg.IAM != "" {
			o.BaseEndpoint = aws.String(e.cfg.IAM)
		}
	})
}

func (e *examination) stsName() string {
	if e.cfg.STS != "" {
		return "STS at " + e.cfg.STS
	}
	return "STS of AWS in " + e.cfg.AWS.Region
}

func (e *examination) iamName() string {
	if e.cfg.IAM != "" {
		return "IAM at " + e.cfg.IAM
	}
	return "IAM of AWS"
}

// identity finds out whose the server's own credentials are, and whether STS can be reached.
func (e *examination) identity(ctx context.Context) {
	needs := e.needsOwn()
	e.own.keys, e.own.have = e.ownKeys(ctx)
	if !e.own.have {
		e.noKeys(ctx, needs)
		if needs == "" && len(e.roles) == 0 {
			return
		}
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.limits.call)
	defer cancel()
	out, err := e.stsClient().GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	reply := awserr.ReplyOf(err)
	e.endpoint(e.stsName(), "--sts-endpoint", err, needs != "" || len(e.roles) > 0)
	switch {
	case !e.own.have:
		return
	case err == nil:
		e.own.arn = aws.ToString(out.Arn)
		e.own.partition, e.own.account = policy.ARNParts(e.own.arn)
		e.identified(needs)
	default:
		e.unidentified(reply)
	}
	e.longTermKey()
}

// ownKeys asks the default chain.
func (e *examination) ownKeys(ctx context.Context) (aws.Credentials, bool) {
	if e.cfg.AWS.Credentials == nil {
		return aws.Credentials{}, false
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.limits.keys)
	defer cancel()
	keys, err := e.cfg.AWS.Credentials.Retrieve(ctx)
	return keys, err == nil && keys.HasKeys()
}

func (e *examination) noKeys(ctx context.Context, needs string) {
	switch {
	case e.outOfTime(ctx, OwnCredentials, ownSubject):
	case needs == "" && len(e.cfg.AssumeRoles) > 0 && len(e.roles) == 0:
		e.good(OwnCredentials, ownSubject, "there are none, and nothing needs them; "+
			"a role needs a credential of the kind static as its source then")
	case needs == "":
		e.good(OwnCredentials, ownSubject, "there are none, and nothing needs them")
	default:
		e.add(Finding{OwnCredentials, Bad, ownSubject, "there are none, and " + needs + " needs them",
			"give the server a role: by an instance profile, ECS, EKS Pod Identity or web identity; else by a profile or " +
				"the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY)"})
	}
}

func (e *examination) identified(needs string) {
	detail := "they work"
	if needs == "" {
		detail += ", and nothing needs them"
	}
	if e.cfg.Boundary != "" {
		partition, account := policy.ARNParts(e.cfg.Boundary)
		if partition != e.own.partition || account != e.own.account && account != "aws" {
			e.add(Finding{OwnCredentials, Bad, e.own.arn,
				fmt.Sprintf("they are of the account %s in the partition %s, and --iam-boundary is of %s in %s",
					e.own.account, e.own.partition, account, partition),
				"give the server credentials of the account of the boundary, or name a boundary of this account"})
			return
		}
	}
	e.good(OwnCredentials, e.own.arn, detail)
}

func (e *examination) unidentified(reply awserr.Reply) {
	switch {
	case reply.Silent() || reply.Passing() && !awserr.KeyUnknown(reply.Code):
		e.notTried(OwnCredentials, ownSubject, "STS did not say whose they are ("+reply.Code+")", "see the finding endpoint")
	case reply.Unimplemented():
		e.notTried(OwnCredentials, ownSubject, "this server of STS has no call GetCallerIdentity", "")
	case awserr.FaultOf(reply.Code, "") == awserr.ExpiredKey:
		e.add(Finding{OwnCredentials, Bad, ownSubject, "they have expired (" + reply.Code + ")",
			"renew them where they come from; the server reads them again by itself, unless they are in its environment: " +
				"then restart it"})
	case awserr.FaultOf(reply.Code, "") == awserr.Clock:
		e.add(Finding{OwnCredentials, Bad, ownSubject, "STS refuses their signature because of its time (" + reply.Code + ")",
			"see the finding clock"})
	default:
		e.add(Finding{OwnCredentials, Bad, ownSubject, "STS refuses them (" + reply.Code + ")",
			"check that the key is active, complete and of the partition of " + e.stsName() +
				"; a wrong clock has the same effect"})
	}
}

// longTermKey says whether the credentials end by themselves.
func (e *examination) longTermKey() {
	temporary := e.own.keys.SessionToken != ""
	const remedy = "give the server a role instead: an instance profile, ECS, EKS Pod Identity or web identity"
	switch {
	case e.own.root() && e.cfg.IAM == "" && e.cfg.STS == "":
		e.add(Finding{LongTermKey, Bad, e.own.subject(),
			"they are those of the root user, who may do everything and whom no policy limits",
			"delete the access key of the root user; " + remedy})
	case e.own.root():
		e.add(Finding{LongTermKey, Warning, e.own.subject(),
			"the access key " + e.own.keys.AccessKeyID + " is of the root user, who may do everything",
			"give the server a user of its own with docs/provisioner-policy.json"})
	case temporary:
		e.good(LongTermKey, e.own.subject(), "they are temporary")
	default:
		e.add(Finding{LongTermKey, Warning, e.own.subject(), "the access key " + e.own.keys.AccessKeyID +
			" is a long-term key: it works for a thief until somebody deletes it", remedy})
	}
}

// endpoint says whether a server of IAM or STS can be reached. Any answer will do.
func (e *examination) endpoint(name, flag string, err error, needed bool) {
	reply := awserr.ReplyOf(err)
	if !reply.Silent() {
		e.good(Endpoint, name, "it answers")
		return
	}
	detail, remedy := silence(err, flag)
	if !needed {
		e.notTried(Endpoint, name, detail+", and nothing needs it", "")
		return
	}
	e.add(Finding{Endpoint, Bad, name, detail, remedy})
}

// silence says why there was no answer, and what to do.
func silence(err error, flag string) (detail, remedy string) {
	const network = "the network of this host: firewall, proxy (HTTPS_PROXY), and in a VPC an endpoint or a NAT gateway"
	var dns *net.DNSError
	var unknown x509.UnknownAuthorityError
	var cert *tls.CertificateVerificationError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &dns):
		return "its name cannot be resolved (DNS)", "check " + flag + " and the DNS of this host"
	case errors.As(err, &unknown), errors.As(err, &cert):
		return "its TLS certificate is not trusted",
			"name the authority of its certificate with --origin-ca, or correct " + flag
	case errors.As(err, &record):
		return "it does not speak TLS", "check " + flag + ": for plain HTTP it begins with http://"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens at its address", "check " + flag + ", and that the server runs"
	case awserr.Silence(err) == awserr.TimedOut:
		return "it did not answer in time", "check " + flag + " and " + network
	}
	return "it cannot be reached", "check " + flag + " and " + network
}
