package provision

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"ixmage/alias"
	"ixmage/alias/policy"
)

// actions are what the controller can do. An action returns a detail for the operator, or
// the reason for which the operation cannot go on. Each can be repeated: it is chosen from
// what was seen, and what is not seen any more is looked at again.
var actions = map[actionKind]func(*task, context.Context, decision) (string, error){
	actLookUser:   (*task).lookUser,
	actLookKeys:   (*task).lookKeys,
	actLookRights: (*task).lookRights,
	actLookBucket: (*task).lookBucket,
	actSearch:     (*task).search,
	actCreateUser: (*task).createUser,
	actRaise:      (*task).raise,
	actAdopt:      (*task).adopt,
	actBound:      (*task).bound,
	actTag:        (*task).tag,
	actPut:        (*task).putPolicy,
	actLimit:      (*task).limit,
	actRevoke:     (*task).revoke,
	actUnrevoke:   (*task).unrevoke,
	actCreateKey:  (*task).createKey,
	actProve:      (*task).verify,
	actLookNodes:  (*task).lookNodes,
	actSwap:       (*task).swap,
	actRevert:     (*task).revert,
	actTry:        (*task).tryCurrent,
	actSuspect:    (*task).suspect,
	actDeactivate: (*task).deactivate,
	actRefused:    (*task).awaitRefusal,
	actDeleteKey:  (*task).deleteKey,
	actStrip:      (*task).strip,
	actRelease:    (*task).releaseUser,
}

// readUser reads the user; nil if it does not exist, or if it is taken and IAM does not show it
// to this server.
func (t *task) readUser(ctx context.Context) (found *iamUser, err error) {
	read := t.caller().read("iam:GetUser", t.prov.User.Name)
	read.exact = read.exact || t.seen.taken // it exists, so that a denial says that it is not under our path
	err = t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		found, err = read.getUser(ctx)
		return done(err)
	})
	if denied, ok := errors.AsType[*callError](err); ok && denied.denied() && t.seen.taken {
		t.maybeOurs = false
		return nil, nil //nolint:nilnil // see above
	}
	return found, err
}

// lookUser reads the user and judges whose it is.
func (t *task) lookUser(ctx context.Context, _ decision) (string, error) {
	found, err := t.readUser(ctx)
	if err != nil {
		return "", err
	}
	if found == nil {
		t.seen.user, t.seen.hidden = userView{state: userAbsent}, t.seen.taken && !t.maybeOurs
		t.seen.gone++
		if t.seen.gone == 2 {
			return "the user was not found, twice", nil
		}
		return "the user " + t.prov.User.Name + " does not exist", nil
	}
	t.seen.gone = 0
	t.seen.user = judge(t.prov, found, t.p.cfg.InstallID)
	t.prov.GenerationSeen = t.prov.GenerationSeen || t.seen.user.state == userOurs
	if t.prov.User.ID != "" || t.seen.user.state == userForeign || t.op == nil {
		return t.describeUser(found), nil
	}
	// It is that of a CreateUser whose answer was lost.
	t.prov.User.ARN, t.prov.User.ID = found.ARN, found.ID
	t.seen.rights = viewDiffers
	return found.Name + " exists, made by this operation", t.store(ctx)
}

func (t *task) describeUser(u *iamUser) string {
	if t.op == nil || t.op.Kind != alias.OperationProvision {
		return ""
	}
	detail := "visible, with its tags"
	if u.Boundary != "" {
		detail += " and the boundary " + u.Boundary
	}
	return detail
}

// judge tells whose a user is. The id that CreateUser answered proves that we made it;
// while that is not known, the tag of the operation does. The generation tag tells whether
// another copy of the registry changed it since.
func judge(p *alias.Provisioned, u *iamUser, installID string) userView {
	v := userView{
		state: userOurs, boundary: u.Boundary, tag: u.tags[policy.TagGeneration],
		bare: u.tags[policy.TagManagedBy] == "" && u.tags[policy.TagGeneration] == "",
	}
	operation, tagged := u.operation(installID, p.User.Path)
	ours := u.ID == p.User.ID
	if p.User.ID == "" {
		ours = tagged && operation == p.Operation
	}
	if !ours {
		return userView{state: userForeign}
	}
	v.lacks = lackedTag(p, u)
	switch {
	case p.AccessKeyID == "" && v.lacks != "": // never seen with its tags
	case tagged && v.tag == p.Generation:
	case tagged && slices.Contains(p.GenerationsBefore, v.tag):
		v.state = userRaising
	default:
		v.state = userCopied
	}
	return v
}

// lackedTag is the first of the tags that a user was made with and does not have.
func lackedTag(p *alias.Provisioned, u *iamUser) string {
	for _, key := range slices.Sorted(maps.Keys(p.Tags)) {
		if u.tags[key] != p.Tags[key] {
			return key
		}
	}
	return ""
}

// raise makes a new generation, which tag then writes to the user. It is stored first.
func (t *task) raise(ctx context.Context, d decision) (string, error) {
	if raiseGeneration(t.prov) && d.step == stepAdoptUser {
		t.data.Taken++
	}
	t.data.Raised, t.seen.user.state = true, userRaising
	return "", t.store(ctx)
}

// raiseGeneration gives a credential the next generation: a number and a random text. It
// reports false if IAM has not shown the last one yet, which has to come first.
func raiseGeneration(p *alias.Provisioned) bool {
	if p.Generation != "" && !p.GenerationSeen {
		return false
	}
	n := generationNumber(p.Generation) // 0 for the first one
	// A user without the tag is one from before generations. IAM has shown a tag since.
	before := slices.DeleteFunc(append(slices.Clone(p.GenerationsBefore), p.Generation), func(g string) bool {
		return g == "" && p.Generation != ""
	})
	p.GenerationsBefore = before[max(0, len(before)-generationsKept):]
	p.Generation, p.GenerationSeen = fmt.Sprintf("%d-%s", n+1, rand.Text()[:8]), false
	return true
}

// generationsKept is how many generations before the last one are taken for late answers of
// IAM, which shows a change seconds after it.
const generationsKept = 8

// tag writes the generation to the user, together with the tags that mark it as ours,
// which the policy of this server may ask for. On a server that cannot tag users the
// generation stays, and so for a user of a version before generations that has as many tags
// as IAM allows.
func (t *task) tag(ctx context.Context, _ decision) (string, error) {
	tags := map[string]string{policy.TagManagedBy: policy.ManagedBy, policy.TagInstall: t.p.cfg.InstallID}
	if t.desired().adopts {
		tags = maps.Clone(t.prov.Tags)
	}
	tags[policy.TagGeneration] = t.prov.Generation
	err := t.writeTags(ctx, tags)
	if isGone(err) {
		t.seen.user, t.seen.vanished = userView{}, true
		return "", nil
	}
	adopting := t.prov.Adopted != nil && t.prov.AccessKeyID == ""
	if isUnimplemented(err) && adopting {
		return "", failf(codeNotAdoptable, "the IAM server cannot tag users, so it cannot show whose the user %s is",
			t.prov.User.Name)
	}
	if isUnimplemented(err) || hasCode(err, codeLimit) && !adopting {
		last := len(t.prov.GenerationsBefore) - 1
		t.prov.Generation, t.prov.GenerationsBefore = t.prov.GenerationsBefore[last], t.prov.GenerationsBefore[:last]
		t.prov.GenerationSeen, t.seen.untagged = true, true
		return "the user takes no further tag: the generation stays", t.store(ctx)
	}
	if err == nil {
		t.seen.user.state, t.prov.GenerationSeen = userOurs, true // stored with the next change
	}
	if err == nil && t.seen.user.lacks != "" {
		t.seen.user, t.seen.tagged = userView{}, true // look whether the server keeps them
	}
	return "", err
}

// writeTags sets tags of the user, beside those that it has.
func (t *task) writeTags(ctx context.Context, tags map[string]string) error {
	client := t.iam()
	return t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		_, err := call(ctx, t.caller().write("iam:TagUser", t.prov.User.Name), client.TagUser,
			&iam.TagUserInput{UserName: aws.String(t.prov.User.Name), Tags: iamTags(tags)})
		return err == nil, err
	})
}

// lookKeys lists the keys of the user. If there is one that the registry does not know, it
// asks for the last use of each, so that an operator can tell them apart.
func (t *task) lookKeys(ctx context.Context, _ decision) (string, error) {
	var list []accessKey
	err := t.p.until(ctx, t.p.cfg.Timing.Visible, func() (bool, error) {
		var err error
		list, err = t.caller().keys(ctx, t.prov.User.Name)
		return done(err)
	})
	if err != nil {
		return "", err
	}
	if err := t.readUsage(ctx, list); err != nil {
		return "", err
	}
	t.seen.keys, t.seen.listed = list, true
	if t.op == nil || t.op.Kind != alias.OperationRotate || t.prov.Previous != nil {
		return "", nil
	}
	kept := ""
	a := t.prov.Adopted
	if a != nil && slices.ContainsFunc(list, func(k accessKey) bool { return k.id == a.AccessKeyID }) {
		kept = "; the key " + a.AccessKeyID + ", which it had before it was adopted, stays"
	}
	return "has the key " + t.prov.AccessKeyID + kept, nil
}

// readUsage asks for the last use of the keys of which a decision or an operator needs it.
func (t *task) readUsage(ctx context.Context, list []accessKey) error {
	d := t.desired()
	unknown := slices.ContainsFunc(list, func(k accessKey) bool {
		return !d.knows(k.id) && !slices.Contains(d.PendingDeletion, k.id)
	})
	for i := range list {
		if unknown || d.creates && d.undo || d.keepsKey(list[i].id) {
			list[i].use, list[i].last = t.usage(ctx, list[i].id)
		}
	}
	return ctx.Err()
}

// lookBucket asks S3 whether the bucket is where the request says, before anything is made.
func (t *task) lookBucket(ctx context.Context, _ decision) (string, error) {
	t.seen.bucket = true
	return "", t.checkBucket(ctx)
}

// search looks for what others gave the user. It must not be deleted with that.
func (t *task) search(ctx context.Context, _ decision) (string, error) {
	id, err := t.caller().identity(ctx, t.prov.User.Name)
	switch {
	case isGone(err):
		t.seen.user.state, t.seen.missing = userUnknown, true
		return "", nil
	case err != nil:
		return "", err
	}
	unread, err := id.unsure()
	if err != nil {
		return "", err
	}
	if found := id.foreign(t.prov, t.p.managedOf(t.prov)); len(found) > 0 {
		return "", failf(codeChanged, "another client changed the user %s: it has %s; its keys are inactive, and nothing "+
			"was deleted: remove the change, or delete the user by hand", t.prov.User.Name, strings.Join(found, ", "))
	}
	t.seen.searched, t.seen.quarantine = true, id.quarantine()
	if len(unread) > 0 {
		return "nothing foreign found; the server does not tell the " + strings.Join(unread, ", "), nil
	}
	return "nothing foreign found", nil
}

// revoke denies the sessions that were made with the leaked key, which outlive it.
func (t *task) revoke(ctx context.Context, _ decision) (string, error) {
	err := t.caller().putInline(ctx, t.prov.User.Name, policy.RevokeName, []byte(policy.Revoke))
	if hasCode(err, codeLimit) { // an inline policy of a version that left no room
		return "", failf(codeQuota, "the leaked key is inactive, but the policy %s, which ends the sessions that were made "+
			"with it, does not fit on %s beside its inline policy: set a permissions boundary from docs/boundary-policy.json "+
			"on the user by hand, or move its aliases to other credentials and remove this one",
			policy.RevokeName, t.prov.User.Name)
	}
	if err != nil {
		return "", err
	}
	t.prov.RevokedAt = t.now()
	return "the sessions of its keys are denied by the policy " + policy.RevokeName, t.store(ctx)
}

// unrevoke takes the denial back when no session of the leaked key can live any more.
func (t *task) unrevoke(ctx context.Context, _ decision) (string, error) {
	if err := t.caller().deleteInline(ctx, t.prov.User.Name, policy.RevokeName); err != nil {
		return "", err
	}
	t.prov.RevokedAt = time.Time{}
	return "", t.store(ctx)
}

// deactivate makes a key inactive. Before that it ends the use of the previous key by
// requests.
func (t *task) deactivate(ctx context.Context, d decision) (string, error) {
	if previous := t.prov.Previous; previous != nil && previous.AccessKeyID == d.key && previous.InactiveAt.IsZero() {
		previous.InactiveAt = t.now()
		previous.Until = earlier(previous.Until, previous.InactiveAt)
		if err := t.store(ctx); err != nil {
			return "", err
		}
	}
	err := t.caller().setKey(ctx, t.prov.User.Name, d.key, types.StatusTypeInactive)
	for i := range t.seen.keys {
		if err == nil && t.seen.keys[i].id == d.key {
			t.seen.keys[i].active = false
		}
	}
	return d.key + " made inactive", err
}

// suspect makes a key inactive that is probably ours and whose secret was lost, and
// records it. It is deleted later if nobody uses it.
func (t *task) suspect(ctx context.Context, d decision) (string, error) {
	if err := t.caller().setKey(ctx, t.prov.User.Name, d.key, types.StatusTypeInactive); err != nil {
		return "", err
	}
	t.prov.Suspects = append(t.prov.Suspects, alias.SuspectKey{AccessKeyID: d.key, InactiveAt: t.now()})
	t.seen.listed = false
	return "", t.store(ctx)
}

// deleteKey deletes a key of ours, and what the registry has of it.
func (t *task) deleteKey(ctx context.Context, d decision) (string, error) {
	if d.key == t.prov.AccessKeyID {
		return "", failf(codeInternal, "the current key must not be deleted")
	}
	if err := t.caller().deleteKey(ctx, t.prov.User.Name, d.key); err != nil {
		return "", err
	}
	t.seen.listed, t.seen.unmade = false, false
	if !slices.Contains(t.data.Deleted, d.key) {
		t.data.Deleted = append(t.data.Deleted, d.key)
	}
	t.prov.PendingDeletion = slices.DeleteFunc(t.prov.PendingDeletion, func(id string) bool { return id == d.key })
	if len(t.prov.PendingDeletion) == 0 {
		t.prov.Reverted = nil
	}
	t.prov.Suspects = slices.DeleteFunc(t.prov.Suspects, func(s alias.SuspectKey) bool { return s.AccessKeyID == d.key })
	if t.prov.Previous != nil && t.prov.Previous.AccessKeyID == d.key {
		t.prov.Previous = nil
	}
	return "deleted " + d.key, t.store(ctx)
}

// strip deletes the user with its keys and policies.
func (t *task) strip(ctx context.Context, _ decision) (string, error) {
	what := removal{user: t.prov.User.Name, policies: append(t.p.managedOf(t.prov), t.seen.quarantine...)}
	for _, k := range t.seen.keys { // next has decided that all of them are ours
		what.keys = append(what.keys, k.id)
	}
	if err := ignoreGone(t.caller().removeUser(ctx, what)); err != nil {
		return "", err
	}
	t.seen = observed{refused: t.seen.refused, vanished: true}
	return "deleted with its keys and policies", nil
}
