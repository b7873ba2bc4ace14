// Package scope checks what a key can do. It probes S3, IAM and STS with the key
// itself, and gives for each permission the verdict that the key has it, does not have
// it, or that neither could be proven. It changes nothing on a server that follows the
// rules of S3.
package scope

import (
	"context"
	"strconv"

	"ixmage/alias"
	"ixmage/internal/awserr"
)

// CheckRead checks what the key must be able to do. It makes at most two calls, and is meant
// to be repeated until a new key works.
func CheckRead(ctx context.Context, key Key, t Target) []alias.Check {
	return newRound(key, t).positive(ctx)
}

// Check runs all checks. It begins with those of what the key must be able to do,
// because every call is refused until all servers know the key. It also lists what it has
// not tried.
func Check(ctx context.Context, key Key, t Target) ([]alias.Check, []alias.NotTried) {
	r := newRound(key, t)
	checks := r.positive(ctx)
	if t.Inside != "" { // else readInside has set r.missing
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
	return checks, r.notTried
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
	c := r.check(NameIdentity, rep, v)
	c.Expected, c.Positive, c.Failed = r.User.ARN, true, failed
	if r.User.ARN == "" {
		c.Expected = "any user"
	}
	switch {
	case rep.OK() && r.root():
		c.Got, c.Detail = r.arn, "the key belongs to the root user of the account, which may do everything"
	case failed:
		c.Got, c.Detail = r.arn, "the key belongs to another user than the one that was made"
	case rep.OK():
		c.Got, c.Detail = r.arn, "the key belongs to "+r.arn
	case r.STS == nil:
		c.Detail = "no STS endpoint is configured, so the owner of the key is unknown"
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
func (r *round) checkReads(ctx context.Context) []alias.Check {
	if r.Location.Prefix == "" || r.Mode == alias.PolicyReadOnly {
		return nil
	}
	var checks []alias.Check
	key, given := r.Outside, r.Outside != "" && !r.covers(r.Outside)
	if !given {
		key = ".ixmage-probe-" + random() // no prefix ends with a slash and begins like this
	}
	if !r.covers(key) {
		rep, _ := r.get(ctx, key, "")
		checks = append(checks, r.negative(NameReadOutside, rep, given || r.conclusive(rep, "s3:GetObject")))
	}
	sibling := r.Location.Prefix[:len(r.Location.Prefix)-1] + "-x/" + random()
	if !r.covers(sibling) {
		rep, _ := r.get(ctx, sibling, "")
		checks = append(checks, r.negative(NameReadSibling, rep, r.conclusive(rep, "s3:GetObject")))
	}
	return checks
}

// conclusive reports whether the refusal of an action on a missing object means that
// the action is not allowed. For a missing object S3 refuses every key that may not
// list the bucket. The refusal is conclusive only if the answer for a missing object
// inside, which this key may read, was another one.
func (r *round) conclusive(rep awserr.Reply, action string) bool {
	return r.missing.Code == "NoSuchKey" || r.missing.Action == "s3:ListBucket" && rep.Action == action
}

func (r *round) checkWrites(ctx context.Context) []alias.Check {
	rep, sure, written := r.write(ctx)
	write := r.negative(NameWrite, rep, sure)
	switch {
	case write.Verdict != alias.VerdictViolated:
	case written == "":
		write.Detail += "; nothing was written"
	case r.remove(ctx, written).OK():
		write.Detail += "; the server ignored If-Match, so the empty object " + written +
			" was written, and deleted again"
	default:
		write.Detail += "; the server ignored If-Match, so the empty object " + written +
			" was written and not deleted: delete it"
	}
	return []alias.Check{write, r.negative(NameDelete, r.remove(ctx, r.probeKey()), true)}
}

// checkLists checks lists and metadata.
func (r *round) checkLists(ctx context.Context) []alias.Check {
	checks := []alias.Check{r.negative(NameList, r.list(ctx, ""), true)}
	if r.Location.Prefix != "" {
		checks = append(checks, r.negative(NameListInside, r.list(ctx, r.Location.Prefix), true))
	}
	checks = append(checks, r.negative(NameListBuckets, r.listBuckets(ctx), true))
	key, given := r.Inside, r.Inside != ""
	if !given {
		key = r.probeKey()
	}
	acl := r.acl(ctx, key)
	checks = append(checks, r.negative(NameACL, acl, given || r.conclusive(acl, "s3:GetObjectAcl")))
	tags := r.tags(ctx, key)
	checks = append(checks, r.negative(NameTagging, tags, given || r.conclusive(tags, "s3:GetObjectTagging")))
	// A bucket without versions has no old versions to read. A read of the null
	// version would prove nothing.
	if r.version != "" && r.version != "null" {
		rep, _ := r.get(ctx, key, r.version)
		checks = append(checks, r.negative(NameVersion, rep, true))
	}
	return append(checks, r.negative(NameBucketPolicy, r.bucketPolicy(ctx), true))
}

func (r *round) checkIAM(ctx context.Context) []alias.Check {
	if r.IAM == nil {
		return r.notAsked(serviceIAM, NameIAMSelf, NameIAMKeys, NameIAMCreateKey)
	}
	keys, _ := r.listKeys(ctx)
	return []alias.Check{
		r.negative(NameIAMSelf, r.getUser(ctx), true),
		r.negative(NameIAMKeys, keys, true),
		r.negative(NameIAMCreateKey, r.createKey(ctx), true),
	}
}

func (r *round) checkSTS(ctx context.Context) []alias.Check {
	if r.STS == nil {
		return r.notAsked(serviceSTS, NameAssumeRole, NameFederation)
	}
	return []alias.Check{
		r.negative(NameAssumeRole, r.assumeRole(ctx), true),
		r.negative(NameFederation, r.federate(ctx), true),
	}
}

// checkUser checks the user of a key that an operator made by hand.
func (r *round) checkUser(ctx context.Context) []alias.Check {
	if r.IAM == nil {
		return r.notAsked(serviceIAM, NamePassword, NameOtherKeys)
	}
	const unseen = "the key may not ask, which is right; whether its user has "
	rep := r.loginProfile(ctx)
	password := r.check(NamePassword, rep, passwordVerdict(rep.Code, rep.Status))
	password.Expected = "NoSuchEntity or AccessDenied"
	switch {
	case rep.OK():
		password.Detail = "the user of this key has a console password, so it is probably a person and not a program"
	case rep.Denied():
		password.Detail = unseen + "a console password is unknown"
	case password.Verdict == alias.VerdictProven:
		password.Detail = "its user has no console password"
	default:
		password.Detail = "whether its user has a console password is unknown: " + r.because(serviceIAM, rep)
	}
	rep, n := r.listKeys(ctx)
	others := r.check(NameOtherKeys, rep, otherKeysVerdict(rep.Code, rep.Status, n))
	others.Expected = "no other key, or AccessDenied"
	switch {
	case rep.OK() && n > 0:
		others.Detail = "its user has other keys (" + strconv.Itoa(n) + "), which have the same permissions"
	case rep.OK():
		others.Detail = "its user has no other key"
	case rep.Denied():
		others.Detail = unseen + "other keys is unknown"
	default:
		others.Detail = "whether its user has other keys is unknown: " + r.because(serviceIAM, rep)
	}
	return []alias.Check{password, others}
}

func (r *round) notAsked(s service, names ...string) []alias.Check {
	checks := make([]alias.Check, len(names))
	for i, name := range names {
		checks[i] = r.check(name, awserr.Reply{}, alias.VerdictNotProven)
		checks[i].Detail = "no endpoint of " + s.String() + " is configured"
	}
	return checks
}

// negative makes the check of something that the key must not be able to do. sure means
// that a refusal proves that.
func (r *round) negative(name string, rep awserr.Reply, sure bool) alias.Check {
	does := rules[name].does
	v := denyVerdict(name, rep.Code, rep.Status)
	c := r.check(name, rep, v)
	switch {
	case v == alias.VerdictViolated && r.Mode == alias.PolicyReadOnly && rules[name].wide:
		c.Verdict = wideVerdict(name, rep.Code, rep.Status)
		c.Expected = "what AmazonS3ReadOnlyAccess allows"
		c.Detail = "this key can " + does + ", which its policy grants"
	case v == alias.VerdictViolated:
		c.Detail = "this key can " + does + ": it is broader than the alias needs"
	case v == alias.VerdictNotProven:
		c.Detail = "whether this key can " + does + " is unknown: " + r.because(serviceOf(name), rep)
	case !r.keyKnown(name):
		c.Verdict = alias.VerdictNotProven
		c.Detail = "refused, but the required permissions are not proven, so the service may not know the key yet"
	case !sure && rep.Action == "s3:ListBucket":
		c.Verdict = alias.VerdictWeak
		c.Detail = "refused because the key may not list, which AWS answers for missing objects that the key may read too: " +
			"only an existing object can prove it"
	case !sure:
		c.Verdict = alias.VerdictWeak
		c.Detail = "refused, but S3 refuses missing objects to every key that may not list the bucket: " +
			"only an existing object can prove it"
	default:
		c.Detail = "this key cannot " + does
	}
	return c
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
	case NameIAMSelf, NameIAMKeys, NameIAMCreateKey, NamePassword, NameOtherKeys:
		return serviceIAM
	case NameIdentity, NameAssumeRole, NameFederation:
		return serviceSTS
	}
	return serviceS3
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
	case rep.Unimplemented():
		return "this " + s.String() + " server does not support the call (" + rep.Code + ")"
	case rep.Code == "SignatureDoesNotMatch" && s != serviceS3 && r.known:
		return "this " + s.String() + " server does not accept the call from a key that it knows (" + rep.Code + ")"
	case rep.Passing() && rep.Status < 500 && rep.Status != 429 && rep.Status != 0:
		return s.String() + " does not know the key, or not yet (" + rep.Code + ")"
	}
	return s.String() + " answers " + rep.Code
}
