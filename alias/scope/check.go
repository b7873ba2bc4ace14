// Package scope finds out what a key can do: it probes S3, IAM and STS with the
// key itself, and says of each right whether the key has it, has it not, or
// whether that could not be proven. Nothing is changed by it, as far as a server
// keeps to the rules of S3.
package scope

import (
	"context"
	"strconv"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// CheckRead checks what the key must be able to do. It is cheap, and meant to be
// called again and again until a new key works.
func CheckRead(ctx context.Context, key Key, t Target) []alias.Check {
	return newRound(key, t).positive(ctx)
}

// Check checks everything: what the key must be able to do first, since until
// a key is known everywhere all is refused, and then what it must not.
func Check(ctx context.Context, key Key, t Target) []alias.Check {
	r := newRound(key, t)
	checks := r.positive(ctx)
	if t.Inside != "" { // else that was the positive check
		r.missing, _ = r.get(ctx, r.probeKey(), "")
	}
	checks = append(checks, r.checkReads(ctx)...)
	checks = append(checks, r.checkWrites(ctx)...)
	checks = append(checks, r.checkLists(ctx)...)
	checks = append(checks, r.checkIAM(ctx)...)
	checks = append(checks, r.checkSTS(ctx)...)
	if t.Mode == "" {
		checks = append(checks, r.checkUser(ctx)...)
	}
	return checks
}

func (r *round) check(name string, rep awserr.Reply, v alias.Verdict) alias.Check {
	return alias.Check{Name: name, Expected: "AccessDenied", Got: rep.Code, Verdict: v, At: r.Now()}
}

func (r *round) positive(ctx context.Context) []alias.Check {
	return []alias.Check{r.identity(ctx), r.readInside(ctx)}
}

func (r *round) identity(ctx context.Context) alias.Check {
	rep := awserr.Reply{}
	if r.STS != nil {
		rep = r.whoami(ctx)
	}
	v, failed := identityVerdict(rep, r.User.ARN, r.arn)
	r.known = rep.OK() || r.STS == nil
	c := r.check(checkIdentity, rep, v)
	c.Expected, c.Positive, c.Failed = r.User.ARN, true, failed
	if r.User.ARN == "" {
		c.Expected = "any user"
	}
	switch {
	case rep.OK() && r.root():
		c.Got, c.Detail = r.arn, "the key belongs to the account itself, which may do everything"
	case failed:
		c.Got, c.Detail = r.arn, "the key belongs to another user than the one that was made"
	case rep.OK():
		c.Got, c.Detail = r.arn, "the key belongs to "+r.arn
	case r.STS == nil:
		c.Detail = "no STS is known to ask whose key it is"
	default:
		c.Detail = "whose key it is, is unknown: " + r.because(serviceSTS, rep)
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
	c := r.check(checkReadInside, rep, v)
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
		return "the key may read the object, but the object is archived and cannot be read by anybody"
	case c.Verdict == alias.VerdictProven:
		return "this key can read the object that was given"
	case c.Verdict == alias.VerdictWeak:
		return "no existing object was given to read; " + evidence(rep)
	case !c.Failed:
		return "whether this key can read the alias's objects is unknown: " + r.because(serviceS3, rep)
	case rep.Denied():
		return "this key cannot read the alias's objects"
	case rep.Code == "NoSuchKey":
		return "the object that was given does not exist: give one that does"
	}
	return "the alias's objects cannot be read: S3 says " + rep.Code
}

// evidence is what an answer about an object that does not exist says about reading
// those that do.
func evidence(rep awserr.Reply) string {
	switch {
	case rep.OK():
		return "one that cannot exist was read, so that the server's answers mean little"
	case rep.Action == "s3:ListBucket":
		return "AWS says that the key may not list, and not that it may not read, which is a sign that it can"
	case rep.Denied():
		return "the refusal is what S3 says of one that does not exist, and says little"
	}
	return "that one does not exist was told to this key, which is a sign that it can read"
}

// checkReads looks beyond the prefix. An alias on a whole bucket has no outside
// there, and neither has a user who may read every bucket.
func (r *round) checkReads(ctx context.Context) []alias.Check {
	if r.Location.Prefix == "" || r.Mode == alias.PolicyReadOnly {
		return nil
	}
	var checks []alias.Check
	key, given := r.Outside, r.Outside != "" && !r.covers(r.Outside)
	if !given {
		key = ".ixmage-probe-" + random() // no prefix begins like that and ends in a slash
	}
	if !r.covers(key) {
		rep, _ := r.get(ctx, key, "")
		checks = append(checks, r.negative(checkReadOutside, rep, given || r.conclusive(rep, "s3:GetObject")))
	}
	sibling := r.Location.Prefix[:len(r.Location.Prefix)-1] + "-x/" + random()
	if !r.covers(sibling) {
		rep, _ := r.get(ctx, sibling, "")
		checks = append(checks, r.negative(checkReadSibling, rep, r.conclusive(rep, "s3:GetObject")))
	}
	return checks
}

// conclusive reports whether the refusal of an action on an object that does not
// exist means that the action is not allowed. S3 refuses whoever may not list
// the bucket in any case, and so it must have answered otherwise for an object
// inside, which this key may read and which does not exist either.
func (r *round) conclusive(rep awserr.Reply, action string) bool {
	return r.missing.Code == "NoSuchKey" || r.missing.Action == "s3:ListBucket" && rep.Action == action
}

func (r *round) checkWrites(ctx context.Context) []alias.Check {
	rep, sure, written := r.write(ctx)
	write := r.negative(checkWrite, rep, sure)
	switch {
	case write.Verdict != alias.VerdictViolated:
	case written == "":
		write.Detail += "; nothing was written"
	case r.remove(ctx, written).OK():
		write.Detail += "; the server did not heed If-Match, so that the empty object " + written +
			" was written, and deleted again"
	default:
		write.Detail += "; the server did not heed If-Match, so that the empty object " + written +
			" was written and stays: delete it"
	}
	return []alias.Check{write, r.negative(checkDelete, r.remove(ctx, r.probeKey()), true)}
}

// checkLists checks what else S3 has to tell.
func (r *round) checkLists(ctx context.Context) []alias.Check {
	checks := []alias.Check{r.negative(checkList, r.list(ctx, ""), true)}
	if r.Location.Prefix != "" {
		checks = append(checks, r.negative(checkListInside, r.list(ctx, r.Location.Prefix), true))
	}
	checks = append(checks, r.negative(checkListBuckets, r.listBuckets(ctx), true))
	key, given := r.Inside, r.Inside != ""
	if !given {
		key = r.probeKey()
	}
	acl := r.acl(ctx, key)
	checks = append(checks, r.negative(checkACL, acl, given || r.conclusive(acl, "s3:GetObjectAcl")))
	tags := r.tags(ctx, key)
	checks = append(checks, r.negative(checkTagging, tags, given || r.conclusive(tags, "s3:GetObjectTagging")))
	// In a bucket without versions there are no others than the current one to
	// be read by an id, and the null version would prove nothing.
	if r.version != "" && r.version != "null" {
		rep, _ := r.get(ctx, key, r.version)
		checks = append(checks, r.negative(checkVersion, rep, true))
	}
	return append(checks, r.negative(checkBucketPolicy, r.bucketPolicy(ctx), true))
}

func (r *round) checkIAM(ctx context.Context) []alias.Check {
	if r.IAM == nil {
		return r.notAsked(serviceIAM, checkIAMSelf, checkIAMKeys, checkIAMCreateKey)
	}
	keys, _ := r.listKeys(ctx)
	return []alias.Check{
		r.negative(checkIAMSelf, r.getUser(ctx), true),
		r.negative(checkIAMKeys, keys, true),
		r.negative(checkIAMCreateKey, r.createKey(ctx), true),
	}
}

func (r *round) checkSTS(ctx context.Context) []alias.Check {
	if r.STS == nil {
		return r.notAsked(serviceSTS, checkAssumeRole, checkFederation)
	}
	return []alias.Check{
		r.negative(checkAssumeRole, r.assumeRole(ctx), true),
		r.negative(checkFederation, r.federate(ctx), true),
	}
}

// checkUser looks at the user of a key that an operator made by hand.
func (r *round) checkUser(ctx context.Context) []alias.Check {
	if r.IAM == nil {
		return r.notAsked(serviceIAM, checkPassword, checkOtherKeys)
	}
	const unseen = "the key may not ask, as it should be; whether its user has "
	rep := r.loginProfile(ctx)
	password := r.check(checkPassword, rep, passwordVerdict(rep.Code, rep.Status))
	password.Expected = "NoSuchEntity or AccessDenied"
	switch {
	case rep.OK():
		password.Detail = "this key belongs to a user with a console password: a person, and not a program"
	case rep.Denied():
		password.Detail = unseen + "a console password cannot be seen with it"
	case password.Verdict == alias.VerdictProven:
		password.Detail = "its user has no console password"
	default:
		password.Detail = "whether its user has a console password is unknown: " + r.because(serviceIAM, rep)
	}
	rep, n := r.listKeys(ctx)
	others := r.check(checkOtherKeys, rep, otherKeysVerdict(rep.Code, rep.Status, n))
	others.Expected = "no other key, or AccessDenied"
	switch {
	case rep.OK() && n > 0:
		others.Detail = "its user has other keys (" + strconv.Itoa(n) + "), which open what this one does"
	case rep.OK():
		others.Detail = "its user has no other key"
	case rep.Denied():
		others.Detail = unseen + "other keys cannot be seen with it"
	default:
		others.Detail = "whether its user has other keys is unknown: " + r.because(serviceIAM, rep)
	}
	return []alias.Check{password, others}
}

func (r *round) notAsked(s service, names ...string) []alias.Check {
	checks := make([]alias.Check, len(names))
	for i, name := range names {
		checks[i] = r.check(name, awserr.Reply{}, alias.VerdictNotProven)
		checks[i].Detail = "no " + s.String() + " is known to ask"
	}
	return checks
}

// negative is the check of something that the key must not be able to do. sure
// says that a refusal cannot mean anything else.
func (r *round) negative(name string, rep awserr.Reply, sure bool) alias.Check {
	does := rules[name].does
	v := denyVerdict(name, rep.Code, rep.Status)
	c := r.check(name, rep, v)
	switch {
	case v == alias.VerdictViolated && r.Mode == alias.PolicyReadOnly && rules[name].wide:
		c.Verdict = wideVerdict(name, rep.Code, rep.Status)
		c.Expected = "whatever AmazonS3ReadOnlyAccess allows"
		c.Detail = "this key can " + does + ", which its policy grants"
	case v == alias.VerdictViolated:
		c.Detail = "this key can " + does + ": it is broader than the alias needs"
	case v == alias.VerdictNotProven:
		c.Detail = "whether this key can " + does + " is unknown: " + r.because(serviceOf(name), rep)
	case !r.keyKnown(name):
		c.Verdict = alias.VerdictNotProven
		c.Detail = "refused, but as long as the key cannot do what it must, a refusal may mean that it is not known yet"
	case !sure && rep.Action == "s3:ListBucket":
		c.Verdict = alias.VerdictWeak
		c.Detail = "refused, but for want of the right to list, as AWS says it of objects that the key may read: " +
			"only an object that exists can prove it"
	case !sure:
		c.Verdict = alias.VerdictWeak
		c.Detail = "refused, but whoever may not list the bucket is refused what does not exist, too: " +
			"only an object that exists can prove it"
	default:
		c.Detail = "this key cannot " + does
	}
	return c
}

// keyKnown reports whether the service knows the key, so that its refusals
// mean something.
func (r *round) keyKnown(name string) bool {
	if serviceOf(name) == serviceS3 {
		return r.reads
	}
	return r.known
}

func serviceOf(check string) service {
	switch check {
	case checkIAMSelf, checkIAMKeys, checkIAMCreateKey, checkPassword, checkOtherKeys:
		return serviceIAM
	case checkIdentity, checkAssumeRole, checkFederation:
		return serviceSTS
	}
	return serviceS3
}

// because says in words why an answer proves nothing.
func (r *round) because(s service, rep awserr.Reply) string {
	switch {
	case rep.Code == awserr.TimedOut:
		return s.String() + " did not answer in time"
	case rep.Code == awserr.Network:
		return s.String() + " cannot be reached"
	case rep.Code == awserr.Canceled:
		return "the check was stopped"
	case rep.Unimplemented():
		return s.String() + " there does not have this call (" + rep.Code + ")"
	case rep.Code == "SignatureDoesNotMatch" && s != serviceS3 && r.known:
		return s.String() + " there does not take this call from a key that it knows (" + rep.Code + ")"
	case rep.Passing() && rep.Status < 500 && rep.Status != 429 && rep.Status != 0:
		return s.String() + " does not know the key, or not yet (" + rep.Code + ")"
	}
	return s.String() + " says " + rep.Code
}
