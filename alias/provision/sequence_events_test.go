package provision

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"ixmage/alias"
	"ixmage/alias/policy"
	"ixmage/internal/awstest/iam"
)

// The events that another client of the account causes, and a copy of the registry.

// userOf picks a credential that has a key, and its user in IAM.
func (q *sequence) userOf(who byte) (name alias.Name, user string, ok bool) {
	c, err := q.p.registry.Credential(q.w.t.Context(), q.known(who))
	if err != nil {
		return "", "", false
	}
	prov, _ := c.Provisioned()
	_, ok = q.w.iam.User(prov.User.Name)
	return c.Name, prov.User.Name, ok && prov.AccessKeyID != ""
}

// addKey makes a key on one of our users, as an operator does. Ten minutes pass before it: a key
// that is made within minutes of one of ours, and never used, cannot be told from a key of ours
// whose secret was lost.
func (q *sequence) addKey(who, how byte) string {
	name, user, ok := q.userOf(who)
	if !ok || len(q.w.iam.Keys(user)) == maxKeys {
		return "no place"
	}
	q.w.clock.advance(10 * time.Minute)
	kp := q.w.iam.AddKey(user)
	q.theirs[kp.AccessKeyID] = user
	if how&1 != 0 {
		q.w.iam.RecordUse(kp.AccessKeyID, q.w.clock.Now())
	}
	q.w.clock.advance(10 * time.Minute)
	return fmt.Sprintf("%s on %s, used: %v", kp.AccessKeyID, name, how&1 != 0)
}

// changeTags takes the tags off one of our users, or changes its generation.
func (q *sequence) changeTags(who, how byte) string {
	name, user, ok := q.userOf(who)
	if !ok {
		return "no user"
	}
	q.w.clock.advance(2 * time.Minute) // until IAM shows what was written before
	q.w.iam.ChangeUser(user, func(u *iam.User) {
		if how&1 != 0 {
			u.Tags = nil
		} else if u.Tags != nil {
			u.Tags[policy.TagGeneration] = "9-somebody"
		}
	})
	q.changed[name] = true
	return fmt.Sprintf("%s: all of them: %v", name, how&1 != 0)
}

// supersede has the process die in a rotation or a reuse, and asks the next one for an
// emergency or a removal at once.
func (q *sequence) supersede(who, how byte) string {
	q.p.store.mu.Lock()
	q.p.store.at, q.p.store.after = q.p.store.writes+2+int(how>>3)%20, how&4 != 0
	q.p.store.mu.Unlock()
	first := q.reuse
	if how&1 != 0 {
		first = func(who, _ byte) string { return q.rotate(who, 0, false) }
	}
	ran := first(who, who&1)
	if q.p.proc.killed.Load() {
		q.p = q.w.start()
	}
	if how&2 != 0 {
		return ran + ", then an emergency: " + q.rotate(who, 0, true)
	}
	return ran + ", then a removal: " + q.remove(who, 0)
}

// quarantine is what AWS does with a user whose key it finds in public.
func (q *sequence) quarantine(who, _ byte) string {
	name, user, ok := q.userOf(who)
	if !ok {
		return "no user"
	}
	q.w.iam.Quarantine(user)
	return string(name)
}

// copyActs restores a copy of the registry from an earlier step beside the original. The
// original serves meanwhile, and has finished what ran when the copy was made: two registries
// that run the same operation at the same time are detected, and not kept apart.
func (q *sequence) copyActs(_, how byte) string {
	if q.copy == nil || how&1 == 0 {
		q.copy = q.w.backup()
		return "made"
	}
	q.p.drive()
	q.w.clock.advance(2 * time.Minute) // until IAM shows what the original wrote
	list, err := q.copy.Operations(q.w.t.Context(), alias.OperationFilter{State: alias.OperationRunning, Limit: 100})
	if err != nil {
		q.w.t.Fatal(err)
	}
	for _, op := range list {
		live, err := q.w.store.Operation(q.w.t.Context(), op.ID)
		if err != nil || live.State != alias.OperationDone && live.State != alias.OperationSuperseded {
			q.copy = nil
			return "dropped: " + op.ID + " is not done"
		}
	}
	for _, c := range q.credentials() {
		if prov, _ := c.Provisioned(); prov.AccessKeyID != "" && len(q.w.iam.Keys(prov.User.Name)) > 0 {
			q.w.iam.RecordUse(prov.AccessKeyID, q.w.clock.Now())
		}
	}
	before := q.w.iam.Users()
	restored := q.w.startOn(q.copy)
	restored.drive()
	restored.reconcile(restored.proc.ctx)
	restored.proc.kill()
	for _, u := range q.w.iam.Users() {
		if !slices.ContainsFunc(before, func(b iam.User) bool { return b.ID == u.ID }) {
			q.copied[u.Name] = true
		}
	}
	return fmt.Sprintf("acted, with %d operations", len(list))
}

// withdraw ends what other clients did: they delete their keys, AWS's policy is detached, and
// an operator deletes the users that the copy made, and reclaims those whose tags were changed.
func (q *sequence) withdraw() {
	q.w.t.Helper()
	for id, user := range q.theirs {
		if _, ok := q.w.iam.User(user); !ok || !slices.ContainsFunc(q.w.iam.Keys(user), func(k iam.Key) bool { return k.ID == id }) {
			q.w.t.Errorf("the key %s of %s, which an operator made, was deleted", id, user)
			continue
		}
		q.w.iam.RemoveKey(id)
	}
	for _, u := range q.w.iam.Users() {
		q.w.iam.ChangeUser(u.Name, func(u *iam.User) {
			u.Attached = slices.DeleteFunc(slices.Clone(u.Attached), isQuarantine)
		})
	}
	q.removeCopied()
	for _, name := range slices.Sorted(maps.Keys(q.changed)) {
		c, err := q.p.registry.Credential(q.w.t.Context(), name)
		if err != nil {
			continue // it was removed, or never was
		}
		if prov, _ := c.Provisioned(); prov.AccessKeyID == "" {
			continue
		}
		if _, err := q.p.Reclaim(q.w.t.Context(), actor, name); err != nil {
			q.w.t.Errorf("reclaim %s: %v", name, err)
		}
	}
}

// removeCopied deletes the users that the copy made for operations which the original had
// finished. Reconcile names them and does not delete them, because their keys were used.
func (q *sequence) removeCopied() {
	q.w.t.Helper()
	for _, user := range slices.Sorted(maps.Keys(q.copied)) {
		if o, ok := q.p.reported(orphanUser, user); !ok || o.State != stateReported {
			continue // it is gone, or belongs to a credential: wantQuiet checks that
		}
		if err := q.p.RemoveOrphan(q.w.t.Context(), actor, "", user); err != nil {
			q.w.t.Errorf("remove the user %s that a copy made: %v", user, err)
		}
	}
}

// wantWorking checks what holds at any time: for every alias that is served, a key with which
// it is read exists, is active and may read.
func (q *sequence) wantWorking(a *alias.Alias) {
	q.w.t.Helper()
	c, err := q.p.registry.Credential(q.w.t.Context(), a.Credential)
	if err != nil {
		q.w.t.Errorf("alias %s: %v", a.Name, err)
		return
	}
	prov, _ := c.Provisioned()
	signs := []string{prov.AccessKeyID}
	if prov.Previous != nil && prov.Previous.Until.After(q.w.clock.Now()) {
		signs = append(signs, prov.Previous.AccessKeyID)
	}
	if !slices.ContainsFunc(q.w.iam.Keys(prov.User.Name), func(k iam.Key) bool { return k.Active && slices.Contains(signs, k.ID) }) {
		q.w.t.Errorf("alias %s is served, and none of its keys %v works: %+v", a.Name, signs, q.w.iam.Keys(prov.User.Name))
	}
	if object := "arn:aws:s3:::" + a.Bucket + "/" + a.Prefix + "a.png"; !q.w.iam.Allows(prov.User.Name, "s3:GetObject", object) {
		q.w.t.Errorf("alias %s is served, and its user may not read %s", a.Name, object)
	}
}

// wantNamed wants every user in IAM to belong to a credential or to be named in the report.
func (q *sequence) wantNamed() {
	q.w.t.Helper()
	named := map[string]bool{"alice": true, "bob": true}
	for _, c := range q.credentials() {
		if prov, ok := c.Provisioned(); ok && owns(c) {
			named[prov.User.Name] = true
		}
	}
	for _, o := range q.p.report().Orphans {
		named[o.User] = true
	}
	for _, u := range q.w.iam.Users() {
		if !named[u.Name] {
			q.w.t.Errorf("the user %s is left, and named nowhere: %+v", u.Name, q.p.report())
		}
	}
}

// wantNoSecrets wants no secret in the registry but those of the current keys.
func (q *sequence) wantNoSecrets() {
	q.w.t.Helper()
	for _, c := range q.credentials() {
		if prov, _ := c.Provisioned(); prov.Pending != nil || prov.Previous != nil {
			q.w.t.Errorf("credential %s has a pending or a previous key at rest: %+v", c.Name, prov)
		}
	}
	ops, err := q.w.store.Operations(q.w.t.Context(), alias.OperationFilter{Limit: 1000})
	if err != nil {
		q.w.t.Fatal(err)
	}
	for _, op := range ops {
		if strings.Contains(string(op.Data), "sealed") {
			q.w.t.Errorf("operation %s has a secret: %s", op.ID, op.Data)
		}
	}
}
