package provision

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// identity is what IAM shows of a user: what gives it rights, and what lets a client act as it.
// A list that could not be read is empty, and unread says so.
type identity struct {
	user     iamUser  // with its boundary and tags; only the name is known if the user is unread
	inline   []string // names of inline policies
	attached []string // ARNs of managed policies
	groups   []string // names
	keys     []accessKey
	password bool // it has a console password

	mfaDevices         []string // serial numbers
	sshKeys            []string // ids
	certificates       []string // ids
	serviceCredentials []string // ids

	unread []unread
}

// unread is a part of an identity that could not be read.
type unread struct {
	what   string // "login profile"
	action string // the permission that the call needs, and the call: iam:GetLoginProfile
	err    error  // a *callError
}

// identityReader reads the identity of one user.
type identityReader struct {
	caller

	id identity
	// deadline is until when a call is repeated that failed temporarily. A client that waits for
	// the answer has no time for that.
	deadline time.Time
	// stranger means that the user is not under the path of this installation, so that the list
	// of its users cannot tell a denied call from a missing user.
	stranger bool
	// onlyRights leaves out what gives the user no rights: its access keys and its credentials
	// of other kinds.
	onlyRights bool
}

// identity reads the user of this installation with this name. The error is that of a user
// that does not exist (see isGone), or ctx's; everything else that could not be read is in
// unread. It makes ten calls, and one more for each further page of a list.
func (c caller) identity(ctx context.Context, user string) (*identity, error) {
	r := identityReader{caller: c, deadline: c.p.clock.Now().Add(c.p.cfg.Timing.Visible)}
	return r.read(ctx, user)
}

func (r *identityReader) read(ctx context.Context, user string) (*identity, error) {
	r.id.user.Name = user
	var silent error // of a call that got no answer, or could not be sent
	for _, part := range []struct {
		what, action string
		read         func(context.Context, apiCall) error
	}{
		{"user", "iam:GetUser", r.readUser},
		{"login profile", "iam:GetLoginProfile", r.readPassword},
		{"groups", "iam:ListGroupsForUser", r.readGroups},
		{"MFA devices", "iam:ListMFADevices", r.readMFADevices},
		{"SSH keys", "iam:ListSSHPublicKeys", r.readSSHKeys},
		{"signing certificates", "iam:ListSigningCertificates", r.readCertificates},
		{"service-specific credentials", "iam:ListServiceSpecificCredentials", r.readServiceCredentials},
		{"inline policies", "iam:ListUserPolicies", r.readInline},
		{"managed policies", "iam:ListAttachedUserPolicies", r.readAttached},
		{"access keys", "iam:ListAccessKeys", r.readKeys},
	} {
		a := r.caller.read(part.action, user)
		if r.onlyRights && !givesRights[part.action] {
			continue
		}
		// The user is known to exist once GetUser has answered, so a denied call is one.
		a.exact = a.exact || r.stranger || part.what != "user"
		err := silent
		if err == nil {
			err = r.p.until(ctx, r.deadline.Sub(r.p.clock.Now()), func() (bool, error) {
				err := part.read(ctx, a)
				return err == nil, err
			})
		}
		if gotNoAnswer(err) {
			silent = err // the other calls would wait as long
		}
		switch {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case isGone(err):
			return nil, err
		case err != nil:
			r.id.unread = append(r.id.unread, unread{part.what, part.action, err})
		}
	}
	return &r.id, nil
}

// gotNoAnswer reports whether a call failed because no answer came, or because it could not be sent.
func gotNoAnswer(err error) bool {
	call, ok := errors.AsType[*callError](err)
	return isNotAssumed(err) || ok && call.code == ""
}

// givesRights are the calls that show what the user may do, or a person as the user.
var givesRights = map[string]bool{
	"iam:GetUser": true, "iam:GetLoginProfile": true, "iam:ListGroupsForUser": true,
	"iam:ListUserPolicies": true, "iam:ListAttachedUserPolicies": true,
}

func (r *identityReader) userName() *string { return aws.String(r.id.user.Name) }

func (r *identityReader) readUser(ctx context.Context, a apiCall) error {
	out, err := call(ctx, a, r.iam().GetUser, &iam.GetUserInput{UserName: r.userName()})
	if err == nil {
		r.id.user = *iamUserOf(out.User)
	}
	return err
}

// readPassword reads the login profile. The user exists, so NoSuchEntity means that it has none.
func (r *identityReader) readPassword(ctx context.Context, a apiCall) error {
	_, err := call(ctx, a, r.iam().GetLoginProfile, &iam.GetLoginProfileInput{UserName: r.userName()})
	r.id.password = err == nil
	return ignoreGone(err)
}

func (r *identityReader) readGroups(ctx context.Context, a apiCall) error {
	in := &iam.ListGroupsForUserInput{UserName: r.userName()}
	return readPages(&r.id.groups, func() ([]string, *page, error) {
		out, err := call(ctx, a, r.iam().ListGroupsForUser, in)
		if err != nil {
			return nil, nil, err
		}
		names := idsOf(out.Groups, func(g types.Group) *string { return g.GroupName })
		return names, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
}

func (r *identityReader) readMFADevices(ctx context.Context, a apiCall) error {
	in := &iam.ListMFADevicesInput{UserName: r.userName()}
	return readPages(&r.id.mfaDevices, func() ([]string, *page, error) {
		out, err := call(ctx, a, r.iam().ListMFADevices, in)
		if err != nil {
			return nil, nil, err
		}
		ids := idsOf(out.MFADevices, func(d types.MFADevice) *string { return d.SerialNumber })
		return ids, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
}

func (r *identityReader) readSSHKeys(ctx context.Context, a apiCall) error {
	in := &iam.ListSSHPublicKeysInput{UserName: r.userName()}
	return readPages(&r.id.sshKeys, func() ([]string, *page, error) {
		out, err := call(ctx, a, r.iam().ListSSHPublicKeys, in)
		if err != nil {
			return nil, nil, err
		}
		ids := idsOf(out.SSHPublicKeys, func(k types.SSHPublicKeyMetadata) *string { return k.SSHPublicKeyId })
		return ids, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
}

func (r *identityReader) readCertificates(ctx context.Context, a apiCall) error {
	in := &iam.ListSigningCertificatesInput{UserName: r.userName()}
	return readPages(&r.id.certificates, func() ([]string, *page, error) {
		out, err := call(ctx, a, r.iam().ListSigningCertificates, in)
		if err != nil {
			return nil, nil, err
		}
		ids := idsOf(out.Certificates, func(c types.SigningCertificate) *string { return c.CertificateId })
		return ids, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
}

func (r *identityReader) readServiceCredentials(ctx context.Context, a apiCall) error {
	in := &iam.ListServiceSpecificCredentialsInput{UserName: r.userName()}
	return readPages(&r.id.serviceCredentials, func() ([]string, *page, error) {
		out, err := call(ctx, a, r.iam().ListServiceSpecificCredentials, in)
		if err != nil {
			return nil, nil, err
		}
		ids := idsOf(out.ServiceSpecificCredentials, func(c types.ServiceSpecificCredentialMetadata) *string {
			return c.ServiceSpecificCredentialId
		})
		return ids, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
}

func (r *identityReader) readInline(ctx context.Context, a apiCall) (err error) {
	r.id.inline, err = a.listInline(ctx)
	return err
}

func (r *identityReader) readAttached(ctx context.Context, a apiCall) (err error) {
	r.id.attached, err = a.listAttached(ctx)
	return err
}

func (r *identityReader) readKeys(ctx context.Context, a apiCall) (err error) {
	r.id.keys, err = a.listKeys(ctx)
	return err
}

// listInline lists the names of the inline policies of the call's user.
func (a apiCall) listInline(ctx context.Context) (names []string, err error) {
	in := &iam.ListUserPoliciesInput{UserName: aws.String(a.user)}
	err = readPages(&names, func() ([]string, *page, error) {
		out, err := call(ctx, a, a.iam().ListUserPolicies, in)
		if err != nil {
			return nil, nil, err
		}
		return out.PolicyNames, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
	return names, err
}

// listAttached lists the ARNs of the managed policies of the call's user.
func (a apiCall) listAttached(ctx context.Context) (arns []string, err error) {
	in := &iam.ListAttachedUserPoliciesInput{UserName: aws.String(a.user)}
	err = readPages(&arns, func() ([]string, *page, error) {
		out, err := call(ctx, a, a.iam().ListAttachedUserPolicies, in)
		if err != nil {
			return nil, nil, err
		}
		return attachedARNs(out.AttachedPolicies), &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
	return arns, err
}

func attachedARNs(list []types.AttachedPolicy) []string {
	return idsOf(list, func(p types.AttachedPolicy) *string { return p.PolicyArn })
}

// listKeys lists the access keys of the call's user.
func (a apiCall) listKeys(ctx context.Context) (keys []accessKey, err error) {
	in := &iam.ListAccessKeysInput{UserName: aws.String(a.user)}
	err = readPages(&keys, func() ([]accessKey, *page, error) {
		out, err := call(ctx, a, a.iam().ListAccessKeys, in)
		if err != nil {
			return nil, nil, err
		}
		list := make([]accessKey, 0, len(out.AccessKeyMetadata))
		for _, k := range out.AccessKeyMetadata {
			list = append(list, accessKey{
				id: aws.ToString(k.AccessKeyId), active: k.Status == types.StatusTypeActive,
				created: aws.ToTime(k.CreateDate).Unix(),
			})
		}
		return list, &page{a, out.IsTruncated, out.Marker, &in.Marker}, nil
	})
	return keys, err
}

func idsOf[T any](list []T, id func(T) *string) []string {
	ids := make([]string, 0, len(list))
	for _, item := range list {
		ids = append(ids, aws.ToString(id(item)))
	}
	return ids
}

// page is the end of one page of a list.
type page struct {
	call      apiCall
	truncated bool
	marker    *string
	next      **string // where the marker goes for the next page
}

// maxPages bounds the pages of one list. IAM gives 100 entries in a page, and an account has 5,000
// users.
const maxPages = 1000

// readPages reads a list to its end and replaces into with it. A page that is truncated must
// have a marker that the page before did not have: else the rest of the list cannot be read,
// and the same page would be read for ever.
func readPages[T any](into *[]T, read func() ([]T, *page, error)) error {
	var all []T
	var last *page
	for range maxPages {
		items, p, err := read()
		if err != nil {
			return err
		}
		all, last = append(all, items...), p
		if !p.truncated {
			*into = all
			return nil
		}
		if aws.ToString(p.marker) == "" || aws.ToString(p.marker) == aws.ToString(*p.next) {
			break
		}
		*p.next = p.marker
	}
	return last.incomplete()
}

func (p *page) incomplete() error {
	return &callError{action: p.call.action, resource: p.call.resource(), code: codeIncomplete, missing: "Marker"}
}

// foreign names what the user has that this server did not give it. given are the ARNs of the
// managed policies that it may have attached: see managedOf. What AWS gave the user is not in it:
// see quarantine.
func (id *identity) foreign(p *alias.Provisioned, given []string) []string {
	var found []string
	if id.password {
		found = append(found, "a login profile")
	}
	if len(id.groups) > 0 {
		found = append(found, "a group ("+plainNames(id.groups)+")")
	}
	found = append(found, id.otherCredentials()...)
	return append(found, id.foreignPolicies(p, given)...)
}

// foreignPolicies is the part of foreign that gives rights.
func (id *identity) foreignPolicies(p *alias.Provisioned, given []string) []string {
	var found []string
	had := func(name string) bool { return hadPolicy(p, name) }
	names := slices.DeleteFunc(slices.Clone(id.inline), func(name string) bool { return isOurInline(name) || had(name) })
	if len(names) > 0 {
		found = append(found, "a foreign inline policy ("+plainNames(names)+")")
	}
	arns := slices.DeleteFunc(slices.Clone(id.attached), func(arn string) bool {
		return isQuarantine(arn) || slices.Contains(given, arn) || had(arn)
	})
	if len(arns) > 0 {
		found = append(found, "a foreign managed policy ("+plainNames(arns)+")")
	}
	return found
}

// hadPolicy reports whether an adopted user had a policy, by name or ARN, before.
func hadPolicy(p *alias.Provisioned, policy string) bool {
	return p.Adopted != nil && slices.Contains(p.Adopted.Policies, policy)
}

func isOurInline(name string) bool { return name == policy.InlineName || name == policy.RevokeName }

// isQuarantine reports whether a policy is one that AWS attaches to the user of a key that it
// found in public
// (https://docs.aws.amazon.com/aws-managed-policy/latest/reference/AWSCompromisedKeyQuarantineV3.html).
func isQuarantine(arn string) bool {
	before, name, ok := strings.Cut(arn, ":iam::aws:policy/")
	return ok && strings.HasPrefix(before, "arn:aws") && strings.HasPrefix(name, "AWSCompromisedKeyQuarantine")
}

// quarantine is the ARN of every policy with which AWS says that a key of the user is public.
func (id *identity) quarantine() []string {
	return slices.DeleteFunc(slices.Clone(id.attached), func(arn string) bool { return !isQuarantine(arn) })
}

// err is the first reason for which a part that the server supports could not be read; nil if
// there is none. Its text names the missing permission.
func (id *identity) err() error {
	for _, u := range id.unread {
		if !isUnimplemented(u.err) {
			return fmt.Errorf("read the %s of the user %s: %w", u.what, id.user.Name, u.err)
		}
	}
	return nil
}

// plainNames lists names from IAM without anything that a name in IAM cannot have, so that a
// server cannot put other text into messages for operators.
func plainNames(names []string) string {
	const most = 10
	list := make([]string, 0, most)
	for _, name := range names[:min(len(names), most)] {
		name = strings.Map(func(r rune) rune {
			if r <= ' ' || r >= 0x7f {
				return -1
			}
			return r
		}, name)
		list = append(list, name[:min(len(name), 256)])
	}
	text := strings.Join(list, ", ")
	if len(names) > most {
		text += fmt.Sprintf(" and %d more", len(names)-most)
	}
	return text
}
