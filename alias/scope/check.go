// Package scope checks what a key can do. It probes S3, IAM and STS with the key
// itself, and gives for each permission the verdict that the key has it, does not have
// it, or that neither could be proven. It changes nothing on a server that follows the
// rules of S3.
package scope

import (
	"cmp"
	"context"
	"strconv"
	"strings"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// CheckRead checks what the key must be able to do. It makes at most three calls, and is
// meant to be repeated until a new key works.
func CheckRead(ctx context.Context, key Key, t Target) []alias.Check {
	r := newRound(key, t)
	r.positive(ctx)
	return r.checks
}

// Check runs all checks. It begins with those of what the key must be able to do,
// because every call is refused until all servers know the key. It also lists what it has
// not tried.
func Check(ctx context.Context, key Key, t Target) ([]alias.Check, []alias.NotTried) {
	r := newRound(key, t)
	r.positive(ctx)
	if t.Inside != "" { // else readInside has set r.missing
		r.missing, _ = r.get(ctx, r.probeKey(), "")
	}
	r.checkReads(ctx)
	r.checkWrites(ctx)
	r.checkLists(ctx)
	r.checkIAM(ctx)
	r.checkSTS(ctx)
	switch {
	case r.ofRole():
		r.skip(NamePassword, alias.WhyNoUser)
		r.skip(NameOtherKeys, alias.WhyNoUser)
	case t.Mode == "":
		r.checkUser(ctx)
	}
	r.finish()
	return r.checks, r.notTried
}

func (r *round) check(name string, rep awserr.Reply, v alias.Verdict) alias.Check {
	return alias.Check{
		Name: name, Expected: "AccessDenied", Got: rep.Code, Verdict: v, Evidence: alias.EvidenceProbe, At: r.Now(),
	}
}

// positive reads first: whether S3 knows the key tells what an unknown key means to STS.
func (r *round) positive(ctx context.Context) {
	read := r.readInside(ctx)
	if !r.unconfigured(NameIdentity) {
		r.who = r.whoami(ctx)
		if r.unimplemented(NameIdentity, r.who) {
			r.skip(NameIdentity, alias.WhyNotImplemented)
		} else {
			r.checks = append(r.checks, r.identity(r.who))
		}
	}
	r.known = r.who.OK() || len(r.checks) == 0
	r.checks = append(r.checks, read)
}

func (r *round) identity(rep awserr.Reply) alias.Check {
	want := r.User.ARN
	if r.Session.ofRole() {
		want = r.Session.arn()
	}
	v, failed := identityVerdict(rep, want, r.arn)
	c := r.check(NameIdentity, rep, v)
	c.Expected, c.Positive, c.Failed = cmp.Or(want, "any user"), true, failed
	switch {
	case rep.OK() && r.root():
		c.Got, c.Detail = r.arn, "the key belongs to the root user of the account, which may do everything"
	case failed && r.Session.ofRole():
		c.Got, c.Detail = r.arn, "the session is not the one that was asked for: it has another role or another name"
	case failed:
		c.Got, c.Detail = r.arn, "the key belongs to another user than the one that was made"
	case rep.OK():
		c.Got, c.Detail = r.arn, "the key belongs to "+r.arn
	default:
		c.Detail = "the owner of the key is unknown: " + r.because(serviceSTS, rep)
	}
	return c
}

func (r *round) readInside(ctx context.Context) alias.Check {
	key, given := r.Inside, r.Inside != ""
	if !given {
		key = r.probeKey()
	}
	rep, version := r.get(ctx, key, "")
	if !given {
		r.missing = rep
	}
	if version != nil {
		r.version = *version
	}
	v, failed := readVerdict(given, rep)
	r.reads = v == alias.VerdictProven || v == alias.VerdictWeak
	c := r.check(NameReadInside, rep, v)
	c.Positive, c.Failed, c.Expected = true, failed, awserr.OK
	if !given {
		c.Expected = "NoSuchKey or AccessDenied"
	}
	c.Detail = r.readDetail(rep, c)
	return c
}

func (r *round) readDetail(rep awserr.Reply, c alias.Check) string {
	switch {
	case rep.Code == "InvalidObjectState":
		return "the key may read the object, but the object is archived and no key can read it"
	case c.Verdict == alias.VerdictProven:
		return "this key can read the given object"
	case c.Verdict == alias.VerdictWeak:
		return "no existing object was given to read; " + evidence(rep)
	case !c.Failed:
		return "whether this key can read the alias's objects is unknown: " + r.because(serviceS3, rep)
	case rep.Denied() && rep.Action == "kms:Decrypt":
		return "this key cannot read the alias's objects, because it may not decrypt them (kms:Decrypt)"
	case rep.Denied() && rep.Action == "s3:ListBucket":
		return "the given object does not exist: S3 refuses s3:ListBucket, as it does for a missing object; " +
			"give one that exists"
	case rep.Denied():
		return "this key cannot read the alias's objects"
	case rep.Code == "NoSuchKey":
		return "the given object does not exist: give one that exists"
	}
	return "the alias's objects cannot be read: S3 answers " + rep.Code
}

// evidence describes what an answer about a missing object says about reading existing
// ones.
func evidence(rep awserr.Reply) string {
	switch {
	case rep.OK():
		return "the server returned an object that cannot exist, so its answers prove little"
	case rep.Action == "s3:ListBucket":
		return "AWS names the missing permission to list, and not one to read; so the key can probably read"
	case rep.Denied():
		return "S3 refuses missing objects too, so the refusal proves little"
	}
	return "S3 told this key that the object does not exist; S3 usually tells this only to a key that may read"
}

// checkReads checks reads outside the prefix. An alias on a whole bucket has no outside,
// and a user with read-only-access may read every bucket.
func (r *round) checkReads(ctx context.Context) {
	if r.Location.Prefix == "" || r.wide() {
		return
	}
	key, given := r.Outside, r.Outside != "" && !r.covers(r.Outside)
	if !given {
		key = ".ixmage-probe-" + random() // no prefix ends with a slash and begins like this
	}
	if !r.covers(key) {
		r.deny(NameReadOutside, func() (awserr.Reply, bool) {
			rep, _ := r.get(ctx, key, "")
			return rep, given || r.conclusive(rep, "s3:GetObject")
		})
	}
	sibling := r.Location.Prefix[:len(r.Location.Prefix)-1] + "-x/" + random()
	if !r.covers(sibling) {
		r.deny(NameReadSibling, func() (awserr.Reply, bool) {
			rep, _ := r.get(ctx, sibling, "")
			return rep, r.conclusive(rep, "s3:GetObject")
		})
	}
}

// conclusive reports whether the refusal of an action on a missing object means that
// the action is not allowed. For a missing object S3 refuses every key that may not
// list the bucket. The refusal is conclusive only if the answer for a missing object
// inside, which this key may read, was another one, or if AWS names the action and a policy
// that refuses it.
func (r *round) conclusive(rep awserr.Reply, action string) bool {
	return r.missing.Code == "NoSuchKey" ||
		rep.Action == action && (r.missing.Action == "s3:ListBucket" || rep.Reason != awserr.ReasonNone)
}

// sure is conclusive for a change, for which only AWS asks for more rights than the one to make
// it, because of the condition.
func (r *round) sure(rep awserr.Reply, check, action string) bool {
	return !r.atAWS(check) || r.conclusive(rep, action)
}

func (r *round) checkWrites(ctx context.Context) {
	note := ""
	r.deny(NameWrite, func() (awserr.Reply, bool) {
		rep, sure, written := r.write(ctx)
		note = "nothing was written"
		if written != nil {
			note = "the server ignored If-Match, so the empty object " + written.key + " was written, and deleted again"
			if !r.cleanUp(ctx, *written) {
				note = "the server ignored If-Match, so the empty object " + written.key +
					" was written and not deleted: delete it"
			}
		}
		return rep, sure
	})
	r.amend(NameWrite, note)
	note = ""
	r.deny(NameDelete, func() (rep awserr.Reply, sure bool) {
		rep, marker := r.removeMissing(ctx)
		if marker != nil && !r.cleanUp(ctx, *marker) {
			note = "the server ignored If-Match and made a delete marker for " + marker.key + ", which has no object: delete it"
		}
		return rep, r.sure(rep, NameDelete, "s3:DeleteObject")
	})
	r.amend(NameDelete, note)
}

// checkLists checks lists and metadata.
func (r *round) checkLists(ctx context.Context) {
	r.deny(NameList, func() (awserr.Reply, bool) { return r.list(ctx, ""), true })
	if r.Location.Prefix != "" {
		r.deny(NameListInside, func() (awserr.Reply, bool) { return r.list(ctx, r.Location.Prefix), true })
	}
	r.deny(NameListBuckets, func() (awserr.Reply, bool) { return r.listBuckets(ctx), true })
	key, given := r.Inside, r.Inside != ""
	if !given {
		key = r.probeKey()
	}
	r.deny(NameACL, func() (awserr.Reply, bool) {
		rep := r.acl(ctx, key)
		return rep, given || r.conclusive(rep, "s3:GetObjectAcl")
	})
	r.deny(NameTagging, func() (awserr.Reply, bool) {
		rep := r.tags(ctx, key)
		return rep, given || r.conclusive(rep, "s3:GetObjectTagging")
	})
	// A bucket without versions has no old versions to read. A read of the null
	// version would prove nothing.
	if r.version != "" && r.version != "null" {
		r.deny(NameVersion, func() (awserr.Reply, bool) {
			rep, _ := r.get(ctx, key, r.version)
			return rep, true
		})
	}
	r.deny(NameBucketPolicy, func() (awserr.Reply, bool) { return r.bucketPolicy(ctx), true })
}

func (r *round) checkIAM(ctx context.Context) {
	if r.ofRole() {
		r.skip(NameIAMSelf, alias.WhyNoUser)
		r.skip(NameIAMKeys, alias.WhyNoUser)
	} else {
		r.deny(NameIAMSelf, func() (awserr.Reply, bool) { return r.getUser(ctx), true })
		r.deny(NameIAMKeys, func() (awserr.Reply, bool) {
			rep, _ := r.listKeys(ctx)
			return rep, true
		})
	}
	r.deny(NameIAMCreateKey, func() (awserr.Reply, bool) { return r.changeKeys(ctx), true })
	if r.userName() == nil && r.arn != "" && !r.root() && !r.ofRole() {
		r.skip(NameIAMOwnRights, alias.WhyNoUser)
		return
	}
	r.deny(NameIAMOwnRights, func() (awserr.Reply, bool) {
		switch {
		case r.ofRole():
			return r.changeRoleRights(ctx), true
		case r.userName() == nil: // the root user, or unknown
			return r.who, true
		}
		return r.changeOwnRights(ctx), true
	})
}

// ofRole reports whether the key is one of a session of a role, which has no user.
func (r *round) ofRole() bool { return r.Session.ofRole() || strings.Contains(r.arn, ":assumed-role/") }

// checkSTS asks AWS for no role: it refuses every caller a role that does not exist, so the
// answer would prove nothing. Of other servers too, only an answer that reveals the right
// counts. A session of a role may not call GetFederationToken at AWS, whatever its policies
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetFederationToken.html).
func (r *round) checkSTS(ctx context.Context) {
	switch {
	case r.fromControlPlane(NameAssumeRole):
	case r.STS == nil:
		r.skip(NameAssumeRole, alias.WhyNotConfigured)
	case !r.CustomIAM:
		r.skip(NameAssumeRole, alias.WhyProvesNothing)
	default:
		rep := r.assumeRole(ctx)
		if rep.Denied() && r.known {
			r.skip(NameAssumeRole, alias.WhyProvesNothing)
			break
		}
		r.deny(NameAssumeRole, func() (awserr.Reply, bool) { return rep, true })
	}
	if r.STS != nil && !r.CustomIAM && r.ofRole() {
		r.skip(NameFederation, alias.WhyProvesNothing)
		return
	}
	r.deny(NameFederation, func() (awserr.Reply, bool) { return r.federate(ctx), true })
}

// checkUser checks the user of a key that an operator made by hand.
func (r *round) checkUser(ctx context.Context) {
	const refused = "the key may not ask, which is right, so whether its user has "
	r.askUser(NamePassword, func(c *alias.Check) awserr.Reply {
		rep := r.loginProfile(ctx)
		c.Expected, c.Verdict = "NoSuchEntity", passwordVerdict(rep.Code)
		switch {
		case rep.OK():
			c.Detail = "the user of this key has a console password, so it is probably a person and not a program"
		case rep.Denied():
			c.Detail = refused + "a console password is unknown"
		case c.Verdict == alias.VerdictProven:
			c.Detail = "its user has no console password"
		default:
			c.Detail = "whether its user has a console password is unknown: " + r.because(serviceIAM, rep)
		}
		return rep
	})
	r.askUser(NameOtherKeys, func(c *alias.Check) awserr.Reply {
		rep, n := r.listKeys(ctx)
		c.Expected, c.Verdict = "no other key", otherKeysVerdict(rep.Code, n)
		switch {
		case rep.OK() && n > 0:
			c.Detail = "its user has other keys (" + strconv.Itoa(n) + "), which have the same permissions"
		case rep.OK():
			c.Detail = "its user has no other key"
		case rep.Denied():
			c.Detail = refused + "other keys is unknown"
		default:
			c.Detail = "whether its user has other keys is unknown: " + r.because(serviceIAM, rep)
		}
		return rep
	})
}

// askUser adds a check of the user, unless it cannot be asked.
func (r *round) askUser(name string, ask func(*alias.Check) awserr.Reply) {
	if r.fromControlPlane(name) || r.unconfigured(name) {
		return
	}
	c := r.check(name, awserr.Reply{}, "")
	rep := ask(&c)
	if r.unimplemented(name, rep) {
		r.skip(name, alias.WhyNotImplemented)
		return
	}
	c.Got = rep.Code
	r.checks = append(r.checks, c)
}

// deny adds the check of something that the key must not be able to do, unless it cannot
// be tried. sure means that a refusal is about the action and not about the object.
func (r *round) deny(name string, probe func() (rep awserr.Reply, sure bool)) {
	if r.fromControlPlane(name) || r.unconfigured(name) {
		return
	}
	rep, sure := probe()
	if r.unimplemented(name, rep) {
		r.skip(name, alias.WhyNotImplemented)
		return
	}
	r.checks = append(r.checks, r.negative(name, rep, sure))
}

// amend adds a note to a check that is violated.
func (r *round) amend(name, note string) {
	if len(r.checks) == 0 || note == "" {
		return
	}
	if c := &r.checks[len(r.checks)-1]; c.Name == name && c.Verdict == alias.VerdictViolated {
		c.Detail += "; " + note
	}
}

// negative makes the check of something that the key must not be able to do.
func (r *round) negative(name string, rep awserr.Reply, sure bool) alias.Check {
	does := r.does(name)
	v := denyVerdict(name, rep)
	c := r.check(name, rep, v)
	switch {
	case v == alias.VerdictViolated && r.wide() && rules[name].wide:
		c.Verdict = alias.VerdictProven
		c.Expected = "what AmazonS3ReadOnlyAccess allows"
		c.Detail = "this key can " + does + ", which " + r.grantedBy()
	case v == alias.VerdictViolated:
		c.Detail = "this key can " + does + ": it is broader than the alias needs"
		if r.Session.own() {
			c.Detail += "; these are the server's own credentials: use a role, whose sessions are limited to the alias"
		}
	case v == alias.VerdictNotProven:
		c.Detail = "whether this key can " + does + " is unknown: " + r.because(serviceOf(name), rep)
	case !r.keyKnown(name):
		c.Verdict = alias.VerdictNotProven
		c.Detail = "refused, but the required permissions are not proven, so the service may not know the key yet"
	default:
		c.Verdict, c.Detail = r.refused(name, rep, sure)
	}
	return c
}

// refused is the verdict on a refusal: it proves only what the key's own policies, or the
// boundary or session policy that ixmage set, deny. Whatever else denies it may be absent elsewhere, such as
// outside a network, or may be lifted.
func (r *round) refused(name string, rep awserr.Reply, sure bool) (alias.Verdict, string) {
	does := r.does(name)
	ours := rep.Reason == awserr.ReasonSession && r.Session.Narrowed()
	switch {
	case rep.Reason == awserr.ReasonBoundary && r.User.Boundary == "":
		return alias.VerdictWeak, "refused by a permissions boundary that ixmage did not set; without it this key may " + does
	case others[rep.Reason] != "" && !ours:
		return alias.VerdictWeak, "refused by " + others[rep.Reason] + ", and not by the key's own policies; " +
			"where that does not hold, this key may " + does
	case rep.Reason == awserr.ReasonNone && r.atAWS(name):
		return alias.VerdictWeak, "refused, but AWS did not say which policy refuses it"
	case !sure && rep.Action == "s3:ListBucket":
		return alias.VerdictWeak, "refused because the key may not list, which AWS answers for missing objects that " +
			"the key may read too: only an existing object can prove it"
	case !sure:
		return alias.VerdictWeak, "refused, but S3 refuses missing objects to every key that may not list the bucket: " +
			"only an existing object can prove it"
	}
	if r.ofRole() {
		return alias.VerdictProven, "this key cannot " + does
	}
	return alias.VerdictProven, "this key cannot " + does + rules[name].note
}

// others are the policies that are not the key's own, by the reason that AWS states.
var others = map[awserr.Reason]string{
	awserr.ReasonSession:     "a session policy",
	awserr.ReasonSCP:         "a service control policy of the organization",
	awserr.ReasonRCP:         "a resource control policy of the organization",
	awserr.ReasonVPCEndpoint: "the policy of the VPC endpoint on the way",
	awserr.ReasonResource:    "a policy of the resource",
	awserr.ReasonOther:       "a rule of another kind",
}

// wide reports whether the key is meant to have AmazonS3ReadOnlyAccess.
func (r *round) wide() bool {
	return r.Mode == alias.PolicyReadOnly || r.Expect == alias.PolicyReadOnly
}

func (r *round) grantedBy() string {
	if r.Mode == alias.PolicyReadOnly {
		return "its policy grants"
	}
	return "is expected of it"
}

// keyKnown reports whether the service of a check knows the key. Refusals of an unknown
// key prove nothing.
func (r *round) keyKnown(name string) bool {
	if serviceOf(name) == serviceS3 {
		return r.reads
	}
	return r.known
}

func serviceOf(check string) service {
	switch check {
	case NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NameIAMOwnRights, NamePassword, NameOtherKeys:
		return serviceIAM
	case NameIdentity, NameAssumeRole, NameFederation:
		return serviceSTS
	}
	return serviceS3
}

// atAWS reports whether the server of a check is one of AWS.
func (r *round) atAWS(name string) bool {
	if serviceOf(name) == serviceS3 {
		return r.Location.AtAWS()
	}
	return !r.CustomIAM
}

// because describes why an answer proves nothing.
func (r *round) because(s service, rep awserr.Reply) string {
	switch {
	case rep.Code == awserr.TimedOut:
		return s.String() + " did not answer in time"
	case rep.Code == awserr.Network:
		return s.String() + " cannot be reached"
	case rep.Code == awserr.Canceled:
		return "the check was stopped"
	case rep.Code == "InvalidClientTokenId" && r.reads:
		return s.String() + " does not know a key that S3 knows (" + rep.Code +
			"): its account has not enabled this region, or it is a key of another partition"
	case rep.Passing() && rep.Status < 500 && rep.Status != 429 && rep.Status != 0:
		return s.String() + " does not know the key, or not yet (" + rep.Code + ")"
	}
	return s.String() + " answers " + rep.Code
}
